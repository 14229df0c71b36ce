/**
 * Whether a line only smooths a burst or stands: a burst is gone within an interval, a standing line makes everybody late and helps nobody.
 *
 * Source of the judgement: CoDel (Nichols and Jacobson, "Controlling Queue Delay", 2012; RFC 8289): a line stands when nobody at its old end has waited
 * less than `targetMs` for `intervalMs`. Only what was seen counts, so a process that stood still for a second finds a long line and not a standing one.
 *
 * Its reaction is not CoDel's, which lets one go at a time, at intervals that shrink with a square root: that asks senders to slow down, and callers do not. Here everybody
 * who has waited longer than twice the target goes, as at Facebook (Maurer, "Fail at Scale", 2015), until one is seen who has not waited for the target.
 * Under CoDel's law the rate at which they go grows by 1 / (2 interval^2) with time, so r too many a millisecond are met after 2 r interval^2, and stand until then: with 100 ms, at twice a capacity of 1,000 a second,
 * somebody waits for 5 s, and for 55 ms here (standing-delay.test.ts).
 */
export interface DelayBounds {
  readonly targetMs: number;
  readonly intervalMs: number;
}

export class StandingDelay {
  /** When the old end was first seen to have waited too long; -1: it has not. */
  #longSinceMs = -1;

  /** Somebody is about to be served, or the line is empty: what the old end has waited says how the line is. */
  served(oldestWaitedMs: number, nowMs: number, bounds: DelayBounds): void {
    if (oldestWaitedMs <= bounds.targetMs) this.#longSinceMs = -1;
    else this.seen(oldestWaitedMs, nowMs, bounds);
  }

  /** Nobody is served now: a long wait is a long wait, a short one may yet become long. */
  seen(oldestWaitedMs: number, nowMs: number, bounds: DelayBounds): void {
    if (oldestWaitedMs > bounds.targetMs && this.#longSinceMs < 0) this.#longSinceMs = nowMs;
  }

  /** Whether one who has waited for so long is to go. */
  tooLong(waitedMs: number, nowMs: number, bounds: DelayBounds): boolean {
    return this.#longSinceMs >= 0 && nowMs - this.#longSinceMs >= bounds.intervalMs && waitedMs > 2 * bounds.targetMs;
  }
}
