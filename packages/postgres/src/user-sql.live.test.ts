/**
 * The user's SQL beside the lane: who waits for whom, what is denied, and what a cut connection leaves (FINDINGS F5, F7, F19).
 *
 * Runs alone: it bounds what others wait for a transaction.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { faultProxy } from "@trestle/testing";
import { Fault, systemClock, withContext } from "trestle/kernel";
import { rowsDigest, type SqlValue, type Statement, type Store } from "trestle/store";
import { commitOf, fixture, newId, put } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;
const sql = (text: string, ...parameters: SqlValue[]): Statement => ({ text, parameters });
const run = (text: string, ...parameters: SqlValue[]) => ({ kind: "sql", statement: sql(text, ...parameters) }) as const;
let tables = 0;
async function tableIn(store: Store, columns: string): Promise<string> {
  const name = `user_table_${++tables}`;
  await store.migrate(name, [{ name: "1.sql", text: `create table ${name} (${columns})` }]);
  return name;
}
const rejectsWith = (code: `${string}.${string}`) => (thrown: unknown) => Fault.is(thrown, code);

/** The longest of the commits made one after the other while `during` lasts. */
async function longestCommitMs(store: Store, during: Promise<unknown>): Promise<number> {
  let over = false;
  void during.finally(() => (over = true)).catch(() => undefined);
  let longest = 0;
  while (!over) {
    const from = performance.now();
    assert.equal((await store.commit(commitOf([put(`k${newId()}`, "x")]))).ok, true);
    longest = Math.max(longest, performance.now() - from);
  }
  return longest;
}

test("[F7] while a transaction pauses, and while a statement of a commit runs, nobody else's commit waits for it", { skip }, async () => {
  const store = await postgres.open();
  const other = await postgres.open(store.schema);
  const name = await tableIn(store, "a integer");

  const paused = store.transaction(async (connection) => {
    await connection.execute(sql(`insert into ${name} values (1)`));
    await sleep(1_000);
    return { result: 0, commit: commitOf([put("after-the-pause", "x")]) };
  }, 5_000);
  const duringPause = await longestCommitMs(other, paused);
  const slow = store.commit(commitOf([put("slow", "x"), run("select pg_sleep(1)")]));
  const duringStatement = await longestCommitMs(other, slow);

  assert.equal((await slow).ok, true);
  assert.ok(duringPause < 250 && duringStatement < 250, `${duringPause.toFixed()} ms and ${duringStatement.toFixed()} ms`);
});

test("[F19] a transaction that takes too long is rolled back and told so, and frees the tables at once", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "a integer");
  const late: unknown[] = [];

  const overran = store.transaction(async (connection) => {
    await connection.execute(sql(`insert into ${name} values (1)`));
    await sleep(2_000);
    late.push(await connection.execute(sql(`insert into ${name} values (2)`)).catch((error: unknown) => error));
    return { result: 0 };
  }, 100);

  await assert.rejects(overran, rejectsWith("transaction.overran"));
  const from = performance.now();
  assert.equal((await store.commit(commitOf([run(`insert into ${name} values (3)`)]))).ok, true);
  assert.ok(performance.now() - from < 250, "it waited until the transaction's work had ended");
  assert.deepEqual(await store.read.rows(sql(`select a from ${name}`)), [{ a: 3 }]);
  while (late.length === 0) await sleep(20);
  assert.ok(Fault.is(late[0], "transaction.ended"));
});

