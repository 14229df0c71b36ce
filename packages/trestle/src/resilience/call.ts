/**
 * A call to something that may fail, with everything around it in one function: retries, around a breaker, around a bulkhead, around a
 * timeout for each attempt. One async function instead of four nested ones: the layers cost more than what they do.
 *
 * For each attempt, in this order: is the caller still there and is there time left; does the breaker let it pass; is there a place in the
 * bulkhead; then the operation, within its time. A decline of the breaker or the bulkhead is not retried: it is the answer.
 */
import type { Clock, Random } from "../kernel/index.ts";
import { currentContext, deadlineExceeded, Fault, integerWithin, numberWithin, sleep } from "../kernel/index.ts";
import { backoffMs } from "./backoff.ts";
import type { Breaker, BreakerPass } from "./breaker.ts";
import type { RetryBudget } from "./budget.ts";
import type { Bulkhead } from "./bulkhead.ts";
import { attemptWithin } from "./timeout.ts";
import type { Attempt } from "./timeout.ts";

export interface RetryOptions {
  /** All attempts, the first included. 1 to 100; default 3. */
  readonly attempts?: number;
  /** The wait before the second attempt, doubled from there. Default 100. */
  readonly fromMs?: number;
  /** The longest wait. Default 8,000. */
  readonly upToMs?: number;
  /** Default `full`. */
  readonly jitter?: "full" | "none";
  /** Default: none, retries are bounded by `attempts` only. Share one among all callers of a destination. */
  readonly budget?: RetryBudget;
  /** A failure that asks for a longer wait than this (`details.retryAfterMs`) is not retried. Default 60,000. */
  readonly retryAfterMsMax?: number;
}

export interface CallPolicy {
  readonly clock: Clock;
  readonly random: Random;
  /** Of one attempt. Default: only the caller's deadline bounds it. */
  readonly timeoutMs?: number;
  /** Default: one attempt. */
  readonly retry?: RetryOptions | false;
  readonly breaker?: Breaker | undefined;
  readonly bulkhead?: Bulkhead | undefined;
  /** Told of every attempt that is over for its caller. Must not throw. */
  readonly onAttempt?: (ended: {
    readonly attempt: number;
    readonly durationMs: number;
    readonly outcome: "succeeded" | "failed" | "timed-out" | "abandoned" | "declined";
    readonly error: unknown;
  }) => void;
}

export interface CallDecisions {
  /** Whether trying again could help and does no harm. Not asked about declines, nor when the caller has gone away. */
  retryable(error: unknown): boolean;
  /** Whether the failure says that the other side is unwell, for the breaker. Default: as `retryable`. An answer such as "card declined" is not one. */
  unwell?(error: unknown): boolean;
  /** The caller's; default that of the context. */
  readonly signal?: AbortSignal | undefined;
  /** The caller's, a moment of the clock's monotonic time; default that of the context. */
  readonly deadlineMs?: number | undefined;
}

/**
 * Runs `operation` under the policy. Throws what the last attempt threw, or a fault:
 * - `deadline.exceeded`: the attempt's or the caller's time was over (`details.scope`: `attempt`, `call`); the operation may still be going on, and may still take effect;
 * - `breaker.open`, `bulkhead.full`: declined, this attempt was not made; `cause` is what the attempt before it threw;
 * - `retry.budget-spent`: it failed, could be retried, and the budget does not allow it; `cause` is what it threw;
 * - the reason of the caller's signal, at once, whether it waits for an attempt or between two.
 *
 * A wait that would go beyond the caller's deadline is not begun: the failure is thrown instead.
 */
