/**
 * Interactive transactions beside everybody else, against the real clock (FINDINGS F4, F19).
 *
 * Runs alone: it bounds what others wait for a transaction.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Fault, sleep, systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import type { SqlConnection, Store } from "../store/index.ts";
import { openSqlite } from "./index.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const sql = (text: string) => ({ text, parameters: [] });
const put = (key: string) => ({ kind: "put" as const, key, value: new Uint8Array(200) });
const commit = (store: Store, key: string) => store.commit({ id: ids.next(), expects: [], writes: [put(key)] });
const labels = async (store: Store) => (await store.read.rows(sql("select label from t order by label"))).map((row) => row["label"]);

async function withStore(work: (store: Store) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-tx-"));
  const store = await openSqlite({ path: join(directory, "store.db") });
  try {
    await store.migrate("t", [{ name: "1", text: "create table t (label)" }]);
    await work(store);
  } finally {
    await store.close();
    rmSync(directory, { recursive: true });
  }
}

test("[F19] 64 callers commit beside a transaction that sleeps 200 ms: none of their writes is in it, none waits longer than its bound", () =>
  withStore(async (store) => {
    let stop = false;
    let longest = 0;
    let done = 0;
    const callers = Array.from({ length: 64 }, async (_, caller) => {
      for (let i = 0; !stop; i++) {
        const startedAt = performance.now();
        assert.equal((await commit(store, `c//${caller}-${i}`)).ok, true);
        longest = Math.max(longest, performance.now() - startedAt);
        done++;
      }
    });
    await sleep(systemClock, 100);
    const before = done;

    const inside = await Promise.allSettled([
      store.transaction(async (connection) => {
        await connection.execute(sql("insert into t values ('rolled back')"));
        const [{ n }] = (await connection.execute(sql("select count(*) as n from t"))).rows as unknown as [{ n: number }];
        await sleep(systemClock, 200);
        const [{ n: later }] = (await connection.execute(sql("select count(*) as n from t"))).rows as unknown as [{ n: number }];
        assert.equal(later, n);
        throw new Error("undo");
      }),
    ]);
    await sleep(systemClock, 100);
    stop = true;
    await Promise.all(callers);

    assert.match(String((inside[0] as PromiseRejectedResult).reason), /undo/);
    assert.deepEqual(await labels(store), []);
    assert.ok(done > before + 64, "they went on afterwards");
    const kept = await store.read.head();
    assert.equal(kept.n, done, "every one of their commits stayed");
    assert.ok(longest < 450, `the longest wait was ${longest.toFixed(0)} ms, where the transaction may take 250`);
  }));

test("[F19] a transaction over its limit is rolled back, and its caller and its connection are told", () =>
  withStore(async (store) => {
    let kept: SqlConnection | undefined;
    const startedAt = performance.now();

    await assert.rejects(
      store.transaction(async (connection) => {
        kept = connection;
        await connection.execute(sql("insert into t values ('late')"));
        await sleep(systemClock, 400);
        await connection.execute(sql("insert into t values ('later')"));
        return { result: 0 };
      }, 100),
      (thrown) => Fault.is(thrown, "transaction.overran"),
    );

    assert.ok(performance.now() - startedAt < 350, "told at its limit, not when it comes back");
    await assert.rejects((kept as SqlConnection).execute(sql("select 1")), (thrown) => Fault.is(thrown));
    assert.deepEqual(await labels(store), []);
    assert.equal((await commit(store, "a//1")).ok, true);
  }));

test("[F19] a blocked event loop does not hold the store: the limit runs in the writer's thread", () =>
  withStore(async (store) => {
    let inside: unknown;

    await assert.rejects(
      store.transaction(async (connection) => {
        await connection.execute(sql("insert into t values ('blocked')"));
        const until = performance.now() + 300;
        while (performance.now() < until);
        // No timer of this loop has fired yet; the thread rolled back 200 ms ago.
        inside = await connection.execute(sql("insert into t values ('too late')")).then(
          () => "still open",
          (error: unknown) => error,
        );
        return { result: 0 };
      }, 100),
      (thrown) => Fault.is(thrown, "transaction.overran"),
    );

    await sleep(systemClock, 50);
    assert.ok(Fault.is(inside, "transaction.overran"), String(inside));
    assert.deepEqual(await labels(store), []);
    assert.equal((await commit(store, "a//1")).ok, true, "the store is free");
  }));

test("[F19] transactions and commits are served in the order they were asked for", () =>
  withStore(async (store) => {
    const order: string[] = [];
    const note = (name: string) => () => void order.push(name);

    await Promise.all([
      commit(store, "a//1").then(note("commit 1")),
      store.transaction(async (connection) => ({ result: await connection.execute(sql("insert into t values ('1')")) })).then(note("transaction 1")),
      commit(store, "a//2").then(note("commit 2")),
      store.transaction(async (connection) => ({ result: await connection.execute(sql("insert into t values ('2')")) })).then(note("transaction 2")),
    ]);

    assert.deepEqual(order, ["commit 1", "transaction 1", "commit 2", "transaction 2"]);
  }));

test("[F5] a statement that ends the transaction loses it whole, and says so", () =>
  withStore(async (store) => {
    await store.migrate("u", [{ name: "1", text: "create table u (x unique); insert into u values (1)" }]);

    await assert.rejects(
      store.transaction(async (connection) => {
        await connection.execute(sql("insert into t values ('lost')"));
        await assert.rejects(connection.execute(sql("insert or rollback into u values (1)")), (thrown) => Fault.is(thrown, "sql.failed"));
        await connection.execute(sql("insert into t values ('never')"));
        return { result: 0 };
      }),
      (thrown) => Fault.is(thrown, "transaction.lost"),
    );

    assert.deepEqual(await labels(store), []);
    assert.equal((await commit(store, "a//1")).ok, true);
  }));

test("[F4] while 64 callers commit, the event loop is free: a timer of a neighbour is not late", () =>
  withStore(async (store) => {
    let stop = false;
    const callers = Array.from({ length: 64 }, async (_, caller) => {
      for (let i = 0; !stop; i++) await commit(store, `c//${caller}-${i}`);
    });
    const late: number[] = [];
    for (let i = 0; i < 200; i++) {
      const wanted = performance.now() + 2;
      await sleep(systemClock, 2);
      late.push(performance.now() - wanted);
    }
    stop = true;
    await Promise.all(callers);

    late.sort((a, b) => a - b);
    assert.ok((late[Math.floor(late.length * 0.9)] ?? Infinity) < 10, `nine of ten timers were at most ${late[180]?.toFixed(1)} ms late`);
  }));