test("[F19] transactions and commits of several processes on one row of the user's lose no update", { skip }, async () => {
  const first = await postgres.open();
  const stores = [first, await postgres.open(first.schema), await postgres.open(first.schema)];
  const name = await tableIn(first, "id integer primary key, n integer");
  await first.commit(commitOf([run(`insert into ${name} values (1, 0)`)]));

  const read = sql(`select n from ${name} where id = 1`);
  const added = await Promise.all(
    stores.flatMap((store) => [
      ...Array.from({ length: 10 }, () =>
        store.transaction(async (connection) => {
          const n = (await connection.execute(read)).rows[0]?.["n"] as number;
          await connection.execute(sql(`update ${name} set n = $1 where id = 1`, n + 1));
          return { result: true };
        }, 5_000),
      ),
      ...Array.from({ length: 10 }, async () => {
        for (;;) {
          const rows = await store.read.rows(read);
          const expects = [{ kind: "rows", statement: read, digest: rowsDigest(rows) }] as const;
          if ((await store.commit(commitOf([run(`update ${name} set n = $1 where id = 1`, (rows[0]?.["n"] as number) + 1)], expects))).ok) return true;
        }
      }),
    ]),
  );

  assert.equal(added.length, 60);
  assert.deepEqual(await first.read.rows(read), [{ n: 60 }]);
});

test("[F5] Trestle's tables are out of reach, also by a name that only comes about while the statement runs", { skip }, async () => {
  const store = await postgres.open();
  await store.commit(commitOf([put("kept", "x")]));
  const hidden = `do $$ begin execute 'delete from ' || '${store.schema}' || '.record'; end $$`;

  const outcome = await store.commit(commitOf([run(hidden)]));

  assert.equal(!outcome.ok && outcome.refused, "statement");
  await assert.rejects(
    store.transaction(async (connection) => ({ result: await connection.execute(sql(hidden)) })),
    rejectsWith("sql.denied"),
  );
  await assert.rejects(store.migrate("m", [{ name: "1", text: hidden }]), rejectsWith("sql.denied"));
  assert.equal((await store.read.records(["kept"]))[0]?.version, 1);
});

test("[F5] a constraint that is deferred to the end fails its own commit, and nobody else's", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "id integer primary key, parent integer");
  await store.migrate(name, [{ name: "2.sql", text: `alter table ${name} add foreign key (parent) references ${name} deferrable initially deferred` }]);

  const outcomes = await Promise.all([
    store.commit(commitOf([put("a", "x")])),
    store.commit(commitOf([put("b", "x"), run(`insert into ${name} values (1, 7)`)])),
    store.commit(commitOf([put("c", "x")])),
  ]);

  assert.deepEqual(
    outcomes.map((outcome) => outcome.ok || outcome.refused),
    [true, "statement", true],
  );
});

test("[F6] a commit with statements whose connection is cut is applied once: before its end, and after it", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "a integer unique");
  const killer = await postgres.session(store.schema);
  const cut =
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'trestle tables' and query like '%pg_sleep%' and state = 'active'";

  const commit = commitOf([put("k", "x"), run(`insert into ${name} values (1)`), run("select pg_sleep(0.3)")]);
  const outcome = store.commit(commit);
  while ((await killer.query(cut)).rowCount === 0) await sleep(5);

  assert.equal((await outcome).ok, true);
  assert.deepEqual(await store.commit(commit), await outcome, "again: its own row is in the way, and the outcome is known");
  assert.deepEqual(await store.read.rows(sql(`select a from ${name}`)), [{ a: 1 }]);
});

test("[F19] a transaction whose connection is cut is lost whole, and says so", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "a integer");
  const killer = await postgres.session(store.schema);

  const lost = store.transaction(async (connection) => {
    await connection.execute(sql(`insert into ${name} values (1)`));
    await killer.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'trestle tables'");
    await connection.execute(sql(`insert into ${name} values (2)`));
    return { result: 0 };
  }, 5_000);

  await assert.rejects(lost, rejectsWith("transaction.lost"));
  assert.deepEqual(await store.read.rows(sql(`select a from ${name}`)), []);
});

