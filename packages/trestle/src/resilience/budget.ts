/**
 * A budget of additional attempts, retries and hedges, as a share of the calls. While most calls succeed it is never felt; in an outage it is what keeps
 * three layers of three attempts from making 27 calls of one. Share one among all callers of a destination.
 *
 * A token bucket: every first attempt puts in `share` of a token, time puts in `floor`, every additional attempt takes one out; it starts full.
 * So the additional attempts of any stretch of time are at most `burst + share x calls + floor x seconds`.
 * Source: Finagle's RetryBudget (20 % and a floor), made a bucket.
 */
import { Fault, numberWithin, ratePerSecond, shareOf, systemClock, type Clock, type Percent, type Rate } from "../kernel/index.ts";

export interface Budget {
  readonly share: number;
  /** Additional attempts that could be made now. */
  readonly left: number;
  /** A call was made: its first attempt. */
  deposit(): void;
  /** Takes one out; `false` when there is none. */
  tryWithdraw(): boolean;
  /** The fault of a call that failed with `cause` at attempt number `attempt` of `attempts`, and was not allowed another one. */
  spent(cause: unknown, attempt: number, attempts: number): Fault;
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
  const share = shareOf(options.share ?? "20%", "budget.share");
  const floorPerSecond = options.floor === false ? 0 : ratePerSecond(options.floor ?? "1/s", "budget.floor");
  const burst = numberWithin(options.burst ?? 10, "budget.burst", { least: 0, most: 1_000_000 });
  return new TokenBucket(share, floorPerSecond, burst, options.clock ?? systemClock);
}

/** Ten deposits of a tenth must make one attempt, whatever binary fractions make of it. */
const enough = 0.999_999_999;

class TokenBucket implements Budget {
  readonly share: number;
  readonly #floorPerSecond: number;
  readonly #burst: number;
  readonly #clock: Clock;
  #tokens: number;
  #filledMs: number;
  /** Since the bucket was filled. Every call makes one, and hardly any looks: an integer is counted without allocating. */
  #deposits = 0;

  constructor(share: number, floorPerSecond: number, burst: number, clock: Clock) {
    this.share = share;
    this.#floorPerSecond = floorPerSecond;
    this.#burst = this.#tokens = burst;
    this.#clock = clock;
    this.#filledMs = clock.monotonicMs();
  }

  get left(): number {
    this.#fill();
    return Math.floor(this.#tokens + 1e-9);
  }

  deposit(): void {
    if (++this.#deposits === 1_000_000_000) this.#fill();
  }

  tryWithdraw(): boolean {
    this.#fill();
    if (this.#tokens < enough) return false;
    this.#tokens = Math.max(0, this.#tokens - 1);
    return true;
  }

  spent(cause: unknown, attempt: number, attempts: number): Fault {
    return Fault.create(
      "retry.budget-spent",
      `attempt ${attempt} of ${attempts} failed, and retries are held to ${Math.round(this.share * 100)} % of the calls`,
      "See why so many calls fail: see the cause. Retrying more would add to the load.",
      { cause, details: { attempt } },
    );
  }

  #fill(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + this.#deposits * this.share + (this.#floorPerSecond * (nowMs - this.#filledMs)) / 1_000);
    this.#filledMs = nowMs;
    this.#deposits = 0;
  }
}
