/** Claims outlive a blocked event loop, up to a bound; beyond it their holder is fenced. By the server's clock. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { heartbeatCases } from "trestle/conformance";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { ClaimedJob } from "trestle/store";
import { commitOf, enqueue, fixture, waysTo } from "./testing/fixture.ts";

const postgres = await fixture();
const ids = uuidv7Ids(systemClock, systemRandom);
const still = new Int32Array(new SharedArrayBuffer(4));
const block = (ms: number) => void Atomics.wait(still, 0, 0, ms);

const ways = await waysTo(postgres);

for (const { engine, skip, url } of ways)
  for (const { name, guarantee, run } of heartbeatCases)
    test(`${name} (${engine}, ${guarantee})`, { skip }, async () => {
      const store = await postgres.open(undefined, { url: await url() });
      await run({ store, ids, block });
      await store.close();
    });

test("what is claimed after the newest number was asked for is not taken back with what was claimed before", { skip: postgres.skip }, async () => {
  const store = await postgres.open();
  const session = await postgres.session(store.schema);
  await store.commit(commitOf([enqueue("before"), enqueue("after")]));
  const claim = async () => (await store.claim({ holder: "holder", leaseMs: 60_000, queues: [{ queue: "work", limit: 1 }] })).jobs[0] as ClaimedJob;
  const before = await claim();
  const {
    rows: [made],
  } = await session.query<{ epoch: number; n: string }>("select epoch, newest as n from read_head_v1()");
  const after = await claim();

  await session.query("select release_jobs_v2(null, 'holder', $1, $2)", [made?.epoch, made?.n]);
  assert.deepEqual(await store.extend([before, after], 60_000), [false, true]);

  await session.query("select release_jobs_v1(null, 'holder')");
  assert.deepEqual(await store.extend([after], 60_000), [false], "an older process does not say up to where");
});

test("a heartbeat whose connection is ended again and again keeps what is held", { skip: postgres.skip }, async () => {
  const store = await postgres.open();
  const session = await postgres.session(store.schema);
  await store.commit(commitOf([enqueue("work")]));
  const heartbeat = store.heartbeat("holder", { leaseMs: 900, blockedMsMax: 10_000 });
  const [job] = (await store.claim({ holder: "holder", leaseMs: 900, queues: [{ queue: "work", limit: 1 }] })).jobs;
  assert.ok(job && heartbeat);

  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    await session.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'trestle heartbeat'");
  }

  assert.deepEqual(await store.extend([job], 1_000), [true]);
  heartbeat.stop();
});
