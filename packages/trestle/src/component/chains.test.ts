/** What a run rests on: staged states that may fall, states that others have left behind, preconditions, turns. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { aggregate, command } from "../events/index.ts";
import { Fault, systemClock } from "../kernel/index.ts";
import { z } from "zod";
import type { Commit, CommitOutcome, Store } from "../store/index.ts";
import { decode, encode, execute, refuse, type Component, type Handle, type Invocation, type NodeServices, type Work, type WorkContext } from "./index.ts";
import { testNode, type TestNode } from "./testing.ts";

const script: Component = { kind: "app", name: "test" };
const Cents = z.object({ cents: z.int() });
const account = aggregate(
  "account",
  { id: z.string(), events: { Paid: Cents }, initial: () => 0, evolve: { Paid: (balance, { cents }) => balance + cents } },
  {
    pay: command(Cents, (_balance, paid, emit) => emit.Paid(paid)),
    take: command(Cents, (balance, { cents }, emit) => (balance >= cents ? emit.Paid({ cents: -cents }) : refuse("too-little", { balance }))),
  },
);
type Account = Handle<typeof account>;

const turn = () => new Promise<void>((resolve) => systemClock.soon(resolve));
const value = (n: unknown) => encode(n, "test");
const number = (bytes: Uint8Array | undefined) => (bytes ? (decode(bytes) as number) : 0);
const put = (node: NodeServices, key: string, of: unknown) =>
  node.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "put", key, value: value(of) }] });
/** A conflict: from here on handlers take this key in turns. */
const fightOver = (node: NodeServices, key: string) =>
  node.lane.submit({ id: node.ids.next(), expects: [{ kind: "record", key, version: 1_000_000 }], writes: [] });
const at = async (node: NodeServices, key: string) => number((await node.store.read.records([key]))[0]?.value);

function work<T>(
  node: NodeServices,
  run: (uses: { readonly account: Account }, invocation: Invocation, context: WorkContext) => Promise<T>,
  more: Partial<Work<T>> = {},
): Work<T> {
  return {
    node,
    component: script,
    operation: "",
    mode: "write",
    uses: { account },
    id: node.ids.next(),
    timeoutMs: 10_000,
    run: (uses, context, invocation) => run(uses as { account: Account }, invocation, context),
    conclude: (answer) => ((answer as { ok?: unknown } | undefined)?.ok === false ? { keep: false, end: "refused" } : { keep: true, end: "ok" }),
    ...more,
  };
}
const commit = <T>(
  node: NodeServices,
  run: (uses: { readonly account: Account }, invocation: Invocation, context: WorkContext) => Promise<T>,
  more: Partial<Work<T>> = {},
) => execute(work(node, run, more));
const balanceOf = async (node: NodeServices, id = "a") => {
  const ended = await commit(node, ({ account }) => account.get(id), { mode: "read" });
  return ended.kind === "answered" ? ended.answer : undefined;
};

/** A node whose commits are handed to `deliver`: it decides when, and with what outcome. */
async function nodeOver(
  first: TestNode,
  seed: string,
  deliver: (commit: Commit, go: () => Promise<CommitOutcome>) => Promise<CommitOutcome>,
): Promise<TestNode> {
  const store: Store = new Proxy(first.store, {
    get: (target, name) => (name === "commit" ? (one: Commit) => deliver(one, () => target.commit(one)) : (Reflect.get(target, name) as unknown)),
  });
  return testNode({ store, clock: first.clock, seed });
}

