/**
 * The log beside what it stands on and beside Emmett: `npm run bench -- log-peers`.
 *
 *   append   one event of 200 B in a commit of its own, durable, from 1 and 64 callers. The floor inserts the same row, and nothing else, inline, all
 *            that waits in one transaction. `trestle` publishes through a topic's handle; `trestle-port` commits at the store's port.
 *   read     200,000 events from the first to the last, in pages, JSON parsed; events per second. The floor is the paged SELECT and JSON.parse.
 *            `trestle` follows the topic, each event validated; `trestle-port` reads the store's log and decodes.
 *   emmett   the same on its PostgreSQL store (its SQLite store needs a driver with an install script): appends, and one stream read whole.
 */
import { runBenchmark } from "../../harness/benchmark.ts";

const module = (name: string) => new URL(`./${name}.ts`, import.meta.url);

await runBenchmark({
  subject: "log-peers",
  loads: [1, 64],
  variants: [
    { name: "append-floor", module: module("append-floor") },
    { name: "append-trestle-port", module: module("append-port") },
    { name: "append-trestle", module: module("append") },
    { name: "append-trestle-postgres", module: module("append-postgres") },
    { name: "append-emmett-postgres", module: module("append-emmett") },
    { name: "read-floor", module: module("read-floor"), loads: [1] },
    { name: "read-trestle-port", module: module("read-port"), loads: [1] },
    { name: "read-trestle", module: module("read"), loads: [1] },
    { name: "read-emmett-postgres", module: module("read-emmett"), loads: [1] },
  ],
  ratios: [
    { over: "append-trestle-port", under: "append-floor", load: 64, atLeast: 0.6 },
    { over: "append-trestle", under: "append-floor", load: 64 },
    { over: "append-trestle", under: "append-floor", load: 1 },
    { over: "append-trestle-postgres", under: "append-emmett-postgres", load: 64 },
    { over: "read-trestle-port", under: "read-floor", load: 1, atLeast: 0.6 },
    { over: "read-trestle", under: "read-floor", load: 1 },
  ],
});
