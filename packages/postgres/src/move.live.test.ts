import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { app, post, service, sql, start } from "trestle";
import { z } from "zod";
import { Fault, seededRandom, systemClock, uuidv7Ids } from "trestle/kernel";
import type { Commit, MoveTarget, Store, Write } from "trestle/store";
import { move } from "../../trestle/src/move/index.ts";
import { movingTables } from "../../trestle/src/sql/index.ts";
import { moveSource, openSqliteStore } from "../../trestle/src/sqlite/index.ts";
import { openPostgres, postgresMoveTarget } from "./index.ts";
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const ids = uuidv7Ids(systemClock, seededRandom("move"));
const home = mkdtempSync(join(tmpdir(), "trestle-move-"));
after(() => rmSync(home, { recursive: true }));

const commit = (...writes: Write[]): Commit => ({ id: ids.next(), expects: [], writes });

async function fill(store: Store, count: number): Promise<Commit[]> {
  const commits = Array.from({ length: count }, (_, n) =>
    commit(
      {
        kind: "put",
        key: `rows/t/${n}`,
        value: Buffer.from([0, 255, n % 256]),
        index: [{ field: "size", value: n % 5 }],
        ...(n % 10 === 0 ? { expiresAtMs: systemClock.wallMs() + 3_600_000 } : {}),
      },
      {
        kind: "append",
        stream: `s//${n % 7}`,
        events: [{ id: ids.next(), type: "Happened", data: Buffer.from("\u0000"), ...(n % 2 ? { meta: Buffer.from("m") } : {}) }],
      },
      {
        kind: "enqueue",
        job: {
          id: ids.next(),
          queue: "work",
          payload: Buffer.from(String(n)),
          priority: n % 3,
          ...(n % 4 ? { key: `k${n % 9}` } : {}),
          ...(n % 11 === 0 ? { dueAtMs: systemClock.wallMs() + 3_600_000 } : {}),
        },
      },
      { kind: "token", key: `t//${n}`, value: Buffer.from(String(n)), keepForMs: 60_000 },
    ),
  );
  for (const outcome of await Promise.all(commits.map((one) => store.commit(one)))) assert.ok(outcome.ok);
  return commits;
}

/** In what order everything that can be handed out is. */
async function handedOut(store: Store): Promise<string[]> {
  const order: string[] = [];
  for (;;) {
    const { jobs } = await store.claim({ holder: "test", leaseMs: 60_000, queues: [{ queue: "work", limit: 1 }] });
    const [job] = jobs;
    if (!job) return order;
    order.push(`${job.id} ${job.attempt} ${Buffer.from(job.payload).toString()}`);
    assert.ok((await store.commit(commit({ kind: "finish", job: job.id, fence: job.fence, end: { kind: "done" } }))).ok);
  }
}