test("[F2] who rests on a staged state falls with it, though another node gave the stream the same version", async () => {
  const other = await testNode({ seed: "other" });
  let held: (() => void)[] | undefined;
  const node = await nodeOver(other, "here", (_one, go) => (held ? new Promise((resolve) => held?.push(() => resolve(go()))) : go()));
  await commit(other, ({ account }) => account.pay("a", { cents: 10 }));

  held = [];
  const first = commit(node, ({ account }) => account.pay("a", { cents: 100 }));
  while (held.length < 1) await turn();
  const second = commit(node, ({ account }) => account.take("a", { cents: 50 }));
  for (let i = 0; i < 50 && held.length < 2; i++) await turn();
  const staged = held.length;
  await commit(other, ({ account }) => account.pay("a", { cents: 1 }));
  const release = held;
  held = undefined;
  for (const go of release) go();
  await Promise.all([first, second]);

  assert.equal(staged, 2, "the second one has decided on the first one's staged state");
  const history = (await other.store.read.stream("account//a", { after: 0, limit: 100 })).map(({ data }) => (decode(data) as { cents: number }).cents);
  history.reduce((balance, cents) => {
    assert.ok(balance + cents >= 0, `taken from an account that did not have it: ${history.join(" ")}`);
    return balance + cents;
  }, 0);
  assert.equal(
    history.reduce((sum, cents) => sum + cents, 0),
    61,
  );
  assert.deepEqual([await balanceOf(node), await balanceOf(other)], [61, 61]);
});

test("[F9] a refusal that rests on what this process remembers is checked: another node has paid in since", async () => {
  const node = await testNode({ seed: "one" });
  const other = await testNode({ store: node.store, clock: node.clock, seed: "two" });
  await commit(node, ({ account }) => account.pay("a", { cents: 5 }));
  await commit(other, ({ account }) => account.pay("a", { cents: 100 }));

  const ended = await commit(node, ({ account }) => account.take("a", { cents: 50 }));

  assert.ok(ended.kind === "answered" && ended.answer.ok, JSON.stringify(ended));
});

test("[F9] a refusal that rests on a staged state is checked: that state may fall", async () => {
  const first = await testNode({ seed: "first" });
  await commit(first, ({ account }) => account.pay("a", { cents: 50 }));
  let fall: (() => void) | undefined;
  const node = await nodeOver(first, "node", (one, go) =>
    one.writes.some(({ kind }) => kind === "append") && !fall
      ? new Promise((_, reject) => (fall = () => reject(Fault.create("store.overloaded", "no room", "wait"))))
      : go(),
  );

  const failing = commit(node, ({ account }) => account.take("a", { cents: 50 }));
  while (!fall) await turn();
  const refused = commit(node, ({ account }) => account.take("a", { cents: 50 }));
  await turn();
  fall();

  await assert.rejects(failing, (fault) => Fault.is(fault, "store.overloaded"));
  const ended = await refused;
  assert.ok(ended.kind === "answered" && ended.answer.ok, JSON.stringify(ended));
});

test("[F2] a chain whose base fell ends there: under steady load nobody builds on it any more", async () => {
  const first = await testNode({ seed: "first" });
  let refuseNext = false;
  const node = await nodeOver(first, "node", async (one, go) => {
    const answer =
      refuseNext && one.writes.some((write) => "key" in write && write.key === "a//k")
        ? ((refuseNext = false), Promise.resolve<CommitOutcome>({ ok: false, refused: "conflict", keys: ["x//y"] }))
        : go();
    for (let i = 0; i < 6; i++) await turn();
    return answer;
  });
  const add = () => commit(node, async (_uses, invocation) => invocation.put("a//k", value(number(await invocation.record("a//k")) + 1)));

  const running: Promise<unknown>[] = [];
  for (let i = 0; i < 60; i++) {
    if (i === 5) refuseNext = true;
    running.push(add());
    await turn();
    await turn();
  }
  await Promise.all(running);

  assert.equal(await at(node, "a//k"), 60);
  assert.ok(Math.max(...node.attempts) <= 5, `worst: ${Math.max(...node.attempts)} runs`);
});

test("a read that was to be no precondition becomes one when the handler then decides on it", async () => {
  const node = await testNode({ seed: "one" });
  const other = await testNode({ store: node.store, clock: node.clock, seed: "two" });
  await commit(node, ({ account }) => account.pay("a", { cents: 50 }));
  let runs = 0;

  const ended = await commit(node, async ({ account }, invocation) => {
    runs += 1;
    await account.get("a", { precondition: false });
    await invocation.record("a//k", { precondition: false });
    const n = number(await invocation.record("a//k"));
    if (runs === 1) {
      await commit(other, ({ account }) => account.take("a", { cents: 50 }));
      await put(other, "a//k", 5);
    }
    invocation.put("a//k", value(n + 1));
    return account.take("a", { cents: 50 });
  });

  assert.ok(ended.kind === "answered" && !ended.answer.ok);
  assert.equal(await balanceOf(other), 0);

  await commit(node, async (_uses, invocation) => {
    await invocation.record("a//n", { precondition: false });
    const n = number(await invocation.record("a//n"));
    if (n === 0) await put(other, "a//n", 5);
    invocation.put("a//n", value(n + 1));
  });
  assert.equal(await at(node, "a//n"), 6);
});

