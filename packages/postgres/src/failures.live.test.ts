/**
 * A bank under load while PostgreSQL and the network to it fail in every way they have: nothing acknowledged is lost, nothing is applied
 * twice, and every caller is told. What a seed decides is replayed by it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { faultProxy, missing, pgbouncer, postgres, type FaultProxy, type PostgresOptions, type PostgresServer } from "@trestle/testing";
import pg from "pg";
import { Fault } from "trestle/kernel";
import type { Store } from "trestle/store";
import { openPostgres } from "./open.ts";
import { commitOf, enqueue, put } from "./testing/fixture.ts";
import { auditLedger, openAccounts, runLedger, type Ledger } from "./testing/ledger.ts";

const skip = await missing("postgres", { managed: true });
const skipPooled = skip || (await missing("pgbouncer", { managed: true }));
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- postgres/src/failures`;

interface Bank extends AsyncDisposable {
  readonly server: PostgresServer;
  /** Between the stores and the server. */
  readonly network: FaultProxy;
  open(url?: string, options?: { readonly answerWithinMs: number }): Promise<Store>;
  session(): Promise<pg.Client>;
  /** What is wrong with the books, read past every proxy. */
  audit(ledger: Ledger, url?: string): Promise<readonly string[]>;
}

async function bank(options: PostgresOptions = {}): Promise<Bank> {
  const closing: (() => Promise<unknown>)[] = [];
  const server = await postgres(options);
  const network = await faultProxy({ to: server.url });
  closing.push(
    () => server.close(),
    () => network.close(),
  );
  const open = async (url = network.url, more = {}) => {
    const store = await openPostgres({ url, ...more });
    closing.push(() => store.close());
    return store;
  };
  await openAccounts(await open(server.url));
  return {
    server,
    network,
    open,
    async session() {
      const client = new pg.Client({ connectionString: server.url });
      client.on("error", () => undefined);
      closing.push(() => client.end());
      await client.connect();
      return client;
    },
    async audit(ledger, url = server.url) {
      const fresh = await openPostgres({ url });
      try {
        return (await auditLedger(fresh, ledger)).slice(0, 10);
      } finally {
        await fresh.close();
      }
    },
    async [Symbol.asyncDispose]() {
      // A test that failed may leave callers that wait for a server that never comes.
      for (const close of closing.toReversed()) await Promise.race([close().catch(() => undefined), sleep(5_000)]);
    },
  };
}
function told({ applied, notApplied, resolved, slowestMs }: Ledger): string {
  return `${applied.size} applied, ${notApplied.size} not, ${resolved} resolved, slowest ${Math.round(slowestMs)} ms; ${replay}`;
}
/** The end of every connection of the stores whose name matches, by the server's administrator. */
async function terminate(session: pg.Client, name: string): Promise<number> {
  const { rowCount } = await session.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name like $1", [name]);
  return rowCount ?? 0;
}

test(`three times kill -9 and a restart under load with 20 ms flushes: nothing acknowledged is lost or doubled (seed ${seed})`, { skip }, async (t) => {
  await using bank_ = await bank({ flushDelayMs: 20 });
  const { server, open, audit } = bank_;

  const ledger = await runLedger({
    stores: [await open(), await open()],
    seed,
    async during() {
      for (let round = 0; round < 3; round++) {
        await sleep(300 + 37 * round);
        await server.kill();
        await server.start();
      }
      await sleep(300);
      await server.restart();
      await sleep(300);
    },
  });

  t.diagnostic(told(ledger));
  assert.ok(ledger.applied.size > 40, told(ledger));
  assert.deepEqual(await audit(ledger), [], replay);
});

test(`pg_terminate_backend of each connection in turn, thrice, under load: callers hear of it at most as a wait (seed ${seed})`, { skip }, async (t) => {
  await using bank_ = await bank();
  const { open, session, audit } = bank_;
  const administrator = await session();
  let ended = 0;

  const ledger = await runLedger({
    stores: [await open(), await open()],
    seed,
    async during() {
      for (let round = 0; round < 3; round++)
        for (const name of ["lane", "flush", "read", "side", "tables", "ear"]) {
          await sleep(30);
          ended += await terminate(administrator, `trestle ${name}`);
        }
      await sleep(100);
    },
  });

  t.diagnostic(`${ended} connections ended; ${told(ledger)}`);
  assert.ok(ended >= 12, `only ${ended} connections were there to end`);
  assert.deepEqual(await audit(ledger), [], replay);
});

