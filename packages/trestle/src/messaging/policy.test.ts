import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { Fault, sleep } from "../kernel/index.ts";
import { queue } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const Numbered = z.object({ n: z.number(), of: z.string().optional() });

test("a tenant with a long backlog delays another tenant's next message by one turn, not by its backlog", async () => {
  const on = await memoryStore();
  const handled: string[] = [];
  const work = queue("work", { input: Numbered, concurrency: 1 }, async ({ n }, _uses, { tenant }) => {
    handled.push(`${tenant}${n}`);
    await sleep(on.clock, 100);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 50 }, (_, n) => ({ n }))), { tenant: "busy" });
  await on.clock.advance(250);

  await node.commit({ work }, ({ work }) => work.send({ n: 0 }), { tenant: "quiet" });
  await on.clock.advance(400);

  assert.ok(handled.indexOf("quiet0") <= 4, handled.join(" "));
  await node.stop();
});

test("fairBy names whose share a message takes, and weights how large the shares are", async () => {
  const on = await memoryStore();
  const handled: string[] = [];
  const work = queue("work", { input: Numbered, fairBy: ({ of = "" }) => of, perTenant: { weights: { paying: 3 } }, concurrency: 1 }, async ({ of = "" }) => {
    handled.push(of);
    await sleep(on.clock, 10);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => {
    for (const name of ["free", "paying"]) for (let n = 0; n < 40; n++) work.send({ n, of: name });
  });

  await on.clock.advance(395);

  const paying = handled.filter((of) => of === "paying").length;
  assert.equal(handled.length, 40);
  assert.ok(Math.abs(paying - 30) <= 1, `${paying} of 40`);
  await node.stop();
});

test("fleetConcurrency and perTenant.concurrency hold over several nodes, and every place is used", async () => {
  const on = await memoryStore();
  const running = new Map<string, number>();
  let all = 0;
  const peaks = { all: 0, tenant: 0 };
  const work = queue(
    "work",
    { input: Numbered, fleetConcurrency: 5, perTenant: { concurrency: 2 }, concurrency: 10 },
    async (_message, _uses, { tenant = "" }) => {
      running.set(tenant, (running.get(tenant) ?? 0) + 1);
      peaks.all = Math.max(peaks.all, ++all);
      peaks.tenant = Math.max(peaks.tenant, running.get(tenant) as number);
      await sleep(on.clock, 50);
      running.set(tenant, (running.get(tenant) as number) - 1);
      all -= 1;
    },
  );
  const nodes = [await runNode([work], on), await runNode([work], on), await runNode([work], on)];
  for (const tenant of ["a", "b", "c", undefined])
    await nodes[0]?.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 10 }, (_, n) => ({ n }))), tenant === undefined ? {} : { tenant });

  await on.clock.advance(5_000);

  assert.deepEqual(peaks, { all: 5, tenant: 2 });
  assert.deepEqual((await on.store.read.queue("work")).waiting, 0);
  for (const node of nodes) await node.stop();
});

test("a rate holds over several nodes: evenly spread, and never more in any second than it says and a tenth", async () => {
  const on = await memoryStore();
  const begun: number[] = [];
  const work = queue("work", { input: Numbered, rate: "20/s", concurrency: 50 }, () => void begun.push(on.clock.wallMs()));
  const nodes = [await runNode([work], on), await runNode([work], on)];
  await nodes[0]?.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 200 }, (_, n) => ({ n }))));

  await on.clock.advance(5_000);

  const most = Math.max(...begun.map((from) => begun.filter((at) => at >= from && at < from + 1_000).length));
  assert.ok(most <= 22, `${most} in one second`);
  assert.ok(begun.length >= 98 && begun.length <= 104, `${begun.length} in five seconds`);
  for (const node of nodes) await node.stop();
});

test("a paused queue begins nothing, on any node and after a restart, until it is resumed", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push(n));
  let node = await runNode([work], on);
  const other = await runNode([work], on);
  await node.commit({ work }, ({ work }) => work.pause());
  await node.commit({ work }, ({ work }) => work.send({ n: 1 }));
  await node.idle();
  await node.stop();
  node = await runNode([work], on);
  await on.clock.advance(60_000);
  assert.deepEqual(handled, []);
  assert.deepEqual((await node.commit({ work }, ({ work }) => work.depth())).paused, true);

  await other.commit({ work }, ({ work }) => work.resume());
  await on.clock.advance(1);

  assert.deepEqual(handled, [1]);
  await node.stop();
  await other.stop();
});

