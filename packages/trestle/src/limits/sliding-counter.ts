/**
 * How often, per key, in a sliding window, from two numbers: what was admitted in the window of the clock that is running, and in the one before. What lies in the
 * window that ends now is estimated as the running count, and of the one before the share that still lies in it, as if that had come evenly.
 *
 * **How wrong it is.** If the calls of the window before came evenly, not at all. At worst, when they all came at its end, nearly `2 * limit` lie in one window, for a
 * moment: never more. On a million calls of a thousand keys, of which some come in bursts, it lets in as many as `slidingLog` to 1 in 100 (0.2 measured), and fewer
 * than 1 in 1,000 of them (0.5 measured) into a window that then has more than `1.1 * limit`: laws.fuzz.test.ts replays them. 64 B for each of the declared keys.
 */
import { slackMs } from "./checks.ts";
import type { Decision, RateLimit } from "./rate-limit.ts";
import { counted, own, SlidingWindow, type SlidingWindowOptions } from "./sliding-window.ts";

export function slidingCounter(options: SlidingWindowOptions): RateLimit {
  return new SlidingCounter(options);
}

/** Of a call: what multiplying may be off by. */
const slack = 1e-6;

/** A place's moment is the end of the window after the running one: from then on both counts are out of sight. Its own number is the count of the window before. */
class SlidingCounter extends SlidingWindow {
  constructor(options: SlidingWindowOptions) {
    super(options, "slidingCounter", {
      numbersMore: () => 2,
      weightOf: (floats, place) => (floats[place + own] as number) + (floats[place + counted] as number),
    });
  }

  #endOfRunning(now: number): number {
    return (Math.floor((now + slackMs(now)) / this.windowMs) + 1) * this.windowMs;
  }

  /** The counts as they are in the window that is running now. */
  protected turn(place: number, now: number): void {
    const { floats } = this.table;
    const seenUntil = floats[place + 1] as number;
    const end = this.#endOfRunning(now);
    if (seenUntil <= now) floats[place + own] = floats[place + counted] = 0;
    else if (seenUntil < end + this.windowMs / 2) {
      floats[place + own] = floats[place + counted] as number;
      floats[place + counted] = 0;
    } else return;
    floats[place + 1] = end + this.windowMs;
  }

  /** Until enough of the window before, or else of the running one, has left. */
  protected tooEarlyMs(place: number, cost: number, now: number): number {
    const { floats } = this.table;
    const [gone, here] = [floats[place + own] as number, floats[place + counted] as number];
    const leftMs = this.#endOfRunning(now) - now;
    if (gone * ((leftMs - slackMs(now)) / this.windowMs) + here + cost <= this.limit + slack) return 0;
    if (here + cost <= this.limit) return leftMs - (this.windowMs * (this.limit - here - cost)) / gone;
    return leftMs + this.windowMs * Math.max(0, 1 - (this.limit - cost) / here);
  }

  protected add(place: number, cost: number): void {
    const { floats } = this.table;
    floats[place + counted] = (floats[place + counted] as number) + cost;
  }

  protected decision(place: number, retryAfterMs: number, now: number): Decision {
    const { floats } = this.table;
    const [gone, here] = place < 0 ? [0, 0] : [floats[place + own] as number, floats[place + counted] as number];
    const leftMs = this.#endOfRunning(now) - now;
    return {
      ok: retryAfterMs === 0,
      left: Math.max(0, Math.floor(this.limit - gone * (leftMs / this.windowMs) - here + slack)),
      limit: this.limit,
      retryAfterMs,
      resetMs: here > 0 ? leftMs + this.windowMs : gone > 0 ? leftMs : 0,
    };
  }
}
