/** Commits of one event at the store's port: the writer in its thread, group commit, a row per commit. */
import { join } from "node:path";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { openSqlite } from "../../../packages/trestle/src/sqlite/index.ts";
import { newId, orderText, streamOf } from "./events.ts";

const port: Variant = async ({ load, seconds, scratch }) => {
  const store = await openSqlite({ path: join(scratch, "store.db") });
  const data = Buffer.from(orderText);
  const measured = await measureCallers(load, seconds, async (n) => {
    const outcome = await store.commit({
      id: newId(),
      expects: [],
      writes: [{ kind: "append", stream: `orders//${streamOf(n)}`, events: [{ id: newId(), type: "Placed", data }] }],
    });
    if (!outcome.ok) throw new Error(outcome.refused);
  });
  await store.close();
  return measured;
};
export default port;