test("[F13] a store that has moved to PostgreSQL goes on as the old one would have", { skip: postgres.skip }, async () => {
  const path = join(home, "whole.db");
  const old = await openSqliteStore({ path, inline: true, durability: "normal" });
  const commits = await fill(old, 1_300);
  const held = await old.claim({ holder: "before", leaseMs: 60_000, queues: [{ queue: "work", limit: 5 }] });
  const [first, second, third] = held.jobs;
  assert.ok(first && second && third);
  await old.commit(commit({ kind: "finish", job: first.id, fence: first.fence, end: { kind: "retry", dueAtMs: systemClock.wallMs() + 1, error: "again" } }));
  await old.commit(commit({ kind: "finish", job: second.id, fence: second.fence, end: { kind: "dead", error: "no" } }));
  await old.resolve(ids.next());
  const copy = join(home, "copy.db");
  await old.backup(copy);
  const [url, schema] = [postgres.server.url, "moved_whole"];
  const target = await postgresMoveTarget({ url, schema });

  const report = await move({ source: await moveSource(path, old, systemClock), target, url, clock: systemClock });

  assert.ok((report.pausedMs ?? Infinity) < 1_000, `paused for ${report.pausedMs} ms`);
  const moved = await openPostgres({ url, schema });
  const expected = await openSqliteStore({ path: copy, inline: true, durability: "normal" });
  assert.equal(moved.epoch, 2);
  assert.deepEqual(await moved.commit(commits[7] as Commit), await old.commit(commits[7] as Commit).catch(() => ({ ok: true, epoch: 1, n: 8 })));
  assert.ok(
    (await moved.commit(commit({ kind: "finish", job: third.id, fence: third.fence, end: { kind: "done" } }))).ok,
    "a claim from before the move holds",
  );
  assert.deepEqual(
    (await moved.read.list({ prefix: "rows/t/", order: "newest", where: { field: "size", value: 3 }, limit: 50 })).map(({ key }) => key),
    (await expected.read.list({ prefix: "rows/t/", order: "newest", where: { field: "size", value: 3 }, limit: 50 })).map(({ key }) => key),
  );
  assert.deepEqual(
    (await moved.read.stream("s//3", { after: 0, limit: 500 })).map(({ version, position, id }) => [version, position, id]),
    (await expected.read.stream("s//3", { after: 0, limit: 500 })).map(({ version, position, id }) => [version, position, id]),
  );
  assert.equal(Buffer.from((await moved.read.token("t//9"))?.value ?? []).toString(), "9");
  const refused = await moved.commit({
    id: ids.next(),
    expects: [{ kind: "token", key: "t//9", version: 0 }],
    writes: [{ kind: "put", key: "a//1", value: Buffer.from("1") }],
  });
  assert.equal(refused.ok, false);
  // The claims of the copy were released when it was opened, those of the moved store still run: compare without these five.
  const mine = new Set(held.jobs.map(({ id }) => id));
  const without = (order: string[]) => order.filter((line) => !mine.has(line.slice(0, 36)));
  await expected.claim({ holder: "none", leaseMs: 1, queues: [] });
  const [ours, theirs] = [without(await handedOut(moved)), without(await handedOut(expected))];
  assert.ok(ours.length > 200);
  const line = (order: string[], key: number) => order.filter((one) => Number(one.split(" ")[2]) % 4 !== 0 && Number(one.split(" ")[2]) % 9 === key);
  for (let key = 0; key < 9; key++) assert.deepEqual(line(ours, key), line(theirs, key), `the line of key ${key}`);
  const keyless = (order: string[]) => order.filter((line) => Number(line.split(" ")[2]) % 4 === 0);
  assert.deepEqual(keyless(ours), keyless(theirs));
  await Promise.all([moved.close(), expected.close(), target.close()]);
});

/** A mover that stops where `stops` says so, until it is let go. */
async function sleepy(path: string, url: string, stops: (of: MoveTarget, gate: () => Promise<void>) => Partial<MoveTarget>) {
  const [asleep, awake] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const target = await postgresMoveTarget({ url });
  const source = await moveSource(path, await openSqliteStore({ path }), systemClock);
  const gate = () => (asleep.resolve(), awake.promise);
  const ended = move({ source, target: { ...target, ...stops(target, gate) }, url, clock: systemClock }).then(
    () => "moved",
    (fault: Fault) => fault.code,
  );
  return { asleep: asleep.promise, wake: () => (awake.resolve(), ended), close: () => Promise.all([source.close(), target.close()]) };
}

for (const [where, stops] of [
  [
    "with a page in its hands",
    (target, gate) => ({
      load: async (rows, progress) => (rows.some((row) => row.part === "record" && !("gone" in row)) && (await gate()), target.load(rows, progress)),
    }),
  ],
  ["in the cut", (target, gate) => ({ count: async (part, nowMs) => (await gate(), target.count(part, nowMs)) })],
  ["before it opens the new store", (target, gate) => ({ open: async (...asked) => (await gate(), target.open(...asked)) })],
] as readonly (readonly [string, (target: MoveTarget, gate: () => Promise<void>) => Partial<MoveTarget>])[])
  test(
    `[F13] a mover that sleeps ${where} while another one ends the move changes nothing any more, and both stores are never open at once`,
    { skip: postgres.skip },
    async () => {
      const name = where.replaceAll(" ", "_");
      const path = join(home, `${name}.db`);
      const old = await openSqliteStore({ path });
      assert.ok((await old.commit(commit({ kind: "put", key: "rows/t/1", value: Buffer.from("before") }))).ok);
      const url = `${postgres.server.url}?schema=slept_${name}`;
      const first = await sleepy(path, url, stops);
      await first.asleep;
      const [source, target] = [await moveSource(path, await openSqliteStore({ path }), systemClock), await postgresMoveTarget({ url })];

      await move({ source, target, url, clock: systemClock });
      const fresh = await openPostgres({ url });
      assert.ok((await fresh.commit(commit({ kind: "put", key: "rows/t/1", value: Buffer.from("after") }))).ok);
      const ended = await first.wake();

      assert.match(ended, /^move\.(taken-over|already-moved)$/);
      await assert.rejects(old.commit(commit({ kind: "put", key: "rows/t/2", value: Buffer.from("late") })), (fault) => Fault.is(fault, "store.moved"));
      assert.equal(Buffer.from((await fresh.read.records(["rows/t/1"]))[0]?.value ?? []).toString(), "after");
      await Promise.all([fresh.close(), old.close(), source.close(), target.close(), first.close()]);
    },
  );

