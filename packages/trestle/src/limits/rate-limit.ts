/**
 * How often, per key, in one process: a token bucket.
 *
 * **The law.** A key holds `burst` tokens when nothing was asked of it, gains `rate` tokens a second up to that, and a call takes its `cost` or nothing. So in any
 * time t at most `burst + rate * t` are admitted, and whoever keeps to the rate is never refused.
 *
 * **How.** The bucket is kept as the one moment at which it will be full again (GCRA: ITU-T I.371, "Traffic control and congestion control in B-ISDN", annex
 * A, virtual scheduling; its equivalence with the bucket is shown there): a call is admitted if that moment, moved on by its cost, is no more than `burst`
 * ahead. A bucket that is full again is as good as none, so what is past is free room. Moments are counted in tokens (milliseconds times rate): a whole cost is
 * then added without rounding, whatever the rate, and no error adds up over a key's life.
 */
import { systemClock, systemRandom, type Clock, type Random, type Rate } from "../kernel/index.ts";
import { assertCost, assertKey, bucketRule, givenTo, Moments, type BucketRule } from "./checks.ts";
import { KeyTable } from "./key-table.ts";

export interface RateLimitOptions {
  /** Tokens gained: `"100/s"`, `"5/m"`. From 1e-9 to 1e9 a second. */
  readonly rate: Rate;
  /** How many may come at once, from 1 to 1e9; default: what the rate allows in one second, at least 1. */
  readonly burst?: number;
  /** For so many keys at once there is room, from 1 to 16,777,216; default 100,000 (3.2 MB, taken as keys come). A key is in use until its bucket is full again. */
  readonly keys?: number;
  readonly clock?: Clock;
  /** Where the secret of its table comes from. */
  readonly random?: Random;
  /** What faults call it; default `rateLimit`. */
  readonly name?: string;
}

/** What a limit of any law can do. Nothing of it is asynchronous, and `take` allocates nothing. */
export interface RateLimit {
  /** The most that may come at once. */
  readonly limit: number;
  /** Until all of it is there again for a key that took everything. */
  readonly windowMs: number;
  /**
   * 0: admitted, and taken. Else nothing was taken, and so many milliseconds from now the same call is admitted if no other one comes before.
   * `cost` is from 1e-6 to `limit` (a whole number where windows are counted), default 1. `nowMs` saves a reading of the clock: the same clock's `monotonicMs()`; a
   * time before the latest one counts as that one. Faults: `option.out-of-range`, `limits.key-not-a-text`.
   */
  take(key: string, cost?: number, nowMs?: number): number;
  /** The same, with what callers like to be told. */
  decide(key: string, cost?: number, nowMs?: number): Decision;
  /** What `decide` would say, without taking. */
  look(key: string, cost?: number, nowMs?: number): Decision;
  /** Undoes a `take` that was admitted and not used. */
  giveBack(key: string, cost?: number, nowMs?: number): void;
  /** What it holds in memory now. */
  readonly bytes: number;
  /** Keys that were forgotten before their time, for lack of room: so many found their whole `limit` there again. */
  readonly forgotten: number;
  /** What these had taken: at most so much more was admitted than the law allows, in all. */
  readonly forgottenTokens: number;
}

export interface Decision {
  readonly ok: boolean;
  /** What is left of `limit`: whole ones. */
  readonly left: number;
  readonly limit: number;
  /** 0 when `ok`, else until the same call would be admitted. */
  readonly retryAfterMs: number;
  /** Until all of `limit` is there again. */
  readonly resetMs: number;
}

/** Of a token. Less than this is rounding, not a caller who came early; it does not add up, because what was taken stays taken in full. */
const slackTokens = 1e-6;
/** Four units in the last place of a moment: what multiplying by the rate may be off by. */
const slackOfMoment = 2 ** -50;

export function rateLimit(options: RateLimitOptions): RateLimit {
  const given = givenTo(options);
  return new TokenBuckets(bucketRule(given, given.name ?? "rateLimit"), given.clock ?? systemClock, given.random ?? systemRandom);
}

/** `rateLimit` of a rule that was checked. */
export class TokenBuckets implements RateLimit {
  readonly limit: number;
  readonly windowMs: number;
  readonly #perMs: number;
  readonly #moments: Moments;
  readonly #table: KeyTable;

  constructor({ perSecond, burst, keys }: BucketRule, clock: Clock, random: Random) {
    this.limit = burst;
    this.#perMs = perSecond / 1_000;
    this.windowMs = this.limit / this.#perMs;
    this.#moments = new Moments(clock);
    this.#table = new KeyTable({
      keys,
      numbersMore: 0,
      weightOf: (floats, place, now) => (floats[place + 1] as number) - now,
      random,
    });
  }

  get bytes(): number {
    return this.#table.bytes;
  }
  get forgotten(): number {
    return this.#table.forgotten;
  }
  get forgottenTokens(): number {
    return this.#table.forgottenWeight;
  }

  take(key: string, cost = 1, nowMs?: number): number {
    assertKey(key);
    if (cost !== 1) assertCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs) * this.#perMs;
    const place = this.#table.place(key, now);
    const { floats } = this.#table;
    const kept = floats[place + 1] as number;
    const fullAt = (kept > now ? kept : now) + cost;
    const early = fullAt - this.limit - now;
    if (early > slackTokens + now * slackOfMoment) return early / this.#perMs;
    floats[place + 1] = fullAt;
    return 0;
  }

  decide(key: string, cost = 1, nowMs?: number): Decision {
    const retryAfterMs = this.take(key, cost, nowMs);
    return this.#decision(key, retryAfterMs, this.#moments.latestSinceMs * this.#perMs);
  }

  look(key: string, cost = 1, nowMs?: number): Decision {
    assertKey(key);
    assertCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs) * this.#perMs;
    const early = this.#fullAt(key, now) + cost - this.limit - now;
    return this.#decision(key, early > slackTokens + now * slackOfMoment ? early / this.#perMs : 0, now);
  }

  giveBack(key: string, cost = 1, nowMs?: number): void {
    assertKey(key);
    assertCost(cost, this.limit);
    const place = this.#table.find(key, this.#moments.sinceMs(nowMs) * this.#perMs);
    if (place < 0) return;
    const { floats } = this.#table;
    floats[place + 1] = Math.max(0, (floats[place + 1] as number) - cost);
  }

  #fullAt(key: string, now: number): number {
    const place = this.#table.find(key, now);
    return place < 0 ? now : Math.max(now, this.#table.floats[place + 1] as number);
  }

  #decision(key: string, retryAfterMs: number, now: number): Decision {
    const taken = this.#fullAt(key, now) - now;
    return {
      ok: retryAfterMs === 0,
      left: Math.max(0, Math.floor(this.limit - taken + slackTokens + now * slackOfMoment)),
      limit: this.limit,
      retryAfterMs,
      resetMs: taken / this.#perMs,
    };
  }
}