test("a turn that comes when its invocation has ended goes on to the next one", async () => {
  const node = await testNode();
  await fightOver(node, "a//k");
  const read = (holdMs: number, timeoutMs: number) =>
    commit(
      node,
      async (_uses, invocation) => {
        await invocation.record("a//k");
        if (holdMs > 0) await new Promise<void>((resolve) => void node.clock.after(holdMs, resolve));
      },
      { timeoutMs },
    );

  const holder = read(40, 1_000);
  await turn();
  const late = read(0, 20);
  await turn();
  await node.clock.advance(20);
  assert.equal((await late).kind, "failed");
  await node.clock.advance(20);
  assert.equal((await holder).kind, "answered");

  let waited = true;
  void read(0, 1_000).then(() => (waited = false));
  for (let i = 0; i < 10; i++) await turn();
  assert.equal(waited, false, "the key is free");
});

test("what commitSeparately throws leaves no turn behind", async () => {
  const node = await testNode();
  const { records } = await import("../records/index.ts");
  const notes = records("notes", { key: z.string(), value: z.number() });
  await fightOver(node, "notes//k");
  await commit(
    node,
    async (uses, _invocation, context) => {
      await context
        .commitSeparately("to try", { notes: (uses as unknown as { notes: Handle<typeof notes> }).notes }, async ({ notes }) => {
          await notes.get("k");
          throw new Error("no");
        })
        .catch(() => undefined);
    },
    { uses: { account, notes } },
  );

  let done = false;
  void commit(node, (_uses, invocation) => invocation.record("notes//k")).then(() => (done = true));
  for (let i = 0; i < 10; i++) await turn();
  assert.equal(done, true);
});

test("what is committed separately is committed once, though conflicts run the handler again, also where it wrote what the handler had read", async () => {
  const node = await testNode();
  const { records } = await import("../records/index.ts");
  const attempts = records("attempts", { key: z.string(), value: z.number() });
  let disturbed = 0;

  const ended = await commit(
    node,
    async (uses, invocation, context) => {
      const { attempts: handle } = uses as unknown as { attempts: Handle<typeof attempts> };
      await handle.get("count");
      await context.commitSeparately("attempts are counted, whatever comes of them", { handle }, async ({ handle }) => {
        const count = (await handle.get("count")) ?? 0;
        // Another commit comes in between: the separate one decides again, too.
        if (disturbed++ === 0) await put(node, "attempts//count", 10);
        handle.put("count", count + 1);
      });
      invocation.put("a//done", value(1));
    },
    { uses: { account, attempts } },
  );

  assert.equal(ended.kind, "answered");
  assert.deepEqual([await at(node, "attempts//count"), await at(node, "a//done")], [11, 1]);
});

test("a record is put or merged in one commit, not both, in either order", async () => {
  const node = await testNode();

  const ended = await commit(node, async (_uses, invocation) => {
    invocation.merge("a//k", { kind: "add", amount: 1 });
    assert.throws(
      () => invocation.put("a//k", value(5)),
      (fault) => Fault.is(fault, "records.put-after-merge"),
    );
    assert.throws(
      () => invocation.remove("a//k"),
      (fault) => Fault.is(fault, "records.put-after-merge"),
    );
    invocation.put("a//l", value(5));
    assert.throws(
      () => invocation.merge("a//l", { kind: "add", amount: 1 }),
      (fault) => Fault.is(fault, "records.merge-after-put"),
    );
  });

  assert.equal(ended.kind, "answered");
  assert.deepEqual([await at(node, "a//k"), await at(node, "a//l")], [1, 5]);
});

