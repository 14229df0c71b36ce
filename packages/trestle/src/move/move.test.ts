import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Fault, seededRandom, systemClock, uuidv7Ids } from "../kernel/index.ts";
import { moveSource, openSqliteStore, type SqliteStore } from "../sqlite/index.ts";
import { moveParts, type Commit, type Write } from "../store/index.ts";
import { abandonMove, move } from "./move.ts";
import { mapTarget } from "./testing/map-target.ts";

const ids = uuidv7Ids(systemClock, seededRandom("move"));
const aheadMs = 3_600_000;

async function opened(context: TestContext): Promise<{ readonly path: string; readonly store: SqliteStore; source(): ReturnType<typeof moveSource> }> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-move-"));
  const path = join(directory, "store.db");
  const store = await openSqliteStore({ path, inline: true, durability: "normal" });
  context.after(async () => {
    await store.close();
    rmSync(directory, { recursive: true });
  });
  return { path, store, source: () => moveSource(path, { ...store, close: async () => undefined }, systemClock) };
}

const commit = (...writes: Write[]): Commit => ({ id: ids.next(), expects: [], writes });
const put = (key: string, text = key): Write => ({ kind: "put", key, value: Buffer.from(text), index: [{ field: "size", value: text.length }] });
const append = (stream: string): Write => ({ kind: "append", stream, events: [{ id: ids.next(), type: "Happened", data: Buffer.from(stream) }] });
const enqueue = (queue: string, more: { key?: string; dueAtMs?: number } = {}): Write => ({
  kind: "enqueue",
  job: { id: ids.next(), queue, payload: Buffer.from("{}"), priority: 1, ...more },
});
const token = (key: string): Write => ({ kind: "token", key, value: Buffer.from(key), keepForMs: 60_000 });

async function fill(store: SqliteStore, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++)
    await store.commit(
      commit(
        put(`rows//${n}`),
        append(`s//${n % 7}`),
        enqueue("work", { key: `k${n % 3}` }),
        enqueue("later", { dueAtMs: systemClock.wallMs() + 60_000 }),
        token(`t//${n}`),
      ),
    );
}

test("[F13] everything is moved with its numbers, and the old store says where to go on", async (context) => {
  const { store, source } = await opened(context);
  await fill(store, 0, 1_500);
  await store.commit(commit({ kind: "remove", key: "rows//3" }, { kind: "pause", queue: "work", paused: true }));
  const target = mapTarget({ clockMs: () => systemClock.wallMs() + aheadMs });
  const from = await source();

  const report = await move({ source: from, target, url: "postgres://new/db", clock: systemClock });

  assert.deepEqual(report.rows, { commit: 1_502, event: 1_500, stream: 0, record: 1_499, token: 1_500, job: 3_000, queue: 1 });
  assert.ok(Math.abs(report.clockOffsetMs - aheadMs) < 100);
  assert.deepEqual(target.opened, { epoch: 2, n: 1_502, position: 1_500 });
  const scheduled = [...(target.parts.get("job")?.values() ?? [])].filter((row) => row.part === "job" && row.state === "scheduled");
  assert.equal(scheduled.length, 1_500);
  assert.ok(scheduled.every((row) => row.part === "job" && row.dueAtMs > systemClock.wallMs() + aheadMs));
  await assert.rejects(store.commit(commit(put("rows//late"))), (fault) => Fault.is(fault, "store.moved") && fault.details["url"] === "postgres://new/db");
  await assert.rejects(store.claim({ holder: "late", leaseMs: 1_000, queues: [{ queue: "work", limit: 1 }] }), (fault) => Fault.is(fault, "store.moved"));
  await from.close();
});

test("[F13] what changes while it is copied is followed: commits, claims, leases, keys that go on", async (context) => {
  const { store, source } = await opened(context);
  await fill(store, 0, 2_500);
  let loads = 0;
  let jobsSeen = false;
  const target = mapTarget({
    clockMs: () => systemClock.wallMs(),
    // The app goes on between any two pages: it commits, claims, finishes, trims.
    async onLoad(rows) {
      jobsSeen ||= rows.some(({ part }) => part === "job");
      if (++loads > (jobsSeen ? 16 : 4)) return;
      await fill(store, 5_000 + loads * 10, 5_010 + loads * 10);
      const { jobs } = await store.claim({ holder: "app", leaseMs: 30_000, queues: [{ queue: "work", limit: 2 }] });
      const [first] = jobs;
      if (first) await store.commit(commit({ kind: "finish", job: first.id, fence: first.fence, end: { kind: "done" } }));
      await store.commit(commit(put(`rows//${loads}`, "changed"), { kind: "trim", stream: "s//1", upTo: loads }));
    },
  });
  const from = await source();

  await move({ source: from, target, url: "postgres://new/db", clock: systemClock });

  for (const part of moveParts) if (part !== "commit") assert.equal(target.parts.get(part)?.size ?? 0, from.count(part, 0), part);
  const jobs = from.page("job", undefined, 100_000).rows;
  assert.ok(jobs.some((row) => row.part === "job" && row.state === "running"));
  for (const row of jobs) assert.equal((target.parts.get("job")?.get(row.id) as { state?: string }).state, (row as { state?: string }).state);
  await from.close();
});