test("debounce handles the last message, once nothing more came for its wait, and at the latest after its bound", async () => {
  const on = await memoryStore();
  const handled: [n: number, atMs: number][] = [];
  const beganAtMs = on.clock.wallMs();
  const work = queue("work", { input: Numbered }, ({ n }) => void handled.push([n, on.clock.wallMs() - beganAtMs]));
  const node = await runNode([work], on);
  const send = (n: number) => node.commit({ work }, ({ work }) => void work.send({ n }, { debounce: { key: "cart", wait: "1s", atMost: "2500ms" } }));

  for (const n of [1, 2]) {
    await send(n);
    await on.clock.advance(600);
  }
  await on.clock.advance(2_000);
  for (let n = 3; n < 9; n++) {
    await send(n);
    await on.clock.advance(600);
  }
  await on.clock.advance(3_000);

  assert.deepEqual(handled, [
    [2, 1_600],
    [7, 3_200 + 2_500],
    [8, 3_200 + 3_000 + 1_000],
  ]);
  await assert.rejects(
    node.commit({ work }, ({ work }) => void work.send({ n: 1 }, { debounce: { key: "cart", wait: "1s" }, in: "1s" })),
    (fault) => Fault.is(fault, "queue.bad-options"),
  );
  await node.stop();
});

test("a message that nobody began within startWithin is dead, and says why", async () => {
  const on = await memoryStore();
  const handled: number[] = [];
  const work = queue("work", { input: Numbered, concurrency: 1 }, async ({ n }) => {
    handled.push(n);
    await sleep(on.clock, 5_000);
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => {
    work.send({ n: 1 });
    work.send({ n: 2 }, { startWithin: "1s" });
    work.send({ n: 3 }, { startWithin: "1m" });
  });

  await on.clock.advance(11_000);

  const [dead] = await on.store.read.jobs({ queue: "work", state: "dead", limit: 5 });
  assert.deepEqual(handled, [1, 3]);
  assert.match(dead?.error ?? "", /^job\.expired: /);
  await node.stop();
});

test("a fault that carries retryAfterMs is not tried before, and then not all at once", async () => {
  const on = await memoryStore();
  const begun: number[] = [];
  const beganAtMs = on.clock.wallMs();
  const work = queue("work", { input: Numbered, retry: { attempts: 2, from: "1s", upTo: "1s" } }, () => {
    begun.push(on.clock.wallMs() - beganAtMs);
    throw Fault.create("provider.busy", "too many requests", "Wait.", { details: { retryAfterMs: 20_000 } });
  });
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 20 }, (_, n) => ({ n }))));

  await on.clock.advance(30_000);

  const again = begun.slice(20);
  assert.equal(again.length, 20);
  assert.ok(Math.min(...again) >= 20_000 && Math.max(...again) <= 21_100, again.join(" "));
  assert.ok(new Set(again).size > 10, "spread by jitter");
  await node.stop();
});

test("ended jobs are kept as long as the queue says", async () => {
  const on = await memoryStore();
  const work = queue("work", { input: Numbered, keep: { done: "1h", dead: "2h" } }, ({ n }, _uses, job) => (n === 2 ? job.dead("no") : undefined));
  const node = await runNode([work], on);
  await node.commit({ work }, ({ work }) => void work.sendMany([{ n: 1 }, { n: 2 }]));
  await node.idle();
  const states = async () => {
    await node.commit({ work }, ({ work }) => void work.send({ n: 3 }, { in: "1d" })); // tidying rides on commits
    return (await on.store.read.jobs({ queue: "work", limit: 20 })).map(({ state }) => state).filter((state) => state !== "waiting");
  };

  assert.deepEqual(await states(), ["done", "dead"]);
  await on.clock.advance(3_600_000);
  assert.deepEqual(await states(), ["dead"]);
  await on.clock.advance(3_600_000);
  assert.deepEqual(await states(), []);
  await node.stop();
});

test("limits that cannot be are told where they are declared", () => {
  const declared = (spec: object) => () => queue("work", { input: Numbered, ...spec }, () => undefined);
  for (const [spec, option] of [
    [{ rate: "fast" }, "rate"],
    [{ fleetConcurrency: 0 }, "fleetConcurrency"],
    [{ perTenant: { concurrency: 1.5 } }, "perTenant.concurrency"],
    [{ perTenant: { rate: "0/s" } }, "perTenant.rate"],
    [{ perTenant: { weights: { a: 0 } } }, "perTenant.weights.a"],
    [{ keep: { done: "soon" } }, "keep.done"],
  ] as const)
    assert.throws(declared(spec), (fault: Error) => fault.message.includes(`queue "work": ${option}`), option);
});
