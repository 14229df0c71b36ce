/** Claims as people write them today: a connection in each process, BEGIN IMMEDIATE, a busy timeout. */
import type { Variant } from "../harness/benchmark.ts";
import { takenBy } from "./jobs.ts";

const busyTimeout: Variant = (run) => takenBy(new URL("./busy-timeout-taker.ts", import.meta.url), run);
export default busyTimeout;