test("with every connection slot taken a commit is told that it is busy, not dead, within its bound, and goes on when one is free", { skip }, async () => {
  await using bank_ = await bank({ connections: 16 });
  const { open, session, server } = bank_;
  const store = await open();
  const administrator = await session();
  const takers: pg.Client[] = [];
  const fill = async () => {
    for (;;) {
      try {
        takers.push(await session());
      } catch {
        return;
      }
    }
  };
  await fill();
  for (let left = 1; left > 0; await fill()) left = await terminate(administrator, "trestle %");

  const fromMs = performance.now();
  await assert.rejects(store.commit(commitOf([put("k", "1")])), (error) => Fault.is(error, "store.overloaded"));
  const tookMs = performance.now() - fromMs;
  await Promise.all(takers.map((taker) => taker.end()));
  const outcome = await store.commit(commitOf([put("k", "2")], [{ kind: "record", key: "k", version: 0 }]));

  assert.ok(takers.length >= 8 && tookMs < 12_000, `${takers.length} slots, told after ${Math.round(tookMs)} ms`);
  assert.equal(outcome.ok, true);
  assert.equal(server.state, "running");
});

for (const [what, strike] of [
  ["is partitioned", (network: FaultProxy) => network.partition()],
  ["is partitioned on the way back only", (network: FaultProxy) => network.partition("down")],
  ["swallows everything", (network: FaultProxy) => network.blackHole()],
  ["swallows the answers", (network: FaultProxy) => network.blackHole("down")],
  ["resets every connection", (network: FaultProxy) => network.reset()],
  ["cuts every connection in the middle of a message", (network: FaultProxy) => network.cutAfter({ bytes: 700 })],
] as const)
  test(`a network that ${what} under load, thrice: nothing acknowledged is lost or doubled, and every caller is told (seed ${seed})`, { skip }, async (t) => {
    await using bank_ = await bank();
    const { network, open, audit } = bank_;

    const ledger = await runLedger({
      stores: [await open(), await open()],
      seed,
      async during() {
        for (let round = 0; round < 3; round++) {
          await sleep(150);
          strike(network);
          await sleep(200);
          await network.heal();
        }
        await sleep(200);
      },
    });

    t.diagnostic(told(ledger));
    assert.ok(ledger.applied.size > 40, told(ledger));
    assert.deepEqual(await audit(ledger), [], replay);
  });

test(
  "connections that are half-open for ever, and new ones as good as ever: each caller is told after at most two bounds, and nothing is doubled",
  { skip },
  async (t) => {
    await using bank_ = await bank();
    const { network, open, audit } = bank_;

    const ledger = await runLedger({
      stores: [await open(network.url, { answerWithinMs: 2_000 })], // of its batch, and then of the flush
      seed,
      async during() {
        await sleep(200);
        network.halfOpen({ unaware: "client" });
        await sleep(500);
      },
    });

    t.diagnostic(told(ledger));
    assert.ok(ledger.slowestMs >= 1_900 && ledger.slowestMs < 6_000, told(ledger));
    assert.deepEqual(await audit(ledger), [], replay);
  },
);

test(`fail-over to a synchronous standby under load loses nothing, and opens an epoch (seed ${seed})`, { skip }, async (t) => {
  await using bank_ = await bank({ standby: "synchronous" });
  const { server, network, open, audit } = bank_;
  const store = await open();
  const before = await store.read.head();

  const ledger = await runLedger({
    stores: [store, await open()],
    seed,
    async during() {
      await sleep(400);
      await server.kill();
      await server.standby.promote();
      network.redirect(server.standby.url);
      await sleep(600);
    },
  });
  const head = await store.read.head();

  t.diagnostic(told(ledger));
  assert.deepEqual(await audit(ledger, server.standby.url), [], replay);
  assert.deepEqual([before.epoch, head.epoch], [1, 2]);
  const epochs = new Set([...ledger.applied.values()].map(({ epoch }) => epoch));
  assert.deepEqual([...epochs].sort(), [1, 2], "commits were acknowledged before and after");
  await assert.rejects(store.read.log({ after: { epoch: 1, position: before.position }, limit: 1 }), (error) => Fault.is(error, "log.diverged"));
});

