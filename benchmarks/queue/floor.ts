/**
 * The floor: node:sqlite on the main thread, and nothing but the statements that the engine runs to send, hand out and acknowledge a job,
 * everything that waits in one transaction. No handler contexts, validation, leases to extend, retries, keys or outcomes.
 *
 * The statements are copies of the engine's (packages/trestle/src/sqlite: lane.ts, jobs-part.ts). At the end the engine opens the file and must find
 * every job gone.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";
import { openForWriting } from "../../packages/trestle/src/sqlite/connection.ts";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const newId = (): Buffer => Buffer.from(ids.next().replaceAll("-", ""), "hex");
const claimJobs = 64;

const floor: Variant = async ({ load, seconds, scratch }) => {
  const path = join(scratch, "store.db");
  const db = openForWriting(path, "full");
  const sql = (text: string) => {
    const statement = db.prepare(text);
    statement.setReturnArrays(true);
    return statement;
  };
  const begin = sql("begin immediate");
  const commit = sql("commit");
  const insertCommit = sql("insert into trestle_commits (n, epoch, id, at, keys) values (?, ?, ?, ?, ?) on conflict (id) do nothing");
  const insertJob = sql(
    "insert into trestle_jobs (seq, id, queue, state, priority, place, due, sent, attempt, key, uniq, payload, grp, until) values (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?) on conflict (id) do nothing",
  );
  const ready = sql(
    "select seq, id, key, attempt, sent, payload, n, until from trestle_jobs indexed by trestle_jobs_ready where queue = ? and state = 1 and grp is null order by priority, place limit ? + 0",
  );
  const take = sql("update trestle_jobs set state = 2, attempt = attempt + 1, epoch = ?, n = ?, lease = ?, holder = ? where seq = ?");
  const byId = sql("select seq, state, epoch, n, queue, key, cancelled, attempt, until, grp from trestle_jobs where id = ?");
  const remove = sql("delete from trestle_jobs where seq = ?");

  let n = 0;
  let seq = 0;
  let scheduled = false;
  let sent: { readonly payload: Buffer; readonly resolve: () => void }[] = [];
  let handled: Uint8Array[] = [];
  let waits = 0;
  const handlers = new Map<string, () => void>();

  const inCommit = (id: Buffer, at: number, keys: string, work: () => void): void => {
    insertCommit.run(++n, 1, id, at, keys);
    work();
  };
  function schedule(): void {
    if (scheduled || (sent.length === 0 && handled.length === 0 && waits === 0)) return;
    scheduled = true;
    setImmediate(flush);
  }
  function flush(): void {
    scheduled = false;
    const at = Date.now();
    const [sends, acknowledgements] = [sent, handled];
    [sent, handled] = [[], []];
    begin.run();
    for (const id of acknowledgements) {
      inCommit(newId(), at, `j${Buffer.from(id).toString("hex")}`, () => {
        const row = byId.get(id) as unknown as [number, number];
        assert.equal(row[1], 2);
        remove.run(row[0]);
      });
    }
    for (const { payload, resolve } of sends) {
      const id = newId();
      const text = id.toString("hex");
      handlers.set(text, resolve);
      inCommit(newId(), at, `j${text}`, () => void insertJob.run(++seq, id, "work", 1, 1, seq, at, at, null, null, payload, null, null));
      waits++;
    }
    const claimed = waits === 0 ? [] : (ready.all("work", claimJobs) as unknown as readonly (readonly [number, Uint8Array])[]);
    if (claimed.length > 0) insertCommit.run(++n, 1, null, at, "");
    for (const [row] of claimed) take.run(1, n, at + 30_000, "bench", row);
    commit.run();
    waits -= claimed.length;
    for (const [, id] of claimed) {
      const text = Buffer.from(id).toString("hex");
      handlers.get(text)?.(); // the handler, which does nothing but tell its sender
      handlers.delete(text);
      handled.push(id);
    }
    schedule();
  }

  const payload = Buffer.from(JSON.stringify({ n: 1, text: "x".repeat(180) }));
  const measured = await measureCallers(
    load,
    seconds,
    () =>
      new Promise<void>((resolve) => {
        sent.push({ payload, resolve });
        schedule();
      }),
  );
  while (scheduled) await new Promise((resolve) => void setImmediate(resolve));
  db.close();
  const store = await openSqlite({ path });
  const left = await store.read.queue("work");
  assert.deepEqual([left.waiting, left.running, left.dead], [0, 0, 0]);
  await store.close();
  return measured;
};
export default floor;
