import assert from "node:assert/strict";
import { after, test } from "node:test";
import { missing, postgres, type PostgresServer } from "@trestle/testing";
import pg from "pg";
import { Fault, sleep, systemClock } from "../kernel/index.ts";
import { bulkhead, deadline, pipeline, retry, timeout } from "../resilience/index.ts";
import { guardedPool } from "./index.ts";

const skip = await missing("postgres");
let server: PostgresServer | undefined;
const pools: pg.Pool[] = [];
after(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
  await server?.close();
});

async function setUp(max: number): Promise<pg.Pool> {
  server ??= await postgres();
  const pool = new pg.Pool({ connectionString: server.url, max });
  pool.on("error", () => undefined);
  pools.push(pool);
  return pool;
}
const isLate = (thrown: unknown) => Fault.is(thrown, "deadline.exceeded");
const pidsOf = async (pool: pg.Pool) => (await pool.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]?.pid;

test("a statement is ended by the server when its caller's time is over, and its connection is as good as before", { skip }, async () => {
  const pool = await setUp(1);
  const places = bulkhead({ running: 1 });
  const db = guardedPool(pool, pipeline(deadline(200), places));
  const pid = await pidsOf(pool);

  await assert.rejects(db.query("select pg_sleep(30)"), isLate);
  const beganMs = systemClock.monotonicMs();
  while (places.inFlight > 0) await sleep(systemClock, 5);
  assert.ok(systemClock.monotonicMs() - beganMs < 10_000, "the server did not end it");
  assert.deepEqual((await db.query("select 1 + 1 as n")).rows, [{ n: 2 }]);
  assert.equal(await pidsOf(pool), pid, "the same connection");
  assert.deepEqual((await pool.query("show statement_timeout")).rows, [{ statement_timeout: "0" }], "nothing is left of the time");
});

test("who waits for a busy pool waits in the order of the guard, no longer than its time, and no connection is lost by that", { skip }, async () => {
  const pool = await setUp(1);
  const places = bulkhead({ running: 1, waiting: 100 });
  const db = guardedPool(pool, pipeline(deadline("20s"), places));
  const pid = await pidsOf(pool);
  const done: string[] = [];
  const call = (what: string, ms = 1, priority: "high" | "normal" = "normal") =>
    db.query(`select pg_sleep(${ms / 1_000})`, [], { priority }).then(() => done.push(what));

  const long = call("long", 200);
  const late = Array.from({ length: 5 }, () => db.query("select 1", [], { deadlineMs: systemClock.monotonicMs() + 50 }).catch((thrown: unknown) => thrown));
  const many = Array.from({ length: 20 }, () => call("many"));
  const urgent = call("urgent", 1, "high");
  for (const thrown of await Promise.all(late)) assert.ok(isLate(thrown));
  await Promise.all([long, ...many, urgent]);
  assert.deepEqual(done.slice(0, 2), ["long", "urgent"]);
  assert.equal(await pidsOf(pool), pid, "busy is not dead");
});

test("what work leaves open when it throws is rolled back, and what may have been done is not repeated", { skip }, async () => {
  const pool = await setUp(1);
  const db = guardedPool<pg.PoolClient>(pool, pipeline(retry({ attempts: 3, from: 1 }), timeout("10s"), bulkhead({ running: 1, waiting: 9 })));
  await pool.query("create table notes (n int)");
  let attempts = 0;
  const broken = new Error("broken");
  const work = async (client: pg.PoolClient) => {
    attempts++;
    await client.query("begin");
    await client.query("insert into notes values (1)");
    throw broken;
  };

  await assert.rejects(db.use(work), broken);
  assert.equal(attempts, 1);
  await assert.rejects(db.use(work, { idempotent: true }), broken);
  assert.equal(attempts, 4);
  assert.deepEqual((await db.query("select count(*)::int as n from notes")).rows, [{ n: 0 }]);
});
