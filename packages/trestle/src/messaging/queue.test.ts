import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { records } from "../records/index.ts";
import { currentContext, Fault, sleep, withContext } from "../kernel/index.ts";
import { journalKey } from "../component/index.ts";
import type { ClaimRequest } from "../store/index.ts";
import { queue, readProgress } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const counts = records("counts", { key: z.string(), value: z.number() });
const texts = records("texts", { key: z.string(), value: z.string() });
const Numbered = z.object({ n: z.number(), key: z.string().optional() });

/** A promise and its resolution. */
function gate(): { readonly open: () => void; readonly passed: Promise<void> } {
  let open!: () => void;
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { open, passed };
}

test("[MSG-18] a message is sent with its commit: a handler that throws sends nothing", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  const node = await runNode([work], on);

  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await assert.rejects(
    node.commit({ work }, ({ work }) => {
      work.send({ n: 2 });
      throw new Error("no");
    }),
  );
  await node.idle();

  assert.deepEqual(handled, [1]);
  await node.stop();
});

test("jobs are claimed in nobody's context: the deadline of whoever sent or ended one is not that of the next claim", async () => {
  const on = await memoryStore();
  const deadlines: (number | undefined)[] = [];
  const store = Object.assign(Object.create(on.store) as typeof on.store, {
    claim: (request: Parameters<typeof on.store.claim>[0]) => {
      deadlines.push(currentContext().deadlineMs);
      return on.store.claim(request);
    },
  });
  const work = queue("work", { input: Numbered, concurrency: 1 }, () => sleep(on.clock, 5));
  const node = await runNode([work], { ...on, store });

  await withContext({ deadlineMs: on.clock.monotonicMs() + 1 }, () => node.commit({ work }, ({ work }) => void work.sendMany([1, 2, 3].map((n) => ({ n })))));
  await on.clock.advance(100);
  await node.idle();

  assert.ok(deadlines.length >= 2);
  assert.deepEqual(new Set(deadlines), new Set([undefined]));
  await node.stop();
});

test("a job that failed is tried again when it should be, though the node's clock was set forward by an hour after it was claimed", async () => {
  const on = await memoryStore();
  let aheadMs = 0;
  const attempts: number[] = [];
  const work = queue("work", { input: Numbered, retry: { attempts: 2, from: "1s", upTo: "1s" } }, (_message, _uses, { attempt }) => {
    attempts.push(attempt);
    aheadMs = 3_600_000;
    if (attempt === 1) throw new Error("not yet");
  });
  const node = await runNode([work], { ...on, clock: { ...on.clock, wallMs: () => on.clock.wallMs() + aheadMs } });

  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();
  await on.clock.advance(2_000);
  await node.idle();

  assert.deepEqual(attempts, [1, 2]);
  await node.stop();
});

test("what is sent to be done in a second is done in a second, though the node's clock is an hour ahead of the store's", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  const node = await runNode([work], { ...on, clock: { ...on.clock, wallMs: () => on.clock.wallMs() + 3_600_000 } });

  await node.commit({ work }, ({ work }) => work.send({ n: 1 }, { in: "1s" }));
  await on.clock.advance(500);
  await node.idle();
  const early = [...handled];
  await on.clock.advance(1_000);
  await node.idle();

  assert.deepEqual(early, []);
  assert.deepEqual(handled, [1]);
  await node.stop();
});

test("so it is when its node claims nothing, and hears from the store only what it asks", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  const sender = await runNode([], { ...on, clock: { ...on.clock, wallMs: () => on.clock.wallMs() - 3_600_000 } });
  const worker = await runNode([work], on);

  await sender.commit({ work }, ({ work }) => work.send({ n: 1 }, { in: "1s" }));
  await on.clock.advance(500);
  await worker.idle();
  const early = [...handled];
  await on.clock.advance(1_000);
  await worker.idle();

  assert.deepEqual(early, []);
  assert.deepEqual(handled, [1]);
  await Promise.all([sender.stop(), worker.stop()]);
});

test("what is sent to be done in five seconds is not done before, though the node has just stood still for as long on what the store had answered", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  let holdsUpMs = 0;
  const late = new Proxy(on.store, {
    get: (target, name) =>
      name === "claim"
        ? async (request: ClaimRequest) => {
            const answer = await target.claim(request);
            if (holdsUpMs > 0) await sleep(on.clock, holdsUpMs);
            return answer;
          }
        : (Reflect.get(target, name) as unknown),
  });
  const node = await runNode([work], { ...on, store: late });
  await node.idle();
  holdsUpMs = 5_000;
  await on.clock.advance(10_000); // it looks at all its queues, as it does every ten seconds
  await on.clock.advance(5_000); // and hears what was so five seconds ago

  await node.commit({ work }, ({ work }) => work.send({ n: 1 }, { in: "5s" }));
  holdsUpMs = 0;
  await on.clock.advance(4_900);
  await node.idle();
  const early = [...handled];
  await on.clock.advance(1_000);
  await node.idle();

  assert.deepEqual(early, []);
  assert.deepEqual(handled, [1]);
  await node.stop();
});

