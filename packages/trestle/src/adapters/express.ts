/** The edge for whatever takes `(request, response, next)` of Node's HTTP: Express, Connect, Nest on Express, `middie` of Fastify. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Fault, inContext } from "../kernel/index.ts";
import { edge, type EdgeOptions } from "./edge.ts";
import { problemOf, type ProblemAnswer } from "./problem.ts";

export type Next = (error?: unknown) => void;
export type NodeMiddleware<Request extends IncomingMessage> = (request: Request, response: ServerResponse, next: Next) => void;

/**
 * Put it before everything that works for a request: `server.use(expressEdge({ deadline: "2s", guard: bulkhead({ running: 64, waiting: 256, order: "fair" }) }))`. Faults: those of `edge`.
 */
export function expressEdge<Request extends IncomingMessage = IncomingMessage>(options: EdgeOptions<Request>): NodeMiddleware<Request> {
  const way = edge(options);
  return (request, response, next) => {
    const gone = goneSignal(response);
    way.enter(request, nodeFields(request), gone).then(
      (passage) => {
        if (!passage.ok) return send(response, passage.answer);
        for (const [name, value] of Object.entries(passage.headers)) response.setHeader(name, value);
        whenClosed(response, passage.leave);
        inContext(passage.context, next);
      },
      // Nobody is there to be answered when it is the caller who went away.
      (thrown: unknown) => void (gone.aborted || next(thrown)),
    );
  };
}

/** An error handler: answers what policies threw, and passes everything else on. Put it after the routes. */
export function expressProblems(): (error: unknown, request: IncomingMessage, response: ServerResponse, next: Next) => void {
  return (error, _request, response, next) => {
    const answer = response.headersSent ? undefined : problemOf(error);
    if (answer) send(response, answer);
    else next(error);
  };
}

function send(response: ServerResponse, { status, headers, body }: ProblemAnswer): void {
  response.writeHead(status, headers).end(body);
}

export function nodeFields({ headers }: IncomingMessage): { get(name: string): string | null } {
  return {
    get: (name) => {
      const value = headers[name];
      return value === undefined ? null : Array.isArray(value) ? value.join(", ") : value;
    },
  };
}

/** Aborts when the connection closes before the answer is out. */
export function goneSignal(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  whenClosed(response, () => {
    if (!response.writableFinished)
      controller.abort(Fault.create("adapters.caller-gone", "the caller went away before it was answered", "Stop working for it; nobody reads the answer."));
  });
  return controller.signal;
}

export function whenClosed(response: ServerResponse, then: () => void): void {
  if (response.closed) then();
  else response.once("close", then);
}
