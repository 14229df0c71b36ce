/** Two nodes on one store that fight for one key: F2's third rung. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { aggregate, command } from "../events/index.ts";
import { Fault, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import { z } from "zod";
import type { Commit, CommitOutcome, Store } from "../store/index.ts";
import { decode, encode, execute, type Component, type Handle, type Invocation } from "./index.ts";
import { Lane } from "./lane.ts";
import { testNode, type TestNode } from "./testing.ts";

const script: Component = { kind: "app", name: "test" };
const Bought = z.object({ by: z.string() });
const counter = aggregate(
  "counter",
  { id: z.string(), events: { Bought }, initial: () => 0, evolve: { Bought: (n) => n + 1 } },
  { buy: command(Bought, (_n, bought, emit) => emit.Bought(bought)) },
);
const key = "a//k";
const number = (bytes: Uint8Array | undefined) => (bytes ? (decode(bytes) as number) : 0);

type Counter = Handle<typeof counter>;
const run = <T>(node: TestNode, work: (invocation: Invocation, counter: Counter) => Promise<T>, timeoutMs = 60_000) =>
  execute<T>({
    node,
    component: script,
    operation: "",
    mode: "write",
    uses: { counter },
    id: node.ids.next(),
    timeoutMs,
    run: (uses, _context, invocation) => work(invocation, (uses as { readonly counter: Counter }).counter),
    conclude: () => ({ keep: true, end: "ok" }),
  });
const add = (node: TestNode, of = key) => run(node, async (invocation) => invocation.put(of, encode(number(await invocation.record(of)) + 1, "test")));

/** Commits take a moment to come back, as they do over a network: long enough for others to come in between. */
function slow(store: Store, clock: VirtualClock, tookMs: number): Store {
  const after = () => new Promise<void>((resolve) => void clock.after(tookMs, resolve));
  return new Proxy(store, {
    get: (target, name) =>
      name === "commit"
        ? async (commit: Commit): Promise<CommitOutcome> => {
            await after();
            return target.commit(commit);
          }
        : (Reflect.get(target, name) as unknown),
  });
}

async function nodes(count: number, turns = true): Promise<{ readonly clock: VirtualClock; readonly store: Store; readonly all: readonly TestNode[] }> {
  const clock = virtualClock();
  const store = await openSqlite({ path: ":memory:", clock });
  const all = await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const node = await testNode({ store: slow(store, clock, 1), clock, seed: `node ${i}` });
      return turns ? node : { ...node, lane: new Lane(node.store, clock) };
    }),
  );
  return { clock, store, all };
}

/** 16 callers on each node, each as often as `times` says. Answers when all have ended, with the time it took. */
async function load(clock: VirtualClock, all: readonly TestNode[], times: number, act: (node: TestNode) => Promise<unknown>): Promise<number> {
  let done = false;
  const running = Promise.all(
    all.flatMap((node) =>
      Array.from({ length: 16 }, async () => {
        for (let i = 0; i < times; i++) await act(node);
      }),
    ),
  ).finally(() => (done = true));
  const startMs = clock.monotonicMs();
  while (!done && clock.monotonicMs() - startMs < 120_000) await clock.advance(1);
  await running;
  return clock.monotonicMs() - startMs;
}
const worst = (all: readonly TestNode[]) => Math.max(...all.flatMap(({ attempts }) => attempts));
const mean = (all: readonly TestNode[]) => all.flatMap(({ attempts }) => attempts).reduce((sum, runs, _, { length }) => sum + runs / length, 0);