test("[MSG-17] whatever dies in the middle of jobs, each has its effect once: finish and effect are one commit", async () => {
  const on = await memoryStore();
  const jobs = 60;
  let runs = 0;
  const work = queue("work", { input: Numbered, uses: { counts }, concurrency: 4 }, async ({ n }, { counts }) => {
    runs += 1;
    await sleep(on.clock, 7);
    counts.add(`job ${n}`, 1);
  });
  let node = await runNode([work], { ...on, seed: "node 0" });
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: jobs }, (_, n) => ({ n }))));

  for (let crash = 1; crash <= 6; crash++) {
    await on.clock.advance(11 * crash);
    node.crash();
    node = await runNode([work], { ...on, seed: `node ${crash}` });
    await on.clock.advance(45_000);
  }
  await node.idle();

  const done = await on.store.read.records(Array.from({ length: jobs }, (_, n) => `counts//job ${n}`));
  assert.deepEqual(
    done.map((row) => row && new TextDecoder().decode(row.value)),
    Array.from({ length: jobs }, () => "1"),
  );
  assert.ok(runs > jobs, "a crash made jobs run again");
  await node.stop();
});

test("[MSG-08] a job whose node died goes on elsewhere after its lease, as its second attempt", async () => {
  const on = await memoryStore();
  const seen: { readonly attempt: number; readonly id: string; readonly minted: string }[] = [];
  const stuck = gate();
  const work = queue("work", { input: Numbered }, async (_message, _uses, { attempt, id, newId }) => {
    seen.push({ attempt, id, minted: newId() });
    if (attempt === 1) await stuck.passed;
  });
  const first = await runNode([work], { ...on, seed: "first" });
  await first.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await on.clock.advance(10);
  first.crash();
  const second = await runNode([work], { ...on, seed: "second" });

  await on.clock.advance(25_000);
  assert.equal(seen.length, 1, "the lease still holds");
  await on.clock.advance(20_000);

  assert.deepEqual(
    seen.map(({ attempt }) => attempt),
    [1, 2],
  );
  assert.deepEqual([seen[0]?.id, seen[0]?.minted], [seen[1]?.id, seen[1]?.minted]);
  assert.equal((await on.store.read.queue("work")).running, 0);
  await second.stop();
});

test("[MSG-08] a long job keeps its claim by heartbeats; nobody else gets it", async () => {
  const on = await memoryStore();
  let runs = 0;
  const work = queue("work", { input: Numbered, timeout: "20m" }, async () => {
    runs += 1;
    await sleep(on.clock, 600_000);
  });
  const [first, second] = [await runNode([work], { ...on, seed: "first" }), await runNode([work], { ...on, seed: "second" })];
  await first.commit({ work }, ({ work }) => work.send({ n: 1 }));

  await on.clock.advance(599_000);
  const during = await on.store.read.queue("work");
  await on.clock.advance(2_000);

  assert.deepEqual([runs, during.running, (await on.store.read.queue("work")).running], [1, 1, 0]);
  await first.stop();
  await second.stop();
});

