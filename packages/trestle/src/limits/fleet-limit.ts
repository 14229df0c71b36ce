/**
 * A token bucket for each key that all processes share, at a place (`LimitPlace`).
 *
 * **Exact.** Takes of one key that wait here at once are one draw, decided in their order; while it is on its way the next ones gather. So a key costs each process one draw
 * at a time, however many callers it has. The law of `rateLimit` holds for all processes together, by the place's clock.
 *
 * **Leased.** A draw asks for more than who waits: a budget, which is spent here without asking for 100 ms (`leaseMs`), and of which what is left is then given back. It doubles when it
 * was spent before its time and shrinks to what was spent when it was not, up to what the rate gives in 100 ms, divided by the processes. So in any time t all processes together admit
 * at most `burst + rate * (t + 100 ms)`: what was admitted in t was drawn in t, but for budgets that stood at its beginning. `overshootTokens` is how much that came to.
 *
 * **Refusals** are remembered for 100 ms: a key that is over its limit is refused here until the moment that its bucket has gained enough, so an attack on one key costs the
 * place ten draws a second from each process.
 *
 * **The place** is *reached* or *away*. Away for all limits of the node after a draw has failed, and for this one after a take has waited for `within`: from then on nobody waits, the
 * declared policy answers, and a take every 200 ms is also sent as a probe. Any answer, of a probe or late, is the end of it. What policy let in is paid for where the draw that carried it is
 * made after all.
 *
 * A process that dies loses what it had drawn: that much less is admitted, at most once its budget.
 */
import type { Drawn } from "../component/index.ts";
import { DueList, emptyContext, Fault, inContext, unlink, type Clock, type Random } from "../kernel/index.ts";
import { leaseMs, type FleetRule } from "./across.ts";
import { assertCost, assertKey } from "./checks.ts";
import { Bucket, Waiting, type WhenDue } from "./fleet-bucket.ts";
import { placeKey } from "./place-key.ts";
import { TokenBuckets, type Decision } from "./rate-limit.ts";
import { probeEveryMs, Reach, type ReachedPlace, type Told } from "./reached-place.ts";

/** For so long a refusal is known to stand. */
const knownForMs = 100;
/** A budget that was not given in full is asked for again after this. */
const shortOfMs = 20;
/** A key that nobody asks for so long is forgotten here. Sooner, and one that comes ten times a second would be made anew every third time. */
const keptForMs = 1_000;
/** What is known of keys is over at multiples of this, so that their timer wakes nobody more often. */
const togetherMs = 10;
const slackTokens = 1e-6;
const peakForMs = 60_000;

export interface FleetLimitParts {
  readonly rule: FleetRule;
  readonly at: ReachedPlace;
  readonly clock: Clock;
  readonly random: Random;
  /** A decision was made without the place. */
  readonly onUnreachable?: () => void;
  /** Nobody is answered in time here any more, or again. */
  readonly told?: Told;
}

export class FleetLimit {
  readonly limit: number;
  readonly windowMs: number;
  /** No key loses its bucket for lack of room. */
  readonly forgotten = 0;
  readonly #rule: FleetRule;
  readonly #perMs: number;
  readonly #at: ReachedPlace;
  /** Whether those who wait here are answered within their time. */
  readonly #inTime: Reach;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #onUnreachable: (() => void) | undefined;
  readonly #buckets = new Map<string, Bucket>();
  #share: TokenBuckets | undefined;
  #shareOf = 0;
  /** When all that is known of them is over, and the budgets that they were given. */
  readonly #known: DueList;
  /** Whose draws are made before the loop turns. */
  #coming: Bucket[] = [];
  readonly #waiting: DueList;
  readonly #whenDue: WhenDue = { tend: (bucket, nowMs) => this.#tend(bucket, nowMs), overdue: (waiting, nowMs) => this.#overdue(waiting, nowMs) };
  #peak = { sinceMs: 0, now: 0, before: 0 };

  constructor({ rule, at, clock, random, onUnreachable, told }: FleetLimitParts) {
    this.#rule = rule;
    this.#perMs = rule.perSecond / 1_000;
    this.limit = rule.burst;
    this.windowMs = rule.burst / this.#perMs;
    this.#at = at;
    this.#inTime = new Reach(told);
    this.#clock = clock;
    this.#random = random;
    this.#onUnreachable = onUnreachable;
    this.#waiting = new DueList(rule.withinMs, clock);
    this.#known = new DueList(leaseMs, clock);
  }

