/**
 * What the whole stack costs beside a handler that stores nothing: `npm run bench -- http`.
 *
 * An idempotent POST: validation, key, event, job and stored answer in one durable commit, against Hono and zod that parse, validate and answer.
 */
import { runBenchmark } from "../harness/benchmark.ts";

await runBenchmark({
  subject: "http",
  loads: [1, 64],
  variants: [
    { name: "bare", module: new URL("./bare.ts", import.meta.url) },
    { name: "trestle", module: new URL("./trestle.ts", import.meta.url) },
  ],
  ratios: [
    { over: "trestle", under: "bare", load: 1 },
    { over: "trestle", under: "bare", load: 64, atLeast: 0.3 },
  ],
});
