/** Callers in a closed loop: each asks again as soon as it was answered. The first fifth of the time warms up and is not counted. */
import type { Measured } from "./bench.ts";

export async function measureCallers(callers: number, seconds: number, ask: (n: number) => Promise<unknown>): Promise<Measured> {
  const startMs = performance.now();
  const fromMs = startMs + seconds * 200;
  const untilMs = fromMs + seconds * 1_000;
  const times: number[] = [];
  let n = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (;;) {
        const askedMs = performance.now();
        if (askedMs >= untilMs) return;
        await ask(n++);
        const answeredMs = performance.now();
        if (askedMs >= fromMs && answeredMs <= untilMs) times.push(answeredMs - askedMs);
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