  /** As `RateLimit.take`: milliseconds to wait, 0 when admitted. A number at once where nobody has to be asked. */
  take(key: string, cost = 1): number | Promise<number> {
    assertKey(key);
    if (cost !== 1) assertCost(cost, this.limit);
    return this.#take(this.#bucketOf(key), cost, this.#clock.monotonicMs());
  }

  decide(key: string, cost = 1): Decision | Promise<Decision> {
    assertKey(key);
    if (cost !== 1) assertCost(cost, this.limit);
    const bucket = this.#bucketOf(key);
    const waitMs = this.#take(bucket, cost, this.#clock.monotonicMs());
    return typeof waitMs === "number" ? this.#decision(bucket, waitMs) : waitMs.then((ms) => this.#decision(bucket, ms));
  }

  /** What is known here, without asking. */
  look(key: string, cost = 1): Decision {
    const bucket = this.#buckets.get(key);
    return this.#decision(bucket, bucket ? this.#earlyMs(bucket, cost, this.#clock.monotonicMs()) : 0);
  }

  /** Undoes a take that was admitted and not used, in full: a window that begins between the two may have so many more. */
  giveBack(key: string, cost = 1): void {
    const bucket = this.#bucketOf(key);
    if (bucket.lot > 0) bucket.lot += cost;
    // While the place is away its policy lets in, and takes nothing there: nothing is given back to it, so that it may have less, and never more.
    else if (!this.#isAway) {
      bucket.back += cost;
      bucket.knownUntilMs = 0;
      this.#soon(bucket);
    }
  }

