import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { aggregate, command } from "../events/index.ts";
import { decode, encode, positionKey } from "../component/index.ts";
import { Fault, seededRandom, sleep } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { backlogJobsMax } from "./feeder.ts";
import { queue, subscription, topic } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const Counted = z.object({ n: z.number() });
const counter = aggregate(
  "counter",
  { id: z.string(), events: { Counted, Reset: z.object({}) }, initial: () => 0, evolve: { Counted: (_, { n }) => n, Reset: () => 0 } },
  {
    count: command(Counted, (_state, input, emit) => emit.Counted(input)),
    reset: command((_state, emit) => emit.Reset()),
  },
);
const seen = records("seen", { key: z.string(), value: z.string() });
const totals = records("totals", { key: z.string(), value: z.number() });
const text = (row: { readonly value: Uint8Array } | undefined) => row && (decode(row.value) as string | number);

test("[MSG-11] reactions come once per event and in order per key, though nodes die between and within the steps", async () => {
  const on = await memoryStore();
  const chance = seededRandom("crashes");
  const collect = subscription(
    "collect",
    { to: counter, uses: { seen, totals } },
    {
      Counted: async ({ key, data, version }, { seen, totals }) => {
        const before = (await seen.get(key)) ?? "";
        await sleep(on.clock, 3);
        seen.put(key, `${before}${data.n};`);
        totals.add(`${key} ${version}`, 1);
      },
    },
  );
  const writer = await runNode([], on);
  let node = await runNode([collect], on);
  for (let n = 0; n < 40; n++) {
    await writer.commit({ counter }, async ({ counter }) => {
      for (const key of ["a", "b", "c"]) await counter.count(key, { n });
    });
    await on.clock.advance(chance.next() * 10);
    if (n % 5 === 4) {
      node.crash();
      await on.clock.advance(40_000);
      node = await runNode([collect], on);
    }
  }
  for (let i = 0; i < 100; i++) await on.clock.advance(500);
  await node.idle();

  const expected = Array.from({ length: 40 }, (_, n) => `${n};`).join("");
  assert.deepEqual((await on.store.read.records(["seen//a", "seen//b", "seen//c"])).map(text), [expected, expected, expected]);
  const each = await on.store.read.records(Array.from({ length: 40 }, (_, n) => `totals//a ${n + 1}`));
  assert.ok(each.every((row) => text(row) === 1));
  await node.stop();
});

test("[MSG-18] every recorded event reaches the subscription, and no event that was not recorded", async () => {
  const on = await memoryStore();
  const got: string[] = [];
  const follow = subscription("follow", { to: counter }, { Counted: ({ key, data }) => void got.push(`${key}${data.n}`) });
  const node = await runNode([follow], on);
  await node.commit({ counter }, ({ counter }) => counter.count("a", { n: 1 }));
  await assert.rejects(
    node.commit({ counter }, async ({ counter }) => {
      await counter.count("a", { n: 2 });
      throw new Error("no");
    }),
  );
  await node.idle();

  assert.deepEqual(got, ["a1"]);
  await node.stop();
});

test("an event knows its key, position, tenant, time and who recorded it; the invocation's id is the same for an event on every attempt", async () => {
  const on = await memoryStore();
  const events: Record<string, unknown>[] = [];
  const ids: string[] = [];
  const follow = subscription(
    "follow",
    { to: counter, retry: { from: 0, upTo: 0 } },
    {
      Counted: (event, _uses, { id, tenant, attempt }) => {
        ids.push(id);
        if (attempt === 1) throw new Error("again");
        events.push({ ...event, asTenant: tenant });
      },
    },
  );
  const node = await runNode([follow], on);
  await node.commit({ counter }, ({ counter }) => counter.count("a", { n: 1 }), { tenant: "acme" });
  await node.idle();
  await on.clock.advance(1);
  await node.idle();

  const [event] = events;
  assert.deepEqual(
    [event?.["type"], event?.["key"], event?.["data"], event?.["version"], event?.["tenant"], event?.["asTenant"], event?.["at"]],
    ["Counted", "a", { n: 1 }, 1, "acme", "acme", 1_700_000_000_000],
  );
  assert.match(String(event?.["position"]), /^1-1$/);
  assert.equal(typeof event?.["causedBy"], "string");
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
  await node.stop();
});

