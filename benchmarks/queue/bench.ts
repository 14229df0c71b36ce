/**
 * How much of SQLite is left when a job goes through a queue: `npm run bench -- queue`.
 *
 * A caller sends a job and asks again when its handler, which does nothing, has run. Sending, handing out and acknowledging are durable. The floor
 * executes the same statements with the same batching, inline, and has no handlers.
 */
import { runBenchmark } from "../harness/benchmark.ts";

await runBenchmark({
  subject: "queue",
  loads: [1, 16, 64, 256],
  variants: [
    { name: "floor", module: new URL("./floor.ts", import.meta.url) },
    { name: "trestle", module: new URL("./trestle.ts", import.meta.url) },
  ],
  ratios: [1, 16, 64, 256].map((load) => ({ over: "trestle", under: "floor", load, ...(load === 64 ? { atLeast: 0.6 } : {}) })),
});
