/** What both limits of a sliding window have in common: a table of keys, and how it is asked. What a place keeps of its window is theirs. */
import { durationMs, integerWithin, numberWithin, systemClock, systemRandom, type Clock, type Duration, type Random } from "../kernel/index.ts";
import { assertKey, assertWholeCost, givenTo, keysOf, Moments } from "./checks.ts";
import { KeyTable } from "./key-table.ts";
import type { Decision, RateLimit } from "./rate-limit.ts";

export interface SlidingWindowOptions {
  /** So many in a window: an integer from 1 to 1e6. What a call costs is an integer, too. */
  readonly limit: number;
  /** From 1 ms to 365 d. */
  readonly window: Duration;
  /** For so many keys at once there is room, from 1 to 16,777,216; default 10,000. Of a log the whole table, at its cap, may have 1 GB. */
  readonly keys?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** Of a place, behind its moment: a number of the window's own, then how many are counted in it. */
export const own = 2;
export const counted = 3;

interface Kept {
  /** What a place keeps more than its moment. */
  readonly numbersMore: (limit: number, keys: number) => number;
  /** How many of a place's calls are forgotten with it. */
  readonly weightOf: (floats: Float64Array, place: number) => number;
}

export abstract class SlidingWindow implements RateLimit {
  readonly limit: number;
  readonly windowMs: number;
  protected readonly table: KeyTable;
  readonly #moments: Moments;

  /** `of` names it in faults. */
  constructor(options: SlidingWindowOptions, of: string, { numbersMore, weightOf }: Kept) {
    const given = givenTo(options);
    this.limit = integerWithin(given.limit, `${of}: limit`, { least: 1, most: 1e6 });
    this.windowMs = numberWithin(durationMs(given.window, `${of}: window`), `${of}: window, in milliseconds,`, { least: 1, most: 365 * 86_400_000 });
    const keys = keysOf(given.keys ?? 10_000, `${of}: keys`);
    this.#moments = new Moments(given.clock ?? systemClock);
    this.table = new KeyTable({ keys, numbersMore: numbersMore(this.limit, keys), weightOf, random: given.random ?? systemRandom });
  }

  /** Forgets of a place what is out of sight by now. */
  protected abstract turn(place: number, now: number): void;
  /** Until the cost fits in; 0 or less when it does. */
  protected abstract tooEarlyMs(place: number, cost: number, now: number): number;
  protected abstract add(place: number, cost: number, now: number): void;
  /** `place` is below 0 for a key that is not there. */
  protected abstract decision(place: number, retryAfterMs: number, now: number): Decision;

  get bytes(): number {
    return this.table.bytes;
  }
  get forgotten(): number {
    return this.table.forgotten;
  }
  get forgottenTokens(): number {
    return this.table.forgottenWeight;
  }

  take(key: string, cost = 1, nowMs?: number): number {
    assertKey(key);
    if (cost !== 1) assertWholeCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs);
    const place = this.table.place(key, now);
    this.turn(place, now);
    const retryAfterMs = this.tooEarlyMs(place, cost, now);
    if (retryAfterMs > 0) return retryAfterMs;
    this.add(place, cost, now);
    return 0;
  }

  decide(key: string, cost = 1, nowMs?: number): Decision {
    const retryAfterMs = this.take(key, cost, nowMs);
    const now = this.#moments.latestSinceMs;
    return this.decision(this.table.find(key, now), retryAfterMs, now);
  }

  look(key: string, cost = 1, nowMs?: number): Decision {
    const [place, now] = this.#found(key, cost, nowMs);
    return this.decision(place, place < 0 ? 0 : this.tooEarlyMs(place, cost, now), now);
  }

  giveBack(key: string, cost = 1, nowMs?: number): void {
    const [place] = this.#found(key, cost, nowMs);
    const { floats } = this.table;
    if (place >= 0) floats[place + counted] = Math.max(0, (floats[place + counted] as number) - cost);
  }

  #found(key: string, cost: number, nowMs: number | undefined): readonly [place: number, now: number] {
    assertKey(key);
    assertWholeCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs);
    const place = this.table.find(key, now);
    if (place >= 0) this.turn(place, now);
    return [place, now];
  }
}