test("[MSG-11] events that are fed again find their jobs already there, under the same ids", async () => {
  const on = await memoryStore();
  let hold = true;
  const ids: string[] = [];
  const follow = subscription(
    "follow",
    { to: counter },
    {
      Counted: async (_event, _uses, { id, signal }) => {
        if (hold) await sleep(on.clock, 3_600_000, signal);
        ids.push(id);
      },
    },
  );
  const node = await runNode([follow], on);
  await node.commit({ counter }, async ({ counter }) => {
    for (const key of ["a", "b", "c"]) await counter.count(key, { n: 1 });
  });
  await on.clock.advance(10);
  await node.stop();
  await on.store.commit({
    id: node.ids.next(),
    expects: [],
    writes: [{ kind: "put", key: positionKey("follow"), value: encode({ epoch: 1, position: 0 }, "position") }],
  });
  hold = false;
  const again = await runNode([follow], on);
  await again.idle();

  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 3);
  await again.stop();
});

test("a subscription from `now` gets what is recorded after its first start, however long it was away; one from the start gets all", async () => {
  const on = await memoryStore();
  const got: Record<string, number[]> = { now: [], start: [] };
  const of = (from: "now" | "start") => subscription(`from-${from}`, { to: counter, from }, { Counted: ({ data }) => void got[from]?.push(data.n) });
  const node = await runNode([], on);
  const count = (n: number) => node.commit({ counter }, ({ counter }) => counter.count("a", { n }));
  await count(1);
  const first = await runNode([of("now"), of("start")], on);
  await count(2);
  await first.idle();
  await first.stop();
  await count(3);
  const second = await runNode([of("now"), of("start")], on);
  await second.idle();

  assert.deepEqual(got, { now: [2, 3], start: [1, 2, 3] });
  await second.stop();
});

test("[MSG-09] an event that keeps failing stops its key and no other; put back after a fix, the key goes on in order", async () => {
  const on = await memoryStore();
  let fixed = false;
  const got: string[] = [];
  const follow = subscription(
    "follow",
    { to: counter, retry: { attempts: 2, from: 10, upTo: 10 } },
    {
      Counted: ({ key, data }) => {
        if (key === "a" && data.n === 1 && !fixed) throw new Error("poison");
        got.push(`${key}${data.n}`);
      },
    },
  );
  const node = await runNode([follow], on);
  await node.commit({ counter }, async ({ counter }) => {
    for (const n of [0, 1, 2]) for (const key of ["a", "b"]) await counter.count(key, { n });
  });
  await on.clock.advance(1_000);
  await node.idle();

  const [parked] = await on.store.read.jobs({ queue: "follow", state: "parked", limit: 2 });
  assert.deepEqual(got.toSorted(), ["a0", "b0", "b1", "b2"]);
  assert.equal(parked?.error, "Error: poison");

  fixed = true;
  await on.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "redrive", job: parked?.id ?? "" }] });
  await node.idle();
  assert.deepEqual(got.slice(4), ["a1", "a2"]);
  await node.stop();
});

test("with `set-aside` a failing event is kept for a person and its key goes on", async () => {
  const on = await memoryStore();
  const got: number[] = [];
  const follow = subscription(
    "follow",
    { to: counter, onPoison: "set-aside", retry: { attempts: 1 } },
    {
      Counted: ({ data }) => {
        if (data.n === 1) throw new Error("poison");
        got.push(data.n);
      },
    },
  );
  const node = await runNode([follow], on);
  await node.commit({ counter }, async ({ counter }) => {
    for (const n of [0, 1, 2]) await counter.count("a", { n });
  });
  await node.idle();

  const { dead, parked } = await on.store.read.queue("follow");
  assert.deepEqual([got, dead, parked], [[0, 2], 1, 0]);
  await node.stop();
});

test("an event that its source's schema does not accept any more is kept at once, with the reason", async () => {
  const on = await memoryStore();
  const before = topic("t", { events: { Done: z.object({ n: z.string() }) } });
  const after = topic("t", { events: { Done: z.object({ n: z.number() }) } });
  const follow = subscription("follow", { to: after }, { Done: () => undefined });
  const node = await runNode([follow], on);
  await node.commit({ before }, ({ before }) => before.publish.Done({ n: "one" }));
  await node.idle();

  const [job] = await on.store.read.jobs({ queue: "follow", state: "parked", limit: 1 });
  assert.deepEqual([job?.attempt, /^payload\.invalid: event Done of topic "t".*n: /.test(job?.error ?? "")], [1, true]);
  await node.stop();
});

