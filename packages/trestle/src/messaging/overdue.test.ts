/** Handlers that go on after their time: their jobs are tried again, and their places are theirs until they have ended. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import type { VirtualClock } from "../kernel/index.ts";
import { queue } from "./index.ts";
import { memoryStore, runNode, type RunningTestNode } from "./testing.ts";

const Numbered = z.object({ n: z.number() });
const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, i) => ({ n: from + i }));

/** Handlers that end when they are told to, and what the worker says of itself. */
function held() {
  const handlers: { readonly n: number; readonly attempt: number; readonly end: () => void }[] = [];
  let look: (() => object) | undefined;
  const hang = (n: number, attempt: number) => new Promise<void>((end) => void handlers.push({ n, attempt, end }));
  const observed = (node: RunningTestNode) =>
    node.logged
      .filter(({ message }) => message.includes("goes on"))
      .map(({ message, facts }) => ({ message: message.replace(/[0-9a-f-]{36}/, "x"), ...facts }));
  const observer = { works: (_queue: string, _adaptive: boolean, asked: () => object) => void (look = asked) };
  return { handlers, hang, observer, look: () => look?.(), warnings: observed };
}
const settled = (clock: VirtualClock, ms = 1) => clock.advance(ms);

test("a handler that goes on after its job's time is over holds its place until it has ended; its job is tried again when there is one", async () => {
  const on = await memoryStore();
  const { handlers, hang, observer, look } = held();
  const work = queue("work", { input: Numbered, concurrency: 2, timeout: "1s", retry: { attempts: 3, from: 0, upTo: 0 } }, ({ n }, _uses, { attempt }) =>
    hang(n, attempt),
  );
  const node = await runNode([work], { ...on, observer });
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(3)));
  await settled(on.clock, 10_000);
  assert.deepEqual(
    [handlers.map(({ n, attempt }) => [n, attempt]), look()],
    [
      [
        [0, 1],
        [1, 1],
      ],
      { running: 2, places: 2, waiting: 0, overdue: 2 },
    ],
  );
  const { waiting, running } = await on.store.read.queue("work");
  assert.deepEqual([waiting, running], [3, 0], "failed and tried again, or given back: nothing is held that cannot begin");

  handlers[0]?.end();
  await settled(on.clock);
  assert.equal(handlers.length, 3, "one ended, one begins");
  assert.deepEqual(look(), { running: 2, places: 2, waiting: 0, overdue: 1 });
  for (let at = 1; at < handlers.length; at++) {
    handlers[at]?.end();
    await settled(on.clock);
  }
  await node.idle();
  assert.deepEqual(look(), { running: 0, places: 2, waiting: 0, overdue: 0 });
  assert.deepEqual(handlers.map(({ n, attempt }) => `${n}.${attempt}`).toSorted(), ["0.1", "0.2", "1.1", "1.2", "2.1"]);
  await node.stop();
});

test("with a concurrency of one too, and a handler that heeds its signal gives the place back with its job", async () => {
  const on = await memoryStore();
  const { handlers, hang, observer, look } = held();
  const work = queue("work", { input: Numbered, concurrency: 1, timeout: "1s", retry: { attempts: 1 } }, ({ n }, _uses, { attempt, signal }) =>
    n === 0 ? new Promise<void>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))) : hang(n, attempt),
  );
  const node = await runNode([work], { ...on, observer });
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(3)));
  await settled(on.clock, 1_500);
  assert.deepEqual([handlers.map(({ n }) => n), look()], [[1], { running: 1, places: 1, waiting: 0, overdue: 0 }]);
  await settled(on.clock, 5_000);
  assert.deepEqual([handlers.map(({ n }) => n), look()], [[1], { running: 1, places: 1, waiting: 0, overdue: 1 }]);
  handlers[0]?.end();
  await settled(on.clock);
  assert.deepEqual([handlers.map(({ n }) => n), look()], [[1, 2], { running: 1, places: 1, waiting: 0, overdue: 0 }]);
  handlers[1]?.end();
  await node.idle();
  await node.stop();
});

