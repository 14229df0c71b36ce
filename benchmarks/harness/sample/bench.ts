/** A benchmark of two timers, for the harness's own test. */
import { runBenchmark } from "../benchmark.ts";

await runBenchmark({
  subject: "sample",
  loads: [1, 4],
  variants: [
    { name: "quick", module: new URL("./quick.ts", import.meta.url) },
    { name: "slow", module: new URL("./slow.ts", import.meta.url), loads: [4] },
  ],
  ratios: [
    { over: "slow", under: "quick", load: 4, atLeast: 0.9 },
    { over: "slow", under: "quick", load: 4, of: "p50Ms", atLeast: 2 },
  ],
  skipped: ["a third timer: there is none"],
});