test("a holder whose lease was lost commits nothing, and its signal says so", async () => {
  const on = await memoryStore();
  let reason: unknown;
  const release = gate();
  const work = queue("work", { input: Numbered, uses: { counts }, timeout: "10m" }, async (_message, { counts }, { signal, attempt }) => {
    counts.add("effects", 1);
    if (attempt > 1) return;
    signal.addEventListener("abort", () => (reason = signal.reason as unknown));
    await release.passed;
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await on.clock.advance(1);
  // The wall clock leaps, as it does when a machine wakes up: the store hands the job out again.
  on.clock.jumpWall(120_000);
  const thief = await runNode([work], { ...on, seed: "thief" });
  await on.clock.advance(1);
  await on.clock.advance(10_001);
  release.open();
  await on.clock.advance(1);
  await thief.idle();

  const [effects] = await on.store.read.records(["counts//effects"]);
  assert.ok(Fault.is(reason, "job.claim-over"), String(reason));
  assert.equal(new TextDecoder().decode(effects?.value), "1");
  await node.stop();
  await thief.stop();
});

test("a holder whose lease was lost makes no call to the outside any more: its recovery point is refused", async () => {
  const on = await memoryStore();
  const calls: number[] = [];
  const release = gate();
  const work = queue("work", { input: Numbered, timeout: "10m" }, async (_message, _uses, { step, attempt }) => {
    if (attempt === 1) await release.passed;
    await step("charge", () => Promise.resolve(calls.push(attempt)));
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await on.clock.advance(1);
  on.clock.jumpWall(120_000);
  const thief = await runNode([work], on);
  await on.clock.advance(1);
  release.open(); // before any heartbeat has told it
  await on.clock.advance(1);

  assert.deepEqual(calls, [2]);
  await node.stop();
  await thief.stop();
});

test("a node that gets its own lost job back holds the new claim, and not the old one", async () => {
  const on = await memoryStore();
  const attempts: number[] = [];
  const work = queue("work", { input: Numbered, timeout: "10m" }, async ({ n }, _uses, { attempt, signal }) => {
    if (n === 2) return;
    attempts.push(attempt);
    await sleep(on.clock, 300_000, signal);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await on.clock.advance(9_000);
  on.clock.jumpWall(120_000);
  await node.commit({ work }, ({ work }) => work.send({ n: 2 })); // makes it claim, before it extends
  await on.clock.advance(200_000);

  assert.deepEqual(attempts, [1, 2]);
  await on.clock.advance(200_000);
  assert.equal((await on.store.read.queue("work")).running, 0);
  await node.stop();
});

test("[F17] messages of one key run one after the other in order of sending; a failing head blocks its key only, until it is dead", async () => {
  const on = await memoryStore();
  const order: string[] = [];
  const work = queue("work", { input: Numbered, key: ({ key }) => key ?? "", retry: { attempts: 3, from: "1s", upTo: "1s" } }, ({ n, key }) => {
    order.push(`${key}${n}`);
    if (key === "a" && n === 1) throw new Error("always");
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => {
    for (const n of [1, 2, 3]) for (const key of ["a", "b"]) work.send({ n, key }, n === 3 ? { priority: "high" } : {});
  });
  await node.idle();
  const before = [...order];
  for (let i = 0; i < 4; i++) await on.clock.advance(1_000);
  await node.idle();

  assert.deepEqual(
    before.filter((one) => one.startsWith("b")),
    ["b1", "b2", "b3"],
  );
  assert.deepEqual(
    order.filter((one) => one.startsWith("a")),
    ["a1", "a1", "a1", "a2", "a3"],
  );
  const [dead] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 5 });
  assert.deepEqual([dead?.attempt, dead?.error], [3, "Error: always"]);
  await node.stop();
});

test("a message with `in` or `at` waits until it is due; one with high priority goes first", async () => {
  const on = await memoryStore();
  const order: string[] = [];
  const work = queue("work", { input: z.string(), concurrency: 1 }, (text) => void order.push(text));
  const sender = await runNode([], on);
  await sender.commit({ work }, ({ work }) => {
    work.send("low", { priority: "low" });
    work.send("normal");
    work.send("high", { priority: "high" });
    work.send("in a minute", { in: "1m" });
    work.send("at a time", { at: on.clock.wallMs() + 30_000 });
  });
  const node = await runNode([work], on);
  await node.idle();

  assert.deepEqual(order, ["high", "normal", "low"]);
  await on.clock.advance(29_999);
  assert.equal(order.length, 3);
  await on.clock.advance(2);
  assert.deepEqual(order.slice(3), ["at a time"]);
  await on.clock.advance(30_000);
  assert.deepEqual(order.slice(4), ["in a minute"]);
  await node.stop();
});

test("of messages with one unique key at most one waits", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  const sender = await runNode([], on);
  for (const n of [1, 2]) await sender.commit({ work }, ({ work }) => work.send({ n }, { unique: "u" }));
  const node = await runNode([work], on);
  await node.idle();
  await node.commit({ work }, ({ work }) => work.send({ n: 3 }, { unique: "u" }));
  await node.idle();

  assert.deepEqual(handled, [1, 3]);
  await node.stop();
});

test("[MSG-09] one poison message in a hundred: the good ones finish, each poison is dead once with its error, and put back after a fix it is handled once", async () => {
  const on = await memoryStore();
  const done = new Map<number, number>();
  let fixed = false;
  const work = queue("work", { input: Numbered, retry: { attempts: 3, from: 10, upTo: 100 } }, ({ n }) => {
    if (n % 100 === 50 && !fixed) throw new Error(`poison ${n}`);
    done.set(n, (done.get(n) ?? 0) + 1);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 1_000 }, (_, n) => ({ n }))));
  for (let i = 0; i < 10; i++) await on.clock.advance(100);
  await node.idle();

  const dead = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1_000 });
  assert.equal(done.size, 990);
  assert.deepEqual(
    dead.map(({ error, attempt }) => `${error} ${attempt}`).sort(),
    Array.from({ length: 10 }, (_, i) => `Error: poison ${i * 100 + 50} 3`).sort(),
  );

  fixed = true;
  await on.store.commit({ id: node.ids.next(), expects: [], writes: dead.map(({ id }) => ({ kind: "redrive", job: id })) });
  await node.idle();
  assert.equal(done.size, 1_000);
  assert.ok([...done.values()].every((times) => times === 1));
  assert.equal((await on.store.read.queue("work")).dead, 0);
  await node.stop();
});