test("handlers that do not end are told: once from the first one until there is none, and as a number", async () => {
  const on = await memoryStore();
  const { handlers, hang, observer, look, warnings } = held();
  const work = queue("work", { input: Numbered, concurrency: 2, timeout: "1s", retry: { attempts: 1 } }, ({ n }, _uses, { attempt }) => hang(n, attempt));
  const node = await runNode([work], { ...on, observer });
  await node.commit({ work }, ({ work }) => work.send({ n: 0 }));
  await settled(on.clock, 1_500);
  handlers[0]?.end();
  await settled(on.clock, 5_000);
  assert.deepEqual(warnings(node), [], "it ended soon after");

  const since = new Date(on.clock.wallMs() + 1_000).toISOString();
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(2, 1)));
  await settled(on.clock, 1_000);
  await settled(on.clock, 60_000);
  const told = { message: 'job x of queue "work" goes on though nobody waits for it any more, and holds its place', since, overdue: 2, places: 2 };
  assert.deepEqual([warnings(node), look()], [[told], { running: 2, places: 2, waiting: 0, overdue: 2 }]);

  for (const { end } of handlers) end();
  await settled(on.clock);
  await node.commit({ work }, ({ work }) => work.send({ n: 3 }));
  await settled(on.clock, 5_000);
  assert.equal(warnings(node).length, 2);
  await node.stop();
});

test("what was claimed ahead goes back to the queue while nothing here moves, and another node does it", async () => {
  const on = await memoryStore();
  const { handlers, hang } = held();
  const done: string[] = [];
  let stuck = false;
  const on1 = queue("work", { input: Numbered, concurrency: 2, timeout: "1s", retry: { attempts: 1 } }, ({ n }, _uses, { attempt }) => {
    if (stuck) return hang(n, attempt);
    done.push(`first ${n}`);
  });
  const first = await runNode([on1], on);
  await first.commit({ work: on1 }, ({ work }) => void work.sendMany(numbers(40)));
  await first.idle();
  stuck = true;
  await first.commit({ work: on1 }, ({ work }) => void work.sendMany(numbers(20, 100)));
  await settled(on.clock);
  assert.ok((await on.store.read.queue("work")).running > 2, "handlers were quick, so some were claimed ahead");
  await settled(on.clock, 1_500);
  assert.deepEqual([handlers.length, (await on.store.read.queue("work")).running], [2, 0]);

  const other = queue("work", { input: Numbered }, ({ n }, _uses, { attempt }) => void done.push(`second ${n} ${attempt}`));
  const second = await runNode([other], on);
  await settled(on.clock, 1_000);
  assert.deepEqual(
    done.slice(40).toSorted(),
    numbers(18, 102).map(({ n }) => `second ${n} 1`),
    "and what was given back has lost no attempt",
  );
  for (const { end } of handlers) end();
  await Promise.all([first.stop(), second.stop()]);
});

test("while nothing moves, nothing is claimed to be given back", async () => {
  const on = await memoryStore();
  const { handlers, hang } = held();
  let claimed = 0;
  const store = Object.assign(Object.create(on.store) as typeof on.store, {
    claim: async (request: Parameters<typeof on.store.claim>[0]) => {
      const answer = await on.store.claim(request);
      claimed += answer.jobs.length;
      return answer;
    },
  });
  const work = queue("work", { input: Numbered, concurrency: 100, timeout: "50ms", retry: { attempts: 1 } }, ({ n }, _uses, { attempt }) => hang(n, attempt));
  const node = await runNode([work], { ...on, store });
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(300)));
  await settled(on.clock, 100);
  const before = claimed;
  await settled(on.clock, 20_000);

  assert.deepEqual([handlers.length, claimed - before, (await on.store.read.queue("work")).running], [100, 0, 0]);
  for (const { end } of handlers) end();
  await node.stop();
});

