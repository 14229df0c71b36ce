/**
 * Commits on PostgreSQL: `npm run bench -- commit-postgres`. One event on a new stream, one record, one job, 200 B each, random keys.
 *
 * - `trestle`: the store. `floor`: its batch function called with arrays built before the clock runs, a batch as large as there are callers, then the flush.
 * - `sequence`, `gapless`: what people write, BEGIN, a statement for each row, COMMIT, prepared, a pool of 16; the position from a sequence, or from one row that
 *   everybody updates.
 * - `…-fleet`: four processes with so many callers each, on a server whose flush takes 5 ms longer. The shares of the processes go to stderr.
 */
import { missing } from "@trestle/testing";
import { runBenchmark } from "../harness/benchmark.ts";

const skipped = await missing("postgres", { managed: true });
const alone = ["sequence", "gapless", "floor", "trestle"].map((name) => ({ name, module: new URL(`./${name}.ts`, import.meta.url) }));
const fleet = ["sequence", "trestle"].map((name) => ({
  name: `${name}-fleet`,
  module: new URL("./fleet.ts", import.meta.url),
  loads: [1, 16, 64],
  env: { FLEET_OF: name },
}));
await runBenchmark({
  subject: "commit-postgres",
  loads: [1, 16, 64, 256],
  variants: skipped === false ? [...alone, ...fleet] : [],
  ratios: [
    { over: "trestle", under: "floor", load: 64, atLeast: 0.75 },
    { over: "trestle", under: "sequence", load: 64, atLeast: 4 },
    { over: "trestle", under: "gapless", load: 64, atLeast: 10 },
    { over: "trestle-fleet", under: "sequence-fleet", load: 16, atLeast: 2.5 },
    { over: "trestle", under: "sequence", load: 1 },
    { over: "trestle", under: "sequence", load: 16 },
    { over: "trestle-fleet", under: "sequence-fleet", load: 1 },
    { over: "trestle-fleet", under: "sequence-fleet", load: 64 },
  ],
  skipped: skipped === false ? [] : [skipped],
});
