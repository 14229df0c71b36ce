import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, sleep } from "../kernel/index.ts";
import { memoryDisks } from "../sqlite/index.ts";
import { caseTools, runCases } from "../sqlite/testing/run-cases.ts";
import type { Change, Commit, CommitOutcome, Store } from "../store/index.ts";
import { Network } from "./network.ts";
import { storeHandle } from "./store-handle.ts";
import { storeHost, type StoreHost, type StoreHostOptions } from "./store-host.ts";
import { World, type Life } from "./world.ts";

const engine = await memoryDisks();

interface Scene {
  readonly world: World;
  readonly network: Network;
  readonly at: StoreHost;
  readonly store: Store;
  readonly life: Life;
  /** Lets the world go on until this has settled. */
  readonly until: <T>(work: Promise<T>) => Promise<T>;
}

/** A store, like PostgreSQL unless it is said, and a node with a client of it. */
async function opened(seed: string, { kind = "postgres", clock }: Partial<StoreHostOptions> = {}): Promise<Scene> {
  const world = new World({ seed });
  const network = new Network(world);
  const at = storeHost(world, engine, new engine.MemoryDisk(), { kind, ...(clock && { clock }) });
  at.boot();
  await world.run(() => at.store !== undefined);
  let store: Store | undefined;
  const life = world.host("node-1").boot((own) => void (store = storeHandle(own, { network, at })));
  await world.run(() => store !== undefined);
  const until = async <T>(work: Promise<T>): Promise<T> => {
    let settled = false;
    const done = () => void (settled = true);
    work.then(done, done);
    // Nothing may be left but what waits for a promise.
    const tick = (): void => void (settled || world.at(1, undefined, "tick", tick));
    tick();
    await world.run(() => settled);
    return work;
  };
  return { world, network, at, store: store as unknown as Store, life, until };
}

runCases("a simulated PostgreSQL", 1, async () => {
  const { clock, ids } = caseTools();
  const { world, store } = await opened("conformance", { clock });
  let closed = false;
  // The case moves the store's clock; the network's goes by itself, slowly, so that nobody's patience ends meanwhile.
  const tick = (): void => void (closed || world.at(0.05, undefined, "tick", tick));
  tick();
  const running = world.run(() => closed);
  return {
    subject: { store, clock, ids },
    close: async () => {
      closed = true;
      await running;
    },
  };
});

const put = ({ life }: Scene, key: string): Commit => ({
  id: life.ids.next(),
  expects: [],
  writes: [{ kind: "put", key: `t//${key}`, value: Buffer.from(key) }],
});
const has = async ({ store }: Scene, key: string): Promise<boolean> => (await store.read.records([`t//${key}`]))[0] !== undefined;
const isOk = (outcome: CommitOutcome): boolean => outcome.ok;

test("a standby that follows has everything that was answered when it takes over, in another epoch", async () => {
  const scene = await opened("follows");
  const { at, store, until, life } = scene;
  const first = await until(store.commit(put(scene, "first")));
  const before = store.epoch;

  at.crash("fail-over");
  at.boot();
  const head = await until(sleep(life.clock, 10).then(() => store.read.head()));

  assert.ok(isOk(first));
  assert.equal(await until(has(scene, "first")), true);
  assert.deepEqual([before, head.epoch, store.epoch], [1, 2, 2]);
  await assert.rejects(until(store.read.commits({ after: { epoch: 1, n: 0 }, limit: 1 })), (fault) => Fault.is(fault, "log.diverged"));
});

test("a standby that lags has lost what was answered meanwhile; once it has caught up it loses nothing", async () => {
  const scene = await opened("lags");
  const { at, store, until } = scene;
  const failOver = async (): Promise<void> => {
    at.crash("fail-over");
    at.boot();
    await until(store.read.head());
  };
  await until(store.commit(put(scene, "before")));

  at.disk.standbyLags = true;
  const { id } = put(scene, "lost");
  await until(store.commit({ ...put(scene, "lost"), id }));
  await failOver();
  const afterLoss = [await until(has(scene, "before")), await until(has(scene, "lost"))];
  const resolved = await until(store.resolve(id));
  await until(store.commit(put(scene, "while it lags")));
  at.disk.standbyLags = false;
  await failOver();
  const afterCatchUp = await until(has(scene, "while it lags"));

  assert.deepEqual(afterLoss, [true, false]);
  assert.deepEqual(resolved, { ok: false, refused: "resolved" }, "whoever asks again is told that it is gone");
  assert.equal(afterCatchUp, true);
});

