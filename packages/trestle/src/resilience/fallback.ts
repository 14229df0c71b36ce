/** Something else, when what was wanted cannot be had. */
import { durationMs, Fault, integerWithin, RecentMap, systemClock, type Clock, type Duration } from "../kernel/index.ts";

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

/** The last good answer of each key, for when there is none. Keys: at most so many, the latest; default 1,000. */
export function lastGood<T>(options: { readonly for: Duration; readonly keys?: number; readonly clock?: Clock }): LastGood<T> {
  const { clock = systemClock } = options;
  const forMs = durationMs(options.for, "lastGood.for");
  if (!(forMs > 0))
    throw Fault.create(
      "option.out-of-range",
      `lastGood.for must be above 0, got ${JSON.stringify(options.for)}`,
      "Say for how long an old answer is better than none.",
    );
  const kept = new RecentMap<string, { readonly value: T; readonly atMs: number }>(
    integerWithin(options.keys ?? 1_000, "lastGood.keys", { least: 1, most: 10_000_000 }),
  );
  return async (key, wanted) => {
    try {
      const value = await wanted();
      kept.set(key, { value, atMs: clock.monotonicMs() });
      return { value, stale: false, ageMs: 0 };
    } catch (thrown) {
      const last = kept.get(key);
      const ageMs = last ? clock.monotonicMs() - last.atMs : Infinity;
      if (!last || ageMs > forMs) throw thrown;
      return { value: last.value, stale: true, ageMs };
    }
  };
}
