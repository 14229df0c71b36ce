/**
 * The floor: node:sqlite on the main thread, and nothing but the statements that the engine runs for the same commit, in the same
 * transactions of everything that waits. No checks of its own, no thread, no outcomes, no notices, no claims.
 *
 * The statements are copies of the engine's (packages/trestle/src/sqlite: lane.ts, records-part.ts, log-part.ts, jobs-part.ts). At the end the file is
 * opened by the engine, which must find every commit: a floor that writes something else is no floor.
 */
import assert from "node:assert/strict";
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";
import { copyOfHistory } from "../harness/store-file.ts";
import { openForWriting } from "../../packages/trestle/src/sqlite/connection.ts";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";
import { nextOrder, payload, type Order } from "./order.ts";

const uuid = (text: string): Buffer => Buffer.from(text.replaceAll("-", ""), "hex");

const floor: Variant = async ({ load, seconds, scratch }) => {
  const path = copyOfHistory(scratch);
  const db = openForWriting(path, "full");
  const sql = (text: string) => db.prepare(text);
  const begin = sql("begin immediate");
  const commit = sql("commit");
  const insertCommit = sql("insert into trestle_commits (n, epoch, id, at, keys) values (?, ?, ?, ?, ?) on conflict (id) do nothing");
  const recordVersion = sql("select n, expires from trestle_records where key = ?");
  const streamVersion = sql("select version from trestle_events where stream = ? order by version desc limit 1");
  const streamHead = sql("select version, n from trestle_heads where stream = ?");
  const put = sql(
    "insert into trestle_records (key, home, n, created, expires, indexed, value) values (?1, ?2, ?3, ?3, ?4, ?5, ?6) on conflict (key) do nothing",
  );
  const insertEvent = sql("insert into trestle_events (position, stream, version, n, at, id, type, data, meta) values (?, ?, ?, ?, ?, ?, ?, ?, ?)");
  const insertJob = sql(
    "insert into trestle_jobs (seq, id, queue, state, priority, place, due, sent, attempt, key, uniq, payload, grp, until) values (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?) on conflict (id) do nothing",
  );

  let n = 0;
  let waiting: { readonly order: Order; readonly resolve: () => void }[] = [];
  function flush(): void {
    const batch = waiting;
    waiting = [];
    const at = Date.now();
    begin.run();
    for (const { order } of batch) {
      n++;
      insertCommit.run(n, 1, uuid(order.id), at, `r${order.key}\u0000s${order.stream}\u0000j${order.job}`);
      assert.equal(recordVersion.get(order.key), undefined);
      assert.equal(streamVersion.get(order.stream) ?? streamHead.get(order.stream), undefined);
      put.run(order.key, "shop//", n, null, 0, payload);
      insertEvent.run(n, order.stream, 1, n, at, uuid(order.event), "OrderPlaced", payload, null);
      insertJob.run(n, uuid(order.job), "mail", 1, 1, n, at, at, null, null, payload, null, null);
    }
    commit.run();
    for (const { resolve } of batch) resolve();
  }

  const measured = await measureCallers(load, seconds, () => {
    const order = nextOrder();
    return new Promise<void>((resolve) => {
      if (waiting.push({ order, resolve }) === 1) setImmediate(flush);
    });
  });
  db.close();
  const store = await openSqlite({ path });
  assert.deepEqual(await store.read.head(), { epoch: 1, n, position: n });
  assert.equal((await store.read.queue("mail")).waiting, n);
  await store.close();
  return measured;
};
export default floor;
