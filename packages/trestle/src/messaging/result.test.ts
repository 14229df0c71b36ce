import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { sleep } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { queue } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const Sized = z.object({ width: z.number() });
const resize = (clock: Parameters<typeof sleep>[0]) =>
  queue(
    "resize",
    { input: Sized, returns: z.object({ url: z.string(), at: z.coerce.date<string>() }), retry: { attempts: 1 } },
    async ({ width }, _uses, job) => {
      await sleep(clock, 1_000);
      if (width === 0) return job.dead("nothing to see");
      if (width < 0) throw new Error("negative");
      return { url: `/${width}`, at: "2026-01-02T03:04:05.000Z" };
    },
  );

test("a result is there for whoever waits, as soon as its job has ended and not before", async () => {
  const on = await memoryStore();
  const work = resize(on.clock);
  const node = await runNode([work], on);
  const job = await node.commit({ work }, ({ work }) => work.send({ width: 7 }));
  let reads = 0;
  const { jobs } = on.store.read;
  (on.store.read as { jobs: typeof jobs }).jobs = (query) => (reads++, jobs(query));

  await on.clock.advance(1);
  const early = await node.commit({ work }, ({ work }) => work.result(job));
  const waiting = node.commit({ work }, ({ work }) => work.result(job.id, { within: "10s" }));
  await on.clock.advance(999);
  const late = await waiting;

  assert.deepEqual(early, { ok: false, refused: "pending", state: "running" });
  assert.deepEqual(late, { ok: true, value: { url: "/7", at: new Date("2026-01-02T03:04:05.000Z") } });
  assert.ok(reads <= 3, `${reads} looks: nothing is polled`);
  await node.stop();
});

test("a wait ends within its time, and says how far the job is", async () => {
  const on = await memoryStore();
  const work = resize(on.clock);
  const node = await runNode([work], on);
  const job = await node.commit({ work }, ({ work }) => work.send({ width: 1 }, { in: "1h" }));

  const waiting = node.commit({ work }, ({ work }) => work.result(job, { within: "500ms" }));
  await on.clock.advance(500);

  assert.deepEqual(await waiting, { ok: false, refused: "pending", state: "waiting" });
  await node.stop();
});

test("whoever waits hears that a job failed; put back, it is pending again, and then its result counts", async () => {
  const on = await memoryStore();
  let refuse = true;
  const work = queue("work", { input: Sized, returns: z.number(), retry: { attempts: 1 } }, ({ width }) => {
    if (refuse) throw new Error("no");
    return width;
  });
  const node = await runNode([work], on);
  const job = await node.commit({ work }, ({ work }) => work.send({ width: 5 }));
  const result = (within?: "1s") => node.commit({ work }, ({ work }) => work.result(job, within ? { within } : {}));
  assert.deepEqual(await result("1s"), { ok: false, refused: "failed", state: "dead", error: "Error: no" });

  refuse = false;
  await on.store.commit({
    id: node.ids.next(),
    expects: [],
    writes: [
      { kind: "pause", queue: "work", paused: true },
      { kind: "redrive", job: job.id },
    ],
  });
  assert.deepEqual(await result(), { ok: false, refused: "pending", state: "waiting" });
  await node.commit({ work }, ({ work }) => work.resume());

  assert.deepEqual(await result("1s"), { ok: true, value: 5 });
  await node.stop();
});

test("job.dead ends a job without a result; an object that looks like an end is a result", async () => {
  const on = await memoryStore();
  const dead = resize(on.clock);
  const alike = queue("alike", { input: Sized, returns: z.object({ end: z.literal("dead") }) }, () => ({ end: "dead" }));
  const node = await runNode([dead, alike], on);
  const [first, second] = await node.commit({ dead, alike }, ({ dead, alike }) => [dead.send({ width: 0 }), alike.send({ width: 0 })] as const);
  await on.clock.advance(1_000);

  assert.deepEqual(await node.commit({ dead }, ({ dead }) => dead.result(first)), { ok: false, refused: "failed", state: "dead", error: "nothing to see" });
  assert.deepEqual(await node.commit({ alike }, ({ alike }) => alike.result(second)), { ok: true, value: { end: "dead" } });
  await node.stop();
});

test("an answer that does not fit is a failed try, and nothing of it stays", async () => {
  const on = await memoryStore();
  const seen = records("seen", { key: z.string(), value: z.number() });
  const work = queue("work", { input: Sized, uses: { seen }, returns: z.number(), retry: { attempts: 1 } }, (_message, { seen }) => {
    seen.put("one", 1);
    return "text" as never;
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.send({ width: 1 }));
  await node.idle();

  const [job] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 1 });
  assert.match(job?.error ?? "", /^payload\.invalid: the answer of a job of queue "work"/);
  assert.deepEqual(await on.store.read.records(["seen//one"]), [undefined]);
  await node.stop();
});

test("a cancelled job, one of another tenant, and a result past its time are unknown", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Sized, returns: z.number(), keep: { result: "10s" } }, ({ width }) => width);
  const node = await runNode([work], on);
  const [cancelled, done] = await node.commit({ work }, ({ work }) => [work.send({ width: 1 }, { in: "1h" }), work.send({ width: 2 })] as const, {
    tenant: "acme",
  });
  const result = (job: { readonly id: string }, tenant: string) => node.commit({ work }, ({ work }) => work.result(job), { tenant });
  await node.commit({ work }, ({ work }) => work.cancel(cancelled), { tenant: "acme" });
  await node.idle();

  const unknown = { ok: false, refused: "unknown" };
  assert.deepEqual([await result(cancelled, "acme"), await result(done, "acme"), await result(done, "other")], [unknown, { ok: true, value: 2 }, unknown]);
  await on.clock.advance(10_000);
  assert.deepEqual(await result(done, "acme"), unknown);
  await node.stop();
});

test("layers around a handler run in order, see the message, and may end the job instead of it", async () => {
  const on = await memoryStore();
  const seen: string[] = [];
  const work = queue(
    "work",
    {
      input: Sized,
      around: [
        async (message, next, job) => {
          seen.push(`outer ${message.width}`);
          const answer = await next();
          seen.push(`outer done ${job.attempt}`);
          return answer;
        },
        ({ width }, next, job) => (width === 0 ? job.dead("filtered") : next()),
      ],
    },
    ({ width }) => void seen.push(`handler ${width}`),
  );
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany([{ width: 1 }, { width: 0 }]));
  await node.idle();

  assert.deepEqual(seen.sort(), ["handler 1", "outer 0", "outer 1", "outer done 1", "outer done 1"]);
  assert.equal((await on.store.read.queue("work")).dead, 1);
  await node.stop();
});
