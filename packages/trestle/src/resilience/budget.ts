/**
 * A retry budget: retries (and hedges) as a share of the calls. While most calls succeed it is never felt; in an outage it is what keeps
 * three layers of three attempts from making 27 calls of one. Share one budget among all callers of a destination.
 *
 * A token bucket: every first attempt puts in `share` of a token, time puts in `floorPerSecond`, every retry takes one out; it starts full.
 * So the retries of any stretch of time are at most `burst + share x calls + floorPerSecond x seconds`.
 * Source: Finagle's RetryBudget (20 % and a floor), made a bucket.
 */
import type { Clock } from "../kernel/index.ts";
import { numberWithin } from "../kernel/index.ts";

export interface RetryBudget {
  readonly share: number;
  /** Retries that could be made now. */
  readonly left: number;
  /** A call was made: its first attempt, not a retry. */
  deposit(): void;
  /** Takes a retry out; `false` when there is none. */
  tryWithdraw(): boolean;
}

export interface RetryBudgetOptions {
  readonly clock: Clock;
  /** Retries for each call; 0 to 10, default 0.2. */
  readonly share?: number;
  /** Retries a second that are always there, so that a quiet caller can retry at all. Default 1. */
  readonly floorPerSecond?: number;
  /** The most that is saved up. Default 10. */
  readonly burst?: number;
}

export function retryBudget(options: RetryBudgetOptions): RetryBudget {
  const { clock } = options;
  const share = numberWithin(options.share ?? 0.2, "budget.share", { least: 0, most: 10 });
  const floorPerSecond = numberWithin(options.floorPerSecond ?? 1, "budget.floorPerSecond", { least: 0, most: 1_000_000 });
  const burst = numberWithin(options.burst ?? 10, "budget.burst", { least: 0, most: 1_000_000 });
  let tokens = burst;
  let filledMs = clock.monotonicMs();
  const fill = () => {
    const nowMs = clock.monotonicMs();
    tokens = Math.min(burst, tokens + (floorPerSecond * (nowMs - filledMs)) / 1_000);
    filledMs = nowMs;
  };
  // Ten deposits of a tenth must make one retry, whatever binary fractions make of it.
  const enough = 1 - 1e-9;
  return {
    share,
    get left() {
      fill();
      return Math.floor(tokens + 1e-9);
    },
    deposit() {
      tokens += share; // more than the burst is cut off when someone looks
    },
    tryWithdraw() {
      fill();
      if (tokens < enough) return false;
      tokens = Math.max(0, tokens - 1);
      return true;
    },
  };
}
