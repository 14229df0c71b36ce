/**
 * What travels with an invocation without being passed on: only facts that may be lost without harm. It lives in one
 * AsyncLocalStorage slot (free per await on Node 24). Writes never travel here: they belong to handles.
 */
import { AsyncLocalStorage } from "node:async_hooks";

export interface AmbientContext {
  /** Monotonic deadline of the whole chain of calls, milliseconds of the node's clock. */
  readonly deadlineMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly tenant: string | undefined;
  readonly priority: "high" | "normal" | "low";
  readonly attempt: number;
  /** W3C trace context of the current span. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  /** Of the request, message or tick that set all this off. */
  readonly correlation: string | undefined;
  /** Whose handler is running: the near end of an edge of the observed graph. */
  readonly component: string | undefined;
  /** The newest commit its caller has written or seen: reads are at least as new as this. */
  readonly readToken: string | undefined;
}

const slot = new AsyncLocalStorage<AmbientContext>();

export const emptyContext: AmbientContext = {
  deadlineMs: undefined,
  signal: undefined,
  tenant: undefined,
  priority: "normal",
  attempt: 1,
  traceparent: undefined,
  tracestate: undefined,
  correlation: undefined,
  component: undefined,
  readToken: undefined,
};

export function currentContext(): AmbientContext {
  return slot.getStore() ?? emptyContext;
}

/** Runs `work(...given)` with exactly this context. */
export function inContext<A extends readonly unknown[], T>(context: AmbientContext, work: (...given: A) => T, ...given: A): T {
  return slot.run(context, work, ...given);
}

/** Runs `work` with the current context changed by `change`. */
export function withContext<T>(change: Partial<AmbientContext>, work: () => T): T {
  return slot.run({ ...currentContext(), ...change }, work);
}
