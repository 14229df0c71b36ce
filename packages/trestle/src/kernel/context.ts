/**
 * What travels with an invocation without being passed on: only facts that may be lost without harm. It lives in one
 * AsyncLocalStorage slot (free per await on Node 24). Writes never travel here: they belong to handles.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Cuttable } from "./signals.ts";

export interface AmbientContext {
  /** Monotonic deadline of the whole chain of calls, milliseconds of the node's clock. */
  readonly deadlineMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly tenant: string | undefined;
  readonly priority: "high" | "normal" | "low";
  readonly attempt: number;
  /** Somebody further out repeats this when it fails: whoever is called does not, or else attempts multiply. */
  readonly repeated: boolean;
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
  repeated: false,
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
  const outer = currentContext();
  // `signal` may be made on demand, and is no own property then.
  return slot.run({ ...outer, signal: "signal" in change ? undefined : outer.signal, ...change }, work);
}

/** `outer` with other bounds and the signal of `attempt`, which is made when somebody asks for it. */
export function contextWithin(
  outer: AmbientContext,
  { deadlineMs, repeated }: Pick<AmbientContext, "deadlineMs" | "repeated">,
  attempt: Cuttable,
): AmbientContext {
  return new ContextWithin(outer, deadlineMs, repeated, attempt);
}

/** What cuts short whatever is done in `context`, to be followed without making a signal. */
export function cutterOf(context: AmbientContext): AbortSignal | Cuttable | undefined {
  return ContextWithin.attemptOf(context) ?? context.signal;
}

/** One is made for each attempt: `declare` spares it a first `undefined` in every field. */
class ContextWithin implements AmbientContext {
  readonly #attempt: Cuttable;
  declare readonly deadlineMs: number | undefined;
  declare readonly tenant: string | undefined;
  declare readonly priority: "high" | "normal" | "low";
  declare readonly attempt: number;
  declare readonly repeated: boolean;
  declare readonly traceparent: string | undefined;
  declare readonly tracestate: string | undefined;
  declare readonly correlation: string | undefined;
  declare readonly component: string | undefined;
  declare readonly readToken: string | undefined;

  constructor(outer: AmbientContext, deadlineMs: number | undefined, repeated: boolean, attempt: Cuttable) {
    this.#attempt = attempt;
    this.deadlineMs = deadlineMs;
    this.tenant = outer.tenant;
    this.priority = outer.priority;
    this.attempt = outer.attempt;
    this.repeated = repeated;
    this.traceparent = outer.traceparent;
    this.tracestate = outer.tracestate;
    this.correlation = outer.correlation;
    this.component = outer.component;
    this.readToken = outer.readToken;
  }

  static attemptOf(context: AmbientContext): Cuttable | undefined {
    return #attempt in context ? context.#attempt : undefined;
  }

  get signal(): AbortSignal {
    return this.#attempt.signal;
  }
}