test("[F19] a transaction whose connection is cut while it waits for its turn is lost, and says so; the one that has the turn goes on", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "a integer");
  const killer = await postgres.session(store.schema);
  const began = Promise.withResolvers<void>();
  const cut = Promise.withResolvers<void>();

  const first = store.transaction(async (connection) => {
    await connection.execute(sql(`insert into ${name} values (1)`));
    began.resolve();
    await cut.promise;
    return { result: "kept" };
  }, 10_000);
  await began.promise;
  const second = store.transaction((connection) => connection.execute(sql(`insert into ${name} values (2)`)).then((result) => ({ result })), 10_000);
  second.catch(() => undefined);
  for (let ended = 0; ended === 0; await sleep(5)) {
    const waits = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'trestle tables' and wait_event_type = 'Lock'";
    ended = (await killer.query(waits)).rowCount ?? 0;
  }

  await assert.rejects(second, rejectsWith("transaction.lost"));
  cut.resolve();
  assert.equal(await first, "kept");
  assert.deepEqual(await store.read.rows(sql(`select a from ${name}`)), [{ a: 1 }]);
});

test("[F19] a callback that throws while statements of it are under way leaves nothing of them behind, and both connections are usable", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "a integer");
  const insert = (a: number) => sql(`insert into ${name} values ($1)`, a);
  const no = new Error("no");

  for (let round = 0; round < 10; round++) {
    const thrown = store.transaction(async (connection) => {
      if (round % 2 === 1) await connection.execute(sql("select 1")); // beside the first savepoint, and beside the others
      void connection.execute(insert(1)).catch(() => undefined);
      throw no;
    });
    await assert.rejects(thrown, (error) => error === no);
    const failed = store.transaction(async (connection) => ({
      result: await Promise.all([connection.execute(sql("select 1 / 0")), connection.execute(insert(2)), connection.execute(insert(3))]),
    }));
    await assert.rejects(failed, rejectsWith("sql.failed"));
  }
  await Promise.all([4, 5].map((a) => store.transaction(async (connection) => ({ result: await connection.execute(insert(a)) }))));

  const rows = await store.read.rows(sql(`select a from ${name} order by a`));
  assert.deepEqual(rows, [{ a: 4 }, { a: 5 }]);
});

test("[F19] a statement that fails while its transaction is being given up is told what failed: the rollback waits for it", { skip }, async () => {
  const store = await postgres.open();
  const watcher = await postgres.session(store.schema);
  const no = new Error("no");
  let under: Promise<unknown> | undefined;

  const thrown = store.transaction(async (connection) => {
    under = connection.execute(sql("select 1 / (count(*) - 1) from pg_sleep(0.1)")).catch((error: unknown) => error);
    while ((await watcher.query("select from pg_stat_activity where wait_event = 'PgSleep'")).rowCount === 0) await sleep(1);
    throw no;
  }, 5_000);

  await assert.rejects(thrown, (error) => error === no);
  assert.ok(Fault.is(await under, "sql.failed"), String(await under));
});

test("[RES-02] a statement is ended by the server when its caller's time is over, and nothing of it stays", { skip }, async () => {
  const store = await postgres.open();
  const watcher = await postgres.session(store.schema);
  const name = await tableIn(store, "a integer");
  const within = (ms: number, work: () => Promise<unknown>) => withContext({ deadlineMs: systemClock.monotonicMs() + ms }, work);
  const insertSlowly = sql(`insert into ${name} select 1 from pg_sleep(20)`);

  for (const late of [
    () => store.read.rows(sql("select 1 from pg_sleep(20)")),
    () => store.commit(commitOf([{ kind: "sql", statement: insertSlowly }])),
    () => store.transaction(async (connection) => ({ result: await connection.execute(insertSlowly) }), 10_000),
  ]) {
    const fromMs = systemClock.monotonicMs();
    await assert.rejects(within(300, late), rejectsWith("deadline.exceeded"));
    assert.ok(systemClock.monotonicMs() - fromMs < 5_000);
    while ((await watcher.query("select from pg_stat_activity where wait_event = 'PgSleep'")).rowCount !== 0) await sleep(5);
    await assert.rejects(within(0, late), rejectsWith("deadline.exceeded"));
  }

  assert.deepEqual(await store.read.rows(sql(`select a from ${name}`)), []);
});

