/**
 * From the start of the process to the first answer: `npm run bench -- startup`.
 *
 * A service with a durable store against bare Hono, both with zod, both with a warm compile cache and their files in memory. Operations per second
 * are starts per second, one after the other.
 */
import { runBenchmark } from "../harness/benchmark.ts";

await runBenchmark({
  subject: "startup",
  loads: [1],
  variants: [
    { name: "bare", module: new URL("./bare.ts", import.meta.url) },
    { name: "trestle", module: new URL("./trestle.ts", import.meta.url) },
  ],
  ratios: [{ over: "trestle", under: "bare", load: 1, of: "p50Ms", atMost: 4 }],
  bars: [{ variant: "trestle", load: 1, of: "p50Ms", below: 300 }],
});
