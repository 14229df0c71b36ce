/**
 * Limits in one process: `npm run bench -- rate-limit-peers`. One caller asks about 1, 10,000 or 1,000,000 keys, `user:` and eleven digits, in an order of chance;
 * everything is admitted, so that nobody pays for refusals. The load is the number of keys; p50 and p99 are those of 4,096 calls, each; `bytes` is what the
 * process holds more, after a collection, for each key that came.
 *
 * `trestle` reads the clock itself, `trestle-timed` is told the time. The floors are `Map.get` on the same keys (`map-get`), the reading of their characters
 * (`read`) and of the clock alone (`clock`). `Map.get` finds in a text the hash that it left there when it was asked the same text before, which no text of a request has: `-fresh` makes each key anew for every call, and of
 * two keys they ask in turns: what it costs others that `trestle` finds the key that came twice in a row without hashing it.
 */
import { runBenchmark, type VariantSpec } from "../../harness/benchmark.ts";

const variant = (name: string, module = name, more: Partial<VariantSpec> = {}): VariantSpec => ({
  name,
  module: new URL(`./${module}.ts`, import.meta.url),
  ...more,
});

await runBenchmark({
  subject: "rate-limit-peers",
  loads: [1, 10_000, 1_000_000],
  seconds: 2,
  variants: [
    variant("clock", "floor", { loads: [1], env: { FLOOR: "clock" } }),
    variant("map-get", "floor"),
    variant("read", "floor", { env: { FLOOR: "read" } }),
    variant("trestle-timed"),
    variant("map-get-fresh", "floor", { loads: [1, 2, 1_000_000], env: { KEYS: "fresh" } }),
    variant("trestle-timed-fresh", "trestle-timed", { loads: [1, 2, 1_000_000], env: { KEYS: "fresh" } }),
    variant("trestle"),
    variant("sliding-counter", "windows", { env: { LAW: "counter" } }),
    variant("sliding-log", "windows", { env: { LAW: "log" } }),
    variant("limiter"),
    variant("express-rate-limit"),
    variant("rate-limiter-flexible"),
  ],
  // Of the median block, which what else runs on the machine does not interrupt.
  ratios: [
    { over: "trestle-timed", under: "map-get", load: 1_000_000, of: "p50Ms", atMost: 1 },
    { over: "trestle-timed-fresh", under: "map-get-fresh", load: 1_000_000, of: "p50Ms", atMost: 1 },
    { over: "trestle-timed-fresh", under: "map-get-fresh", load: 1, of: "p50Ms" },
    { over: "trestle-timed-fresh", under: "map-get-fresh", load: 2, of: "p50Ms" },
    { over: "read", under: "map-get", load: 1_000_000, of: "p50Ms" },
    { over: "trestle-timed", under: "map-get", load: 10_000, of: "p50Ms" },
    { over: "trestle", under: "clock", load: 1, of: "p50Ms" },
    ...[1, 10_000, 1_000_000].flatMap((load) =>
      ["limiter", "express-rate-limit", "rate-limiter-flexible"].map((over) => ({ over, under: "trestle", load, of: "p50Ms" as const })),
    ),
  ],
  bars: [
    { variant: "trestle", load: 1, of: "p50Ms", below: 0.000_075 },
    { variant: "trestle-timed", load: 1, of: "p50Ms", below: 0.000_03 },
    { variant: "trestle", load: 1_000_000, of: "bytesEach", below: 40.1 },
  ],
});
