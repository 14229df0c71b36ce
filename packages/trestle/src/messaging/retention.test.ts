import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { projection } from "../events/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { subscription, topic } from "./index.ts";
import { memoryStore, runNode, type RunningTestNode } from "./testing.ts";

const Paid = z.object({ key: z.string(), n: z.int() });
const hour = 3_600_000;

interface Archived {
  readonly id: string;
  readonly n: number;
}
function paidTopic(options: object, archived: Archived[] = [], fails: () => boolean = () => false) {
  return topic("paid", {
    events: { Paid },
    key: ({ data }) => data.key,
    archive: (events) => {
      if (fails()) throw new Error("the archive is full");
      archived.push(...events.map(({ id, data }) => ({ id, n: data.n })));
    },
    ...options,
  });
}
async function publish(node: RunningTestNode, paid: ReturnType<typeof paidTopic>, from: number, to: number, keys = ["a", "b"]): Promise<void> {
  await node.commit({ paid }, ({ paid }) => {
    for (let n = from; n < to; n++) paid.publish.Paid({ key: keys[n % keys.length] as string, n });
  });
}
const sorted = (archived: readonly Archived[]): number[] => archived.map(({ n }) => n).sort((a, b) => a - b);
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

test("[MSG-05] [EVS-01] what is older than keepFor is archived in order, once, and removed; the rest stays, and versions go on", async () => {
  const on = await memoryStore();
  const archived: Archived[] = [];
  const paid = paidTopic({ keepFor: "10h" }, archived);
  const node = await runNode([paid], on);
  await publish(node, paid, 0, 600);
  await on.clock.advance(6 * hour);
  await publish(node, paid, 600, 700);

  await on.clock.advance(5 * hour);
  for (let i = 0; i < 5; i++) await on.clock.advance(60_000);
  const { events } = await on.store.read.log({ after: { epoch: 1, position: 0 }, limit: 1_000 });
  await publish(node, paid, 700, 702);

  assert.deepEqual(sorted(archived), numbers(0, 600));
  assert.deepEqual(
    events.map(({ position }) => position),
    numbers(601, 701),
  );
  assert.deepEqual(
    (await on.store.read.stream("paid//a", { after: 0, order: "newest", limit: 1 })).map(({ version, position }) => [version, position]),
    [[351, 701]],
  );
  await node.stop();
});

test("a node whose clock is an hour ahead removes nothing an hour too soon", async () => {
  const on = await memoryStore();
  const paid = paidTopic({ keepFor: "30m" });
  const node = await runNode([paid], { ...on, clock: { ...on.clock, wallMs: () => on.clock.wallMs() + hour } });
  await publish(node, paid, 0, 10);
  const events = async () => (await on.store.read.log({ after: { epoch: 1, position: 0 }, limit: 100 })).events.length;

  for (let i = 0; i < 5; i++) await on.clock.advance(5 * 60_000);
  const young = await events();
  for (let i = 0; i < 5; i++) await on.clock.advance(5 * 60_000);

  assert.equal(young, 10);
  assert.equal(await events(), 0);
  await node.stop();
});

test("nothing goes that a follower of the app has still to see: one that stands still, and one whose event is parked, hold it back", async () => {
  const on = await memoryStore();
  const archived: Archived[] = [];
  const paid = paidTopic({ keepFor: "1h" }, archived);
  let broken = true;
  const take = subscription(
    "take",
    { to: paid, retry: { attempts: 1 } },
    {
      Paid: ({ data }) => {
        if (data.n === 5 && broken) throw new Error("not this one");
      },
    },
  );
  const rows = projection("rows", { from: paid, row: z.object({ n: z.int() }) }, { creates: { Paid: ({ n }) => ({ n }) } });
  const writer = await runNode([], on);
  await publish(writer, paid, 0, 20);
  await on.clock.advance(2 * hour);

  // Only the topic runs here: both followers stand at the beginning, though this app has them.
  const still = await runNode([paid], { ...on });
  Object.assign(still, { followers: () => [take, rows] });
  await on.clock.advance(10 * 60_000);
  assert.deepEqual(archived, []);
  await still.stop();

  const node = await runNode([paid, take, rows], on);
  for (let i = 0; i < 20; i++) await on.clock.advance(60_000);
  assert.ok(
    archived.every(({ n }) => n < 5),
    "the parked one, and what was recorded with or after it, stays",
  );
  broken = false;
  const [parked] = await on.store.read.jobs({ queue: "take", state: "parked", limit: 1 });
  await on.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "redrive", job: parked?.id as string }] });
  for (let i = 0; i < 20; i++) await on.clock.advance(60_000);

  assert.deepEqual(sorted(archived), numbers(0, 20));
  await node.stop();
});

