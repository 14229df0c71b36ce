/** Something else, when what was wanted cannot be had. */
import { integerWithin, positiveMs, RecentMap, systemClock, type Clock, type Duration } from "../kernel/index.ts";
import { isUnwell } from "./failure.ts";

/**
 * What `wanted` comes to, or what `instead` makes of its failure: `fallback(() => guarded(fetchWeather), () => "sunny, probably")`. When `instead` fails too that
 * is what is thrown, with the first failure as its cause if it has none.
 */
export async function fallback<T, F>(wanted: () => T | Promise<T>, instead: (thrown: unknown) => F | Promise<F>): Promise<T | F> {
  try {
    return await wanted();
  } catch (thrown) {
    try {
      return await instead(thrown);
    } catch (second) {
      if (second instanceof Error && second !== thrown && second.cause === undefined)
        Object.defineProperty(second, "cause", { value: thrown, configurable: true, writable: true });
      throw second;
    }
  }
}

export interface LastGood<T> {
  /** What `wanted` comes to; when it fails, the last that this key had, if it is young enough. Without one its failure is thrown. */
  (key: string, wanted: () => T | Promise<T>): Promise<{ readonly value: T; readonly stale: boolean; readonly ageMs: number }>;
}

export interface LastGoodOptions {
  /** An answer that is older stands in for nothing. Above 0. */
  readonly for: Duration;
  /** At most so many keys, the latest. 1 to 10,000,000; default 1,000. */
  readonly keys?: number;
  /**
   * Whether an old answer may stand in for this failure. Default: whatever `failureOf` does not call a refusal: who is told "forbidden" or "gone" is not to be shown what was there before (as with `stale-if-error`,
   * RFC 5861).
   */
  readonly when?: (thrown: unknown) => boolean;
  readonly clock?: Clock;
}

/** The last good answer of each key, for when there is none. */
export function lastGood<T>(options: LastGoodOptions): LastGood<T> {
  const { clock = systemClock, when = isUnwell } = options;
  const forMs = positiveMs(options.for, "lastGood.for");
  const kept = new RecentMap<string, { readonly value: T; readonly atMs: number }>(
    integerWithin(options.keys ?? 1_000, "lastGood.keys", { least: 1, most: 10_000_000 }),
  );
  return async (key, wanted) => {
    try {
      const value = await wanted();
      kept.set(key, { value, atMs: clock.monotonicMs() });
      return { value, stale: false, ageMs: 0 };
    } catch (thrown) {
      const last = when(thrown) ? kept.get(key) : undefined;
      const ageMs = last ? clock.monotonicMs() - last.atMs : Infinity;
      if (!last || ageMs > forMs) throw thrown;
      return { value: last.value, stale: true, ageMs };
    }
  };
}
