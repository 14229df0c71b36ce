import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { Fault } from "../kernel/index.ts";
import { app, start } from "../app/index.ts";
import { subscription, topic } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const shipments = topic("shipments", {
  events: { Shipped: z.object({ order: z.string() }), Lost: z.object({}) },
  key: (event) => (event.type === "Shipped" ? event.data.order : "lost"),
  needs: ["topic.fifo-per-key", "topic.gapless", "topic.replay"],
});
const quiet = { store: "memory:", log: () => undefined } as const;

/** The next `count` events. */
async function take<T>(source: AsyncIterable<T>, count: number): Promise<T[]> {
  const got: T[] = [];
  for await (const one of source) if (got.push(one) === count) break;
  return got;
}

test("what is published in a commit is in the log with it, in the stream of its key; a publish that does not fit its schema is a fault", async () => {
  const on = await memoryStore();
  const node = await runNode([shipments], on);
  await node.commit({ shipments }, ({ shipments }) => {
    shipments.publish.Shipped({ order: "o/1" });
    shipments.publish.Lost();
    shipments.publish.Shipped({ order: "o/1" });
  });
  await assert.rejects(
    node.commit({ shipments }, ({ shipments }) => shipments.publish.Shipped({ order: 1 as unknown as string })),
    (fault) => Fault.is(fault, "payload.invalid"),
  );

  const { events } = await on.store.read.log({ after: { epoch: 1, position: 0 }, limit: 10 });
  assert.deepEqual(
    events.map(({ stream, version, type }) => `${stream} ${version} ${type}`),
    ["shipments//o/1 1 Shipped", "shipments//o/1 2 Shipped", "shipments//lost 1 Lost"],
  );
});

test("[MSG-05] a topic is followed from its start, from now, or from a position; a reader who comes back misses nothing and gets nothing twice", async () => {
  await using node = await start(app("a", [shipments]), quiet);
  const live = node.open(shipments);
  const orders = (events: readonly { readonly data: unknown }[]) => events.map(({ data }) => (data as { order: string }).order);
  for (const order of ["1", "2"]) await live.publish.Shipped({ order });
  const fromNow = take(live.follow(), 2);
  await live.publish.Shipped({ order: "3" });
  await live.publish.Shipped({ order: "4" });

  const all = await take(live.follow({ from: "start" }), 4);
  assert.deepEqual(orders(all), ["1", "2", "3", "4"]);
  assert.deepEqual(orders(await fromNow), ["3", "4"]);
  assert.deepEqual(orders(await take(live.follow({ from: all[1]?.position ?? "" }), 2)), ["3", "4"]);
  const ofKey = take(live.follow({ from: "start", key: "2" }), 2);
  await live.publish.Shipped({ order: "2" });
  assert.deepEqual(
    (await ofKey).map(({ version }) => version),
    [1, 2],
  );
});

for (const end of ["drain", "stop"] as const) {
  test(`following ends when the node begins to ${end}, and not with a fault`, async () => {
    const node = await start(app("a", [shipments]), quiet);
    const reading = take(node.open(shipments).follow({ from: "start" }), 1);
    await new Promise((resolve) => process.nextTick(resolve));
    if (end === "drain") await node.drain("1s");
    else await node.stop();

    assert.deepEqual(await reading, []);
    await node.stop();
  });
}

test("a position of another history, or none at all, is a fault and not silence", async () => {
  await using node = await start(app("a", [shipments]), quiet);
  const live = node.open(shipments);

  await assert.rejects(take(live.follow({ from: "7-1" }), 1), (fault) => Fault.is(fault, "log.diverged"));
  await assert.rejects(take(live.follow({ from: "yesterday" }), 1), (fault) => Fault.is(fault, "topic.bad-position"));
});

test("tenants follow their own events only", async () => {
  const on = await memoryStore();
  const node = await runNode([shipments], on);
  for (const tenant of ["a", "b"]) await node.commit({ shipments }, ({ shipments }) => shipments.publish.Shipped({ order: `of ${tenant}` }), { tenant });

  const got = await node.commit({ shipments }, ({ shipments }) => take(shipments.follow({ from: "start" }), 1), { tenant: "b" });
  assert.deepEqual(
    got.map(({ data, tenant }) => [data, tenant]),
    [[{ order: "of b" }, "b"]],
  );
});

test("a store that lacks what a topic needs is refused when the node starts, naming both", async () => {
  const strict = topic("strict", { events: { Done: z.object({}) }, needs: ["topic.survives-power-loss"] });

  await assert.rejects(
    start(app("a", [strict]), quiet),
    (fault) => Fault.is(fault, "app.guarantee-missing") && /strict.*topic\.survives-power-loss.*commit\.durable/.test(fault.message),
  );
});

test("without a key the whole topic is one order, and its subscribers keep to it", async () => {
  const on = await memoryStore();
  const plain = topic("plain", { events: { Done: z.object({ n: z.number() }) } });
  const got: number[] = [];
  const follow = subscription("follow", { to: plain }, { Done: ({ data }) => void got.push(data.n) });
  const node = await runNode([follow], on);
  for (let n = 0; n < 30; n++) await node.commit({ plain }, ({ plain }) => plain.publish.Done({ n }));
  await node.idle();

  assert.deepEqual(
    got,
    Array.from({ length: 30 }, (_, n) => n),
  );
  await node.stop();
});