test("a drain does not wait for a handler whose job is over, and aborts one whose job is not", async () => {
  const on = await memoryStore();
  const { handlers, hang, observer, look } = held();
  const work = queue("work", { input: Numbered, concurrency: 2, timeout: "5s", retry: { attempts: 2 } }, ({ n }, _uses, { attempt }) => hang(n, attempt));
  const node = await runNode([work], { ...on, observer });
  await node.commit({ work }, ({ work }) => work.send({ n: 0 }));
  await settled(on.clock, 6_000);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await settled(on.clock);
  assert.deepEqual([handlers.length, look()], [2, { running: 2, places: 2, waiting: 0, overdue: 1 }]);

  const drained = node.drain(1_000);
  await settled(on.clock, 1_000);
  await drained;
  const { waiting, running } = await on.store.read.queue("work");
  assert.deepEqual([waiting, running, look()], [2, 0, { running: 2, places: 2, waiting: 0, overdue: 2 }]);
  for (const { end } of handlers) end();
  await settled(on.clock);
  assert.deepEqual(look(), { running: 0, places: 2, waiting: 0, overdue: 0 });
  await node.stop();
});

test("a limit over the fleet counts claims: a handler that goes on holds the place of its node, and none of the fleet's", async () => {
  const on = await memoryStore();
  const { handlers, hang } = held();
  const work = queue("work", { input: Numbered, concurrency: 3, fleetConcurrency: 1, timeout: "1s", retry: { attempts: 1 } }, ({ n }, _uses, { attempt }) =>
    hang(n, attempt),
  );
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(6)));
  const begun: number[] = [];
  for (let second = 0; second < 5; second++) {
    await settled(on.clock, 500);
    begun.push(handlers.length);
    await settled(on.clock, 501);
  }
  assert.deepEqual(begun, [1, 2, 3, 3, 3]);
  for (const { end } of handlers) end();
  await node.stop();
});

test("a batch whose call goes on keeps its place for it: its messages are handled one by one on another", async () => {
  const on = await memoryStore();
  const { handlers, hang, observer, look } = held();
  const done: number[] = [];
  const work = queue("work", { input: Numbered, batch: 10, concurrency: 2, timeout: "1s", retry: { attempts: 1 } }, async (messages) => {
    const ns = messages.map(({ message }) => message.n);
    if (ns.includes(0)) await hang(ns.length, 1);
    else done.push(...ns);
  });
  const node = await runNode([work], { ...on, observer });
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(4, 1).concat(numbers(1))));
  await settled(on.clock, 1_001);
  assert.deepEqual([handlers.map(({ n }) => n), done, look()], [[5, 1], [1, 2, 3, 4], { running: 2, places: 2, waiting: 0, overdue: 1 }]);

  await settled(on.clock, 1_500);
  assert.deepEqual(look(), { running: 2, places: 2, waiting: 0, overdue: 2 });
  assert.equal((await on.store.read.queue("work")).dead, 1);
  for (const { end } of handlers) end();
  await settled(on.clock);
  assert.deepEqual(look(), { running: 0, places: 2, waiting: 0, overdue: 0 });
  await node.stop();
});

test("where no other place comes free within the time of a call, the time-out is the failed try of each message that is left", async () => {
  const on = await memoryStore();
  const { handlers, hang, observer, look } = held();
  const work = queue("work", { input: Numbered, batch: 10, concurrency: 1, timeout: "1s", retry: { attempts: 1 } }, (messages) => hang(messages.length, 1));
  const node = await runNode([work], { ...on, observer });
  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(3)));
  await settled(on.clock, 1_500);
  assert.deepEqual([handlers.length, (await on.store.read.queue("work")).running], [1, 3]);
  await settled(on.clock, 1_000);
  const dead = await on.store.read.jobs({ queue: "work", state: "dead", limit: 10 });
  assert.deepEqual([handlers.length, dead.length], [1, 3]);
  for (const { error } of dead) assert.match(error ?? "", /^deadline\.exceeded: a call of a batch of queue "work" goes on after its time/);

  await node.commit({ work }, ({ work }) => void work.sendMany(numbers(2, 10)));
  handlers[0]?.end();
  await settled(on.clock);
  assert.deepEqual([handlers.map(({ n }) => n), look()], [[3, 2], { running: 1, places: 1, waiting: 0, overdue: 0 }]);
  const stopped = node.stop();
  await settled(on.clock);
  await stopped;
});
