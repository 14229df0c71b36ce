/**
 * Endless answers. The handler's invocation stays open for as long as somebody listens: it is over when the listener goes, when the node
 * drains, when the route's `timeout` is over, or when the handler's iterable ends. Items are pulled, one at a time, so a listener who is
 * slow holds one item and not a buffer of them; sources that are watched merge what happens in between.
 *
 * On the wire: `text/event-stream` (HTML Living Standard, server-sent events). An item with a resume id is sent with it as `id`, and comes
 * back as `Last-Event-ID`. A comment every 15 s keeps proxies from closing a quiet stream. A fault is an event named `error` whose data is
 * problem JSON, and then the end.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { execute, resumeIdOf } from "../component/index.ts";
import { Fault, linkSignals } from "../kernel/index.ts";
import { ladderOf } from "./degraded.ts";
import { check, type Arrived } from "./operation.ts";
import { problemOfFault } from "./problem.ts";
import type { Question, Served } from "./invoke.ts";

const heartbeatMs = 15_000;

export interface Stream {
  next(): Promise<IteratorResult<unknown>>;
  close(): void;
  /** Settles when it is over, with the fault if that is why. */
  readonly ended: Promise<unknown>;
}

/** Starts the handler. Faults: those of `check`, `degradation.unavailable`, and what the handler throws before it answers its iterable. */
export async function openStream(served: Served, question: Question, resumeAfter: string | undefined): Promise<Stream> {
  const arrived = await check(served.operation, question.raw);
  const begin = () => beginStream(served, question, arrived, resumeAfter);
  const ladder = ladderOf(served.node, served.operation);
  return ladder ? (await ladder.answer({ full: begin })).value : begin();
}

function beginStream(served: Served, question: Question, arrived: Arrived, resumeAfter: string | undefined): Promise<Stream> {
  const { operation, component, node, state } = served;
  const closing = new AbortController();
  const link = linkSignals(question.signal, node.draining, closing.signal);
  const id = node.ids.next();
  question.onRun?.(id);
  state.streams += 1;
  return new Promise<Stream>((resolve, reject) => {
    // Asked for by the stream before there is anything to answer it: a handler begins at once.
    const { promise: ended, resolve: end } = Promise.withResolvers<unknown>();
    void execute<void>({
      node,
      component,
      operation: operation.name,
      mode: "read",
      uses: operation.uses,
      id,
      tenant: question.tenant,
      principal: question.principal,
      timeoutMs: operation.timeoutMs,
      signal: withReason(link.signal),
      resumeAfter,
      run(uses, context) {
        const iterator = (operation.handler(arrived, uses, context) as AsyncIterable<unknown>)[Symbol.asyncIterator]();
        const inContext = AsyncLocalStorage.snapshot();
        return new Promise<void>((finish, fail) => {
          const next = () =>
            inContext(async () => {
              try {
                const step = await iterator.next();
                if (step.done) finish();
                return step;
              } catch (fault) {
                fail(fault as Error);
                throw fault;
              }
            });
          const close = () => {
            closing.abort();
            void inContext(async () => iterator.return?.()).catch(() => undefined); // its own business now
          };
          resolve({ next, close, ended });
        });
      },
      conclude: () => ({ keep: false, end: "ok" }),
    })
      .then(
        (result) => (result.kind === "failed" && !Fault.is(result.fault, "stream.closed") ? result.fault : undefined),
        (fault: unknown) => fault,
      )
      .then((fault) => {
        link.release();
        state.streams -= 1;
        end(fault);
        reject((fault ?? closed()) as Error); // nothing when the stream was handed out already
      });
  });
}

/** Everything that ends a stream from outside is an ordinary end. */
function withReason(signal: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const abort = () => controller.abort(closed());
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return controller.signal;
}

function closed(): Fault {
  return Fault.create("stream.closed", "the listener went away, or the node drains", "Connect again; nothing is lost.");
}

/** The stream as the body of a response. */
export function eventStream(served: Served, stream: Stream): Response {
  const { clock } = served.node;
  const encoder = new TextEncoder();
  let heartbeat: { cancel(): void } | undefined;
  let over = false;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const send = (text: string) => {
          if (!over) controller.enqueue(encoder.encode(text));
        };
        const beat = () => {
          if ((controller.desiredSize ?? 0) > 0) send(": still here\n\n");
          heartbeat = clock.after(heartbeatMs, beat);
        };
        send(": hello\n\n"); // what makes a browser call the connection open
        heartbeat = clock.after(heartbeatMs, beat);
        void stream.ended.then((fault) => {
          heartbeat?.cancel();
          if (over) return;
          if (fault !== undefined) send(`event: error\ndata: ${JSON.stringify(problemOfFault(fault, { reads: true }))}\n\n`);
          over = true;
          controller.close();
        });
      },
      async pull(controller) {
        if (over) return;
        try {
          const step = await stream.next();
          if (!step.done && !over) controller.enqueue(encoder.encode(eventOf(step.value)));
        } catch {
          // told by `ended`
        }
      },
      cancel() {
        over = true;
        heartbeat?.cancel();
        stream.close();
      },
    },
    { highWaterMark: 1 },
  );
  return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no" } });
}

function eventOf(item: unknown): string {
  const id = resumeIdOf(item);
  return `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(item ?? null)}\n\n`;
}

/** The stream for a caller in this process. */
export async function* itemsOf(stream: Stream): AsyncGenerator<unknown, void, void> {
  try {
    for (;;) {
      const step = await Promise.race([
        stream.next(),
        stream.ended.then((fault) => {
          if (fault !== undefined) throw fault as Error;
          return { done: true, value: undefined } as const;
        }),
      ]);
      if (step.done) return;
      yield step.value;
    }
  } finally {
    stream.close();
  }
}