test("[F13] a move that is killed at any load goes on where it was", async (context) => {
  const { store, source } = await opened(context);
  await fill(store, 0, 1_200);
  for (let at = 1; ; at++) {
    let loads = 0;
    let kills = 0;
    const target = mapTarget({
      clockMs: () => systemClock.wallMs(),
      onLoad() {
        if (++loads % (at + 1) === 0 && kills++ < 3) throw new Error("killed");
      },
    });
    for (;;) {
      const from = await source();
      try {
        await move({ source: from, target, url: `postgres://new/${at}`, clock: systemClock });
        break;
      } catch (error) {
        assert.equal((error as Error).message, "killed");
      } finally {
        await from.close();
      }
    }
    assert.equal(target.parts.get("job")?.size, 2_400);
    if (kills === 0) return;
    await store.move("unseal"); // for the next round
    await store.move("release");
  }
});

test("a row that differs ends the move before anybody goes on in the new store", async (context) => {
  const { store, source } = await opened(context);
  await fill(store, 0, 20);
  const target = mapTarget({ clockMs: () => systemClock.wallMs() });
  const lossy = {
    ...target,
    load: (...[rows, progress]: Parameters<typeof target.load>) =>
      target.load(
        rows.filter((row) => !("id" in row) || row.id !== "rows//7"),
        progress,
      ),
  };
  const from = await source();

  await assert.rejects(move({ source: from, target: lossy, url: "postgres://new/db", clock: systemClock }), (fault) => Fault.is(fault, "move.differs"));

  assert.equal((await store.commit(commit(put("rows//on")))).ok, true);
  await from.close();
});

test("a move that is given up leaves the old store as it was, and the new one empty", async (context) => {
  const { store, source } = await opened(context);
  await fill(store, 0, 20);
  const target = mapTarget({
    clockMs: () => systemClock.wallMs(),
    onLoad(rows) {
      if (rows.some(({ part }) => part === "job")) throw new Error("killed");
    },
  });
  const from = await source();
  await assert.rejects(move({ source: from, target, url: "postgres://new/db", clock: systemClock }));

  await abandonMove({ source: from, target });

  assert.equal(await target.progress(), undefined);
  assert.equal((await store.commit(commit(put("rows//on")))).ok, true);
  assert.deepEqual(from.userTables(), []);
  await from.close();
});

test("tables of the user's own refuse the move until somebody says what becomes of them", async (context) => {
  const { store, source } = await opened(context);
  await store.migrate("books", [{ name: "1.sql", text: "create table ledger (id integer primary key)" }]);
  const target = mapTarget({ clockMs: () => systemClock.wallMs() });
  const from = await source();

  await assert.rejects(
    move({ source: from, target, url: "postgres://new/db", clock: systemClock }),
    (fault) => Fault.is(fault, "move.user-tables") && /ledger/.test(fault.message),
  );
  const dry = await move({ source: from, target, url: "postgres://new/db", clock: systemClock, dryRun: true });
  assert.deepEqual(dry.userTables, ["ledger"]);
  await store.commit(commit({ kind: "sql", statement: { text: "insert into ledger values (7)", parameters: [] } }));
  await assert.rejects(
    move({ source: from, target, url: "postgres://new/db", clock: systemClock, tables: () => Promise.reject(new Error("no such column")) }),
    /no such column/,
  );
  assert.deepEqual([from.sealed(), target.opened], [undefined, undefined], "the old store goes on");
  await move({
    source: from,
    target,
    url: "postgres://new/db",
    clock: systemClock,
    async tables({ rows }, into) {
      await into.migrate("books", []);
      for (const { id } of await rows({ text: "select id from ledger", parameters: [] })) await into.execute({ text: `insert ${id}`, parameters: [] });
    },
  });

  assert.deepEqual([target.migrated, target.executed], [["books"], ["insert 7"]]);
  assert.notEqual(target.opened, undefined);
  await from.close();
});