test("a message that its queue cannot read any more is dead at once, with the path of each complaint", async () => {
  const on = await memoryStore();
  const before = queue("work", { input: z.object({ to: z.string() }) }, () => undefined);
  let handled = 0;
  const after = queue("work", { input: z.object({ to: z.email(), urgent: z.boolean() }) }, () => void handled++);
  const sender = await runNode([], on);
  await sender.commit({ before }, ({ before }) => before.send({ to: "nobody" }));
  const node = await runNode([after], on);
  await node.idle();

  const [job] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.deepEqual([handled, job?.attempt], [0, 1]);
  assert.match(job?.error ?? "", /^payload\.invalid: .*to: .*urgent: /);
  await node.stop();
});

test("bytes that Trestle did not write are dead at once, and nothing else stops", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  const node = await runNode([work], on);
  await on.store.commit({
    id: node.ids.next(),
    expects: [],
    writes: [{ kind: "enqueue", job: { id: node.ids.next(), queue: "work", payload: new Uint8Array([1, 2, 3]), priority: 0 } }],
  });
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();

  assert.deepEqual(handled, [1]);
  assert.equal((await on.store.read.queue("work")).dead, 1);
  await node.stop();
});

test("[F16] out of attempts while a call may have happened: undetermined, its key waits, and put back it asks again under the same key", async () => {
  const on = await memoryStore();
  const calls: string[] = [];
  let hangs = true;
  const work = queue(
    "work",
    { input: Numbered, key: () => "k", uses: { counts }, timeout: "2s", retry: { attempts: 2, from: 100, upTo: 100 } },
    async ({ n }, { counts }, { step }) => {
      counts.add(`before ${n}`, 1);
      await step("charge", async ({ key }) => {
        calls.push(key);
        if (hangs && n === 1) await new Promise(() => undefined);
      });
      counts.add(`after ${n}`, 1);
    },
  );
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany([{ n: 1 }, { n: 2 }]));
  for (let i = 0; i < 8; i++) await on.clock.advance(1_000);

  const [job] = await on.store.read.jobs({ queue: "work", state: "undetermined", limit: 2 });
  const depth = await on.store.read.queue("work");
  assert.deepEqual([job?.attempt, depth.undetermined, depth.dead, depth.waiting], [2, 1, 0, 1]);
  assert.match(job?.error ?? "", /^deadline\.exceeded/);
  assert.equal(calls.length, 2);

  hangs = false;
  await on.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "redrive", job: job?.id ?? "" }] });
  await node.idle();
  assert.deepEqual(new Set(calls.slice(0, 3)).size, 1, "one key for every try of the first job");
  const rows = await on.store.read.records(["counts//before 1", "counts//after 1", "counts//after 2", journalKey(job?.id ?? "")]);
  assert.deepEqual(
    rows.map((row) => row && new TextDecoder().decode(row.value)),
    ["1", "1", "1", undefined],
  );
  await node.stop();
});

test("[F16] out of attempts after an answered call: dead, not undetermined; put back, the answered call is not made again", async () => {
  const on = await memoryStore();
  let calls = 0;
  let broken = true;
  const work = queue("work", { input: Numbered, uses: { counts }, retry: { attempts: 1 } }, async (_message, { counts }, { step }) => {
    counts.add("held", 1);
    await step("charge", () => Promise.resolve(++calls));
    if (broken) throw new Error("after the call");
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();
  const [dead] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 2 });
  broken = false;
  await on.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "redrive", job: dead?.id ?? "" }] });
  await node.idle();

  const [held] = await on.store.read.records(["counts//held"]);
  assert.deepEqual([calls, new TextDecoder().decode(held?.value), (await on.store.read.queue("work")).waiting], [1, "1", 0]);
  await node.stop();
});

test("cancelling a kept job takes what its runs had learned with it", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered, retry: { attempts: 1 } }, async (_message, _uses, { step }) => {
    await step("charge", () => Promise.resolve());
    throw new Error("after the call");
  });
  const node = await runNode([work], on);
  const job = await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();
  const before = await on.store.read.records([journalKey(job.id)]);
  assert.equal(await node.commit({ work }, ({ work }) => work.cancel(job)), true);

  assert.deepEqual(
    [before[0] === undefined, await on.store.read.records([journalKey(job.id)]), (await on.store.read.queue("work")).dead],
    [false, [undefined], 0],
  );
  await node.stop();
});

