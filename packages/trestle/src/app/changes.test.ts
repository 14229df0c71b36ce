import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { aggregate, command } from "../events/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { queue, topic } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { app, start, type Change, type CommitChange } from "./index.ts";

const notes = records("notes", { key: z.string(), value: z.int() });
const stock = aggregate(
  "stock",
  { id: z.string(), events: { Took: z.object({}) }, initial: () => 9, evolve: { Took: (n) => n - 1 } },
  { take: command((_n, emit) => emit.Took()) },
);
const told = topic("told", { events: { Told: z.object({}) } });
const mail = queue("mail", { input: z.object({}) });
const house = app("house", [notes, stock, told, mail], { elsewhere: [mail] });
const quiet = { store: "memory:", log: () => undefined } as const;

const text = ({ kind, component, key }: Change) => (kind === "job" ? "job" : `${kind} ${component} ${key}`);
async function take(changes: AsyncIterable<CommitChange>, count: number): Promise<CommitChange[]> {
  const got: CommitChange[] = [];
  for await (const one of changes) if (got.push(one) === count) break;
  return got;
}

test("[F10] the change feed tells each commit once with what it wrote, of every kind of state; a reader who comes back goes on after it", async () => {
  await using node = await start(house, quiet);
  const live = take(node.changes(), 3);
  await node.commit({ notes, stock, told, mail }, async ({ notes, stock, told, mail }) => {
    notes.put("a", 1);
    await stock.take("sku");
    told.publish.Told({});
    mail.send({});
  });
  await node.open(told).publishOnce.Told("hook-1", {});
  await node.open(notes).remove("a");

  const all = await take(node.changes({ after: "start" }), 3);
  const seen = await live;

  assert.deepEqual(
    seen.map(({ changes }) => changes.map(text).sort()),
    [["job", "record notes a", "stream stock sku", "stream told "], ["stream told "], ["record notes a"]],
  );
  assert.ok(all.length === 3 && seen.every(({ position }) => /^1-\d+$/.test(position)));
  const [first] = all;
  const rest = await take(node.changes({ after: first?.position ?? "", of: [notes] }), 1);
  assert.deepEqual(
    rest.map(({ changes }) => changes.map(text)),
    [["record notes a"]],
  );
});

test("[F10] a reader of a history that was cut, and one who was away longer than the feed is kept, are told so", async () => {
  const clock = virtualClock();
  await using node = await start(house, { ...quiet, clock });
  for (let n = 0; n < 3; n++) await node.open(notes).put("a", n);
  const [first] = await take(node.changes({ after: "start" }), 1);

  await assert.rejects(take(node.changes({ after: "7-1" }), 1), (thrown) => Fault.is(thrown, "log.diverged"));
  await assert.rejects(take(node.changes({ after: "somewhere" }), 1), (thrown) => Fault.is(thrown, "changes.bad-position"));
  await clock.advance(26 * 3_600_000);
  for (let n = 0; n < 3; n++) (await node.open(notes).put("a", n), await clock.advance(1_100));
  await assert.rejects(take(node.changes({ after: first?.position ?? "" }), 1), (thrown) => Fault.is(thrown, "log.trimmed"));
});

test("a feed ends when its reader goes or the node drains", async () => {
  const node = await start(house, quiet);
  const gone = new AbortController();
  const one = take(node.changes({ signal: gone.signal }), 9);
  const other = take(node.changes(), 9);

  gone.abort();
  assert.deepEqual(await one, []);
  await node.drain("1s");
  assert.deepEqual(await other, []);
  await node.stop();
});