test("[F13] tables of the user's own move as the app says, in the transaction that opens the new store", { skip: postgres.skip }, async () => {
  const folders = join(home, "migrations");
  for (const [dialect, text] of [
    ["sqlite", "create table ledger (account text primary key, cents integer not null, at blob) strict"],
    ["postgres", "create schema books; create table books.ledger (account text primary key, cents bigint not null, at bytea)"],
  ] as const) {
    mkdirSync(join(folders, dialect), { recursive: true });
    writeFileSync(join(folders, dialect, "001-ledger.sql"), text);
  }
  let fails = true;
  const books = sql("books", {
    migrations: { sqlite: join(folders, "sqlite"), postgres: join(folders, "postgres") },
    async move(from, to) {
      for (const { account, cents, at } of await from.rows`select account, cents, at from ledger where cents > ${0}`)
        await to.run`insert into books.ledger values (${account as string}, ${cents as number}, ${at as Uint8Array})`;
      if (fails) throw new Error("half-way");
    },
  });
  const bank = service(
    "bank",
    { uses: { books } },
    {
      pay: post("/pay", { body: z.object({ account: z.string(), cents: z.int() }) }, ({ body: { account, cents } }, { books }) => {
        if (books.dialect === "sqlite") books.run`insert into ledger values (${account}, ${cents}, ${Buffer.from(account)})`;
        else books.run`insert into books.ledger values (${account}, ${cents}, ${Buffer.from(account)})`;
        return {};
      }),
    },
  );
  const shop = app("books", [bank]);
  const path = join(home, "books.db");
  const url = `${postgres.server.url}?schema=moved_books`;
  await using node = await start(shop, { store: `sqlite:${path}`, port: 0, host: "127.0.0.1", log: () => undefined });
  const pay = async (account: string) =>
    (
      await fetch(`${node.url}/pay`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ account, cents: 5 }),
      })
    ).status;
  assert.equal(await pay("ada"), 200);
  const tables = await movingTables(shop.components, { from: "sqlite", to: "postgres" });
  assert.ok(tables);
  const source = await moveSource(path, await openSqliteStore({ path }), systemClock);
  const target = await postgresMoveTarget({ url });
  const ledger = async (account: string) => {
    const query = await node.open(books).rows(z.object({ account: z.string() }));
    return (await query`select account from books.ledger where account = ${account}`).length;
  };

  await assert.rejects(move({ source, target, url, clock: systemClock, tables }), /half-way/);
  assert.equal(await pay("bob"), 200, "the old store goes on");
  fails = false;
  await move({ source, target, url, clock: systemClock, tables });

  assert.equal(await pay("eve"), 200, "the same handler, decided in the new dialect");
  assert.deepEqual([await ledger("ada"), await ledger("bob"), await ledger("eve")], [1, 1, 1]);
  await using later = await start(shop, { store: url as "postgres://", port: 0, host: "127.0.0.1", log: () => undefined });
  assert.ok(later.url, "its migrations are known there");
  await source.close();
  await target.close();
});

test("[F13] a store that receives is nobody's yet, and one in use receives nothing", { skip: postgres.skip }, async () => {
  const [url, schema] = [postgres.server.url, "moved_empty"];
  const target = await postgresMoveTarget({ url, schema });
  await target.begin({ source: "sqlite:elsewhere", clockOffsetMs: 0, done: [], cursor: { n: 0, position: 0, jobChange: 0 } });

  await assert.rejects(openPostgres({ url, schema }), (fault) => Fault.is(fault, "store.receiving"));
  await target.abandon();
  const store = await openPostgres({ url, schema });
  assert.ok((await store.commit(commit({ kind: "put", key: "a//1", value: Buffer.from("1") }))).ok);
  await assert.rejects(target.progress(), (fault) => Fault.is(fault, "move.target-in-use"));

  await Promise.all([store.close(), target.close()]);
});