test("`later` counts as no attempt and keeps nothing; `dead` keeps the job with its reason and nothing else", async () => {
  const on = await memoryStore();
  const attempts: number[] = [];
  const work = queue("work", { input: z.enum(["later", "dead"]), uses: { counts }, retry: { attempts: 1 } }, (what, { counts }, job) => {
    attempts.push(job.attempt);
    counts.add(what, 1);
    if (what === "dead") return job.dead("no such customer");
    if (attempts.length < 3) return job.later("10s", "not yet");
    return undefined;
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send("later"));
  for (let i = 0; i < 3; i++) await on.clock.advance(10_001);
  await node.commit({ work }, ({ work }) => work.send("dead"));
  await node.idle();

  const [later, dead] = await on.store.read.records(["counts//later", "counts//dead"]);
  const [job] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.deepEqual(attempts, [1, 1, 1, 1]);
  assert.deepEqual([new TextDecoder().decode(later?.value), dead, job?.error], ["1", undefined, "no such customer"]);
  await node.stop();
});

test("`later` keeps the answers of calls, and makes those steps again which it names", async () => {
  const on = await memoryStore();
  const made: string[] = [];
  const seen: string[] = [];
  let status = "pending";
  const work = queue("work", { input: Numbered }, async (_message, _uses, job) => {
    await job.step("charge", async ({ key }) => void made.push(key));
    const answer = await job.step("poll", async ({ key }) => (made.push(key), status));
    seen.push(answer);
    if (answer === "pending") return job.later("10s", { reason: "not settled yet", again: ["poll"] });
    return undefined;
  });
  const node = await runNode([work], on);
  const { id } = await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();
  const [waiting] = await on.store.read.jobs({ queue: "work", limit: 1 });
  await on.clock.advance(10_001);
  status = "settled";
  await on.clock.advance(10_001);
  await node.idle();

  assert.equal(waiting?.error, "not settled yet");
  assert.deepEqual(seen, ["pending", "pending", "settled"]);
  assert.deepEqual(made, [`${id}:charge`, `${id}:poll`, `${id}:poll`, `${id}:poll`]);
  assert.deepEqual([await on.store.read.jobs({ queue: "work", limit: 1 }), await on.store.read.records([journalKey(id)])], [[], [undefined]]);
  await node.stop();
});

test("a step that something rests on is not made again: `later` that names it is a failed attempt", async () => {
  const on = await memoryStore();
  let polls = 0;
  const work = queue("work", { input: Numbered, retry: { attempts: 1 } }, async (_message, _uses, job) => {
    await job.step("poll", async () => void (polls += 1));
    await job.step("charge", () => Promise.resolve());
    return job.later("10s", { again: ["poll"] });
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();

  const [dead] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.match(dead?.error ?? "", /^job\.step-kept: .*"poll"/);
  assert.equal(polls, 1);
  await node.stop();
});

test("a run that exceeds its deadline is a failed attempt", async () => {
  const on = await memoryStore();
  const attempts: number[] = [];
  const work = queue("work", { input: Numbered, timeout: "5s", retry: { attempts: 2, from: 0, upTo: 0 } }, async (_message, _uses, { attempt }) => {
    attempts.push(attempt);
    await new Promise(() => undefined);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await on.clock.advance(5_001);
  await on.clock.advance(5_001);
  await node.idle();

  const [job] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.deepEqual(attempts, [1, 2]);
  assert.match(job?.error ?? "", /^deadline\.exceeded/);
  await node.stop();
});

test("[MSG-08] a cancelled job that waits is gone; the handler of a running one hears of it, and nothing of it stays", async () => {
  const on = await memoryStore();
  let aborted: unknown;
  const fresh: boolean[] = [];
  const work = queue("work", { input: Numbered, uses: { counts }, timeout: "10m" }, async ({ n }, { counts }, { signal, step }) => {
    fresh.push(!signal.aborted);
    if (n === 3) return;
    await step("before", () => Promise.resolve());
    counts.add("effects", 1);
    await sleep(on.clock, 300_000, signal).catch((reason: unknown) => (aborted = reason));
  });
  const node = await runNode([work], on);
  const { running, waiting } = await node.commit({ work }, ({ work }) => ({ running: work.send({ n: 1 }), waiting: work.send({ n: 2 }, { in: "1h" }) }));
  await on.clock.advance(1);

  const cancelled = await node.commit({ work }, async ({ work }) => [
    await work.cancel(running),
    await work.cancel(waiting.id),
    await work.cancel("no such job"),
  ]);
  await on.clock.advance(10_001);
  await node.idle();

  assert.deepEqual(cancelled, [true, true, false]);
  assert.ok(Fault.is(aborted, "job.claim-over"));
  const { waiting: left, running: runs, dead } = await on.store.read.queue("work");
  assert.deepEqual([left, runs, dead, (await on.store.read.records(["counts//effects"]))[0]], [0, 0, 0, undefined]);
  assert.deepEqual(await node.commit({ work }, ({ work }) => work.cancel(running)), false);
  assert.deepEqual(await on.store.read.records([journalKey(running.id)]), [undefined]);
  await node.commit({ work }, ({ work }) => void work.sendMany([{ n: 3 }, { n: 3 }]));
  await node.idle();
  assert.deepEqual(fresh, [true, true, true], "no later job inherits the abort");
  await node.stop();
});

test("[MSG-08] a drain lets what runs finish, hands back what cannot in time without counting it, and runs nothing twice", async () => {
  const on = await memoryStore();
  const begun: string[] = [];
  const work = queue(
    "work",
    { input: z.object({ name: z.string(), ms: z.number() }), uses: { counts }, concurrency: 2, timeout: "10m" },
    async ({ name, ms }, { counts }, { attempt }) => {
      begun.push(`${name} ${attempt}`);
      await sleep(on.clock, ms);
      counts.add(name, 1);
    },
  );
  const node = await runNode([work], { ...on, seed: "first" });
  await node.commit(
    { work },
    ({ work }) =>
      void work.sendMany([
        { name: "quick", ms: 1_000 },
        { name: "slow", ms: 60_000 },
        { name: "waiting", ms: 10 },
      ]),
  );
  await on.clock.advance(500);
  const drained = node.drain(800).then(() => "drained");
  await on.clock.advance(5_000);

  assert.equal(await drained, "drained");
  const depth = await on.store.read.queue("work");
  assert.deepEqual([depth.running, depth.waiting], [0, 2]);
  assert.deepEqual(begun, ["quick 1", "slow 1"]);
  await node.stop();

  const next = await runNode([work], { ...on, seed: "second" });
  await on.clock.advance(61_000);
  await next.idle();
  assert.deepEqual(begun.slice(2).sort(), ["slow 1", "waiting 1"]);
  const rows = await on.store.read.records(["counts//quick", "counts//slow", "counts//waiting"]);
  assert.deepEqual(
    rows.map((row) => row && new TextDecoder().decode(row.value)),
    ["1", "1", "1"],
  );
  await next.stop();
});

test("what was claimed ahead and has not begun goes back as soon as a drain begins", async () => {
  const on = await memoryStore();
  const begun: number[] = [];
  const work = queue("work", { input: Numbered, concurrency: 1, timeout: "10m" }, async ({ n }) => {
    begun.push(n);
    if (n === 100) await sleep(on.clock, 5_000);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 20 }, (_, n) => ({ n }))));
  await node.idle(); // quick: from now on it claims ahead
  await node.commit({ work }, ({ work }) => void work.sendMany([100, 101, 102, 103].map((n) => ({ n }))));
  await on.clock.advance(1);
  assert.equal((await on.store.read.queue("work")).running, 4);
  const drained = node.drain(20_000);
  await on.clock.advance(1);
  const { waiting, running } = await on.store.read.queue("work");
  await on.clock.advance(6_000);
  await drained;

  assert.deepEqual([waiting, running, begun.slice(20)], [3, 1, [100]]);
  await node.stop();
});

test("a run that waits for a slot in vain leaves none taken", async () => {
  const on = await memoryStore();
  let running = 0;
  let most = 0;
  const work = queue(
    "work",
    { input: z.enum(["quick", "conflict", "long"]), uses: { counts }, concurrency: 2, timeout: "1s", retry: { attempts: 1 } },
    async (what, { counts }) => {
      most = Math.max(most, ++running);
      try {
        if (what === "conflict") {
          const value = (await counts.get("hot")) ?? 0;
          await sleep(on.clock, 300);
          counts.put("hot", value + 1);
        } else if (what === "long") await sleep(on.clock, 900);
        else if (most < 0) counts.add("never", 1);
      } finally {
        running -= 1;
      }
    },
  );
  const node = await runNode([work], on);
  const send = (...messages: ("quick" | "conflict" | "long")[]) => node.commit({ work }, ({ work }) => void work.sendMany(messages));
  await send(...Array.from({ length: 30 }, () => "quick" as const));
  await node.idle();
  await on.clock.advance(1);
  await send("conflict");
  await on.clock.advance(200);
  await send("long", "long", "long", "long");
  await on.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "put", key: "counts//hot", value: new TextEncoder().encode("7") }] });
  await on.clock.advance(5_000);
  most = 0;
  await send("long", "long", "long");
  await on.clock.advance(5_000);
  await node.idle();

  assert.equal(most, 2);
  await node.stop();
});

