/**
 * How much of SQLite is left when Trestle commits through it: `npm run bench -- commit`.
 *
 * The floor executes the same statements, durable, with the same batching, inline. And, with 2 ms added to every fsync, a route that does not
 * touch the store is asked while 64 callers commit: a writer on the event loop would make it wait for the disk.
 */
import { runBenchmark } from "../harness/benchmark.ts";
import { slowFsync } from "../harness/slow-fsync.ts";
import { prepareHistory } from "../harness/store-file.ts";

await prepareHistory();
const slow = slowFsync(2_000);
await runBenchmark({
  subject: "commit",
  loads: [1, 16, 64, 256],
  variants: [
    { name: "floor", module: new URL("./floor.ts", import.meta.url) },
    { name: "trestle", module: new URL("./trestle.ts", import.meta.url) },
    ...("env" in slow ? [{ name: "neighbour+2ms-fsync", module: new URL("./neighbour.ts", import.meta.url), loads: [64], env: slow.env }] : []),
  ],
  ratios: [1, 16, 64, 256].map((load) => ({ over: "trestle", under: "floor", load, ...(load === 1 ? { atLeast: 0.4 } : load === 64 ? { atLeast: 0.6 } : {}) })),
  bars: [{ variant: "neighbour+2ms-fsync", load: 64, of: "p99Ms", below: 5 }],
  skipped: "missing" in slow ? [`neighbour: ${slow.missing}`] : [],
});
