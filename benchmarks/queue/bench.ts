/**
 * How much of SQLite is left when a job goes through a queue: `npm run bench -- queue`.
 *
 * A caller sends a job and asks again when its handler, which does nothing, has run. Sending, handing out and acknowledging are durable. The floor
 * executes the same statements with the same batching, inline, and has no handlers.
 *
 * `reads`: the handler reads a record and adds to another, so that as many run at once as may. With `concurrency: "adaptive"` beside both.
 */
import { runBenchmark } from "../harness/benchmark.ts";

const module = new URL("./trestle.ts", import.meta.url);
await runBenchmark({
  subject: "queue",
  loads: [1, 16, 64, 256],
  variants: [
    { name: "floor", module: new URL("./floor.ts", import.meta.url) },
    { name: "trestle", module },
    { name: "adaptive", module, loads: [64, 256], env: { CONCURRENCY: "adaptive" } },
    { name: "reads", module, loads: [64, 256], env: { READS: "1" } },
    { name: "reads-adaptive", module, loads: [64, 256], env: { READS: "1", CONCURRENCY: "adaptive" } },
  ],
  ratios: [
    ...[1, 16, 64, 256].map((load) => ({ over: "trestle", under: "floor", load, ...(load === 64 ? { atLeast: 0.6 } : {}) })),
    ...[64, 256].flatMap((load) => [
      { over: "adaptive", under: "trestle", load },
      { over: "reads-adaptive", under: "reads", load },
    ]),
  ],
});
