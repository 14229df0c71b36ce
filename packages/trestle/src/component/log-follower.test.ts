import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { subscription, topic } from "../messaging/index.ts";
import { memoryStore, runNode, type RunningTestNode } from "../messaging/testing.ts";
import type { Commit, Store } from "../store/index.ts";

const paid = topic("paid", { events: { Paid: z.object({ n: z.int() }), Noted: z.object({}) }, key: ({ data }) => ("n" in data ? String(data.n % 5) : "") });

/** The store, and which node moved a position. */
function watched(store: Store) {
  const moves: { readonly by: string; readonly ok: boolean }[] = [];
  const as = (by: string): Store => ({
    ...store,
    epoch: store.epoch,
    async commit(commit: Commit) {
      const outcome = await store.commit(commit);
      if (commit.writes.some((write) => write.kind === "put" && write.key.startsWith("~position/"))) moves.push({ by, ok: outcome.ok });
      return outcome;
    },
  });
  return { as, moves };
}

async function three() {
  const { clock, store } = await memoryStore();
  const got: number[] = [];
  const count = subscription("count", { to: paid }, { Paid: ({ data }) => void got.push(data.n) });
  const { as, moves } = watched(store);
  const nodes: RunningTestNode[] = [];
  for (const name of ["a", "b", "c"]) nodes.push(await runNode([count], { clock, store: as(name) }));
  const writer = await runNode([], { clock, store });
  let n = 0;
  const pay = async (times: number, everyMs: number) => {
    for (let i = 0; i < times; i++) {
      await writer.commit({ paid }, ({ paid }) => paid.publish.Paid({ n: n++ }));
      await clock.advance(everyMs);
    }
  };
  const settle = async (alive = nodes) => {
    for (let i = 0; i < 10; i++) await clock.advance(10);
    for (const node of alive) await node.idle();
  };
  return { clock, nodes, got, moves, pay, settle, paidSoFar: () => Array.from({ length: n }, (_, i) => i) };
}

test("[MSG-06] of three nodes one goes ahead in the log while it lasts; the others do not even try", async () => {
  const { nodes, got, moves, pay, settle, paidSoFar } = await three();
  await pay(1, 10);
  moves.length = 0;

  await pay(40, 20);
  await settle();

  assert.deepEqual(new Set(moves.map(({ by }) => by)).size, 1);
  assert.ok(moves.length >= 40 && moves.every(({ ok }) => ok), `${moves.filter(({ ok }) => !ok).length} of ${moves.length} moves were refused`);
  assert.deepEqual(
    got.toSorted((x, y) => x - y),
    paidSoFar(),
  );
  for (const node of nodes) await node.stop();
});

test("[MSG-06] a holder that stops hands over at once; one that dies is followed within a second; nothing is lost or taken twice", async () => {
  const { clock, nodes, got, moves, pay, settle, paidSoFar } = await three();
  await pay(3, 10);
  const holder = () => ["a", "b", "c"].indexOf(moves.findLast(({ ok }) => ok)?.by as string);
  const first = holder();

  await nodes[first]?.stop();
  const before = got.length;
  await pay(1, 5);
  assert.equal(got.length, before + 1, "the next one is taken by somebody else, without a wait");
  const second = holder();
  assert.notEqual(second, first);

  nodes[second]?.crash();
  await pay(1, 5);
  const third = nodes.findIndex((_, i) => i !== first && i !== second);
  assert.equal(got.length, before + 1, "held by the dead one");
  await clock.advance(1_000);
  await settle(nodes.slice(third, third + 1));

  assert.equal(holder(), third);
  assert.deepEqual(
    got.toSorted((x, y) => x - y),
    paidSoFar(),
  );
  await nodes[third]?.stop();
});

test("a holder whose clock is an hour ahead is followed within a second of its death, as any other", async () => {
  const { clock, store } = await memoryStore();
  const got: number[] = [];
  const count = subscription("count", { to: paid }, { Paid: ({ data }) => void got.push(data.n) });
  const writer = await runNode([], { clock, store });
  const pay = (n: number) => writer.commit({ paid }, ({ paid }) => paid.publish.Paid({ n }));
  const ahead = await runNode([count], { clock: { ...clock, wallMs: () => clock.wallMs() + 3_600_000 }, store });
  await pay(1);
  await ahead.idle();
  ahead.crash();
  await pay(2);

  const other = await runNode([count], { clock, store });
  await clock.advance(1_001);
  await other.idle();

  assert.deepEqual(got, [1, 2]);
  await other.stop();
});

test("a node that comes up right after another died is not held up longer than a second, and one that comes up after a stop not at all", async () => {
  const { clock, store } = await memoryStore();
  const got: number[] = [];
  const count = subscription("count", { to: paid }, { Paid: ({ data }) => void got.push(data.n) });
  const writer = await runNode([], { clock, store });
  const pay = (n: number) => writer.commit({ paid }, ({ paid }) => paid.publish.Paid({ n }));
  const one = await runNode([count], { clock, store });
  await pay(1);
  await one.idle();
  one.crash();
  await pay(2);

  const two = await runNode([count], { clock, store });
  await clock.advance(1_001);
  await two.idle();
  assert.deepEqual(got, [1, 2]);
  await two.stop();
  await pay(3);
  const three = await runNode([count], { clock, store });
  await three.idle();

  assert.deepEqual(got, [1, 2, 3]);
  await three.stop();
});
