/** Aggregates under company: several commands of one handler, reactions within reactions, states in other hands, names and sizes at their ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { decodeJournal, execute, journalKey, type Component, type Handle, type Invocation, type Uses, type WorkContext } from "../component/index.ts";
import { testNode } from "../component/testing.ts";
import { aggregate, app, command, Fault, projection, records, refuse, start, subscription, topic } from "../index.ts";
import { virtualClock } from "../kernel/index.ts";

const Cents = z.object({ cents: z.int() });
const account = aggregate(
  "account",
  { id: z.string(), events: { Paid: Cents }, initial: () => 0, evolve: { Paid: (balance, { cents }) => balance + cents }, snapshotEvery: 5 },
  {
    pay: command(Cents, (_balance, paid, emit) => emit.Paid(paid)),
    take: command(Cents, (balance, { cents }, emit) => (balance >= cents ? emit.Paid({ cents: -cents }) : refuse("too-little", { balance }))),
  },
);
type Account = Handle<typeof account>;
const memory = (components: readonly unknown[]) =>
  start(app("test", components as readonly Component[]), { store: "memory:", roles: ["worker"], clock: virtualClock(), log: () => undefined });

test("two commands on one id at once decide one after the other", async () => {
  await using node = await memory([account]);
  await node.open(account).pay("a", { cents: 100 });

  const answers = await node.commit({ account }, async ({ account }) => {
    const both = await Promise.all([account.take("a", { cents: 80 }), account.take("a", { cents: 80 })]);
    return both.map(({ ok }) => ok);
  });

  assert.deepEqual([answers, await node.open(account).get("a")], [[true, false], 20]);
  assert.equal((await Array.fromAsync(node.open(account).history("a"))).length, 2);
});

test("an in-commit reaction may command, and what it records is reacted to in the same commit", { timeout: 10_000 }, async () => {
  const ledger = records("ledger", { key: z.string(), value: z.number() });
  const fees = aggregate(
    "fees",
    { id: z.string(), events: { Charged: Cents }, initial: () => 0, evolve: { Charged: (sum, { cents }) => sum + cents } },
    { charge: command(Cents, (_sum, fee, emit) => emit.Charged(fee)) },
  );
  const charge = subscription(
    "charge",
    { to: account, when: "in-commit", uses: { fees } },
    {
      Paid: async ({ key }, { fees }) => {
        const charged = await fees.charge(key, { cents: 1 });
        assert.ok(charged.ok);
      },
    },
  );
  const book = subscription("book", { to: fees, when: "in-commit", uses: { ledger } }, { Charged: ({ key, data }, { ledger }) => ledger.add(key, data.cents) });
  await using node = await memory([account, fees, charge, book, ledger]);

  await node.commit({ account }, async ({ account }) => {
    await Promise.all([account.pay("a", { cents: 5 }), account.pay("b", { cents: 5 }), account.pay("a", { cents: 5 })]);
  });

  assert.deepEqual([await node.open(fees).get("a"), await node.open(ledger).get("a"), await node.open(ledger).get("b")], [2, 2, 1]);
});

test("in-commit reactions that never end are cut off with a fault, and nothing is committed", { timeout: 10_000 }, async () => {
  const echo = subscription(
    "echo",
    { to: account, when: "in-commit", uses: { account } },
    {
      Paid: async ({ key }, { account }) => {
        await account.pay(key, { cents: 1 });
      },
    },
  );
  await using node = await memory([account, echo]);

  await assert.rejects(
    node.commit({ account }, async ({ account }) => void (await account.pay("a", { cents: 1 }).catch(() => undefined))),
    (fault) => Fault.is(fault, "subscription.endless"),
  );

  assert.equal(await node.open(account).get("a"), 0);
});

test("a reaction that never comes back ends with the handler's time", async () => {
  const node = await testNode();
  const news = topic("news", { events: { Said: z.object({}) } });
  const endless = await testNode({ store: node.store, clock: node.clock, seed: "endless" });
  const running = execute({
    node: { ...endless, inCommit: () => [{ react: () => new Promise<void>(() => undefined) }] },
    component: { kind: "app", name: "test" },
    operation: "",
    mode: "write",
    uses: { news },
    id: node.ids.next(),
    timeoutMs: 50,
    run: (uses) => (uses as { news: Handle<typeof news> }).news.publish.Said(),
    conclude: () => ({ keep: true, end: "ok" }),
  });
  await node.clock.advance(50);

  const ended = await running;
  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "deadline.exceeded"));
});

test("a state in other hands cannot be changed: neither by who got it, nor by a fold that changes what it was given", async () => {
  const cart = aggregate(
    "cart",
    {
      id: z.string(),
      events: { Added: z.object({ sku: z.string() }) },
      initial: () => ({ items: [] as string[] }),
      evolve: { Added: (state, { sku }) => ({ items: [...state.items, sku] }) },
    },
    {
      add: command(z.object({ sku: z.string() }), (_state, input, emit) => emit.Added(input)),
    },
  );
  const careless = aggregate(
    "careless",
    {
      id: z.string(),
      events: { Added: z.object({ sku: z.string() }) },
      initial: () => ({ items: [] as string[] }),
      evolve: { Added: (state, { sku }) => (state.items.push(sku), state) },
    },
    {
      add: command(z.object({ sku: z.string() }), (_state, input, emit) => emit.Added(input)),
    },
  );
  await using node = await memory([cart, careless]);

  const added = await node.open(cart).add("a", { sku: "x" });
  assert.throws(() => added.state.items.push("stolen"), TypeError);
  const got = await node.open(cart).get("a");
  assert.throws(() => got.items.pop(), TypeError);
  assert.deepEqual((await node.open(cart).add("a", { sku: "y" })).state.items, ["x", "y"]);
  await assert.rejects(node.open(careless).add("a", { sku: "x" }), TypeError);
});

test("an id as long as keys may be passes the snapshot, and so does a state too large for one", async () => {
  const text = aggregate(
    "text",
    {
      id: z.string(),
      events: { Written: z.object({ text: z.string() }) },
      initial: () => "",
      evolve: { Written: (before, { text }) => before + text },
      snapshotEvery: 2,
    },
    {
      write: command(z.object({ text: z.string() }), (_state, input, emit) => emit.Written(input)),
    },
  );
  await using node = await memory([text]);
  const long = "i".repeat(512 - "text//".length);

  for (let i = 0; i < 5; i++) await node.open(text).write(long, { text: "x" });
  for (let i = 0; i < 8; i++) await node.open(text).write("large", { text: "y".repeat(200_000) });

  assert.deepEqual([await node.open(text).get(long), (await node.open(text).get("large")).length], ["xxxxx", 1_600_000]);
});

test("commands may bear the names of what a handle is made of; those it offers itself are refused", async () => {
  const film = aggregate(
    "film",
    {
      id: z.string(),
      events: { Done: z.object({ what: z.string() }) },
      initial: () => [] as string[],
      evolve: { Done: (before, { what }) => [...before, what] },
    },
    {
      stream: command((_s, emit) => emit.Done({ what: "stream" })),
      current: command((_s, emit) => emit.Done({ what: "current" })),
      command: command((_s, emit) => emit.Done({ what: "command" })),
      component: command((_s, emit) => emit.Done({ what: "component" })),
      invocation: command((_s, emit) => emit.Done({ what: "invocation" })),
      folding: command((_s, emit) => emit.Done({ what: "folding" })),
    },
  );
  await using node = await memory([film]);
  const live = node.open(film);

  for (const name of ["stream", "current", "command", "component", "invocation", "folding"] as const) await live[name]("a");

  assert.deepEqual(await live.get("a"), ["stream", "current", "command", "component", "invocation", "folding"]);
  for (const taken of ["get", "then", "constructor"]) {
    assert.throws(
      () => aggregate("taken", { id: z.string(), events: {}, initial: () => 0, evolve: {} }, { [taken]: command(() => undefined) } as never),
      (fault) => Fault.is(fault, "aggregate.bad-command") && fault.message.includes(taken),
    );
  }
});

test("events may bear the names of what every object has", async () => {
  const odd = aggregate(
    "odd",
    {
      id: z.string(),
      events: { constructor: z.object({ n: z.number() }), toString: z.object({ n: z.number() }), Known: z.object({ n: z.number() }) },
      initial: () => 0,
      evolve: { constructor: (sum, { n }) => sum + n, toString: (sum, { n }) => sum + n, Known: (sum, { n }) => sum + n },
    },
    {
      all: command((_sum, emit) => [emit.constructor({ n: 1 }), emit.toString({ n: 2 }), emit.Known({ n: 4 })]),
    },
  );
  const rows = projection(
    "rows",
    { from: odd, row: z.object({ n: z.number() }), when: "in-commit" },
    { creates: { Known: ({ n }: { n: number }) => ({ n }) } as never },
  );
  await using node = await memory([odd, rows]);

  await node.open(odd).all("a");

  assert.deepEqual([await node.open(odd).get("a"), await node.open(rows).get("a")], [7, { n: 4 }]);
});

test("numeric ids come back from the log as numbers, whatever the first one was", async () => {
  const meter = aggregate(
    "meter",
    { id: z.number(), events: { Read: z.object({}) }, initial: () => 0, evolve: { Read: (n) => n + 1 } },
    { read: command((_n, emit) => emit.Read()) },
  );
  await using node = await memory([meter]);
  const keys: unknown[] = [];
  for (const id of [1.5, -3, 1e21, 12]) {
    await node.open(meter).read(id);
    for await (const { key } of node.open(meter).history(id)) keys.push(key);
  }

  assert.deepEqual(keys, [1.5, -3, 1e21, 12]);
});

test("a history and a state as of a moment are the same when the handler is run again", async () => {
  const node = await testNode();
  const id = node.ids.next();
  const seen: unknown[] = [];
  const commit = (cents: number) =>
    execute({
      node,
      component: { kind: "app", name: "test" },
      operation: "",
      mode: "write",
      uses: { account },
      id: node.ids.next(),
      timeoutMs: 1_000,
      run: (uses) => (uses as { account: Account }).account.pay("a", { cents }),
      conclude: () => ({ keep: true, end: "ok" }),
    });
  const job = (uses: Uses, run: (handle: Account, context: WorkContext, invocation: Invocation) => Promise<unknown>) => ({
    node,
    component: { kind: "queue", name: "job" } as Component,
    operation: "",
    mode: "durable" as const,
    uses,
    id,
    timeoutMs: 1_000,
    run: (bound: object, context: WorkContext, invocation: Invocation) => run((bound as { account: Account }).account, context, invocation),
    conclude: () => ({ keep: true as const, end: "ok" as const }),
  });
  const handler = (call: () => Promise<unknown>) => async (handle: Account, context: WorkContext) => {
    const history = (await Array.fromAsync(handle.history("a"))).map(({ data }) => data.cents);
    const later = await handle.get("a", { asOf: { version: 3 } });
    const moment = await handle.get("a", { asOf: node.clock.wallMs() + 1_000 });
    seen.push([history, later, moment]);
    await context.step("tell", call);
  };
  let reached!: () => void;
  const telling = new Promise<void>((resolve) => (reached = resolve));
  await commit(5);

  void execute(
    job(
      { account },
      handler(() => (reached(), new Promise(() => undefined))),
    ),
  );
  await telling;
  await commit(7);
  const [row] = await node.store.read.records([journalKey(id)]);
  const survivor = await testNode({ store: node.store, clock: node.clock, seed: "survivor" });
  const ended = await execute({
    ...job(
      { account },
      handler(() => Promise.resolve()),
    ),
    node: survivor,
    ...(row ? { journal: decodeJournal(row.value, row.version) } : {}),
  });

  assert.equal(ended.kind, "answered");
  assert.deepEqual(seen, [
    [[5], 5, 5],
    [[5], 5, 5],
  ]);
});
