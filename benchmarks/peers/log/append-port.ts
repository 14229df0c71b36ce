/** The store on SQLite: the writer in its thread, group commit, a row per commit. */
import { join } from "node:path";
import type { Variant } from "../../harness/benchmark.ts";
import { openSqlite } from "../../../packages/trestle/src/sqlite/index.ts";
import { measureAppends } from "./appends.ts";

const port: Variant = async ({ load, seconds, scratch }) => measureAppends(await openSqlite({ path: join(scratch, "store.db") }), load, seconds);
export default port;
