/** An OpenTelemetry SDK as small as a test needs it: spans with a parent, and a context that follows awaits. */
import { AsyncLocalStorage } from "node:async_hooks";
import * as api from "@opentelemetry/api";

export interface Recorded {
  readonly name: string;
  readonly kind: number | undefined;
  readonly context: api.SpanContext;
  readonly parent: api.SpanContext | undefined;
  readonly exceptions: unknown[];
  status: api.SpanStatus | undefined;
  ended: boolean;
}

export function registerProvider(): Recorded[] {
  const recorded: Recorded[] = [];
  const store = new AsyncLocalStorage<api.Context>();
  api.context.setGlobalContextManager({
    active: () => store.getStore() ?? api.ROOT_CONTEXT,
    with: (context, work, thisArg, ...args) => store.run(context, () => work.apply(thisArg, args)),
    bind: (_context, target) => target,
    enable() {
      return this;
    },
    disable() {
      return this;
    },
  });
  const tracer = {
    startSpan(name: string, options: api.SpanOptions = {}, around: api.Context = api.context.active()) {
      const parent = api.trace.getSpanContext(around);
      const n = String(recorded.length + 1).padStart(16, "0");
      const one: Recorded = {
        name,
        kind: options.kind,
        context: { traceId: parent?.traceId ?? n.padStart(32, "a"), spanId: n, traceFlags: 1 },
        parent,
        exceptions: [],
        status: undefined,
        ended: false,
      };
      recorded.push(one);
      const span = {
        spanContext: () => one.context,
        setAttribute: () => span,
        recordException: (thrown: unknown) => void one.exceptions.push(thrown),
        setStatus(status: api.SpanStatus) {
          one.status = status;
          return span;
        },
        end: () => void (one.ended = true),
      };
      return span as unknown as api.Span;
    },
    startActiveSpan: () => undefined,
  };
  api.trace.setGlobalTracerProvider({ getTracer: () => tracer as unknown as api.Tracer });
  return recorded;
}

export function unregisterProvider(): void {
  api.trace.disable();
  api.context.disable();
}
