/**
 * What the whole stack costs beside a handler that stores nothing: `npm run bench -- http`.
 *
 * An idempotent POST: validation, key, event, job and stored answer in one durable commit, against Hono and zod that parse, validate and answer.
 * And against a floor, Hono and zod with the same rows written by hand: what of the difference is the disk's and SQLite's, and no framework's.
 */
import { runBenchmark } from "../harness/benchmark.ts";

await runBenchmark({
  subject: "http",
  loads: [1, 64],
  variants: [
    { name: "bare", module: new URL("./bare.ts", import.meta.url) },
    { name: "floor", module: new URL("./floor.ts", import.meta.url), loads: [64] },
    { name: "trestle", module: new URL("./trestle.ts", import.meta.url) },
  ],
  ratios: [
    { over: "trestle", under: "bare", load: 1 },
    { over: "trestle", under: "bare", load: 64, atLeast: 0.3 },
    { over: "floor", under: "bare", load: 64 },
    { over: "trestle", under: "floor", load: 64 },
  ],
});
