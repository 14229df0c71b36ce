/**
 * What happened in the last minute, for people who look: counts and durations in twelve buckets of five seconds, kept in typed arrays.
 * Recording is a few additions; nothing is allocated after a window was made.
 */
import { histogramQuantile } from "../kernel/index.ts";

export const windowMs = 60_000;
const bucketMs = 5_000;
const buckets = windowMs / bucketMs;

export type End = "ok" | "refused" | "fault";

export interface Traffic {
  /** Over the window, or since the start when that is nearer. */
  readonly perSecond: number;
  readonly refusedPerSecond: number;
  readonly faultsPerSecond: number;
  /** Absent when nothing was timed in the window. Interpolated within a bucket: off by its width at most. */
  readonly p50Ms?: number;
  readonly p99Ms?: number;
}

/** Milliseconds. */
const bounds = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];
const ends: readonly End[] = ["ok", "refused", "fault"];
/** A bucket's cells: one count per end, then one per duration bound and one above them. */
const width = ends.length + bounds.length + 1;

/** A rolling minute of one operation or edge. */
export class TrafficWindow {
  readonly #cells = new Float64Array(buckets * width);
  /** Which five seconds a bucket holds: it is wiped when its turn comes again. */
  readonly #ticks = new Float64Array(buckets).fill(-1);

  /** Something ended. */
  record(nowMs: number, end: End, durationMs: number): void {
    const at = this.#bucket(nowMs);
    const cells = this.#cells;
    const endAt = at + (end === "ok" ? 0 : end === "refused" ? 1 : 2);
    cells[endAt] = (cells[endAt] as number) + 1;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (durationMs <= (bounds[middle] as number)) high = middle;
      else low = middle + 1;
    }
    const durationAt = at + ends.length + low;
    cells[durationAt] = (cells[durationAt] as number) + 1;
  }

  /** Something was done that has no end of its own. */
  count(nowMs: number): void {
    const at = this.#bucket(nowMs);
    this.#cells[at] = (this.#cells[at] as number) + 1;
  }

  addTo(sum: Float64Array, nowMs: number): void {
    const newest = Math.floor(nowMs / bucketMs);
    for (let bucket = 0; bucket < buckets; bucket++) {
      const tick = this.#ticks[bucket] as number;
      if (tick < 0 || tick <= newest - buckets || tick > newest) continue;
      for (let cell = 0; cell < width; cell++) sum[cell] = (sum[cell] as number) + (this.#cells[bucket * width + cell] as number);
    }
  }

  #bucket(nowMs: number): number {
    const tick = Math.floor(nowMs / bucketMs);
    const bucket = tick % buckets;
    const at = bucket * width;
    if (this.#ticks[bucket] !== tick) {
      this.#ticks[bucket] = tick;
      this.#cells.fill(0, at, at + width);
    }
    return at;
  }
}

/** What these windows come to together. `sinceMs`: when counting began. */
export function trafficOf(windows: Iterable<TrafficWindow>, nowMs: number, sinceMs: number): Traffic {
  const sum = new Float64Array(width);
  for (const window of windows) window.addTo(sum, nowMs);
  // The window reaches back to the start of its oldest bucket. Less than a second would make a rate out of one call.
  const reachesBackTo = (Math.floor(nowMs / bucketMs) - buckets + 1) * bucketMs;
  const seconds = Math.max(1_000, nowMs - Math.max(reachesBackTo, sinceMs)) / 1_000;
  const [ok, refused, fault] = sum as unknown as [number, number, number];
  const timed = { bounds, counts: Array.from(sum.subarray(ends.length)) };
  const p50Ms = histogramQuantile(timed, 0.5);
  return {
    perSecond: (ok + refused + fault) / seconds,
    refusedPerSecond: refused / seconds,
    faultsPerSecond: fault / seconds,
    ...(Number.isNaN(p50Ms) ? {} : { p50Ms, p99Ms: histogramQuantile(timed, 0.99) }),
  };
}
