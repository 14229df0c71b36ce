/**
 * A budget of additional attempts, retries and hedges, as a share of the calls. While most calls succeed it is never felt; in an outage it is what keeps
 * three layers of three attempts from making 27 calls of one. Share one among all callers of a destination.
 *
 * A token bucket: every first attempt puts in `share` of a token, time puts in `floor`, every additional attempt takes one out; it starts full.
 * So the additional attempts of any stretch of time are at most `burst + share x calls + floor x seconds`.
 * Source: Finagle's RetryBudget (20 % and a floor), made a bucket.
 */
import { numberWithin, ratePerSecond, shareOf, systemClock, type Clock, type Percent, type Rate } from "../kernel/index.ts";

export interface Budget {
  readonly share: number;
  /** Additional attempts that could be made now. */
  readonly left: number;
  /** A call was made: its first attempt. */
  deposit(): void;
  /** Takes one out; `false` when there is none. */
  tryWithdraw(): boolean;
}

export interface BudgetOptions {
  /** Additional attempts for each call; default 20%. */
  readonly share?: Percent;
  /** Those that are always there, so that a quiet caller can retry at all. `false`: none. Default 1/s. */
  readonly floor?: Rate | false;
  /** The most that is saved up, 0 to 1,000,000. Default 10. */
  readonly burst?: number;
  readonly clock?: Clock;
}

export function budget(options: BudgetOptions = {}): Budget {
  const { clock = systemClock } = options;
  const share = shareOf(options.share ?? "20%", "budget.share");
  const floorPerSecond = options.floor === false ? 0 : ratePerSecond(options.floor ?? "1/s", "budget.floor");
  const burst = numberWithin(options.burst ?? 10, "budget.burst", { least: 0, most: 1_000_000 });
  let tokens = burst;
  let filledMs = clock.monotonicMs();
  const fill = () => {
    const nowMs = clock.monotonicMs();
    tokens = Math.min(burst, tokens + (floorPerSecond * (nowMs - filledMs)) / 1_000);
    filledMs = nowMs;
  };
  // Ten deposits of a tenth must make one attempt, whatever binary fractions make of it.
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