export async function callWith<T>(policy: CallPolicy, operation: (attempt: Attempt) => T | Promise<T>, decisions: CallDecisions): Promise<T> {
  const { clock, random } = policy;
  const timeoutMs = policy.timeoutMs ?? Infinity;
  const retry = requiredRetry(policy.retry);
  const context = currentContext();
  const signal = "signal" in decisions ? decisions.signal : context.signal;
  const deadlineMs = ("deadlineMs" in decisions ? decisions.deadlineMs : context.deadlineMs) ?? Infinity;
  retry.budget?.deposit();

  let last: { readonly error: unknown } | undefined;
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    const startMs = clock.monotonicMs();
    const leftMs = deadlineMs - startMs;
    if (leftMs <= 0) throw last ? last.error : deadlineExceeded(0, "call");
    const { pass, leave } = admitted(policy, attempt, last);

    const ended = (outcome: "succeeded" | "failed" | "timed-out" | "abandoned", error: unknown) =>
      policy.onAttempt?.({ attempt, durationMs: clock.monotonicMs() - startMs, outcome, error });
    const withinMs = Math.min(timeoutMs, leftMs);
    const outcome = await attemptWithin(
      { clock, attempt, signal, withinMs, scope: leftMs < timeoutMs ? "call" : "attempt", onEnd: () => leave?.() },
      operation,
    ).then(
      (value) => ({ ok: true, value }) as const,
      (error: unknown) => ({ ok: false, error }) as const,
    );
    if (outcome.ok) {
      pass?.succeeded();
      ended("succeeded", undefined);
      return outcome.value;
    }
    const { error } = outcome;
    const timedOut = Fault.is(error, "deadline.exceeded");
    if (signal?.aborted && !timedOut) {
      pass?.abandoned();
      ended("abandoned", error);
      throw error;
    }
    const retryable = decisions.retryable(error);
    // A caller that left less than a tenth of the usual time says nothing about the other side; one that left more does, or else a
    // dependency that hangs would never open the breaker of callers whose deadlines are shorter than the timeout.
    if (timedOut && timeoutMs < Infinity && withinMs < timeoutMs / 10) pass?.abandoned();
    else if (decisions.unwell ? decisions.unwell(error) : retryable) pass?.failed();
    else pass?.succeeded();
    ended(timedOut ? "timed-out" : "failed", error);
    if (signal?.aborted) throw error;

    if (!retryable || attempt >= retry.attempts) throw error;
    const askedMs = retryAfterMs(error);
    const waitMs = Math.max(backoffMs(retry, attempt + 1, random), askedMs);
    if (askedMs > retry.retryAfterMsMax || clock.monotonicMs() + waitMs >= deadlineMs) throw error;
    if (retry.budget && !retry.budget.tryWithdraw())
      throw Fault.create(
        "retry.budget-spent",
        `attempt ${attempt} of ${retry.attempts} failed, and retries are held to ${Math.round(retry.budget.share * 100)} % of the calls`,
        "See why so many calls fail: see the cause. Retrying more would add to the load.",
        { cause: error, details: { attempt } },
      );
    if (waitMs > 0) await sleep(clock, waitMs, signal);
    last = { error };
  }
}

/** The breaker's pass and the bulkhead's place, or a throw: what declined, with what failed before as its cause. */
function admitted(
  policy: CallPolicy,
  attempt: number,
  last: { readonly error: unknown } | undefined,
): { readonly pass: BreakerPass | undefined; readonly leave: (() => void) | undefined } {
  let pass: BreakerPass | undefined;
  try {
    pass = policy.breaker?.enter();
    const leave = policy.bulkhead?.tryEnter();
    if (policy.bulkhead && !leave) {
      const nowMs = policy.clock.monotonicMs();
      const { priority } = currentContext();
      throw policy.bulkhead.fault(
        { key: "", priority, untilMs: Infinity, cost: 1, startedMs: nowMs, place: undefined, admitted: () => undefined, declined: () => undefined },
        nowMs,
      );
    }
    return { pass, leave };
  } catch (thrown) {
    pass?.abandoned();
    const declined =
      last && Fault.is(thrown)
        ? Fault.create(thrown.code as `${string}.${string}`, thrown.message, thrown.remedy, { cause: last.error, details: thrown.details })
        : thrown;
    policy.onAttempt?.({ attempt, durationMs: 0, outcome: "declined", error: declined });
    throw declined;
  }
}

/** What a failure asks for: `details.retryAfterMs` of a fault, or `retryAfterMs` of any other error. 0 when it asks for nothing. */
export function retryAfterMs(error: unknown): number {
  if (typeof error !== "object" || error === null) return 0;
  const asked = Fault.is(error) ? error.details["retryAfterMs"] : (error as { readonly retryAfterMs?: unknown }).retryAfterMs;
  return typeof asked === "number" && asked > 0 ? asked : 0;
}

function requiredRetry(options: RetryOptions | false | undefined): Required<Omit<RetryOptions, "budget">> & { readonly budget: RetryBudget | undefined } {
  if (!options) return noRetry;
  return {
    attempts: integerWithin(options.attempts ?? 3, "retry.attempts", { least: 1, most: 100 }),
    fromMs: numberWithin(options.fromMs ?? 100, "retry.fromMs", { least: 0, most: 86_400_000 }),
    upToMs: numberWithin(options.upToMs ?? 8_000, "retry.upToMs", { least: 0, most: 86_400_000 }),
    jitter: options.jitter ?? "full",
    budget: options.budget,
    retryAfterMsMax: numberWithin(options.retryAfterMsMax ?? 60_000, "retry.retryAfterMsMax", { least: 0, most: 86_400_000 }),
  };
}
const noRetry = { attempts: 1, fromMs: 0, upToMs: 0, jitter: "full", budget: undefined, retryAfterMsMax: 0 } as const;
