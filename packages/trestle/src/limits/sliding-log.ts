/**
 * How often, per key, exactly: the moments of what was admitted in the `window` before now are kept, and a call is admitted if there are fewer than `limit`.
 *
 * **The law.** In no window of this length, wherever it begins, more than `limit` are admitted. (Windows that stand side by side promise half of that: `limit` at
 * the end of one and `limit` at the beginning of the next come within a moment.) It costs 8 B for each of the `limit` of a key: for large limits `slidingCounter` is
 * near enough, and `rateLimit` is exact about another law.
 */
import { durationMs, Fault, integerWithin, numberWithin, systemClock, systemRandom, type Clock, type Duration, type Random } from "../kernel/index.ts";
import { assertKey, assertWholeCost, keysOf, Moments, slackMs } from "./checks.ts";
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

export function slidingLog(options: SlidingWindowOptions): RateLimit {
  return new SlidingLog(options);
}

export function windowOf(options: SlidingWindowOptions, of: string): { readonly limit: number; readonly windowMs: number; readonly keys: number } {
  return {
    limit: integerWithin(options.limit, `${of}: limit`, { least: 1, most: 1e6 }),
    windowMs: numberWithin(durationMs(options.window, `${of}: window`), `${of}: window, in milliseconds,`, { least: 1, most: 365 * 86_400_000 }),
    keys: keysOf(options.keys ?? 10_000, `${of}: keys`),
  };
}

const bytesMax = 1e9;

// Of a place, behind its moment: where the oldest is, how many there are, then a ring of them.
const oldest = 2;
const count = 3;
const ring = 4;

class SlidingLog implements RateLimit {
  readonly limit: number;
  readonly windowMs: number;
  readonly #moments: Moments;
  readonly #table: KeyTable;

  constructor(options: SlidingWindowOptions) {
    const { limit, windowMs, keys } = windowOf(options, "slidingLog");
    if (KeyTable.bytesAt(keys, 2 + limit) > bytesMax)
      throw Fault.create(
        "limits.log-too-large",
        `slidingLog: ${keys} keys with ${limit} moments each take ${Math.round(KeyTable.bytesAt(keys, 2 + limit) / 1e6)} MB, and at most ${bytesMax / 1e6} are allowed`,
        "Use slidingCounter, which keeps two numbers for a key, or fewer keys.",
      );
    this.limit = limit;
    this.windowMs = windowMs;
    this.#moments = new Moments(options.clock ?? systemClock);
    this.#table = new KeyTable({
      keys,
      numbersMore: 2 + limit,
      weightOf: (floats, place) => floats[place + count] as number,
      random: options.random ?? systemRandom,
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
    if (cost !== 1) assertWholeCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs);
    const place = this.#table.place(key, now);
    this.#drop(place, now);
    const retryAfterMs = this.#tooEarlyMs(place, cost, now);
    if (retryAfterMs > 0) return retryAfterMs;
    const { floats } = this.#table;
    const there = floats[place + count] as number;
    for (let nth = 0; nth < cost; nth++) floats[place + ring + (((floats[place + oldest] as number) + there + nth) % this.limit)] = now;
    floats[place + count] = there + cost;
    floats[place + 1] = now + this.windowMs;
    return 0;
  }

  decide(key: string, cost = 1, nowMs?: number): Decision {
    const retryAfterMs = this.take(key, cost, nowMs);
    const now = this.#moments.latestSinceMs;
    return this.#decision(this.#table.find(key, now), retryAfterMs, now);
  }

  look(key: string, cost = 1, nowMs?: number): Decision {
    assertKey(key);
    assertWholeCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs);
    const place = this.#table.find(key, now);
    if (place >= 0) this.#drop(place, now);
    return this.#decision(place, place < 0 ? 0 : this.#tooEarlyMs(place, cost, now), now);
  }

  giveBack(key: string, cost = 1, nowMs?: number): void {
    assertKey(key);
    assertWholeCost(cost, this.limit);
    const now = this.#moments.sinceMs(nowMs);
    const place = this.#table.find(key, now);
    if (place < 0) return;
    this.#drop(place, now);
    const { floats } = this.#table;
    floats[place + count] = Math.max(0, (floats[place + count] as number) - cost);
  }

  /** Forgets what left the window. */
  #drop(place: number, now: number): void {
    const { floats } = this.#table;
    let first = floats[place + oldest] as number;
    let there = floats[place + count] as number;
    for (; there > 0 && (floats[place + ring + first] as number) + this.windowMs <= now + slackMs(now); there--) first = (first + 1) % this.limit;
    floats[place + oldest] = first;
    floats[place + count] = there;
  }

  /** Until so many have left the window that the cost fits in. */
  #tooEarlyMs(place: number, cost: number, now: number): number {
    const { floats } = this.#table;
    const over = (floats[place + count] as number) + cost - this.limit;
    if (over <= 0) return 0;
    return (floats[place + ring + (((floats[place + oldest] as number) + over - 1) % this.limit)] as number) + this.windowMs - now;
  }

  #decision(place: number, retryAfterMs: number, now: number): Decision {
    const there = place < 0 ? 0 : (this.#table.floats[place + count] as number);
    return {
      ok: retryAfterMs === 0,
      left: this.limit - there,
      limit: this.limit,
      retryAfterMs,
      resetMs: there === 0 ? 0 : (this.#table.floats[place + 1] as number) - now,
    };
  }
}