for (const [what, act, total] of [
  ["record", (node: TestNode) => add(node), async (store: Store) => number((await store.read.records([key]))[0]?.value)],
  ["stream", (node: TestNode) => run(node, (_invocation, uses) => uses.buy("k", { by: node.id })), (store: Store) => store.read.streamVersion("counter//k")],
] as const) {
  test(`[F2] three nodes that read and write back one ${what} take turns in the store: few attempts, nothing lost`, async (t) => {
    const alone = await nodes(3, false);
    await load(alone.clock, alone.all, 10, act);
    const together = await nodes(3);

    const tookMs = await load(together.clock, together.all, 40, act);

    t.diagnostic(
      `worst ${worst(together.all)} attempts, mean ${mean(together.all).toFixed(2)}, ${Math.round((3 * 16 * 40 * 1_000) / tookMs)}/s of virtual time; without: worst ${worst(alone.all)}, mean ${mean(alone.all).toFixed(2)}`,
    );
    assert.equal(await total(together.store), 3 * 16 * 40);
    assert.ok(worst(together.all) <= 8 && mean(together.all) < 1.5, `worst ${worst(together.all)}, mean ${mean(together.all)}`);
    assert.ok(worst(alone.all) > 2 * worst(together.all), `without turns the worst is ${worst(alone.all)}, so this shows nothing`);
    await together.clock.advance(100);
    const left = await together.store.read.list({ prefix: "~turn/", order: "key", limit: 5 });
    assert.deepEqual(left, [], "a turn that is over is not left behind");
  });
}

test("a node alone with its key never asks the store for a turn", async () => {
  const { clock, store, all } = await nodes(1);

  await load(clock, all, 20, (node) => add(node));

  const turns = (await store.read.commits({ after: { epoch: store.epoch, n: 0 }, limit: 1_000 })).filter(({ wrote }) =>
    wrote.some(({ key: each }) => each.startsWith("~turn/")),
  );
  assert.deepEqual([number((await store.read.records([key]))[0]?.value), turns.length], [16 * 20, 0]);
});

test("[F2] a turn whose holder died runs out; until then those who wait go on without it, in their time", async () => {
  const { clock, store, all } = await nodes(1);
  const [node] = all as [TestNode];
  const write = { kind: "put", key: `~turn//${key}`, value: new Uint8Array(), expiresAtMs: clock.wallMs() + 2_000 } as const;
  await store.commit({ id: node.ids.next(), expects: [], writes: [write] });
  const startMs = clock.monotonicMs();
  let tookMs: number | undefined;

  const waiting = add(node).then((ended) => ((tookMs = clock.monotonicMs() - startMs), ended));
  while (tookMs === undefined && clock.monotonicMs() - startMs < 5_000) await clock.advance(10);

  assert.equal((await waiting).kind, "answered");
  assert.ok(tookMs !== undefined && tookMs >= 900 && tookMs <= 1_200, `${tookMs} ms`);
});

test("[F2] handlers of two nodes that take two fought-over keys in opposite orders do not wait for each other", async () => {
  const { clock, store, all } = await nodes(2);
  const both = (node: TestNode, first: string, second: string) =>
    run(node, async (invocation) => {
      for (const each of [first, second]) invocation.put(each, encode(number(await invocation.record(each)) + 1, "test"));
    });

  const tookMs = await load(clock, all, 10, (node) => both(node, ...((node === all[0] ? ["a//1", "a//2"] : ["a//2", "a//1"]) as [string, string])));

  const [one, two] = await store.read.records(["a//1", "a//2"]);
  assert.deepEqual([number(one?.value), number(two?.value)], [320, 320]);
  assert.ok(tookMs < 20_000, `${tookMs} ms`);
});

test("a store that takes no commits keeps nobody waiting for a turn", async () => {
  const { clock, all } = await nodes(1);
  const [node] = all as [TestNode];
  const broken = new Proxy(node.store, {
    get: (target, name) =>
      name === "commit" ? () => Promise.reject(Fault.create("store.overloaded", "no room", "wait")) : (Reflect.get(target, name) as unknown),
  });
  const lane = new Lane(broken, clock, { ids: node.ids, holder: "broken", storeClock: node.storeClock });
  for (let i = 0; i < 2; i++) lane.between?.lost(key);

  assert.equal(lane.between?.isFoughtOver(key), true);
  assert.equal(await lane.between?.enter(key, [], clock.monotonicMs() + 10_000), false);
});
