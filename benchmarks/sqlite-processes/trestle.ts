/** Claims through the store: eight processes, one of which writes for all. */
import type { Variant } from "../harness/benchmark.ts";
import { takenBy } from "./jobs.ts";

const trestle: Variant = (run) => takenBy(new URL("./trestle-taker.ts", import.meta.url), run);
export default trestle;
