/** What a caller may believe when its connection was cut, when the session's isolation is wrong, and which commits a reader may see (FINDINGS F1, F3, F6, F10). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { Fault } from "trestle/kernel";
import { commitIdRetentionMs, type Commit, type CommitOutcome } from "trestle/store";
import { batchCall, encodeBatch } from "./batch.ts";
import { append, commitOf, enqueue, fixture, newId, put } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;
const laneOf = (session: pg.Client) => session.query("select lock_lane()");
const sent = { nowMs: null, inside: false, inDoubt: () => false };
const schemaOf = async (session: pg.Client) => (await session.query<{ schema: string }>("select current_schema() as schema")).rows[0]?.schema as string;
const send = async (session: pg.Client, commit: Commit) => session.query(batchCall(await schemaOf(session)), [...encodeBatch([commit], sent).parameters]);
const wasCommitted = async (session: pg.Client, commit: Commit) =>
  (await session.query("select from commit where id = $1 and n is not null", [commit.id])).rowCount === 1;

/** A batch that was sent and waits for the lane, whose client is gone: a zombie. Ends when `release` frees the lane and the zombie has run. */
async function zombie(schema: string, holder: pg.Client, commit: Commit): Promise<{ release(): Promise<void> }> {
  const victim = await postgres.session(schema);
  const pid = (await victim.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]?.pid;
  await holder.query("begin");
  await laneOf(holder);
  const sent = send(victim, commit).catch(() => undefined);
  const waits = "select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'";
  while ((await holder.query(waits, [pid])).rowCount === 0) await sleep(1);
  (victim as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
  await sent;
  return {
    async release() {
      await holder.query("rollback");
      while ((await holder.query("select from pg_stat_activity where pid = $1", [pid])).rowCount !== 0) await sleep(1);
    },
  };
}

test("[F6] resolving an outcome that was cut off is right 50 times of 50; looking it up is not", { skip }, async () => {
  const store = await postgres.open();
  const holder = await postgres.session(store.schema);
  const wrong = { resolve: 0, lookup: 0 };
  for (let round = 0; round < 50; round++) {
    const commit = commitOf([append(`s${round}`, "x")], [{ kind: "stream", stream: `s${round}`, version: 0 }]);
    const cut = await zombie(store.schema, holder, commit);
    const lookup = await wasCommitted(holder, commit);
    const asked = store.resolve(commit.id);
    await cut.release();
    const answer = await asked;

    const truth = await wasCommitted(holder, commit);
    if (lookup !== truth) wrong.lookup++;
    if (answer.ok !== truth) wrong.resolve++;
  }
  assert.equal(wrong.resolve, 0);
  assert.ok(wrong.lookup > 0, "the negative control: a lookup must have been wrong");
});

test("[F6] an id that was resolved before its batch arrived is refused when it does, and changes nothing", { skip }, async () => {
  const store = await postgres.open();
  const commit = commitOf([put("late", "1"), append("late", "1")]);

  const answer = await store.resolve(commit.id);
  const late = await store.commit(commit);

  assert.deepEqual(
    [answer, late],
    [
      { ok: false, refused: "resolved" },
      { ok: false, refused: "resolved" },
    ],
  );
  assert.deepEqual(await store.read.head(), { epoch: 1, n: 0, position: 0 });
});

test("[F6] a connection that is cut under a batch is no news to its callers: the engine sends it again, and it is applied once", { skip }, async () => {
  const store = await postgres.open();
  const holder = await postgres.session(store.schema);
  const commit = commitOf([append("s", "x")], [{ kind: "stream", stream: "s", version: 0 }]);
  await holder.query("begin");
  await laneOf(holder);
  const outcome = store.commit(commit);
  const cut = "select pid, pg_terminate_backend(pid) from pg_stat_activity where application_name = 'trestle lane' and wait_event_type = 'Lock'";
  const watcher = await postgres.session(store.schema); // inside a transaction the list of sessions stands still
  for (const cuts = new Set<number>(); cuts.size < 3; await sleep(1)) for (const { pid } of (await watcher.query<{ pid: number }>(cut)).rows) cuts.add(pid);
  await holder.query("rollback");

  assert.deepEqual(await outcome, { ok: true, epoch: 1, n: 1 });
  assert.deepEqual(await store.commit(commit), { ok: true, epoch: 1, n: 1 });
  assert.deepEqual(await store.resolve(commit.id), { ok: true, epoch: 1, n: 1 });
  assert.equal(await store.read.streamVersion("s"), 1);
});

test("[F6] a commit that was cut off, sent again and refused stays refused, even when its first sending arrives after all", { skip }, async () => {
  const store = await postgres.open();
  const commit = commitOf([put("stock", "mine")], [{ kind: "record", key: "price", version: 0 }]);
  const holder = await postgres.session(store.schema);
  await holder.query("begin");
  await laneOf(holder);
  const outcome = store.commit(commit);
  const cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'trestle lane' and wait_event_type = 'Lock'";
  while ((await holder.query(cut)).rowCount === 0) await sleep(1);
  await send(holder, commitOf([put("price", "2")])); // somebody else's, in the lane before the second sending
  await holder.query("commit");

  const again = await outcome;
  await store.commit(commitOf([{ kind: "remove", key: "price" }]));
  await send(await postgres.session(store.schema), commit); // the first sending, held up on the way until now

  assert.deepEqual(again, { ok: false, refused: "conflict", keys: ["price"] });
  assert.deepEqual(await store.read.records(["stock"]), [undefined]);
  assert.deepEqual(await store.commit(commit), { ok: false, refused: "resolved" });
});

test("[F6] a server that stays away leaves an unknown outcome, and a commit that was never sent a known one", { skip }, async () => {
  const store = await postgres.open();
  const holder = await postgres.session(store.schema);
  await holder.query("begin");
  await laneOf(holder);
  const sentOne = store.commit(commitOf([append("s", "x")])).catch((error: unknown) => error);
  while ((await holder.query("select from pg_stat_activity where application_name = 'trestle lane' and wait_event_type = 'Lock'")).rowCount === 0)
    await sleep(1);
  await postgres.server.kill();
  const unsent = store.commit(commitOf([append("s", "y")])).catch((error: unknown) => error);

  assert.ok(Fault.is(await sentOne, "commit.unknown"));
  assert.ok(Fault.is(await unsent, "store.unreachable"));
  await postgres.server.start();
  assert.equal((await store.commit(commitOf([append("s", "z")]))).ok, true, "and goes on when it is back");
});

test("[F6] an id older than the retention window is refused unread", { skip }, async () => {
  const store = await postgres.open();
  const ms = Date.now() - commitIdRetentionMs - 60_000;
  const old = `${ms
    .toString(16)
    .padStart(12, "0")
    .replace(/^(.{8})/, "$1-")}-7${newId().slice(15)}`;

  assert.deepEqual(await store.commit(commitOf([put("k", "1")], [], old)), { ok: false, refused: "resolved" });
  assert.deepEqual(await store.resolve(old), { ok: false, refused: "resolved" });
  assert.deepEqual(await store.read.records(["k"]), [undefined]);
});

test("[F3] any isolation but READ COMMITTED is refused, and nothing is applied", { skip }, async () => {
  const store = await postgres.open();
  for (const isolation of ["repeatable read", "serializable"]) {
    const session = await postgres.session(store.schema, `-c default_transaction_isolation=${isolation.replace(" ", "\\ ")}`);
    const commit = commitOf([put("k", "1")]);

    await assert.rejects(send(session, commit), { code: "TR001" });
    await assert.rejects(session.query("select * from resolve_commit_v1(null, $1, $2)", [commitIdRetentionMs, commit.id]), { code: "TR001" });
  }
  assert.deepEqual(await store.read.head(), { epoch: 1, n: 0, position: 0 });
});

test(
  "[F3] 30 of 30 commits whose precondition changed while they waited for the lane are refused, under a role that defaults to REPEATABLE READ",
  { skip },
  async () => {
    const store = await postgres.open();
    const holder = await postgres.session(store.schema);
    await holder.query("alter role postgres set default_transaction_isolation = 'repeatable read'");
    const strict = await postgres.open(store.schema);
    const refused: CommitOutcome[] = [];
    for (let round = 0; round < 30; round++) {
      await store.commit(commitOf([put(`price${round}`, "old")]));
      const read = (await store.read.records([`price${round}`]))[0]?.version ?? 0;
      await holder.query("begin isolation level read committed");
      await laneOf(holder);
      const waits = strict.commit(commitOf([put(`order${round}`, "at the old price")], [{ kind: "record", key: `price${round}`, version: read }]));
      while ((await holder.query("select from pg_stat_activity where application_name = 'trestle lane' and wait_event_type = 'Lock'")).rowCount === 0)
        await sleep(1);
      await send(holder, commitOf([put(`price${round}`, "new")])); // somebody else's batch, ahead in the lane
      await holder.query("commit");
      refused.push(await waits);
    }
    await holder.query("alter role postgres reset default_transaction_isolation");
    assert.equal(refused.filter((outcome) => !outcome.ok && outcome.refused === "conflict").length, 30);
  },
);

test("[F3] whatever is judged or numbered waits for the lane: commits, claims, extensions and resolutions; who reads does not", { skip }, async () => {
  const store = await postgres.open();
  const queues = [{ queue: "work", limit: 1 }];
  await store.commit(commitOf([enqueue("one"), enqueue("two")]));
  const { jobs } = await store.claim({ queues, holder: "h", leaseMs: 60_000 });
  const other = () => postgres.open(store.schema); // a process each: what one does in the lane waits for what it has begun there
  const [committing, claiming, extending, resolving] = await Promise.all([other(), other(), other(), other()]);
  const holder = await postgres.session(store.schema);
  await holder.query("begin");
  await laneOf(holder);

  const did: string[] = [];
  const waiting = [
    committing.commit(commitOf([put("k", "1")])).then(() => did.push("commit")),
    claiming.claim({ queues, holder: "h", leaseMs: 60_000 }).then(() => did.push("claim")),
    extending.extend(jobs, 60_000).then(() => did.push("extend")),
    resolving.resolve(newId()).then(() => did.push("resolve")),
  ];
  await store.read.records(["k"]);
  await sleep(300);
  const whileHeld = [...did];
  await holder.query("rollback");
  await Promise.all(waiting);

  assert.deepEqual([whileHeld, did.sort()], [[], ["claim", "commit", "extend", "resolve"]]);
});

test("[F10] commits of four processes get gapless numbers and positions, and the feed lists each once, in order, with its keys", { skip }, async () => {
  const first = await postgres.open();
  const stores = [first, ...(await Promise.all([1, 2, 3].map(() => postgres.open(first.schema))))];
  const commits = Array.from({ length: 400 }, (_, i) => commitOf([put(`k${i}`, "v"), append(`s${i % 7}`, "a", "b")]));

  await Promise.all(commits.map((commit, i) => (stores[i % 4] as typeof first).commit(commit)));

  const feed = await first.read.commits({ after: { epoch: 1, n: 0 }, limit: 1_000 });
  assert.deepEqual(
    feed.map((row) => row.n),
    commits.map((_, i) => i + 1),
  );
  assert.deepEqual(new Set(feed.map((row) => row.id)), new Set(commits.map((commit) => commit.id)));
  const place = commits.findIndex((commit) => commit.id === feed[9]?.id);
  assert.deepEqual(
    feed[9]?.wrote.map(({ key }) => key),
    [`k${place}`, `s${place % 7}`],
  );
  const log = await first.read.log({ after: { epoch: 1, position: 0 }, limit: 1_000 });
  assert.deepEqual(
    log.events.map((event) => event.position),
    Array.from({ length: 800 }, (_, i) => i + 1),
  );
  assert.ok(log.events.every((event, i) => i === 0 || event.commit >= (log.events[i - 1]?.commit ?? 0)));
  assert.deepEqual(log.next, { epoch: 1, position: 800 });
});