test("what the archive does not take stays; what it took before a crash it gets again, under the same ids, and nothing is missing", async () => {
  const on = await memoryStore();
  const archived: Archived[] = [];
  let full = true;
  const paid = paidTopic({ keepFor: "1h" }, archived, () => full);
  const node = await runNode([paid], on);
  await publish(node, paid, 0, 300);
  await on.clock.advance(3 * hour);
  assert.equal((await on.store.read.log({ after: { epoch: 1, position: 0 }, limit: 1 })).events.length, 1, "nothing was removed");

  full = false;
  const dying = on.store.commit;
  let crashed = false;
  on.store.commit = (commit) => {
    if (crashed || !commit.writes.some(({ kind }) => kind === "trim")) return dying(commit);
    crashed = true;
    node.crash();
    return new Promise(() => undefined);
  };
  for (let i = 0; i < 3; i++) await on.clock.advance(60_000);
  const second = await runNode([paid], on);
  for (let i = 0; i < 10; i++) await on.clock.advance(60_000);

  assert.ok(crashed);
  assert.deepEqual(
    [...new Map(archived.map(({ id, n }) => [id, n])).values()].sort((a, b) => a - b),
    numbers(0, 300),
  );
  assert.ok(archived.length > 300, "some twice");
  assert.equal((await on.store.read.log({ after: { epoch: 1, position: 0 }, limit: 1 })).events.length, 0);
  await second.stop();
});

test("with keepLast each key keeps its last so many", async () => {
  const on = await memoryStore();
  const archived: Archived[] = [];
  const paid = paidTopic({ keepLast: 3 }, archived);
  const node = await runNode([paid], on);
  await publish(node, paid, 0, 1_000, ["a", "b", "c", "d"]);
  await publish(node, paid, 1_000, 1_002, ["rare"]);
  for (let i = 0; i < 30; i++) await on.clock.advance(60_000);

  const { events } = await on.store.read.log({ after: { epoch: 1, position: 0 }, limit: 1_000 });
  assert.deepEqual(events.map(({ stream, version }) => `${stream} ${version}`).sort(), [
    ...["a", "b", "c", "d"].flatMap((key) => [248, 249, 250].map((version) => `paid//${key} ${version}`)),
    "paid//rare 1",
    "paid//rare 2",
  ]);
  assert.equal(new Set(archived.map(({ n }) => n)).size, 988);
  await node.stop();
});

test("a reader who goes on after a position that retention has passed is told, and one who starts anew gets what is kept", async () => {
  const clock = virtualClock();
  const paid = topic("paid", { events: { Paid }, keepFor: "1h" });
  await using node = await start(app("shop", [paid]), { store: "memory:", log: () => undefined, clock });
  const live = node.open(paid);
  await live.publish.Paid({ key: "a", n: 1 });
  await live.publish.Paid({ key: "a", n: 2 });
  await clock.advance(2 * hour);
  await live.publish.Paid({ key: "a", n: 3 });
  const first = async (from: string) => (await live.follow({ from })[Symbol.asyncIterator]().next()).value?.data.n as number;

  assert.equal(await first("start"), 3);
  await assert.rejects(first("1-1"), (thrown) => Fault.is(thrown, "log.trimmed"));
  assert.equal(await first("1-2"), 3);
});

test("retention that says nothing, or two things, is a fault where it is declared", () => {
  const bad = (options: object) =>
    assert.throws(
      () => topic("t", { events: { Paid }, ...options }),
      (thrown) => Fault.is(thrown, "topic.bad-option"),
    );

  bad({ archive: () => undefined });
  bad({ keepFor: "1h", keepLast: 3 });
});
