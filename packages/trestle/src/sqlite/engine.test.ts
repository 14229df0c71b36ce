import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { currentContext, Fault, systemClock, systemRandom, uuidv7Ids, virtualClock, withContext, type Clock } from "../kernel/index.ts";
import type { Reader, Store, Write } from "../store/index.ts";
import { engineStore } from "./engine.ts";
import { openSqlite, openSqliteStore } from "./index.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const put = (key: string): Write => ({ kind: "put", key, value: new Uint8Array(1) });
const commit = (store: Store, ...writes: Write[]) => store.commit({ id: ids.next(), expects: [], writes });
const sql = (text: string) => ({ text, parameters: [] });

test("a burst of callers is one batch, and what comes while it is judged is the next", async () => {
  const store = await openSqlite({ path: ":memory:" });

  await Promise.all(Array.from({ length: 100 }, (_, i) => commit(store, put(`a//${i}`))));
  assert.deepEqual(store.stats(), { commits: 100, refused: 0, batches: 1, waiting: 0 });
  await Promise.all(Array.from({ length: 600 }, (_, i) => commit(store, put(`b//${i}`))));

  assert.equal(store.stats().batches, 3, "a batch has at most 512 commits");
  await Promise.all(Array.from({ length: 6 }, (_, i) => commit(store, { kind: "put", key: `c//${i}`, value: new Uint8Array(1_000_000) })));
  assert.equal(store.stats().batches, 5, "and at most 4 MiB");
  await store.close();
});

test("a burst begins to leave as soon as it is worth a flush, and what follows a batch on its way leaves whole or by twice as many", async () => {
  const sizes: number[] = [];
  const replies: (() => void)[] = [];
  const store = engineStore({
    engine: "sqlite",
    guarantees: new Set(),
    writer: {
      epoch: 1,
      batchesInFlightMax: 4,
      followersMin: () => 4,
      apply: ({ length }) => {
        sizes.push(length);
        return new Promise((resolve) =>
          replies.push(() => resolve({ results: Array.from({ length }, (_, n) => ({ ok: true, epoch: 1, n })), queues: [], n: 0 })),
        );
      },
      begin: () => undefined,
      execute: () => assert.fail(),
      end: () => assert.fail(),
      abandon: () => undefined,
      close: () => undefined,
    },
    reader: {} as Reader,
    clock: systemClock,
    ids,
    backup: () => Promise.resolve(),
    beforeClose: () => undefined,
  });
  const burst = (count: number) => Promise.all(Array.from({ length: count }, (_, i) => commit(store, put(`a//${i}`))));

  const all = burst(18);
  assert.deepEqual(sizes, [4, 8], "before the burst is over");
  await new Promise((resolve) => systemClock.soon(() => resolve(undefined)));
  assert.deepEqual(sizes, [4, 8, 6]);

  for (const reply of replies) reply();
  await all;
  await store.close();
});

test("callers of a large batch hear of it a few in each turn of the loop, in their order, and what they commit next is one batch again", async () => {
  const store = await openSqlite({ path: ":memory:" });
  let turn = 0;
  const heard: { readonly caller: number; readonly turn: number }[] = [];
  const caller = async (n: number) => {
    await commit(store, put(`a//${n}`));
    heard.push({ caller: n, turn });
    await commit(store, put(`b//${n}`));
  };
  let running = true;
  const turning = () => void ((turn += 1), running && systemClock.soon(turning));
  systemClock.soon(turning);

  await Promise.all(Array.from({ length: 64 }, (_, n) => caller(n)));
  running = false;

  assert.deepEqual(
    heard.map((one) => one.caller),
    Array.from({ length: 64 }, (_, n) => n),
  );
  const perTurn = [...Map.groupBy(heard, (one) => one.turn).values()].map((all) => all.length);
  assert.deepEqual(perTurn, [16, 16, 16, 16]);
  assert.deepEqual(store.stats(), { commits: 128, refused: 0, batches: 2, waiting: 0 });
  await store.close();
});

test("a listener that throws harms neither the commit nor the next listener", async () => {
  const thrown: unknown[] = [];
  const clock: Clock = {
    ...systemClock,
    soon: (task) =>
      systemClock.soon(() => {
        try {
          task();
        } catch (error) {
          thrown.push(error);
        }
      }),
  };
  const store = await openSqlite({ path: ":memory:", clock });
  const heard: string[] = [];
  store.onChange(() => {
    throw new Error("mine");
  });
  store.onChange(({ keys }) => void heard.push(...keys));

  assert.equal((await commit(store, put("a//1"))).ok, true);
  assert.equal((await commit(store, put("a//2"))).ok, true);
  await store.close();

  assert.deepEqual(heard, ["a//1", "a//2"]);
  assert.ok(thrown.length >= 1 && thrown.every((error) => (error as Error).message === "mine"));
});

test("in memory a read waits for open transactions, also for one that begins as another ends", async () => {
  const store = await openSqlite({ path: ":memory:" });
  await store.migrate("t", [{ name: "1", text: "create table t (a)" }]);
  const rolledBack = () =>
    store
      .transaction(async (connection) => {
        await connection.execute(sql("insert into t values (1)"));
        await connection.execute(sql("select 1"));
        throw new Error("undo");
      })
      .catch(() => undefined);
  const transactions = [rolledBack(), rolledBack(), rolledBack()];
  await new Promise<void>((resolve) => systemClock.soon(resolve));

  const seen = await Promise.all(Array.from({ length: 5 }, () => store.read.rows(sql("select a from t"))));
  await Promise.all(transactions);

  assert.deepEqual(seen, Array(5).fill([]));
  await store.close();
});

