/**
 * Deadlines. A deadline is a moment of the monotonic clock, set once at the edge and carried in the context; what is called can
 * only shorten it. Whoever waits asks how much is left.
 */
import type { Clock } from "./clock.ts";
import { currentContext, withContext } from "./context.ts";
import type { AmbientContext } from "./context.ts";
import { Fault } from "./fault.ts";
import { linkSignals } from "./signals.ts";

/** Milliseconds until the deadline of the context: never below 0, `Infinity` when it has none. */
export function remainingMs(clock: Clock, context: AmbientContext = currentContext()): number {
  return context.deadlineMs === undefined ? Infinity : Math.max(0, context.deadlineMs - clock.monotonicMs());
}

/** The fault of whoever ran out of time. `scope` says what had the bound: `call`, `attempt`, `handler`. */
export function deadlineExceeded(boundMs: number, scope: string, cause?: unknown): Fault {
  return Fault.create(
    "deadline.exceeded",
    `the ${scope} was not done within ${Math.round(boundMs)} ms`,
    "Give it more time, or see what it waits for; what ignores its signal goes on.",
    { cause, details: { boundMs, scope } },
  );
}

/**
 * Runs `work` with a deadline `withinMs` from now, or that of the current context when it comes first. At the deadline its signal
 * aborts with `deadline.exceeded`, and that is thrown here at once, also when `work` does not listen: it then goes on by itself, and how
 * it ends is nobody's concern any more. The same happens with the reason of the caller's signal. Nothing is started when the time is over already.
 */
export async function withDeadline<T>(
  clock: Clock,
  withinMs: number,
  work: (signal: AbortSignal) => T | Promise<T>,
  options: { readonly signal?: AbortSignal | undefined; readonly scope?: string } = {},
): Promise<T> {
  const context = currentContext();
  const boundMs = Math.min(withinMs, remainingMs(clock, context));
  const scope = options.scope ?? "call";
  if (boundMs <= 0) throw deadlineExceeded(0, scope);
  using link = linkSignals(options.signal, context.signal);
  const { signal } = link;
  signal.throwIfAborted();
  const timer = boundMs === Infinity ? undefined : clock.after(boundMs, () => link.abort(deadlineExceeded(boundMs, scope)));
  try {
    return await new Promise<T>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
      const deadlineMs = boundMs === Infinity ? undefined : clock.monotonicMs() + boundMs;
      withContext({ deadlineMs, signal }, async () => work(signal)).then(resolve, reject);
    });
  } finally {
    timer?.cancel();
  }
}