test(
  `fail-over to an asynchronous standby that was behind shows its loss as log.diverged, never silently, and what is left agrees (seed ${seed})`,
  { skip },
  async (t) => {
    await using bank_ = await bank({ standby: "asynchronous" });
    const { server, network, open } = bank_;
    const store = await open();

    const ledger = await runLedger({
      stores: [store, await open()],
      seed,
      async during() {
        await sleep(300);
        server.standby.replication.partition();
        await sleep(300);
        await server.kill();
        await server.standby.promote();
        network.redirect(server.standby.url);
        await sleep(500);
      },
    });
    const lost = new Set<string>();
    const fresh = await open(server.standby.url);
    const wrong = await auditLedger(fresh, ledger, lost);

    t.diagnostic(`${lost.size} lost; ${told(ledger)}`);
    assert.ok(lost.size > 0, "the standby was not behind: nothing is shown");
    assert.deepEqual(wrong.slice(0, 10), [], replay);
    for (const id of lost) assert.equal(ledger.applied.get(id)?.epoch, 1, "only what the first epoch acknowledged is lost");
    const end = Math.max(...[...ledger.applied.values()].filter(({ epoch }) => epoch === 1).map(({ n }) => n));
    await assert.rejects(store.read.log({ after: { epoch: 1, position: 1 }, limit: 1 }), (error) => Fault.is(error, "log.diverged"));
    await assert.rejects(store.read.commits({ after: { epoch: 1, n: end }, limit: 1 }), (error) => Fault.is(error, "log.diverged"));
    const [one] = lost;
    assert.deepEqual(await store.resolve(one as string), { ok: false, refused: "resolved" }, "whoever asks again is told that it is gone");
  },
);

test("after a fail-over a process that only listens hears of what others commit there, of the first of it too", { skip }, async () => {
  await using bank_ = await bank({ standby: "synchronous" });
  const { server, network, open } = bank_;
  const [listener, other] = [await open(), await open()];
  const heard = new Set<string>();
  listener.onChange(({ keys, queues }) => {
    for (const one of [...keys, ...queues]) heard.add(one);
  });
  const hears = async (what: string): Promise<void> => {
    for (const fromMs = performance.now(); !heard.has(what); await sleep(10)) assert.ok(performance.now() - fromMs < 5_000, `it never heard of ${what}`);
  };
  await other.commit(commitOf([put("before", "1")]));
  await hears("before");

  await server.kill();
  await server.standby.promote();
  network.redirect(server.standby.url);
  const first = await other.commit(commitOf([put("first", "1"), enqueue("work")]));

  assert.ok(first.ok && first.epoch === 2);
  await hears("first");
  await hears("work");
});

test(
  `behind PgBouncer in transaction mode, with PostgreSQL killed under load: nothing acknowledged is lost or doubled (seed ${seed})`,
  { skip: skipPooled },
  async (t) => {
    await using bank_ = await bank({ flushDelayMs: 20 });
    const { server, open, audit } = bank_;
    await using pool = await pgbouncer({ to: server.url, poolSize: 6 });

    const ledger = await runLedger({
      stores: [await open(pool.url), await open(pool.url)],
      seed,
      async during() {
        for (let round = 0; round < 2; round++) {
          await sleep(400);
          await server.kill();
          await server.start();
        }
        await sleep(400);
        await pool.kill();
        await pool.start();
        await sleep(300);
      },
    });

    t.diagnostic(told(ledger));
    assert.ok(ledger.applied.size > 20, told(ledger));
    assert.deepEqual(await audit(ledger), [], replay);
  },
);

test("a server that stands still keeps its callers waiting, and answers all of them when it goes on", { skip }, async (t) => {
  await using bank_ = await bank();
  const { server, open, audit } = bank_;

  const ledger = await runLedger({
    stores: [await open()],
    seed,
    async during() {
      await sleep(200);
      await server.pause();
      await sleep(400);
      await server.resume();
      await sleep(200);
    },
  });

  t.diagnostic(told(ledger));
  assert.equal(ledger.resolved, 0);
  assert.ok(ledger.slowestMs >= 350, told(ledger));
  assert.deepEqual(await audit(ledger), [], replay);
});
