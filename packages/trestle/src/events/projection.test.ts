/** Projections: two nodes, torn histories, large rows, and the ends of a node. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { decode, definitionOf, encode, execute, type Component, type Handle, type NodePart } from "../component/index.ts";
import { testNode, type TestNode } from "../component/testing.ts";
import { Fault, systemClock } from "../kernel/index.ts";
import type { Commit, Store } from "../store/index.ts";
import { aggregate, command, projection } from "./index.ts";

const Said = z.object({ text: z.string() });
const talk = aggregate(
  "talk",
  { id: z.string(), events: { Said }, initial: () => 0, evolve: { Said: (n) => n + 1 } },
  { say: command(Said, (_n, said, emit) => emit.Said(said)) },
);
const counts = projection(
  "counts",
  { from: talk, row: z.object({ n: z.int(), last: z.string() }) },
  { creates: { Said: ({ text }) => ({ n: 1, last: text }) }, updates: { Said: ({ n }, { text }) => ({ n: n + 1, last: text }) } },
);
const turn = () => new Promise<void>((resolve) => systemClock.soon(resolve));
const partOf = (node: TestNode): NodePart => definitionOf(counts).part?.(node) as NodePart;
const say = (node: TestNode, id: string, text: string) =>
  execute({
    node,
    component: { kind: "app", name: "test" } as Component,
    operation: "",
    mode: "write",
    uses: { talk },
    id: node.ids.next(),
    timeoutMs: 1_000,
    run: (uses) => (uses as { talk: Handle<typeof talk> }).talk.say(id, { text }),
    conclude: () => ({ keep: true, end: "ok" }),
  });
async function settled(part: NodePart): Promise<void> {
  for (let i = 0; i < 2_000; i++) {
    if (await part.idle?.()) return;
    await turn();
  }
  assert.fail("the projection does not come to rest");
}
async function rowOf(node: TestNode, id: string): Promise<unknown> {
  const [row] = await node.store.read.records([`counts//${id}`]);
  return row && decode(row.value);
}

test("[EVS-04] two nodes that follow one source apply every event once, while both write and one of them stops", async () => {
  const one = await testNode({ seed: "one" });
  const two = await testNode({ store: one.store, clock: one.clock, seed: "two" });
  const parts = [partOf(one), partOf(two)] as const;
  for (const part of parts) await part.start();

  for (let i = 0; i < 40; i++) {
    await Promise.all([say(one, `k${i % 3}`, `${i}`), say(two, `k${(i + 1) % 3}`, `${i}`)]);
    if (i === 20) await parts[0].stop();
  }
  await settled(parts[1]);
  await parts[1].stop();

  const sum = (await Promise.all(["k0", "k1", "k2"].map((id) => rowOf(one, id)))).reduce<number>((n, row) => n + (row as { n: number }).n, 0);
  assert.equal(sum, 80);
});

test("rows too large for one commit are written in smaller steps", async () => {
  const node = await testNode();
  for (let i = 0; i < 30; i++) await say(node, `k${i}`, "x".repeat(100_000));
  const part = partOf(node);

  await part.start();
  await settled(part);

  assert.equal(((await rowOf(node, "k29")) as { n: number }).n, 1);
  await part.stop();
});

test("a history that was cut is followed on from the position that was cut with it", async () => {
  const node = await testNode();
  await say(node, "a", "before");
  const first = partOf(node);
  await first.start();
  await settled(first);
  await first.stop();
  const next = { ...(await testNode({ store: laterEpoch(node.store), clock: node.clock, seed: "next" })) };
  await say(next, "a", "after");

  const part = partOf(next);
  await part.start();
  await settled(part);

  assert.deepEqual(await rowOf(next, "a"), { n: 2, last: "after" });
  await part.stop();
});

test("a position beyond the end of a cut history is told, not believed", async () => {
  const node = await testNode();
  await node.store.commit({
    id: node.ids.next(),
    expects: [],
    writes: [{ kind: "put", key: "~position//counts", value: encode({ epoch: 0, position: 99 }, "position") }],
  });
  const told: string[] = [];
  const part = partOf({
    ...node,
    log: () => ({
      debug: () => undefined,
      info: () => undefined,
      warn: () => undefined,
      error: (_message, facts) => void told.push(String((facts as { fault?: unknown }).fault)),
    }),
  });

  await part.start();
  for (let i = 0; i < 10; i++) await turn();
  await part.stop();

  assert.match(told[0] ?? "", /99/);
  assert.match(told[0] ?? "", /counts/);
});

test("a projection that was drained is idle, so that nobody waits for it", async () => {
  const node = await testNode();
  const part = partOf(node);
  await part.start();
  const saying = say(node, "a", "x");
  await part.drain(100);
  await saying;

  assert.equal(await part.idle?.(), true);
});

test("a change nobody told of is found when somebody asks whether all is done", async () => {
  const node = await testNode();
  const deaf: Store = new Proxy(node.store, { get: (target, name) => (name === "onChange" ? () => () => undefined : (Reflect.get(target, name) as unknown)) });
  const part = partOf(await testNode({ store: deaf, clock: node.clock, seed: "deaf" }));
  await part.start();
  await settled(part);
  await say(node, "a", "x");

  await settled(part);

  assert.deepEqual(await rowOf(node, "a"), { n: 1, last: "x" });
  await part.stop();
});

test("an unknown outcome of a step neither skips nor repeats an event", async () => {
  const plain = await testNode();
  let n = 0;
  const store: Store = new Proxy(plain.store, {
    get: (target, name) =>
      name === "commit"
        ? async (commit: Commit) => {
            if (!commit.writes.some((write) => "key" in write && write.key.startsWith("~position/"))) return target.commit(commit);
            n += 1;
            if (n % 3 === 1) throw Fault.create("commit.unknown", "before", "resolve");
            const outcome = await target.commit(commit);
            if (n % 3 === 2) throw Fault.create("commit.unknown", "after", "resolve");
            return outcome;
          }
        : (Reflect.get(target, name) as unknown),
  });
  const node = await testNode({ store, clock: plain.clock, seed: "node" });
  const part = partOf(node);
  await part.start();
  for (let i = 0; i < 10; i++) {
    await say(node, "a", `${i}`);
    await plain.clock.advance(5_000);
  }
  await settled(part);

  assert.deepEqual(await rowOf(plain, "a"), { n: 10, last: "9" });
  await part.stop();
});

/** The same rows after a restore: another epoch. */
function laterEpoch(store: Store): Store {
  const epoch = store.epoch + 1;
  const back = (position: { readonly epoch: number; readonly position: number }) => {
    if (position.epoch !== epoch) throw Fault.create("log.diverged", "another epoch", "start again");
    return { ...position, epoch: store.epoch };
  };
  return new Proxy(store, {
    get(target, name) {
      if (name === "epoch") return epoch;
      if (name !== "read") return Reflect.get(target, name) as unknown;
      return {
        ...target.read,
        head: async () => ({ ...(await target.read.head()), epoch }),
        log: async (query: Parameters<Store["read"]["log"]>[0]) => {
          const page = await target.read.log({ ...query, after: back(query.after) });
          return { ...page, next: { ...page.next, epoch } };
        },
      };
    },
  });
}

test("pages of the newest rows hold each row once, keys with slashes too", async () => {
  const node = await testNode();
  const part = partOf(node);
  await part.start();
  for (let i = 0; i < 7; i++) await say(node, `k/${i}`, `${i}`);
  await settled(part);
  await part.stop();
  const list = (cursor: string | undefined, limit: number) =>
    execute({
      node,
      component: { kind: "app", name: "test" } as Component,
      operation: "",
      mode: "read",
      uses: { counts },
      id: node.ids.next(),
      timeoutMs: 1_000,
      run: (uses) => (uses as { counts: Handle<typeof counts> }).counts.list({ cursor, limit }),
      conclude: () => ({ keep: false, end: "ok" }),
    });
  const pages: number[] = [];
  const ns: number[] = [];
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const ended = await list(cursor, 3);
    if (ended.kind !== "answered") throw new Error("no page");
    pages.push(ended.answer.items.length);
    ns.push(...ended.answer.items.map(({ last }) => Number(last)));
    cursor = ended.answer.next;
  }

  assert.deepEqual(
    [pages, ns],
    [
      [3, 3, 1],
      [6, 5, 4, 3, 2, 1, 0],
    ],
  );
});