test("with a concurrency of one the next job begins when the last one's commit is durable", async () => {
  const on = await memoryStore();
  const before: (number | undefined)[] = [];
  const work = queue("work", { input: Numbered, uses: { counts }, concurrency: 1 }, async (_message, { counts }) => {
    const [row] = await on.store.read.records(["counts//done"]);
    before.push(row ? Number(new TextDecoder().decode(row.value)) : 0);
    counts.add("done", 1);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 20 }, (_, n) => ({ n }))));
  await node.idle();

  assert.deepEqual(
    before,
    Array.from({ length: 20 }, (_, n) => n),
  );
  await node.stop();
});

test("a stop without a drain hands everything back at once", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered, timeout: "10m" }, () => new Promise<void>(() => undefined));
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 40 }, (_, n) => ({ n }))));
  await on.clock.advance(1);
  const stopped = node.stop();
  await on.clock.advance(1);
  await stopped;

  const { waiting, running } = await on.store.read.queue("work");
  assert.deepEqual([waiting, running], [40, 0]);
});

for (const concurrency of [1, 5, 16]) {
  test(`never more than ${concurrency} handlers run at once, conflicts and quick jobs included`, async () => {
    const on = await memoryStore();
    let running = 0;
    let most = 0;
    const work = queue("work", { input: Numbered, uses: { counts }, concurrency }, async ({ n }, { counts }) => {
      running += 1;
      most = Math.max(most, running);
      const value = (await counts.get("hot")) ?? 0;
      if (n % 3 === 0) await sleep(on.clock, 5);
      counts.put("hot", value + 1);
      running -= 1;
    });
    const node = await runNode([work], on);
    await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 120 }, (_, n) => ({ n }))));
    for (let i = 0; i < 300; i++) await on.clock.advance(5);
    await node.idle();

    assert.equal(most, concurrency);
    const [hot] = await on.store.read.records(["counts//hot"]);
    assert.equal(new TextDecoder().decode(hot?.value), "120");
    await node.stop();
  });
}