  /** Tokens that were drawn and not spent. */
  get leasedTokens(): number {
    let sum = 0;
    for (const { held } of this.#buckets.values()) sum += held;
    return sum;
  }

  /** The most tokens of one key that were admitted out of budgets drawn before, in the last minute or two: this process's part of what the fleet was over the law. */
  get overshootTokens(): number {
    this.#turnPeak(this.#clock.monotonicMs());
    return Math.max(this.#peak.now, this.#peak.before);
  }

  // ---- taking -------------------------------------------------------------------------------------------------------

  #bucketOf(key: string): Bucket {
    const known = this.#buckets.get(key);
    if (known !== undefined) return known;
    const made = new Bucket(key, placeKey(this.#rule.name, key), this.#whenDue);
    this.#buckets.set(key, made);
    this.#knowFrom(made, this.#clock.monotonicMs());
    return made;
  }

  #take(bucket: Bucket, cost: number, nowMs: number): number | Promise<number> {
    if (bucket.lot < cost || nowMs >= bucket.lotUntilMs || bucket.waiting !== undefined) return this.#takeSlowly(bucket, cost, nowMs);
    bucket.lot -= cost;
    if (bucket.lot < bucket.low && !bucket.asking) this.#askAhead(bucket, nowMs);
    return 0;
  }

  #takeSlowly(bucket: Bucket, cost: number, nowMs: number): number | Promise<number> {
    bucket.turn(nowMs);
    if (bucket.waiting === undefined) {
      if (bucket.held >= cost) {
        bucket.spend(cost);
        if (!bucket.asking) this.#askAhead(bucket, nowMs);
        return 0;
      }
      const earlyMs = this.#earlyMs(bucket, cost, nowMs);
      if (earlyMs > 0) return earlyMs;
      if (this.#isAway) return this.#withoutPlace(bucket, cost, nowMs);
    }
    const waiting = (bucket.waiting ??= this.#newWaiting(bucket, nowMs));
    waiting.costs.push(cost);
    waiting.sum += cost;
    waiting.least = Math.min(waiting.least, cost);
    if (!bucket.asking) this.#soon(bucket);
    return new Promise((resolve) => waiting.settle.push(resolve));
  }

  #newWaiting(bucket: Bucket, nowMs: number): Waiting {
    const waiting = new Waiting(bucket, nowMs + this.#rule.withinMs);
    this.#waiting.begin(waiting);
    return waiting;
  }

  #earlyMs(bucket: Bucket, cost: number, nowMs: number): number {
    if (nowMs >= bucket.knownUntilMs) return 0;
    const early = Math.max(bucket.fullAtMs + (cost - this.limit) / this.#perMs, bucket.askAgainMs) - nowMs;
    return early * this.#perMs > slackTokens ? early : 0;
  }

  #decision(bucket: Bucket | undefined, retryAfterMs: number): Decision {
    const taken = bucket === undefined ? 0 : Math.max(0, (bucket.fullAtMs - this.#clock.monotonicMs()) * this.#perMs - bucket.held);
    return {
      ok: retryAfterMs === 0,
      left: Math.max(0, Math.min(this.limit, Math.floor(this.limit - taken + slackTokens))),
      limit: this.limit,
      retryAfterMs,
      resetMs: taken / this.#perMs,
    };
  }

  // ---- asking -------------------------------------------------------------------------------------------------------

  /** With everybody who comes before the loop turns. */
  #soon(bucket: Bucket): void {
    if (bucket.asking) return;
    bucket.asking = true;
    if (this.#coming.push(bucket) === 1) this.#at.soon(this.#goAll);
  }
  readonly #goAll = (): void => {
    const coming = this.#coming;
    this.#coming = [];
    for (const bucket of coming) {
      bucket.asking = false;
      this.#go(bucket);
    }
  };

  #go(bucket: Bucket): void {
    const nowMs = this.#clock.monotonicMs();
    const { waiting, isLow } = bucket;
    bucket.isLow = false;
    if (waiting === undefined) {
      if (!this.#isAway) this.#ask(bucket, undefined, nowMs, isLow ? this.#budget(bucket, 0, nowMs) : 0);
      return;
    }
    bucket.waiting = undefined;
    if (this.#isAway) return this.#settleByPolicy(bucket, waiting);
    if (this.#earlyMs(bucket, waiting.least, nowMs) === 0) return this.#ask(bucket, waiting, nowMs, this.#budget(bucket, waiting.sum, nowMs));
    // What came while a draw was on its way that has found the bucket empty.
    unlink(waiting);
    waiting.costs.forEach((cost, nth) => waiting.settle[nth]?.(this.#earlyMs(bucket, cost, nowMs)));
  }

  #askAhead(bucket: Bucket, nowMs: number): void {
    if (nowMs < bucket.askAgainMs || this.#isAway) return;
    bucket.isLow = true;
    this.#soon(bucket);
  }

  #ask(bucket: Bucket, waiting: Waiting | undefined, nowMs: number, budget: number): void {
    const wanted = Math.min(this.limit, (waiting?.sum ?? 0) + budget);
    const least = waiting?.least ?? Math.min(1, wanted);
    const { back } = bucket;
    if (wanted === 0 && back === 0) return;
    bucket.asking = true;
    bucket.back = 0;
    this.#at.place.draw({ key: bucket.placeKey, perMs: this.#perMs, burst: this.limit, least, wanted, back }).then(
      (drawn) => this.#answered(bucket, waiting, drawn, nowMs, wanted),
      (cause: unknown) => this.#failed(bucket, waiting, cause),
    );
  }

  /** What is drawn beyond what is needed at once. */
  #budget(bucket: Bucket, needed: number, nowMs: number): number {
    if (this.#rule.exactness === "exact" || this.#buckets.size > this.#rule.keys) return 0;
    return bucket.budget(needed, Math.floor((this.#perMs * leaseMs) / this.#at.place.processes), nowMs);
  }

  #answered(bucket: Bucket, waiting: Waiting | undefined, { granted, taken }: Drawn, askedAtMs: number, wanted: number): void {
    const nowMs = this.#clock.monotonicMs();
    this.#at.answered();
    this.#inTime.answered();
    bucket.asking = false;
    this.#knowFrom(bucket, nowMs);
    bucket.fullAtMs = nowMs + taken / this.#perMs;
    bucket.knownUntilMs = nowMs + knownForMs;
    if (this.#rule.exactness === "leased" && granted < wanted) bucket.askAgainMs = nowMs + shortOfMs;
    let pool = granted;
    if (waiting?.isOver) pool -= Math.min(pool, waiting.paid);
    else if (waiting) {
      unlink(waiting);
      waiting.costs.forEach((cost, nth) => {
        const fits = cost <= pool + slackTokens;
        if (fits) pool = Math.max(0, pool - cost);
        // What is in the pool then goes back: the next one to come may have it.
        waiting.settle[nth]?.(fits ? 0 : Math.max(1, bucket.fullAtMs + (cost - pool - this.limit) / this.#perMs - nowMs));
      });
    }
    if (this.#rule.exactness === "leased" && !waiting?.isOver) this.#keep(bucket, pool, askedAtMs + leaseMs, nowMs);
    else {
      // Its bucket may have been full since, and would not have gained what it is given then: as much as it gains in this time is kept from it.
      const worth = Math.max(0, pool - (nowMs - askedAtMs) * this.#perMs);
      bucket.back += worth;
      bucket.fullAtMs -= worth / this.#perMs;
    }
    if (bucket.waiting !== undefined || bucket.back > 0) this.#soon(bucket);
    else if (this.#buckets.size > this.#rule.keys && bucket.held === 0) this.#forget(bucket);
  }

  #keep(bucket: Bucket, budget: number, untilMs: number, nowMs: number): void {
    bucket.turn(nowMs);
    this.#measure(bucket, nowMs);
    if (budget > 0) bucket.keep(budget, untilMs);
  }

  #measure({ heldMost, held }: Bucket, nowMs: number): void {
    this.#turnPeak(nowMs);
    this.#peak.now = Math.max(this.#peak.now, heldMost - held);
  }
  #turnPeak(nowMs: number): void {
    const peak = this.#peak;
    if (nowMs - peak.sinceMs < peakForMs) return;
    this.#peak = { sinceMs: nowMs, now: 0, before: nowMs - peak.sinceMs < 2 * peakForMs ? peak.now : 0 };
  }

  // ---- without the place --------------------------------------------------------------------------------------------

  get #isAway(): boolean {
    return this.#at.isAway || this.#inTime.isAway;
  }

  #failed(bucket: Bucket, waiting: Waiting | undefined, cause: unknown): void {
    // What stands under one key says nothing of the others.
    if (Fault.is(cause, "limits.place-unfit")) this.#at.answered();
    else this.#at.failed(this.#clock.monotonicMs(), cause);
    bucket.asking = false;
    if (waiting) this.#settleByPolicy(bucket, waiting);
    if (bucket.waiting) this.#settleByPolicy(bucket, bucket.waiting);
  }

  #overdue(waiting: Waiting, nowMs: number): void {
    this.#inTime.failed(nowMs);
    this.#settleByPolicy(waiting.bucket, waiting);
  }

  #settleByPolicy(bucket: Bucket, waiting: Waiting): void {
    if (bucket.waiting === waiting) bucket.waiting = undefined;
    if (waiting.isOver) return;
    waiting.isOver = true;
    unlink(waiting);
    const nowMs = this.#clock.monotonicMs();
    waiting.costs.forEach((cost, nth) => {
      const waitMs = this.#byPolicy(bucket, cost, nowMs);
      if (waitMs === 0) waiting.paid += cost;
      waiting.settle[nth]?.(waitMs);
    });
  }

  #withoutPlace(bucket: Bucket, cost: number, nowMs: number): number {
    const waitMs = this.#byPolicy(bucket, cost, nowMs);
    if (!bucket.asking && this.#at.mayProbe(nowMs) && this.#inTime.mayProbe(nowMs)) {
      this.#at.probes(nowMs);
      this.#inTime.probes(nowMs);
      const probe = new Waiting(bucket, Infinity);
      probe.isOver = true;
      probe.sum = probe.least = cost;
      probe.paid = waitMs === 0 ? cost : 0;
      inContext(emptyContext, () => this.#ask(bucket, probe, nowMs, 0));
    }
    return waitMs;
  }

  #byPolicy(bucket: Bucket, cost: number, nowMs: number): number {
    this.#onUnreachable?.();
    const { whenUnreachable, perSecond, burst, keys } = this.#rule;
    if (whenUnreachable === "admit") return 0;
    if (whenUnreachable === "refuse") return probeEveryMs;
    const { processes } = this.#at.place;
    if (this.#share === undefined || this.#shareOf !== processes) {
      this.#share = new TokenBuckets({ perSecond: perSecond / processes, burst: Math.max(1, burst / processes), keys }, this.#clock, this.#random);
      this.#shareOf = processes;
    }
    return cost > this.#share.limit ? (cost / this.#perMs) * processes : this.#share.take(bucket.key, cost, nowMs);
  }

  // ---- tending ------------------------------------------------------------------------------------------------------

  #knowFrom(bucket: Bucket, nowMs: number): void {
    unlink(bucket);
    bucket.dueMs = Math.ceil((nowMs + leaseMs) / togetherMs) * togetherMs;
    this.#known.begin(bucket);
  }

  /** Gives back what is over, and forgets keys that nobody asks for. */
  #tend(bucket: Bucket, nowMs: number): void {
    bucket.turn(nowMs);
    this.#measure(bucket, nowMs);
    if (bucket.back > 0) this.#soon(bucket);
    if (bucket.isIdle && nowMs >= bucket.knownUntilMs + keptForMs) this.#forget(bucket);
    else this.#knowFrom(bucket, nowMs);
  }

  #forget(bucket: Bucket): void {
    unlink(bucket);
    this.#buckets.delete(bucket.key);
  }
}
