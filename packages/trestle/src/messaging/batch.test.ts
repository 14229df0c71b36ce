import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { sleep } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { queue } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const Numbered = z.object({ n: z.number() });
const counts = records("counts", { key: z.string(), value: z.number() });
const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => ({ n: from + i }));

test("messages that wait are handled together, up to so many, in one commit", async () => {
  const on = await memoryStore();
  const sizes: number[] = [];
  const work = queue("work", { input: Numbered, uses: { counts }, batch: 10, concurrency: 1 }, (messages, { counts }) => {
    sizes.push(messages.length);
    for (const { message } of messages) counts.add("sum", message.n);
  });
  const node = await runNode([work], on);
  const before = on.store.stats().commits;

  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(1, 25)));
  await node.idle();

  assert.deepEqual(sizes, [10, 10, 5]);
  assert.equal(on.store.stats().commits - before, 1 + 3);
  const [sum] = await on.store.read.records(["counts//sum"]);
  assert.equal(new TextDecoder().decode(sum?.value), "325");
  await node.stop();
});

test("each message is ended by itself: one set aside, one put off, one failed, the rest done", async () => {
  const on = await memoryStore();
  const attempts = new Map<number, number[]>();
  const work = queue("work", { input: Numbered, batch: 10, retry: { attempts: 2, from: "1s", upTo: "1s" } }, (messages) => {
    for (const { message, attempt, dead, later, fail } of messages) {
      attempts.set(message.n, [...(attempts.get(message.n) ?? []), attempt]);
      if (message.n === 1) dead("no");
      if (message.n === 2 && attempts.get(2)?.length === 1) later("1s", "not now");
      if (message.n === 3) fail(new Error("boom"));
    }
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(0, 5)));
  await on.clock.advance(5_000);

  assert.deepEqual(Object.fromEntries(attempts), { 0: [1], 1: [1], 2: [1, 1], 3: [1, 2], 4: [1] });
  const dead = await on.store.read.jobs({ queue: "work", limit: 10 });
  assert.deepEqual(dead.map(({ error }) => error).sort(), ["Error: boom", "no"]);
  await node.stop();
});

test("when a call throws, its messages are handled one by one: the bad one fails, the others are done once", async () => {
  const on = await memoryStore();
  const calls: number[][] = [];
  const work = queue("work", { input: Numbered, uses: { counts }, batch: 10, retry: { attempts: 1 } }, (messages, { counts }) => {
    calls.push(messages.map(({ message }) => message.n));
    for (const { message } of messages) {
      counts.add("handled", 1);
      if (message.n === 2) throw new Error("bad item");
    }
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(0, 4)));
  await node.idle();

  assert.deepEqual(calls, [[0, 1, 2, 3], [0], [1], [2], [3]]);
  const [dead] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 10 });
  const [handled] = await on.store.read.records(["counts//handled"]);
  assert.deepEqual([dead?.error, new TextDecoder().decode(handled?.value)], ["Error: bad item", "3"]);
  await node.stop();
});

test("a message that cannot be read is set aside before the call, which gets the others", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const sender = queue("work", { input: z.object({ n: z.unknown() }) }, () => undefined);
  const work = queue("work", { input: Numbered, batch: 5 }, (messages) => void handled.push(...messages.map(({ message }) => message.n)));
  const node = await runNode([], on);
  await node.commit({ sender }, ({ sender }) => void sender.sendMany([{ n: 1 }, { n: "two" }, { n: 3 }]));
  const worker = await runNode([work], on);
  await worker.idle();

  assert.deepEqual(handled, [1, 3]);
  assert.equal((await on.store.read.queue("work")).dead, 1);
  await worker.stop();
  await node.stop();
});

test("a batch is of one tenant", async () => {
  const on = await memoryStore();
  const seen: string[] = [];
  const work = queue("work", { input: Numbered, batch: 10, concurrency: 1 }, (messages, _uses, { tenant }) => void seen.push(`${tenant} ${messages.length}`));
  const node = await runNode([], on);
  for (const tenant of ["a", "b"]) await node.commit({ work }, ({ work }) => void work.sendMany(numbers(0, 3)), { tenant });
  const worker = await runNode([work], on);
  await worker.idle();

  assert.deepEqual(seen.sort(), ["a 3", "b 3"]);
  await worker.stop();
  await node.stop();
});

test("of a batch in which one job's claim is over, the others are done once and that one is left to its holder", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered, uses: { counts }, batch: 3, concurrency: 1, timeout: "10m" }, async (messages, { counts }) => {
    for (const { message } of messages) counts.add(`n${message.n}`, 1);
    await sleep(on.clock, 1_000);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(0, 3)));
  await on.clock.advance(1);
  const [taken] = await on.store.read.jobs({ queue: "work", state: "running", limit: 1 });
  // Taken back, as when its lease runs out, and held by somebody else.
  await on.store.extend([{ id: taken?.id as string, fence: { epoch: 1, n: 2 } }], 1);
  await on.clock.advance(10);
  const { jobs } = await on.store.claim({ holder: "thief", leaseMs: 600_000, queues: [{ queue: "work", limit: 1 }] });
  assert.equal(jobs.length, 1);
  await on.clock.advance(10_000);

  const done = await on.store.read.records(["counts//n0", "counts//n1", "counts//n2"]);
  assert.deepEqual(
    done.map((row) => row && new TextDecoder().decode(row.value)),
    [undefined, "1", "1"],
  );
  assert.equal((await on.store.read.queue("work")).running, 1);
  await node.stop();
});

test("a node that stops hands its batch back, and it counts as no attempt", async () => {
  const on = await memoryStore();
  const seen: number[] = [];
  const work = queue("work", { input: Numbered, batch: 3, timeout: "10m" }, async (messages, _uses, { signal }) => {
    seen.push(...messages.map(({ attempt }) => attempt));
    if (seen.length <= 3) await sleep(on.clock, 60_000, signal);
  });
  const first = await runNode([work], on);
  await first.commit({ work }, ({ work }) => void work.sendMany(numbers(0, 3)));
  await on.clock.advance(1);
  await first.stop();
  const second = await runNode([work], on);
  await second.idle();

  assert.deepEqual(seen, [1, 1, 1, 1, 1, 1]);
  await second.stop();
});

test("a batch cannot answer, and its size has bounds", async () => {
  const on = await memoryStore();
  assert.throws(
    () => queue("work", { input: Numbered, batch: 1 }, () => undefined),
    (fault: Error) => fault.message.includes(`queue "work": batch`),
  );
  const work = queue("work", { input: Numbered, batch: 2, retry: { attempts: 1 } }, (() => "answer") as never);
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.send({ n: 1 }));
  await node.idle();

  const [dead] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.match(dead?.error ?? "", /^job\.batch-answered/);
  await node.stop();
});