test("[F2] 300 jobs that read and write one record, 64 at once: each is done, and none runs more than 5 times", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered, uses: { counts }, concurrency: 64 }, async (_message, { counts }) =>
    counts.put("hot", ((await counts.get("hot")) ?? 0) + 1),
  );
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 300 }, (_, n) => ({ n }))));
  await node.idle();
  await on.clock.advance(1_000);
  await node.idle();

  const [hot] = await on.store.read.records(["counts//hot"]);
  assert.equal(new TextDecoder().decode(hot?.value), "300");
  assert.ok(Math.max(...node.attempts) <= 5, `worst ${Math.max(...node.attempts)}`);
  await node.stop();
});

test("[MSG-02] three nodes share one queue: each job runs once, shares are even, and a slow node takes fewer", async () => {
  for (const slowness of [1, 10]) {
    const on = await memoryStore();
    const taken = [0, 0, 0];
    const done = new Set<number>();
    const jobs = 1_200;
    const nodeOf = (which: number) =>
      runNode(
        [
          queue("work", { input: Numbered, concurrency: 4 }, async ({ n }) => {
            assert.ok(!done.has(n), `job ${n} ran twice`);
            done.add(n);
            taken[which] = (taken[which] as number) + 1;
            await sleep(on.clock, which === 2 ? 10 * slowness : 10);
          }),
        ],
        { ...on, seed: `node ${which}` },
      );
    const nodes = [await nodeOf(0), await nodeOf(1), await nodeOf(2)];
    const sender = await runNode([], on);
    const work = queue("work", { input: Numbered }, () => undefined);
    for (let from = 0; from < jobs; from += 400)
      await sender.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 400 }, (_, n) => ({ n: from + n }))));
    for (let i = 0; i < 200 && done.size < jobs; i++) await on.clock.advance(100);
    await on.clock.advance(200);

    assert.equal(done.size, jobs);
    const [a, b, c] = taken as [number, number, number];
    if (slowness === 1) assert.ok(Math.max(a, b, c) - Math.min(a, b, c) <= jobs / 30, `shares ${taken.join(" ")}`);
    else assert.ok(c < jobs / 12 && Math.abs(a - b) <= jobs / 20, `shares ${taken.join(" ")}`);
    for (const node of nodes) await node.stop();
  }
});

test("where handlers are quick and there is more, the next claim is asked for before the jobs of this one begin", async () => {
  const on = await memoryStore();
  const order: string[] = [];
  const store = Object.assign(Object.create(on.store) as typeof on.store, {
    claim: async (request: Parameters<typeof on.store.claim>[0]) => {
      order.push("asked");
      const claims = await on.store.claim(request);
      if (claims.jobs.length > 0) order.push("answered");
      return claims;
    },
  });
  let handled = 0;
  const work = queue("work", { input: Numbered }, () => {
    handled += 1;
    if (order.at(-1) !== "begun") order.push("begun");
  });
  const node = await runNode([work], { ...on, store });
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 4_000 }, (_, n) => ({ n }))));
  await node.idle();

  assert.equal(handled, 4_000);
  assert.match(order.join(" "), /answered asked begun/);
  await node.stop();
});

test("[MSG-08] a flood of low priority does not make high priority wait", async () => {
  const on = await memoryStore();
  const waits: number[] = [];
  const work = queue("work", { input: z.object({ sentAt: z.number(), high: z.boolean() }), concurrency: 4 }, async ({ sentAt, high }) => {
    if (high) waits.push(on.clock.monotonicMs() - sentAt);
    await sleep(on.clock, 10);
  });
  const node = await runNode([work], on);
  await node.commit(
    { work },
    ({ work }) =>
      void work.sendMany(
        Array.from({ length: 800 }, () => ({ sentAt: 0, high: false })),
        { priority: "low" },
      ),
  );
  for (let i = 0; i < 20; i++) {
    await on.clock.advance(50);
    await node.commit({ work }, ({ work }) => work.send({ sentAt: on.clock.monotonicMs(), high: true }, { priority: "high" }));
  }
  await on.clock.advance(100);

  assert.equal(waits.length, 20);
  assert.ok(Math.max(...waits) <= 20, `waited ${waits.join(" ")}`); // at most what runs, and what was claimed ahead
  await node.stop();
});