test("a transaction's work runs in the context of its caller, not of whoever freed the lane", async () => {
  const store = await openSqlite({ path: ":memory:" });
  const seen: unknown[] = [];
  const transaction = (tenant: string) => withContext({ tenant }, () => store.transaction(async () => ({ result: seen.push(currentContext().tenant) })));

  await Promise.all([commit(store, put("a//1")), transaction("one"), transaction("two")]);

  assert.deepEqual(seen, ["one", "two"]);
  await store.close();
});

test("[F6] a transaction that names no commit has one of its own: where COMMIT meets an I/O error its caller hears the truth, or the id to ask by", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-engine-"));
  try {
    let failures = 0;
    let reaches = false;
    const store = await openSqlite({
      path: join(directory, "store.db"),
      seam: (db) => ({
        begin: () => db.exec("begin immediate"),
        commit() {
          if (failures === 0 || reaches) db.exec("commit");
          if (failures === 0) return;
          failures--;
          throw Object.assign(new Error("disk I/O error"), { errcode: 1034 });
        },
        rollback: () => db.exec("rollback"),
      }),
    });
    await store.migrate("t", [{ name: "1.sql", text: "create table u (x)" }]);
    const insert = async (x: number, failing: { readonly failures: number; readonly reaches: boolean }) => {
      const before = await store.read.head();
      ({ failures, reaches } = failing);
      const result = await store
        .transaction(async (connection) => ({ result: (await connection.execute(sql(`insert into u values (${x})`))).changes }))
        .catch((fault: Fault) => fault);
      const [row] = await store.read.commits({ after: { epoch: store.epoch, n: before.n }, limit: 1 });
      return { result, row, isThere: (await store.read.rows(sql(`select x from u where x = ${x}`))).length > 0 };
    };

    const durable = await insert(1, { failures: 1, reaches: true });
    assert.deepEqual([durable.result, durable.isThere, durable.row?.wrote], [1, true, []]);
    assert.deepEqual(await store.resolve(durable.row?.id as string), { ok: true, epoch: 1, n: durable.row?.n });

    const refused = await insert(2, { failures: 1, reaches: false });
    assert.deepEqual([(refused.result as Fault).code, refused.isThere, refused.row], ["store.io-error", false, undefined]);

    const unknown = await insert(3, { failures: 2, reaches: false });
    const { code, details, message } = unknown.result as Fault;
    assert.equal(code, "commit.unknown");
    assert.match(message, new RegExp(details["id"] as string));
    assert.deepEqual([await store.resolve(details["id"] as string), unknown.isThere], [{ ok: false, refused: "resolved" }, false]);
    await store.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("in memory a read that was left behind by a transaction waits for the next one like any other", async () => {
  const store = await openSqlite({ path: ":memory:" });
  await store.migrate("t", [{ name: "1", text: "create table t (a)" }]);
  let later: () => Promise<unknown> = () => Promise.resolve();
  await store.transaction(async () => {
    later = AsyncLocalStorage.bind(() => store.read.rows(sql("select a from t")));
    return { result: 0 };
  });

  let seen: unknown;
  let left: Promise<unknown> | undefined;
  await store
    .transaction(async (connection) => {
      await connection.execute(sql("insert into t values (1)"));
      left = later().then((rows) => (seen = rows));
      for (let i = 0; i < 5; i++) await connection.execute(sql("select 1"));
      assert.equal(seen, undefined);
      throw new Error("undo");
    })
    .catch(() => undefined);

  assert.deepEqual(await left, []);
  await store.close();
});

test("an idle store tidies up once, a minute after its last batch, and then leaves its clock alone", async () => {
  const clock = virtualClock();
  const store = await openSqliteStore({ path: ":memory:", clock });
  const own = uuidv7Ids(clock, systemRandom);
  await store.commit({ id: own.next(), expects: [], writes: [{ kind: "put", key: "a//1", value: new Uint8Array(1), expiresAtMs: clock.wallMs() + 1_000 }] });

  await clock.advance(61_000);
  assert.equal(store.stats().batches, 2);
  await clock.advance(3_600_000);

  assert.equal(store.stats().batches, 2);
  await store.close();
});

test("leases and limits that are no times are refused by name", async () => {
  const store = await openSqlite({ path: ":memory:" });
  const wrong = (attempt: () => Promise<unknown>) => assert.rejects(attempt, (thrown) => Fault.is(thrown, "option.out-of-range"));

  await wrong(() => store.claim({ holder: "h", leaseMs: Number.NaN, queues: [] }));
  await wrong(() => store.claim({ holder: "h", leaseMs: 1, queues: [{ queue: "q", limit: -1 }] }));
  await wrong(() => store.extend([], 0));
  await wrong(() => store.transaction(async () => ({ result: 0 }), -5));
  await store.close();
});

test("[F10] a reader of the change feed that is older than what is kept is told so, and one that starts anew is not", async () => {
  const clock = virtualClock();
  const own = uuidv7Ids(clock, systemRandom);
  const store = await openSqlite({ path: ":memory:", clock });
  const write = () => store.commit({ id: own.next(), expects: [], writes: [put("a//1")] });
  for (let i = 0; i < 3; i++) await write();
  await clock.advance(26 * 3_600_000);
  for (let i = 0; i < 2; i++) (await write(), await clock.advance(1_001));

  const { epoch, n } = await store.read.head();
  const anew = await store.read.commits({ after: { epoch, n: 0 }, limit: 10 });

  await assert.rejects(store.read.commits({ after: { epoch, n: 1 }, limit: 10 }), (thrown) => Fault.is(thrown, "log.trimmed"));
  assert.deepEqual(
    anew.map((row) => row.n),
    [n - 1, n],
  );
  assert.deepEqual(await store.read.commits({ after: { epoch, n: n - 2 }, limit: 10 }), anew, "right behind what was trimmed");
  await store.close();
});
