/** node:sqlite, one INSERT for each event and nothing else, all that waits in one durable transaction. */
import { join } from "node:path";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { openForWriting } from "../../../packages/trestle/src/sqlite/connection.ts";
import { eventsEach, newIdBytes, orderText, streamOf } from "./events.ts";

const floor: Variant = async ({ load, seconds, scratch }) => {
  const db = openForWriting(join(scratch, "store.db"), "full");
  const [begin, commit] = [db.prepare("begin immediate"), db.prepare("commit")];
  const insert = db.prepare("insert into trestle_events (position, stream, version, n, at, id, type, data, meta) values (?, ?, ?, ?, ?, ?, ?, ?, null)");
  const data = Buffer.from(orderText);
  let waiting: { readonly n: number; readonly resolve: () => void }[] = [];
  let [position, scheduled] = [0, false];
  function flush(): void {
    scheduled = false;
    const batch = waiting;
    waiting = [];
    const at = Date.now();
    begin.run();
    for (const { n } of batch)
      for (let i = 0; i < eventsEach; i++) insert.run(++position, streamOf(n), ((n * eventsEach + i) % 10) + 1, position, at, newIdBytes(), "Placed", data);
    commit.run();
    for (const { resolve } of batch) resolve();
  }
  const measured = await measureCallers(
    load,
    seconds,
    (n) =>
      new Promise<void>((resolve) => {
        waiting.push({ n, resolve });
        if (scheduled) return;
        scheduled = true;
        setImmediate(flush);
      }),
  );
  db.close();
  return measured;
};
export default floor;
