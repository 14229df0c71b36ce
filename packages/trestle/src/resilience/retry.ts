/** Trying again: how often, after how long, after which failures, and within which budget. */
import { durationMs, integerWithin, type Duration } from "../kernel/index.ts";
import type { Budget } from "./budget.ts";
import { runnerOf } from "./plan.ts";
import { isUnwell } from "./failure.ts";
import { policyOf, type Policy, type RetryRule } from "./policy.ts";

export interface RetryOptions {
  /** All attempts, the first included. 1 to 100; default 3. */
  readonly attempts?: number;
  /** The wait before the second attempt, doubled from there. Default 100 ms. */
  readonly from?: Duration;
  /** The longest wait. Default 8 s. */
  readonly upTo?: Duration;
  /** Default `full`. */
  readonly jitter?: "full" | "decorrelated" | "none";
  /** Default: retries are bounded by `attempts` only. Share one among all callers of a destination, and with its hedges. */
  readonly budget?: Budget;
  /** A failure that asks for a longer wait than this (`details.retryAfterMs`) is not retried. Default 1 minute. */
  readonly retryAfterMax?: Duration;
  /** Whether trying again could help. Default: whatever `failureOf` does not call a refusal. Not asked about what a gate declined, nor when the caller has gone away. */
  readonly when?: (thrown: unknown) => boolean;
}

/**
 * Tries again, in a pipeline around everything that comes after it. Exponential back-off with jitter, at least what the failure asks for; a wait that would go
 * beyond the deadline is not begun, and an abort ends it at once. What a gate declines is not retried: it is the answer. Within an operation that is itself
 * retried (by a pipeline further out) there is one attempt only, because three layers of three attempts make 27 calls of one; where no context is carried only
 * those after the first attempt know of it, and three layers make 7.
 *
 * Faults: `retry.budget-spent`, with the failure as its cause; `option.out-of-range`, `quantity.not-a-duration`.
 */
export function retry(options: RetryOptions = {}): Policy<"retry.budget-spent"> {
  const rule: RetryRule = {
    attempts: integerWithin(options.attempts ?? 3, "retry.attempts", { least: 1, most: 100 }),
    fromMs: durationMs(options.from ?? 100, "retry.from"),
    upToMs: durationMs(options.upTo ?? 8_000, "retry.upTo"),
    jitter: options.jitter ?? "full",
    budget: options.budget,
    retryAfterMsMax: durationMs(options.retryAfterMax ?? 60_000, "retry.retryAfterMax"),
    when: options.when ?? isUnwell,
  };
  return policyOf({ kind: "retry", declines: ["retry.budget-spent"], rule, alone: () => runnerOf({ retry: rule }) });
}