test("[F9] of two lists read at once the older one counts for what must not have changed", async () => {
  const plain = await testNode();
  const heads: ((n: number) => void)[] = [];
  const store: Store = new Proxy(plain.store, {
    get: (target, name) =>
      name === "read"
        ? { ...target.read, head: () => new Promise((resolve) => heads.push((n) => resolve({ epoch: 1, n, position: 0 }))) }
        : (Reflect.get(target, name) as unknown),
  });
  const node = await testNode({ store, clock: plain.clock, seed: "slow heads" });
  await put(plain, "a//1", 1);
  const before = (await plain.store.read.head()).n;
  let runs = 0;

  const running = commit(node, async (_uses, invocation) => {
    runs += 1;
    const query = (limit: number) => ({ prefix: "a//", order: "key" as const, limit });
    const both = Promise.all([invocation.list(query(10)), invocation.list(query(11))]);
    const after = runs === 1 ? (await put(plain, "a//2", 1), before + 1) : before + 1;
    heads.shift()?.(runs === 1 ? before : after);
    heads.shift()?.(after);
    await both;
    await invocation.expectUnchanged("a//");
    invocation.put("b//sum", value(1));
  });

  assert.equal((await running).kind, "answered");
  assert.equal(runs, 2);
});

test("a key that a commit on its way removes is read when that is decided, without a conflict", async () => {
  const node = await testNode();
  await put(node, "a//k", 1);

  const removing = commit(node, async (_uses, invocation) => invocation.remove("a//k"));
  while (!node.lane.stagedRecord("a//k")) await Promise.resolve();
  const reading = commit(node, async (_uses, invocation) => {
    const there = (await invocation.record("a//k")) !== undefined;
    invocation.put("a//seen", value(there ? 1 : 2));
  });
  await Promise.all([removing, reading]);

  assert.deepEqual([await at(node, "a//seen"), node.attempts], [2, [1, 1]]);
});

test("a stream that a new id names is not read; who finds it taken is told at the commit, and decides again on what is there", async () => {
  const node = await testNode();
  let reads = 0;
  const { streamVersion } = node.store.read;
  Object.assign(node.store.read, { streamVersion: (stream: string) => (reads++, streamVersion(stream)) });
  // One invocation id and one moment: the same new ids.
  const again = { id: node.ids.next(), startedAtMs: node.clock.wallMs() };
  let id = "";

  await commit(node, ({ account }, _invocation, { newId }) => account.pay((id = newId()), { cents: 100 }), again);
  assert.deepEqual([reads, node.attempts], [0, [1]]);
  const other = await testNode({ store: node.store, seed: "other" }); // it has no fold of the stream
  const taken = await commit(other, ({ account }, _invocation, { newId }) => account.take(newId(), { cents: 80 }), again);
  const third = await testNode({ store: node.store, seed: "third" });
  await commit(third, ({ account }, _invocation, { newId }) => account.pay(newId(), { cents: 1 }), again);

  assert.deepEqual(taken.kind === "answered" && taken.answer, { ok: true, state: 20, version: 2 }, "a refusal that rests on nothing read is not believed");
  assert.deepEqual([other.attempts, third.attempts, await balanceOf(node, id)], [[2], [2], 21]);
});

test("of an id that came from elsewhere, or was minted by a run before, the stream is read", async () => {
  const node = await testNode();
  await commit(node, ({ account }) => account.pay("a", { cents: 100 }));
  const other = await testNode({ store: node.store, seed: "other" });
  const again = { id: node.ids.next(), startedAtMs: node.clock.wallMs() };
  await commit(node, ({ account }, _invocation, { newId }) => account.pay(newId(), { cents: 5 }), again);

  const given = await commit(other, ({ account }, _invocation, { newId }) => (newId(), account.take("a", { cents: 80 })));
  const second = await commit(other, ({ account }, _invocation, { newId }) => account.take(newId(), { cents: 5 }), { ...again, attempt: 2 });

  assert.deepEqual(
    [given, second].map((ended) => ended.kind === "answered" && (ended.answer as { ok: boolean }).ok),
    [true, true],
  );
  assert.deepEqual(other.attempts, [1, 1], "nothing was assumed, so nothing was run twice");
});
