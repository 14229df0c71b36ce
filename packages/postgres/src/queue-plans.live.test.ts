/**
 * No statement of the queue has a second plausible plan (FINDINGS F8): whatever the statistics claim, what a step looks at does not grow with
 * the jobs that are there, nor with the dead versions that an old snapshot keeps.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type pg from "pg";
import type { ClaimedJob, QueuePolicy, Store, Write } from "trestle/store";
import { commitOf, fixture, newId } from "./testing/fixture.ts";

const postgres = await fixture({ settings: { autovacuum: "off" } });
const tables = ["commit", "job", "job_mark", "job_paused"];

interface Looked {
  /** Tables read whole. */
  readonly whole: number;
  /** Index entries that were looked at, dead ones too. */
  readonly entries: number;
  readonly probes: number;
}

async function looked(session: pg.Client, schema: string): Promise<Looked> {
  // A session tells its counts when it has been idle for a moment; this one looks again until the others have told theirs.
  await session.query("select pg_stat_clear_snapshot()");
  const { rows } = await session.query<Record<keyof Looked, string>>(
    `select (select sum(seq_scan) from pg_stat_user_tables where schemaname = $1 and relname = any ($2)) as whole, sum(idx_tup_read) as entries, sum(idx_scan) as probes
       from pg_stat_user_indexes where schemaname = $1 and relname = any ($2)`,
    [schema, tables],
  );
  return { whole: Number(rows[0]?.whole), entries: Number(rows[0]?.entries), probes: Number(rows[0]?.probes) };
}

const send = (queue: string, more: Partial<Extract<Write, { kind: "enqueue" }>["job"]> = {}): Write => ({
  kind: "enqueue",
  job: { id: newId(), queue, payload: Buffer.from("x"), priority: 1, ...more },
});
const write = (store: Store, ...writes: Write[]) => store.commit(commitOf(writes));
const take = async (store: Store, queue: string, limit: number, policy?: QueuePolicy): Promise<readonly ClaimedJob[]> =>
  (await store.claim({ holder: "test", leaseMs: 60_000, queues: [{ queue, limit, ...(policy && { policy }) }] })).jobs;
const end = (store: Store, jobs: readonly ClaimedJob[], how: Extract<Write, { kind: "finish" }>["end"] = { kind: "done" }) =>
  Promise.all(jobs.map(({ id, fence }) => write(store, { kind: "finish", job: id, fence, end: how })));

/** Every kind of step a few times. Answers how many steps. */
async function round(store: Store, n: number): Promise<number> {
  const later = Date.now() + 60_000;
  await write(store, send("plain"), send("plain"), send("plain", { priority: 0 }));
  await write(store, send("keyed", { key: `k${n % 3}` }), send("keyed", { key: `k${n % 3}` }), send("keyed", { key: "one", unique: `u${n}` }));
  await write(
    store,
    send("shared", { group: `g${n % 4}` }),
    send("shared"),
    send("later", { dueAtMs: later }),
    send("later", { dueAtMs: later, unique: "r", replace: {} }),
  );
  const plain = await take(store, "plain", 3);
  const keyed = await take(store, "keyed", 3);
  const shared = await take(store, "shared", 2, {
    concurrency: 100,
    perGroup: { concurrency: 50, rate: { everyMs: 0.01, slackMs: 1_000 } },
    weights: { g1: 2 },
  });
  await take(store, "later", 1);
  assert.ok(plain.length === 3 && keyed.length > 0 && shared.length > 0);
  await store.extend([...plain, ...keyed], 60_000);
  await end(store, plain.slice(1));
  await end(store, plain.slice(0, 1), { kind: "retry", dueAtMs: Date.now(), error: "e" });
  await end(store, await take(store, "plain", 1), { kind: "dead", error: "e" });
  await write(store, { kind: "redrive", job: (plain[0] as ClaimedJob).id });
  await write(store, { kind: "cancel", job: (plain[0] as ClaimedJob).id });
  await end(store, keyed, { kind: "done", keepUntilMs: later });
  await end(store, shared);
  await write(store, { kind: "pause", queue: "paused", paused: n % 2 === 0 });
  await store.read.jobs({ queue: "crowd", state: "dead", limit: 5 });
  await store.read.groups({ queue: "shared", limit: 5 });
  return 20;
}

