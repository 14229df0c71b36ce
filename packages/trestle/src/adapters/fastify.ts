/** The edge as a Fastify plugin. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { inContext, type AmbientContext } from "../kernel/index.ts";
import { edge, type EdgeOptions } from "./edge.ts";
import { goneSignal, nodeFields, whenClosed } from "./express.ts";

/** What is used of Fastify. */
export interface FastifyRequestLike {
  readonly raw: IncomingMessage;
}
export interface FastifyReplyLike {
  readonly raw: ServerResponse;
  code(status: number): unknown;
  header(name: string, value: string): unknown;
  send(body: string): unknown;
}
export interface FastifyLike {
  addHook(name: "onRequest" | "preValidation", hook: (request: never, reply: never, done: (error?: Error) => void) => void): unknown;
}

/** `server.register(fastifyEdge({ … }))`: for all routes of the server, also those registered outside of it. Faults: those of `edge`. */
export function fastifyEdge<Request extends FastifyRequestLike = FastifyRequestLike>(
  options: EdgeOptions<Request>,
): (server: FastifyLike, given: unknown, done: () => void) => void {
  const way = edge(options);
  const contexts = new WeakMap<FastifyRequestLike, AmbientContext>();
  const plugin = (server: FastifyLike, _given: unknown, registered: () => void): void => {
    server.addHook("onRequest", (request: Request, reply: FastifyReplyLike, done: (error?: Error) => void) => {
      const gone = goneSignal(reply.raw);
      way.enter(request, nodeFields(request.raw), gone).then(
        (passage) => {
          const { headers } = passage.ok ? passage : passage.answer;
          for (const [name, value] of Object.entries(headers)) reply.header(name, value);
          if (!passage.ok) {
            reply.code(passage.answer.status);
            return void reply.send(passage.answer.body);
          }
          whenClosed(reply.raw, passage.leave);
          contexts.set(request, passage.context);
          inContext(passage.context, done);
        },
        (thrown: unknown) => void (gone.aborted || done(thrown as Error)),
      );
    });
    // A body is parsed in events of the socket, which know nothing of the request's context.
    server.addHook("preValidation", (request: Request, _reply: FastifyReplyLike, done: () => void) => {
      const context = contexts.get(request);
      if (context) inContext(context, done);
      else done();
    });
    registered();
  };
  return Object.assign(plugin, { [Symbol.for("skip-override")]: true });
}
