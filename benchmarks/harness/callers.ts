/** Callers in a closed loop: each asks again as soon as it was answered. What comes before `warmUpMs` is not counted. */
import type { Measured } from "./benchmark.ts";

/**
 * Until the code in use is compiled. Six seconds: V8 optimises three hundred functions of an HTTP server until then, and one a second afterwards
 * (`--trace-opt`), on cores that the server would have. Shorter for a first look.
 */
export const warmUpMs = (seconds: number): number => Math.min(6_000, seconds * 2_000);

/** `times` gets each counted answer's milliseconds. */
export async function measureCallers(callers: number, seconds: number, ask: (n: number) => Promise<unknown>, times: number[] = []): Promise<Measured> {
  const startMs = performance.now();
  const fromMs = startMs + warmUpMs(seconds);
  const untilMs = fromMs + seconds * 1_000;
  let n = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      // One look at the clock for each answer: two would be a third of what is measured where somebody answers at once.
      for (let askedMs = performance.now(); askedMs < untilMs;) {
        await ask(n++);
        const answeredMs = performance.now();
        if (askedMs >= fromMs && answeredMs <= untilMs) times.push(answeredMs - askedMs);
        askedMs = answeredMs;
      }
    }),
  );
  return { opsPerSec: times.length / seconds, ...percentiles(times) };
}

export function percentiles(times: number[]): { readonly p50Ms: number; readonly p99Ms: number } {
  const sorted = Float64Array.from(times).sort();
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