test("statements that a deadlock ends fail their transaction as lost, and what was run again until it went through is there once", async () => {
  const scene = await opened("deadlocks");
  const { at, store, until, life } = scene;
  await until(
    store.migrate("bank", [
      { name: "1.sql", text: "create table account (name text primary key, cents integer not null); insert into account values ('a', 0)" },
    ]),
  );
  const raise = { text: "update account set cents = cents + 1 where name = 'a'", parameters: [] };
  at.deadlockShare = 0.3;
  const codes = new Set<string>();
  const surely = async (work: () => Promise<unknown>): Promise<void> => {
    for (let tries = 0; tries < 50; tries++)
      try {
        await work();
        return;
      } catch (error) {
        if (!Fault.is(error)) throw error;
        codes.add(error.code);
      }
  };

  await until(
    Promise.all([
      ...Array.from({ length: 20 }, () => surely(() => store.transaction(async ({ execute }) => ({ result: await execute(raise) }), 5_000))),
      ...Array.from({ length: 20 }, () => surely(() => store.commit({ id: life.ids.next(), expects: [], writes: [{ kind: "sql", statement: raise }] }))),
    ]),
  );
  at.deadlockShare = 0;

  assert.deepEqual(await until(store.read.rows({ text: "select cents from account", parameters: [] })), [{ cents: 40 }]);
  assert.ok(codes.has("transaction.lost"), [...codes].join());
});

for (const [kind, code] of [
  ["postgres", "transaction.lost"],
  ["sqlite", "store.unreachable"],
] as const)
  test(`a transaction whose server ends while it is open fails, and nothing of it is there, whatever its work goes on to say (${kind})`, async () => {
    const scene = await opened("ends", { kind });
    const { at, store, until, life } = scene;
    await until(store.migrate("bank", [{ name: "1.sql", text: "create table account (name text primary key, cents integer not null)" }]));
    const insert = (name: string) => ({ text: "insert into account values (?, 1)", parameters: [name] });
    const said: unknown[] = [];

    const lost = store.transaction(async ({ execute }) => {
      await execute(insert("before"));
      at.crash("process");
      at.boot();
      await sleep(life.clock, 50);
      said.push(await execute(insert("after")).catch((fault: unknown) => (Fault.is(fault) ? fault.code : fault)));
      return { result: undefined };
    }, 60_000);
    const told = await until(lost.catch((fault: unknown) => (Fault.is(fault) ? fault.code : fault)));
    await until(sleep(life.clock, 200));
    await until(store.commit(put(scene, "another")));

    assert.equal(told, code);
    assert.deepEqual(said, ["transaction.lost"]);
    assert.deepEqual(await until(store.read.rows({ text: "select name from account", parameters: [] })), []);
  });

test("a hint that is lost is made up for by a look at the feed, within a second or two", async () => {
  const scene = await opened("hints");
  const { at, network, store, until, life } = scene;
  const changes: Change[] = [];
  store.onChange((change) => void changes.push(change));

  network.disturb("store", "node-1", { cut: true });
  await until((at.store as Store).commit(put(scene, "of another")));
  await until(sleep(life.clock, 100));
  const whileCut = changes.length;
  network.heal();
  await until(sleep(life.clock, 2_500));

  assert.equal(whileCut, 0);
  assert.ok(changes.some(({ keys }) => keys.includes("t//of another")));
});

test("what others commit in an epoch that begins while no hint arrives is told, the first of it too", async () => {
  const scene = await opened("hints of an epoch");
  const { at, network, store, until, life } = scene;
  const heard = new Set<string>();
  await until(store.commit(put(scene, "before")));
  store.onChange(({ keys }) => keys.forEach((key) => heard.add(key)));
  await until(sleep(life.clock, 1_500));

  network.disturb("store", "node-1", { cut: true });
  at.crash("fail-over");
  at.boot();
  await until(sleep(life.clock, 10).then(() => (at.store as Store).commit(put(scene, "of another"))));
  network.heal();
  await until(sleep(life.clock, 5_000));

  assert.ok(heard.has("t//of another"), [...heard].join());
});

test("reads wait for one of four connections, and are told so when none becomes free", async () => {
  const scene = await opened("slots");
  const { network, store, until } = scene;
  network.disturb("node-1", "store", { clogged: true });

  const waiting = Array.from({ length: 5 }, () =>
    store.read.head().then(
      () => "answered",
      (fault: unknown) => (Fault.is(fault) ? fault.code : "?"),
    ),
  );
  const first = await until(Promise.race(waiting));
  network.heal();
  const all = await until(Promise.all(waiting));

  assert.equal(first, "store.overloaded");
  assert.deepEqual(all.toSorted(), ["answered", "answered", "answered", "answered", "store.overloaded"]);
});
