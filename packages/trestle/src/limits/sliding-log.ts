/**
 * How often, per key, exactly: the moments of what was admitted in the `window` before now are kept, and a call is admitted if there are fewer than `limit`.
 *
 * **The law.** In no window of this length, wherever it begins, more than `limit` are admitted. (Windows that stand side by side promise half of that: `limit` at
 * the end of one and `limit` at the beginning of the next come within a moment.) It costs 8 B for each of the `limit` of a key: for large limits `slidingCounter` is
 * near enough, and `rateLimit` is exact about another law.
 */
import { Fault } from "../kernel/index.ts";
import { slackMs } from "./checks.ts";
import { KeyTable } from "./key-table.ts";
import type { Decision, RateLimit } from "./rate-limit.ts";
import { counted, own, SlidingWindow, type SlidingWindowOptions } from "./sliding-window.ts";

export function slidingLog(options: SlidingWindowOptions): RateLimit {
  return new SlidingLog(options);
}

const bytesMax = 1e9;

/** Behind a place's counts: a ring of moments, whose oldest one its own number names. */
const ring = 4;

class SlidingLog extends SlidingWindow {
  constructor(options: SlidingWindowOptions) {
    super(options, "slidingLog", {
      numbersMore(limit, keys) {
        if (KeyTable.bytesAt(keys, 2 + limit) <= bytesMax) return 2 + limit;
        throw Fault.create(
          "limits.log-too-large",
          `slidingLog: ${keys} keys with ${limit} moments each take ${Math.round(KeyTable.bytesAt(keys, 2 + limit) / 1e6)} MB, and at most ${bytesMax / 1e6} are allowed`,
          "Use slidingCounter, which keeps two numbers for a key, or fewer keys.",
        );
      },
      weightOf: (floats, place) => floats[place + counted] as number,
    });
  }

  /** Forgets what left the window. */
  protected turn(place: number, now: number): void {
    const { floats } = this.table;
    let first = floats[place + own] as number;
    let there = floats[place + counted] as number;
    for (; there > 0 && (floats[place + ring + first] as number) + this.windowMs <= now + slackMs(now); there--) first = (first + 1) % this.limit;
    floats[place + own] = first;
    floats[place + counted] = there;
  }

  /** Until so many have left the window that the cost fits in. */
  protected tooEarlyMs(place: number, cost: number, now: number): number {
    const { floats } = this.table;
    const over = (floats[place + counted] as number) + cost - this.limit;
    if (over <= 0) return 0;
    return (floats[place + ring + (((floats[place + own] as number) + over - 1) % this.limit)] as number) + this.windowMs - now;
  }

  protected add(place: number, cost: number, now: number): void {
    const { floats } = this.table;
    const there = floats[place + counted] as number;
    for (let nth = 0; nth < cost; nth++) floats[place + ring + (((floats[place + own] as number) + there + nth) % this.limit)] = now;
    floats[place + counted] = there + cost;
    floats[place + 1] = now + this.windowMs;
  }

  protected decision(place: number, retryAfterMs: number, now: number): Decision {
    const there = place < 0 ? 0 : (this.table.floats[place + counted] as number);
    return {
      ok: retryAfterMs === 0,
      left: this.limit - there,
      limit: this.limit,
      retryAfterMs,
      resetMs: there === 0 ? 0 : (this.table.floats[place + 1] as number) - now,
    };
  }
}
