/** Opening and waiting: busy is told from dead, and a store is opened where it belongs. What happens under load is in failures.live.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { faultProxy, postgres as startPostgres } from "@trestle/testing";
import { Fault, systemClock, systemRandom, withContext } from "trestle/kernel";
import { openPostgres } from "./index.ts";
import { openPool } from "./sessions.ts";
import { append, commitOf, fixture, put } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;

test("a pool that is busy says overloaded within the deadline; one that cannot connect says unreachable", { skip }, async () => {
  const options = { name: "trestle test", size: 1, answerWithinMs: 30_000, clock: systemClock, random: systemRandom };
  const pool = openPool({ ...options, url: postgres.server.url });
  const dead = openPool({ ...options, url: "postgres://postgres:trestle@127.0.0.1:1/postgres" });
  const within = <T>(ms: number, work: () => Promise<T>) => withContext({ deadlineMs: systemClock.monotonicMs() + ms }, work);

  await pool.query({ text: "select 1" }); // on a busy machine it takes a while to connect
  let isHeld = true;
  const holding = pool.query({ text: "select pg_sleep(4)" }).finally(() => (isHeld = false));
  const busy = await within(200, () => pool.query({ text: "select 1" })).catch((fault: unknown) => fault);
  const gone = await within(200, () => dead.query({ text: "select 1" })).catch((fault: unknown) => fault);

  assert.ok(isHeld, "both were told before the connection came back");
  assert.ok(Fault.is(busy, "store.overloaded") && Fault.is(gone, "store.unreachable"), `${String(busy)}, ${String(gone)}`);
  await holding;
  assert.equal((await pool.query({ text: "select 1" })).length, 1);
  await Promise.all([pool.close(), dead.close()]);
});

test("connections are lent by priority, then in fair turns by tenant, and who has left is passed over", { skip }, async () => {
  const pool = openPool({ name: "trestle turns", size: 1, answerWithinMs: 30_000, clock: systemClock, random: systemRandom, url: postgres.server.url });
  const served: string[] = [];
  const ask = (name: string, context: Parameters<typeof withContext>[0]) =>
    withContext(context, () => pool.use(async () => void served.push(name))).catch((fault: unknown) =>
      served.push(`${name} ${Fault.is(fault, "store.overloaded")}`),
    );
  const { promise: held, resolve: letGo } = Promise.withResolvers<undefined>();
  const holding = pool.use(() => held);
  await sleep(100);

  const busy = Array.from({ length: 6 }, (_, n) => ask(`busy ${n}`, { tenant: "busy" }));
  const others = [
    ask("leaves", { tenant: "quiet", deadlineMs: systemClock.monotonicMs() + 50 }),
    ask("quiet 0", { tenant: "quiet" }),
    ask("quiet 1", { tenant: "quiet" }),
    ask("low", { tenant: "third", priority: "low" }),
    ask("high", { tenant: "busy", priority: "high" }),
  ];
  await sleep(200);
  letGo(undefined);
  await Promise.all([holding, ...busy, ...others]);
  assert.deepEqual(served.slice(0, 2), ["leaves true", "high"]);
  const order = (name: string) => served.indexOf(name);
  assert.ok(order("quiet 0") < order("busy 1") && order("quiet 1") < order("busy 3"), served.join());
  assert.equal(served.at(-1), "low");
  await pool.close();
});

test("who listens hears again after all sessions were cut, and of what was committed meanwhile", { skip }, async () => {
  const listener = await postgres.open();
  const writer = await postgres.open(listener.schema);
  const heard = new Set<string>();
  listener.onChange(({ keys }) => keys.forEach((key) => heard.add(key)));
  const until = async (key: string) => {
    for (const from = performance.now(); !heard.has(key); await sleep(5)) assert.ok(performance.now() - from < 5_000, `silence about ${key}`);
  };
  await writer.commit(commitOf([put("before", "x")]));
  await until("before");

  const killer = await postgres.session(listener.schema);
  await killer.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'trestle %'");
  await writer.commit(commitOf([put("meanwhile", "x")]));
  await until("meanwhile");
  await sleep(500);
  await writer.commit(commitOf([put("after", "x")]));
  await until("after");
});

test(
  "while flushes stand still commits wait for the lane, longer than for other connections; who waited in vain is told that a flush is what is slow",
  { skip, timeout: 60_000 },
  async () => {
    const times = 20; // as fast as the wall's
    const clock = {
      ...systemClock,
      monotonicMs: () => systemClock.monotonicMs() * times,
      after: (delayMs: number, task: () => void) => systemClock.after(delayMs / times, task),
    };
    await using server = await startPostgres();
    const store = await openPostgres({ url: server.url, clock });
    await Promise.all(["a", "b"].map((key) => store.commit(commitOf([put(key, "x")]))));
    const standStill = async (still: boolean) => {
      await server.configure({ synchronous_standby_names: still ? "nobody" : "" });
      await sleep(200);
    };
    const stalled: Promise<unknown>[] = [];
    const commit = () => stalled.push(store.commit(commitOf([append("s", "x")])).catch((fault: unknown) => fault));

    await standStill(true);
    for (let i = 0; i < 5; i++) await sleep(20, commit());
    await sleep(25_000 / times);
    await standStill(false);
    const outcomes = await Promise.all(stalled.splice(0));

    await standStill(true);
    let told: unknown;
    for (const from = performance.now(); told === undefined && performance.now() - from < 20_000; await sleep(20)) {
      commit();
      void stalled.at(-1)?.then((outcome) => Fault.is(outcome) && (told ??= outcome));
    }
    await standStill(false);
    await Promise.all(stalled);

    for (const outcome of outcomes) assert.equal((outcome as { ok?: boolean }).ok, true, String(outcome));
    assert.match(String(told), /wait for their flush/);
    await store.close();
  },
);

test("a caller in a hurry does not bound the wait of the batch it is in", { skip }, async () => {
  const server = await startPostgres();
  const store = await openPostgres({ url: server.url });
  await store.commit(commitOf([put("warm", "x")]));
  await server.stop();

  const hurried = withContext({ deadlineMs: systemClock.monotonicMs() + 50 }, () => store.commit(commitOf([put("hurried", "x")]))).catch(
    (fault: unknown) => fault,
  );
  const patient = store.commit(commitOf([put("patient", "x")])).catch((fault: unknown) => fault);
  await sleep(300);
  await server.start();

  assert.equal(((await patient) as { ok?: boolean }).ok, true, String(await patient));
  await hurried;
  await store.close();
  await server.close();
});

test("a wrong password fails at once, and the fault does not tell it", { skip }, async () => {
  const from = performance.now();
  const fault = await openPostgres({ url: postgres.server.url.replace(":trestle@", ":no-secret@") }).catch((error: unknown) => error);
  assert.ok(Fault.is(fault, "store.unreachable") && performance.now() - from < 2_000 && !fault.message.includes("no-secret"));
});

test("[F10] a store whose database was copied begins a new epoch there, and keeps its own where it was", { skip }, async () => {
  const store = await postgres.open("original");
  await store.commit(commitOf([put("k", "x")]));
  await store.close();
  const admin = await postgres.session("public");
  await admin.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'trestle %' and datname = 'postgres'");
  await using server = await startPostgres();
  const other = await openPostgres({ url: server.url, schema: "original" });
  await other.close();
  // As if restored from a dump: the same rows in another cluster.
  const copied = openPool({ url: server.url, name: "copy", size: 1, answerWithinMs: 30_000, clock: systemClock, random: systemRandom });
  await copied.query({ text: "update original.store set system = system - 1" });
  await copied.close();

  const restored = await openPostgres({ url: server.url, schema: "original" });
  const again = await postgres.open("original");

  assert.deepEqual([restored.epoch, again.epoch], [2, 1]);
  await restored.close();
});

test("an outcome takes one round trip and a flush, not two: the flush is on its way before the batch is answered", { skip }, async () => {
  await using network = await faultProxy({ to: postgres.server.url });
  const store = await openPostgres({ url: network.url, schema: "far" });
  const commit = () => store.commit(commitOf([append("s", "x")]));
  await commit();

  network.latency({ ms: 60 });
  const tookMs: number[] = [];
  // The best of several: what else runs on this machine is not what is measured.
  while (tookMs.length < 3 || (tookMs.length < 20 && Math.min(...tookMs) >= 220)) {
    const fromMs = performance.now();
    await commit();
    tookMs.push(performance.now() - fromMs);
  }

  assert.ok(Math.min(...tookMs) >= 120 && Math.min(...tookMs) < 220, `${tookMs.map(Math.round).join(", ")} ms`);
  await store.close();
});