test("a reaction in the commit falls with it, sees what it staged, and may cause more", async () => {
  const on = await memoryStore();
  const announced = topic("announced", { events: { Big: z.object({ n: z.number() }) } });
  const count = subscription(
    "count",
    { to: counter, when: "in-commit", uses: { totals, announced } },
    {
      Counted: async ({ key, data, position }, { totals, announced }) => {
        totals.put(key, ((await totals.get(key)) ?? 0) + data.n);
        if (data.n > 10) announced.publish.Big({ n: data.n });
        assert.equal(position, "pending");
      },
    },
  );
  const log = subscription(
    "log",
    { to: announced, when: "in-commit", uses: { seen } },
    { Big: ({ data, key }, { seen }) => seen.put(`big ${data.n}`, `key ${key}`) },
  );
  const node = await runNode([count, log], on);

  const total = await node.commit({ counter, totals }, async ({ counter, totals }) => {
    await counter.count("a", { n: 1 });
    await counter.count("a", { n: 20 });
    return totals.get("a");
  });
  await assert.rejects(
    node.commit({ counter }, async ({ counter }) => {
      await counter.count("a", { n: 100 });
      throw new Error("no");
    }),
  );

  assert.equal(total, 21);
  assert.deepEqual((await on.store.read.records(["totals//a", "seen//big 20", "seen//big 100"])).map(text), [21, "key ", undefined]);
  assert.equal((await on.store.read.head()).n, 1, "one commit");
  await node.stop();
});

test("a fault of an in-commit reaction fails the commit that records the event", async () => {
  const on = await memoryStore();
  const forbid = subscription(
    "forbid",
    { to: counter, when: "in-commit" },
    {
      Counted: ({ data }) => {
        if (data.n < 0) throw Fault.create("test.negative", "negative", "Count up.");
      },
    },
  );
  const node = await runNode([forbid], on);

  await assert.rejects(
    node.commit({ counter }, ({ counter }) => counter.count("a", { n: -1 })),
    (fault) => Fault.is(fault, "test.negative"),
  );
  assert.equal(await on.store.read.streamVersion("counter//a"), 0);
  await node.stop();
});

test("two nodes feed and work on one subscription, and each event has one effect", async () => {
  const on = await memoryStore();
  const follow = subscription("follow", { to: counter, uses: { totals } }, { Counted: ({ key, version }, { totals }) => totals.add(`${key} ${version}`, 1) });
  const [first, second] = [await runNode([follow], on), await runNode([follow], on)];
  for (let n = 0; n < 50; n++)
    await first.commit({ counter }, async ({ counter }) => {
      for (const key of ["a", "b"]) await counter.count(key, { n });
    });
  await first.idle();
  await second.idle();

  const rows = await on.store.read.records(["a", "b"].flatMap((key) => Array.from({ length: 50 }, (_, n) => `totals//${key} ${n + 1}`)));
  assert.deepEqual(
    rows.map(text),
    rows.map(() => 1),
  );
  await first.stop();
  await second.stop();
});

test("two subscriptions of one source go their own ways: one that is away loses nothing and holds nobody up", async () => {
  const on = await memoryStore();
  const got: Record<string, number> = { a: 0, b: 0 };
  const of = (name: string) => subscription(name, { to: counter }, { Counted: () => void (got[name] = (got[name] ?? 0) + 1) });
  const [a, b] = [of("a"), of("b")];
  const first = await runNode([a], on);
  for (let n = 0; n < 10; n++) await first.commit({ counter }, ({ counter }) => counter.count("x", { n }));
  await first.idle();
  assert.deepEqual(got, { a: 10, b: 0 });
  const second = await runNode([b], on);
  await second.idle();

  assert.deepEqual(got, { a: 10, b: 10 });
  await first.stop();
  await second.stop();
});

test("events that nothing reacts to cost no job, and do not keep the node from being idle", async () => {
  const on = await memoryStore();
  const got: string[] = [];
  const follow = subscription("follow", { to: counter }, { Reset: ({ key }) => void got.push(key) });
  const node = await runNode([follow], on);
  for (let n = 0; n < 5; n++) await node.commit({ counter }, ({ counter }) => counter.count("a", { n }));
  await node.idle();
  const before = (await on.store.read.head()).n;
  await node.commit({ counter }, ({ counter }) => counter.reset("a"));
  await node.idle();

  assert.deepEqual([before, got], [5, ["a"]]);
  await node.stop();
});

