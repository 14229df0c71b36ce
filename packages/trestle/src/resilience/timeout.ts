/**
 * One attempt within a time. The caller is answered when the time is over; the attempt has ended when its promise settles. Both moments
 * are told apart here, because only the second frees what the attempt holds.
 *
 * The signal is made when somebody asks for it: an attempt that never looks at it costs one timer and one promise.
 */
import type { Clock } from "../kernel/index.ts";
import { deadlineExceeded } from "../kernel/index.ts";

export interface Attempt {
  /** 1 for the first. */
  readonly attempt: number;
  /** Aborts when the attempt's time is over, with `deadline.exceeded`, or with the caller's reason when the caller goes away. */
  readonly signal: AbortSignal;
  /** What is left of the attempt's time: what to tell the other side. `Infinity` without a bound. */
  readonly remainingMs: number;
}

export interface AttemptBounds {
  readonly clock: Clock;
  readonly withinMs: number;
  /** What has this bound, for the fault: `attempt` or `call`. */
  readonly scope: string;
  readonly signal: AbortSignal | undefined;
  readonly attempt: number;
  /** Called when the operation's promise has settled, before the caller hears of it or long after. */
  readonly onEnd: () => void;
}

class LiveAttempt implements Attempt {
  readonly attempt: number;
  readonly #clock: Clock;
  readonly #untilMs: number;
  #controller: AbortController | undefined;
  #cut: { readonly reason: unknown } | undefined;

  constructor(bounds: AttemptBounds) {
    this.attempt = bounds.attempt;
    this.#clock = bounds.clock;
    this.#untilMs = bounds.withinMs === Infinity ? Infinity : bounds.clock.monotonicMs() + bounds.withinMs;
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#cut) this.#controller.abort(this.#cut.reason);
    }
    return this.#controller.signal;
  }

  get remainingMs(): number {
    return Math.max(0, this.#untilMs - this.#clock.monotonicMs());
  }

  abort(reason: unknown): void {
    this.#cut = { reason };
    this.#controller?.abort(reason);
  }
}

/** Answers with the operation's outcome, or at once with a fault when its time is over or its caller goes away. */
export function attemptWithin<T>(bounds: AttemptBounds, operation: (attempt: Attempt) => T | Promise<T>): Promise<T> {
  const { clock, withinMs, scope, signal, onEnd } = bounds;
  return new Promise<T>((resolve, reject) => {
    const attempt = new LiveAttempt(bounds);
    const cut = (reason: unknown) => {
      stopWaiting();
      attempt.abort(reason);
      reject(reason as Error);
    };
    const onAbort = () => cut(signal?.reason);
    const timer = withinMs === Infinity ? undefined : clock.after(withinMs, () => cut(deadlineExceeded(withinMs, scope)));
    const stopWaiting = () => {
      timer?.cancel();
      signal?.removeEventListener("abort", onAbort);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    (async () => operation(attempt))().then(
      (value) => {
        stopWaiting();
        onEnd();
        resolve(value);
      },
      (error: unknown) => {
        stopWaiting();
        onEnd();
        reject(error as Error);
      },
    );
  });
}