test("tenant and trace travel with a message, and tenants do not meet in keys", async () => {
  const on = await memoryStore();
  const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const seen: unknown[] = [];
  const work = queue("work", { input: z.string(), key: (text) => text, uses: { texts } }, (text, { texts }, { tenant }) => {
    texts.put(text, text);
    seen.push(tenant);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send("x", { unique: "u" }), { tenant: "acme", traceparent: trace });
  await node.idle();
  await node.stop();
  const sender = await runNode([], on);
  for (const tenant of ["acme", "other/.."]) await sender.commit({ work }, ({ work }) => work.send("x", { unique: "u" }), { tenant, traceparent: trace });

  const waiting = await on.store.read.jobs({ queue: "work", limit: 10 });
  assert.deepEqual(seen, ["acme"]);
  assert.ok((await on.store.read.records(["texts/acme/x"]))[0]);
  assert.deepEqual(waiting.map(({ key }) => key).sort(), ["acme/x", "other%2F../x"]);
  assert.equal((JSON.parse(new TextDecoder().decode(waiting[0]?.payload)) as { trace: string }).trace, trace);
});

test("`send` faults on what its schema does not accept, on what JSON would change, and on contradictions", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: z.object({ at: z.any() }) }, () => undefined);
  const node = await runNode([], on);
  const refused = (code: string, act: Parameters<typeof node.commit<{ work: typeof work }, unknown>>[1]) =>
    assert.rejects(node.commit({ work }, act), (fault) => Fault.is(fault) && fault.code === code);

  await refused("payload.invalid", ({ work }) => work.send("text" as never));
  await refused("payload.not-json", ({ work }) => work.send({ at: new Map() }));
  await refused("queue.bad-options", ({ work }) => work.send({ at: 1 }, { in: 1, at: 1 }));
  await refused("queue.bad-options", ({ work }) => work.send({ at: 1 }, { priority: "urgent" as "high" }));
  await refused("quantity.not-a-duration", ({ work }) => work.send({ at: 1 }, { in: "30 sec" as "30s" }));
  assert.throws(
    () => queue("work", { input: z.string(), concurrency: 0 }, () => undefined),
    (fault) => Fault.is(fault, "option.out-of-range"),
  );
  assert.throws(
    () => queue("work", { input: z.string(), retry: { attempts: 0 } }, () => undefined),
    (fault) => Fault.is(fault, "option.out-of-range"),
  );
});

test("a full queue refuses to be sent to, says how full it is, and takes messages again when it has drained", async () => {
  const on = await memoryStore();
  let open = false;
  const work = queue("work", { input: Numbered, capacity: 10 }, (_message, _uses, job) => (open ? undefined : job.later("1s")));
  const sender = await runNode([], on);
  const send = () => sender.commit({ work }, ({ work }) => work.send({ n: 1 }));
  for (let i = 0; i < 10; i++) await send();

  await assert.rejects(send(), (fault) => Fault.is(fault, "queue.full") && fault.details["capacity"] === 10);
  open = true;
  const node = await runNode([work], on);
  await node.idle();
  await on.clock.advance(100);
  await assert.rejects(send()); // it asks again
  await on.clock.advance(100);
  await send();
  await node.stop();
});

test("what is worked off makes room again without another look", async () => {
  const on = await memoryStore();
  let handled = 0;
  const work = queue("work", { input: Numbered, capacity: 10 }, () => void handled++);
  const node = await runNode([work], on);
  for (let n = 0; n < 100; n++) {
    await node.commit({ work }, ({ work }) => work.send({ n }));
    await node.idle();
  }

  assert.equal(handled, 100);
  await node.stop();
});

test("a job says how far it is while it runs, and nothing of it stays", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered }, async (_message, _uses, { progress }) => {
    for (let done = 1; done <= 10; done++) {
      progress(done, 10);
      await sleep(on.clock, 700);
    }
  });
  const node = await runNode([work], on);
  const { id } = await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await on.clock.advance(3_600);
  const [during] = await readProgress(on.store.read, [id]);
  await on.clock.advance(4_000);
  await node.idle();

  assert.ok(during && during.done >= 4 && during.done <= 6 && during.of === 10, JSON.stringify(during));
  assert.deepEqual(await readProgress(on.store.read, [id]), [undefined]);
  await node.stop();
});

test("a handler that answers a refusal has failed: a job is done, dead or later", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered, retry: { attempts: 1 } }, () => ({ ok: false, refused: "no" }) as unknown as void);
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();

  const [job] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.match(job?.error ?? "", /^job\.refused/);
  await node.stop();
});

test("now() of a job that waited is when it runs", async () => {
  const on = await memoryStore();
  let now = 0;
  const work = queue("work", { input: Numbered }, (_message, _uses, job) => void (now = job.now()));
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }, { in: "1d" }));
  const sentAt = on.clock.wallMs();
  await on.clock.advance(86_400_001);

  assert.ok(now >= sentAt + 86_400_000, `${now - sentAt}`);
  await node.stop();
});
