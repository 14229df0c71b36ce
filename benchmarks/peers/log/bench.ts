/**
 * The log beside what it stands on and beside Emmett: `npm run bench -- log-peers`.
 *
 *   append    one event of 200 B in a commit of its own, durable, from 1 and 64 callers. The floor inserts the same row, and nothing else, inline, all
 *             that waits in one transaction. `trestle` publishes through a topic's handle; `trestle-port` commits at the store's port.
 *   append10  the same with ten events in each commit; ops are commits.
 *   read      200,000 events from the first to the last, in pages, JSON parsed; events per second. The floor is the paged SELECT and JSON.parse.
 *             `trestle` follows the topic, each event validated; `trestle-port` reads the store's log and decodes.
 *   emmett    its event stores on PostgreSQL and on SQLite (over node:sqlite, see ../sqlite3): appends, and streams read whole.
 *
 * `--variant` and `--load` choose one measurement, so that a busy machine can be used a little at a time.
 */
import { runBenchmark, type VariantSpec } from "../../harness/benchmark.ts";

const variant = (name: string, module: string, more: Partial<VariantSpec> = {}): VariantSpec => ({
  name,
  module: new URL(`./${module}.ts`, import.meta.url),
  ...more,
});
const ten = { env: { EVENTS_EACH: "10" }, loads: [64] };
const once = { loads: [1] };

await runBenchmark({
  subject: "log-peers",
  loads: [1, 64],
  variants: [
    variant("append-floor", "append-floor"),
    variant("append-trestle-port", "append-port"),
    variant("append-trestle", "append"),
    variant("append-trestle-postgres", "append-postgres"),
    variant("append-emmett-postgres", "append-emmett-postgres"),
    variant("append-emmett-sqlite", "append-emmett-sqlite"),
    variant("append10-floor", "append-floor", ten),
    variant("append10-trestle-port", "append-port", ten),
    variant("append10-trestle-postgres", "append-postgres", ten),
    variant("append10-emmett-postgres", "append-emmett-postgres", ten),
    variant("append10-emmett-sqlite", "append-emmett-sqlite", ten),
    variant("read-floor", "read-floor", once),
    variant("read-trestle-port", "read-port", once),
    variant("read-trestle", "read", once),
    variant("read-emmett-postgres", "read-emmett-postgres", once),
    variant("read-emmett-sqlite", "read-emmett-sqlite", once),
  ],
  ratios: [
    { over: "append-trestle-port", under: "append-floor", load: 64, atLeast: 0.6 },
    { over: "append10-trestle-port", under: "append10-floor", load: 64, atLeast: 0.6 },
    { over: "append-trestle", under: "append-floor", load: 64 },
    { over: "append-trestle", under: "append-floor", load: 1 },
    { over: "append-trestle-postgres", under: "append-emmett-postgres", load: 64 },
    { over: "append-trestle", under: "append-emmett-sqlite", load: 64 },
    { over: "read-trestle-port", under: "read-floor", load: 1, atLeast: 0.6 },
    { over: "read-trestle", under: "read-floor", load: 1, atLeast: 0.6 },
  ],
});