test("a reader that is far behind fills its queue to a bound, and goes on as it drains", async () => {
  const on = await memoryStore();
  const events = 2 * backlogJobsMax;
  const burst = topic("burst", { events: { Done: Counted }, key: ({ data }) => String(data.n % 64) });
  let handled = 0;
  let blocked = true;
  let most = 0;
  const follow = subscription(
    "follow",
    { to: burst },
    {
      Done: async (_event, _uses, { signal }) => {
        if (blocked) await sleep(on.clock, 20_000, signal);
        handled += 1;
      },
    },
  );
  const writer = await runNode([], on);
  for (let from = 0; from < events; from += 1_024)
    await writer.commit({ burst }, ({ burst }) => {
      for (let n = from; n < from + 1_024; n++) burst.publish.Done({ n });
    });
  const node = await runNode([follow], on);
  await on.clock.advance(10_000);
  most = (await on.store.read.queue("follow")).waiting;
  blocked = false;
  await on.clock.advance(15_000);
  for (let i = 0; i < 50 && handled < events; i++) await on.clock.advance(1_000);
  await node.idle();

  assert.ok(most >= backlogJobsMax - 64 && most <= backlogJobsMax + 256, String(most));
  assert.equal(handled, events);
  await node.stop();
});

test("[MSG-17] event to effect over a queue and two subscriptions: a crash at any instant loses nothing and doubles nothing", async () => {
  const chance = seededRandom("pipeline");
  for (let round = 0; round < 25; round++) {
    const on = await memoryStore();
    const work = queue("work", { input: z.object({ key: z.string() }), uses: { counter, totals } }, async ({ key }, { counter, totals }) => {
      totals.add(`job ${key}`, 1);
      await counter.reset(key);
    });
    const toQueue = subscription(
      "to-queue",
      { to: counter, uses: { work } },
      {
        Counted: async ({ key }, { work }) => {
          await sleep(on.clock, chance.next() * 4);
          work.send({ key });
        },
      },
    );
    const back = subscription(
      "back",
      { to: counter, uses: { totals } },
      {
        Reset: async ({ key }, { totals }) => {
          await sleep(on.clock, chance.next() * 4);
          totals.add(`reset ${key}`, 1);
        },
      },
    );
    const writer = await runNode([], on);
    let node = await runNode([work, toQueue, back], on);
    const keys = Array.from({ length: 8 }, (_, n) => `k${n}`);
    for (const key of keys) await writer.commit({ counter }, ({ counter }) => counter.count(key, { n: 1 }));
    for (let crash = 0; crash < 3; crash++) {
      await on.clock.advance(chance.next() * 8);
      node.crash();
      node = await runNode([work, toQueue, back], on);
      await on.clock.advance(chance.next() < 0.5 ? 1 : 45_000);
    }
    for (let i = 0; i < 5; i++) await on.clock.advance(20_000);
    await node.idle();

    const rows = await on.store.read.records(keys.flatMap((key) => [`totals//job ${key}`, `totals//reset ${key}`]));
    assert.deepEqual(
      rows.map(text),
      keys.flatMap(() => [1, 1]),
      `round ${round}`,
    );
    await node.stop();
  }
});

test("after a restored backup a subscription goes on where its own position stands", async () => {
  const on = await memoryStore();
  const got: number[] = [];
  const follow = subscription("follow", { to: counter }, { Counted: ({ data }) => void got.push(data.n) });
  const node = await runNode([follow], on);
  await node.commit({ counter }, ({ counter }) => counter.count("a", { n: 1 }));
  await node.idle();
  await node.stop();
  await on.store.commit({
    id: node.ids.next(),
    expects: [],
    writes: [{ kind: "put", key: positionKey("follow"), value: encode({ epoch: 0, position: 1 }, "position") }],
  });
  const restored = await runNode([follow], on);
  await restored.commit({ counter }, ({ counter }) => counter.count("a", { n: 2 }));
  await restored.idle();
  await restored.stop();
  assert.deepEqual(got, [1, 2]);

  await on.store.commit({
    id: node.ids.next(),
    expects: [],
    writes: [{ kind: "put", key: positionKey("follow"), value: encode({ epoch: 0, position: 99 }, "position") }],
  });
  const beyond = await runNode([follow], on);
  await on.clock.advance(100);
  assert.match(JSON.stringify(beyond.logged), /log of epoch 1 ends at 2/);
  await beyond.stop();
});