for (const [claimed, pages] of [
  [0, 0],
  [1, 1],
  [1, 2_000],
  [10_000_000, 200_000],
]) {
  test(
    `[F8] with statistics that claim ${claimed} rows on ${pages} pages, a step of a queue looks at few rows, beside thousands that wait and thousands that are dead`,
    { skip: postgres.skip },
    async () => {
      const first = await postgres.open();
      const session = await postgres.session(first.schema);
      const old = await postgres.session(first.schema);
      await old.query("begin isolation level repeatable read");
      await old.query("select count(*) from job");
      // A crowd that waits in every way, and as many dead versions of what was handed out before.
      for (let i = 0; i < 10; i++)
        await write(
          first,
          ...Array.from({ length: 300 }, (_, j) =>
            send("crowd", { ...(j % 3 === 1 && { key: "long line" }), ...(j % 3 === 2 && { dueAtMs: Date.now() + 3_600_000, group: `g${j % 5}` }) }),
          ),
        );
      for (let i = 0; i < 6; i++) {
        await write(first, ...Array.from({ length: 500 }, () => send("plain")), ...Array.from({ length: 20 }, () => send("keyed", { key: "one" })));
        await end(first, await take(first, "plain", 500));
      }
      for (let i = 0; i < 120; i++) await end(first, await take(first, "keyed", 1));
      await first.close(); // an ending session reports what it counted
      await session.query("update pg_class set reltuples = $1, relpages = $2 where relnamespace = $3::regnamespace and relname = any ($4)", [
        claimed,
        pages,
        first.schema,
        tables,
      ]);
      const before = await settled(session, first.schema);

      const store = await postgres.open(first.schema); // sessions of its own, so plans of its own
      let steps = 0;
      for (let n = 0; n < 8; n++) steps += await round(store, n);
      await store.close();

      const after = await settled(session, first.schema);
      await old.query("rollback");
      assert.equal(after.whole - before.whole, 0, "tables were read whole");
      assert.ok(after.probes - before.probes > 8 * steps, `${after.probes - before.probes} probes: the counters did not move`);
      const perStep = (after.entries - before.entries) / steps;
      assert.ok(perStep < 120, `${Math.round(perStep)} index entries for each step`);
    },
  );
}

test("[F8] a key that was emptied 200 times under an old snapshot is not looked for among all its dead heads", { skip: postgres.skip }, async () => {
  const first = await postgres.open();
  const session = await postgres.session(first.schema);
  const old = await postgres.session(first.schema);
  await old.query("begin isolation level repeatable read");
  await old.query("select count(*) from job");
  const once = async (store: Store) => {
    await write(store, send("hot", { key: "one" }));
    await end(store, await take(store, "hot", 1));
  };
  const heads = async () => {
    await settled(session, first.schema);
    const { rows } = await session.query<{ entries: string }>(
      "select idx_tup_read as entries from pg_stat_user_indexes where schemaname = $1 and indexrelname = 'job_head'",
      [first.schema],
    );
    return Number(rows[0]?.entries);
  };
  for (let i = 0; i < 200; i++) await once(first);
  await first.close();
  const before = await heads();

  const store = await postgres.open(first.schema);
  await once(store);

  await store.close();
  const entries = (await heads()) - before;
  await old.query("rollback");
  assert.ok(entries < 200, `${entries} dead heads were looked at`); // of 400
});

/** Counts that stay the same for a second look are told in full. */
async function settled(session: pg.Client, schema: string): Promise<Looked> {
  for (let last = await looked(session, schema); ;) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const next = await looked(session, schema);
    if (JSON.stringify(next) === JSON.stringify(last)) return next;
    last = next;
  }
}
