/**
 * From the start of the process to the first answer: `npm run bench -- startup`.
 *
 * A service with a durable store against bare Hono, both with zod, both with a warm compile cache and their files in memory. `published` is what users install, `trestle` the sources in this
 * repository. Operations per second are starts per second, one after the other.
 */
import { build } from "../../scripts/build.mjs";
import { runBenchmark } from "../harness/benchmark.ts";

await build();

await runBenchmark({
  subject: "startup",
  loads: [1],
  variants: [
    { name: "bare", module: new URL("./bare.ts", import.meta.url) },
    { name: "published", module: new URL("./published.ts", import.meta.url) },
    { name: "trestle", module: new URL("./trestle.ts", import.meta.url) },
  ],
  ratios: ["published", "trestle"].map((over) => ({ over, under: "bare", load: 1, of: "p50Ms", atMost: 4 })),
  bars: [{ variant: "published", load: 1, of: "p50Ms", below: 300 }],
});