for (const away of [false, true]) {
  const told = away ? "and the server stays away hears that nobody knows" : "asks by its commit's id, and hears that it was committed";
  test(`[F6] a transaction of SQL alone that is cut off at COMMIT ${told}`, { skip }, async () => {
    const { schema } = await postgres.open();
    await using network = await faultProxy({ to: postgres.server.url });
    const store = await postgres.open(schema, { url: network.url });
    const name = await tableIn(store, "a integer");
    const [holder, watcher] = [await postgres.session(schema), await postgres.session(schema)];
    const waiting = "select from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock'";
    const waits = async (who: string) => {
      while ((await watcher.query(waiting, [`trestle ${who}`])).rowCount === 0) await sleep(5);
    };
    const commit = commitOf([]);
    await holder.query("begin");
    await holder.query("select lock_lane()");

    const answer = store
      .transaction(async (connection) => {
        await connection.execute(sql(`insert into ${name} values (1)`));
        return { result: "done", commit };
      }, 20_000) // its statements may take as long: the server would cancel a shorter one while it waits for the lane
      .catch((error: unknown) => error);
    await waits("tables");
    if (away) await network.refuse();
    network.reset();
    if (!away) await waits("side");
    else assert.ok(Fault.is(await answer, "commit.unknown"), String(await answer));
    await holder.query("rollback"); // now it commits, and nobody is there to hear of it
    await network.heal();

    if (!away) assert.equal(await answer, "done");
    assert.equal((await store.resolve(commit.id)).ok, true);
    assert.deepEqual(await store.read.rows(sql(`select a from ${name}`)), [{ a: 1 }]);
  });
}

test("[F19] a statement that begins as its transaction ends is part of it, or refused: never one of its own behind the commit", { skip }, async () => {
  const store = await postgres.open();
  const name = await tableIn(store, "began bigint, wrote bigint");
  const late: Promise<unknown>[] = [];

  for (let round = 0; round < 10; round++)
    await store.transaction(async (connection) => {
      const first = connection.execute(sql("select txid_current() as tx"));
      const second = first.then(({ rows }) => connection.execute(sql(`insert into ${name} values ($1, txid_current())`, rows[0]?.["tx"] as number)));
      late.push(second.catch((error: unknown) => error));
      return { result: 0 };
    });

  for (const told of await Promise.all(late)) assert.ok(!(told instanceof Error) || Fault.is(told, "transaction.ended"), String(told));
  assert.deepEqual(await store.read.rows(sql(`select * from ${name} where began <> wrote`)), []);
});

test("a migration that four processes start at once is applied once", { skip }, async () => {
  const first = await postgres.open();
  const stores = [first, ...(await Promise.all([1, 2, 3].map(() => postgres.open(first.schema))))];
  const name = `user_table_${++tables}`;
  const files = [
    { name: "1.sql", text: `create table ${name} (a integer)` },
    { name: "2.sql", text: `select pg_sleep(0.1); insert into ${name} values (1)` },
  ];

  await Promise.all(stores.map((store) => store.migrate("shared", files)));

  assert.deepEqual(await first.read.rows(sql(`select a from ${name}`)), [{ a: 1 }]);
});

test("a statement of a commit that takes too long is what fails, once; a migration may take its time", { skip }, async () => {
  const store = await postgres.open(undefined, { answerWithinMs: 1_000 });
  const from = performance.now();

  const outcome = await store.commit(commitOf([put("k", "x"), run("select pg_sleep(5)")]));
  const tookMs = performance.now() - from;
  await assert.rejects(store.read.rows(sql("select pg_sleep(5)")), rejectsWith("sql.failed"));
  await store.migrate("slow", [{ name: "1.sql", text: "select pg_sleep(1.5)" }]);

  assert.equal(!outcome.ok && outcome.refused, "statement");
  assert.ok(tookMs < 1_900, `${tookMs.toFixed()} ms: it was tried again`);
  assert.equal((await store.commit(commitOf([put("k", "x")]))).ok, true);
});
