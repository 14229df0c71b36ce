/** Jobs and events inside a transaction of somebody else's (FINDINGS F7). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { app, queue, records, start, topic, type StartOptions } from "trestle";
import { Fault } from "trestle/kernel";
import type { EventRow, Store } from "trestle/store";
import { z } from "zod";
import { stage } from "./index.ts";
import { append, commitOf, enqueue, fixture, newId, put } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;

async function whole(store: Store): Promise<readonly EventRow[]> {
  const { epoch } = await store.read.head();
  return (await store.read.log({ after: { epoch, position: 0 }, limit: 1_000 })).events;
}
async function until(done: () => Promise<boolean>): Promise<void> {
  for (const from = performance.now(); performance.now() - from < 10_000; await sleep(10)) if (await done()) return;
  assert.fail("not within ten seconds");
}

test("[F7] what a foreign transaction stages is sent when it commits, in its order, and never when it rolls back", { skip }, async () => {
  const store = await postgres.open();
  const client = await postgres.session(store.schema);
  const { schema } = store;

  await client.query("begin; create table of_theirs (a integer); insert into of_theirs values (1)");
  await stage(client, commitOf([append("s", "one", "two"), enqueue("job")]), { schema });
  await stage(client, commitOf([append("s", "three")]), { schema });
  await sleep(700);
  const before = await whole(store);
  await client.query("commit");
  await client.query("begin isolation level serializable");
  await stage(client, commitOf([append("s", "never")]), { schema });
  await client.query("rollback");
  await until(async () => (await whole(store)).length >= 3);
  await sleep(700);

  assert.equal(before.length, 0);
  assert.deepEqual(
    (await whole(store)).map((event) => [event.position, event.version, String(event.data)]),
    [
      [1, 1, "one"],
      [2, 2, "two"],
      [3, 3, "three"],
    ],
  );
  assert.equal((await store.read.queue("work")).waiting, 1);
  assert.equal((await client.query("select from staged")).rowCount, 0);
});

test(
  "[F7] while a foreign transaction pauses with what it staged, nobody's commit waits, and what others staged later is not held back",
  { skip },
  async () => {
    const store = await postgres.open();
    const { schema } = store;
    const slow = await postgres.session(schema);
    const quick = await postgres.session(schema);
    await slow.query("begin");
    await stage(slow, commitOf([append("slow", "x")]), { schema });

    await quick.query("begin");
    await stage(quick, commitOf([append("quick", "x")]), { schema });
    await quick.query("commit");
    let longest = 0;
    for (const from = performance.now(); performance.now() - from < 1_500;) {
      const at = performance.now();
      await store.commit(commitOf([put(newId(), "x")]));
      longest = Math.max(longest, performance.now() - at);
    }
    const meanwhile = (await whole(store)).map((event) => event.stream);
    await slow.query("commit");
    await until(async () => (await whole(store)).length === 2);

    assert.ok(longest < 250, `${longest.toFixed()} ms`);
    assert.deepEqual(meanwhile, ["quick"]);
  },
);

test(
  "[F7] 200 transactions staged beside four processes, some of them rolled back: each committed item arrives once, those of one transaction in order",
  { skip },
  async () => {
    const first = await postgres.open();
    const { schema } = first;
    await Promise.all([1, 2, 3].map(() => postgres.open(schema)));
    const clients = await Promise.all([1, 2, 3, 4].map(() => postgres.session(schema)));

    await Promise.all(
      clients.map(async (client, at) => {
        for (let n = 0; n < 50; n++) {
          await client.query("begin");
          for (const part of [0, 1, 2]) await stage(client, commitOf([append(`s${at}`, `${n}.${part}`)]), { schema });
          await client.query(n % 5 === 4 ? "rollback" : "commit");
        }
      }),
    );
    await until(async () => (await whole(first)).length >= 480);
    await sleep(700);

    const events = await whole(first);
    assert.equal(events.length, 480);
    for (const at of [0, 1, 2, 3])
      assert.deepEqual(
        events.filter((event) => event.stream === `s${at}`).map((event) => String(event.data)),
        Array.from({ length: 50 }, (_, n) => n)
          .filter((n) => n % 5 !== 4)
          .flatMap((n) => [0, 1, 2].map((part) => `${n}.${part}`)),
      );
  },
);

test("[F7] more than one commit may hold is moved in several", { skip }, async () => {
  const store = await postgres.open();
  const client = await postgres.session(store.schema);
  const large = "x".repeat(200_000);

  await client.query("begin");
  for (let n = 0; n < 12; n++) await stage(client, commitOf([append("s", large)]), { schema: store.schema });
  await client.query("commit");
  await until(async () => (await store.read.streamVersion("s")) === 12);

  assert.ok((await store.read.head()).n > 3);
});

test("[F7] of what another process has moved in part, nothing is moved again", { skip }, async () => {
  const store = await postgres.open();
  const session = await postgres.session(store.schema);
  await sleep(600); // its own mover looks at later transactions only, from now on
  const { rows } = await session.query<{ seq: string }>("insert into staged (tx, facts, body) select 5, '{}', '' from generate_series(1, 3) returning seq");
  const [, second, third] = rows.map(({ seq }) => Number(seq));
  const moves = (seq: number | undefined, count: number) => store.commit(commitOf([put("a//1", "x")], [{ kind: "staged", tx: 5, seq, rows: count } as never]));
  const left = async () => (await session.query("select from staged")).rowCount;

  assert.equal((await moves(third, 2)).ok, false, "it read two of the three");
  assert.deepEqual([(await moves(second, 2)).ok, await left()], [true, 1]);
  assert.equal((await moves(third, 3)).ok, false, "two of the three have gone");
  assert.deepEqual([(await moves(third, 1)).ok, await left()], [true, 0]);
});

test("what has to be judged or numbered cannot be staged", { skip }, async () => {
  const store = await postgres.open();
  const client = await postgres.session(store.schema);
  for (const commit of [commitOf([put("k", "x")]), commitOf([append("s", "x")], [{ kind: "stream", stream: "s", version: 0 }])])
    await assert.rejects(stage(client, commit, { schema: store.schema }), (fault) => Fault.is(fault, "postgres.cannot-stage"));
});

test("an app's handles say what to stage, typed and in their own words", { skip }, async () => {
  const shipped = records("shipped", { key: z.string(), value: z.string() });
  const ship = queue("ship", { input: z.object({ order: z.string() }), uses: { shipped } }, ({ order }, { shipped }) => void shipped.put(order, "gone"));
  const paid = topic("paid", { events: { OrderPaid: z.object({ order: z.string() }) } });
  const store = `${postgres.server.url}?schema=staging_app` as NonNullable<StartOptions["store"]>;
  await using node = await start(app("shop", [ship, shipped, paid]), { store, log: () => undefined });
  const client = await postgres.session("public");

  await client.query("begin");
  const commit = await node.staged({ ship, paid }, ({ ship, paid }) => {
    ship.send({ order: "7" });
    paid.publish.OrderPaid({ order: "7" });
  });
  await stage(client, commit, { schema: "staging_app" });
  await client.query("commit");

  await until(async () => (await node.open(shipped).get("7")) === "gone");
});
