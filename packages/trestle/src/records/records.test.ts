/** Records with hostile keys and values, at the edges of pages, of seeds and of watching. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { definitionOf, execute, type Component, type Handle, type Uses } from "../component/index.ts";
import { testNode, type TestNode } from "../component/testing.ts";
import { aggregate, command } from "../events/index.ts";
import { Fault, systemClock, virtualClock } from "../kernel/index.ts";
import { queue, topic } from "../messaging/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import { records } from "./index.ts";

const values = records("values", { key: z.string(), value: z.any() });
const turn = () => new Promise<void>((resolve) => systemClock.soon(resolve));

async function within<U extends Uses, T>(
  node: TestNode,
  uses: U,
  run: (uses: { readonly [K in keyof U]: Handle<U[K]> }) => T | Promise<T>,
  more: { readonly tenant?: string; readonly signal?: AbortSignal; readonly mode?: "read" | "write" } = {},
): Promise<T> {
  const ended = await execute<T>({
    node,
    component: { kind: "app", name: "test" } as Component,
    operation: "",
    mode: "write",
    uses,
    id: node.ids.next(),
    timeoutMs: 60_000,
    ...more,
    run: (handles) => run(handles as { readonly [K in keyof U]: Handle<U[K]> }),
    conclude: () => ({ keep: true, end: "ok" }),
  });
  if (ended.kind === "answered") return ended.answer;
  throw ended.kind === "failed" ? ended.fault : new Error("lost");
}

test("whatever JSON can hold comes back as it was, under whatever text is its key", async () => {
  const node = await testNode();
  const keys = ["", "/", "a/b", "../..", "%2F", "ключ", "👩‍👩‍👧", "e\u0301", "\u00e9", "__proto__", "constructor", " ", "\n", "a".repeat(500)];
  const own = JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1, "toString": null}') as object;
  const all = [0, 1e308, -1e-320, 2 ** 53, "", "\ud800 alone", "\u0000", null, [], {}, [[]], own, { a: { b: [1, "2", false] } }];

  for (const [i, key] of keys.entries()) await within(node, { values }, ({ values }) => values.put(key, all[i % all.length]));
  for (const [i, key] of keys.entries()) assert.deepEqual(await within(node, { values }, ({ values }) => values.get(key)), all[i % all.length]);
  for (const value of all) {
    await within(node, { values }, ({ values }) => values.put("k", value));
    assert.deepEqual(await within(node, { values }, ({ values }) => values.get("k")), value);
  }
  assert.equal(({} as { polluted?: unknown }).polluted, undefined);
  const listed = await within(node, { values }, ({ values }) => values.list({ limit: 1_000 }));
  assert.equal(listed.items.length, keys.length + 1);
});

test("a key is a text or a finite number: what would share its text with others is refused, wherever handles build keys", async () => {
  const node = await testNode();
  const Event = z.object({ at: z.any() });
  const purse = aggregate(
    "purse",
    { id: z.any(), events: { Paid: Event }, initial: () => 0, evolve: { Paid: (n) => n + 1 } },
    { pay: command(Event, (_n, paid, emit) => emit.Paid(paid)) },
  );
  const news = topic("news", { events: { Out: Event }, key: ({ data }) => data.at as string });
  const mail = queue("mail", { input: Event, key: ({ at }) => at as string }, () => undefined);
  const uses = { values, purse, news, mail };
  const bad: readonly unknown[] = [{}, [], undefined, null, Number.NaN, Infinity, true, 5n, new Date(0)];

  for (const key of bad as readonly string[])
    for (const attempt of [
      ({ values }) => values.get(key),
      ({ values }) => values.put(key, 1),
      ({ values }) => values.add(key, 1),
      ({ purse }) => purse.get(key),
      ({ purse }) => purse.pay(key, { at: 1 }),
      ({ news }) => news.publish.Out({ at: key === (5n as never) ? Number.NaN : key }),
      ({ mail }) => void mail.send({ at: key === (5n as never) ? [] : key }),
    ] as readonly ((handles: { readonly [K in keyof typeof uses]: Handle<(typeof uses)[K]> }) => unknown)[])
      await assert.rejects(
        within(node, uses, (handles) => attempt(handles)),
        (fault) => Fault.is(fault, "component.bad-key") || (Fault.is(fault, "payload.not-json") && String(attempt).includes("at:")),
        `${String(key)} in ${String(attempt)}`,
      );

  await within(node, uses, ({ values }) => values.put(7 as never, "seven"));
  assert.equal(await within(node, uses, ({ values }) => values.get("7")), "seven");
});

test("what JSON would change is refused at the door, naming the path", async () => {
  const node = await testNode();
  const circle: { self?: unknown } = {};
  circle.self = circle;
  let deep: unknown = 1;
  for (let i = 0; i < 50_000; i++) deep = [deep];
  const bad: readonly (readonly [unknown, string])[] = [
    [Number.NaN, "the value"],
    [{ a: [1, Infinity] }, "a[1]"],
    [{ at: new Date(0) }, "at"],
    [{ a: { b: new Map() } }, "a.b"],
    [[1, undefined], "[1]"],
    [{ f: () => 1 }, "f"],
    [10n, "the value"],
    [circle, "self"],
    [deep, "nested deeper"],
  ];

  for (const [value, path] of bad) {
    await assert.rejects(
      within(node, { values }, ({ values }) => values.put("k", value)),
      (fault) => Fault.is(fault, "payload.not-json") && fault.message.includes(path),
      path,
    );
  }
  // Members that are undefined are left out, as JSON does it; -0 is 0.
  await within(node, { values }, ({ values }) => values.put("k", { a: undefined, b: -0 }));
  assert.deepEqual(await within(node, { values }, ({ values }) => values.get("k")), { b: 0 });
});

test("keys that no store can tell apart are refused", async () => {
  const node = await testNode();

  for (const key of ["a\u0000b", "\ud800", "k".repeat(513)])
    await assert.rejects(
      within(node, { values }, ({ values }) => values.put(key, 1)),
      (fault) => Fault.is(fault, "store.key-not-text") || Fault.is(fault, "store.key-too-long"),
    );
});

test("a tenant sees its own records and no others, whatever the names of tenants and keys", async () => {
  const node = await testNode();
  const tenants = ["a", "b", "a/b", "a%2Fb", "ü", undefined];
  for (const tenant of tenants) await within(node, { values }, ({ values }) => values.put("b/k", tenant ?? "none"), tenant === undefined ? {} : { tenant });

  for (const tenant of tenants) {
    const seen = await within(
      node,
      { values },
      async ({ values }) => [await values.get("b/k"), (await values.list({ limit: 10 })).items],
      tenant === undefined ? {} : { tenant },
    );
    assert.deepEqual(seen, [tenant ?? "none", [tenant ?? "none"]]);
  }
});

test("a field that the schema fills in can be filtered by, like one that was written", async () => {
  const node = await testNode();
  const orders = records("orders", {
    key: z.string(),
    value: z.object({ n: z.number(), status: z.string().default("new"), urgent: z.boolean().default(false) }),
    index: ["status", "urgent", "n"],
  });
  await within(node, { orders }, ({ orders }) => {
    orders.put("1", { n: 1 });
    orders.put("2", { n: -0, status: "paid" });
    orders.put("3", { n: 1e21, urgent: true });
  });
  const of = (where: object) => within(node, { orders }, async ({ orders }) => (await orders.list({ limit: 10, where })).items.map(({ n }) => n));

  assert.deepEqual(
    [
      await of({ status: "new" }),
      await of({ urgent: false }),
      await of({ urgent: true, status: "new" }),
      await of({ n: 0 }),
      await of({ n: 1e21 }),
      await of({ status: undefined }),
    ],
    [[1, 1e21], [1, 0], [1e21], [0], [1e21], [1, 0, 1e21]],
  );
});

test("pages end where they should: exactly full ones, filtered ones, the largest ones, after their last row was removed", async () => {
  const node = await testNode();
  const rows = records("rows", { key: z.number(), value: z.object({ odd: z.boolean(), third: z.boolean() }), index: ["odd", "third"] });
  for (let from = 0; from < 1_001; from += 200)
    await within(node, { rows }, ({ rows }) => {
      for (let i = from; i < Math.min(1_001, from + 200); i++) rows.put(1_000 + i, { odd: i % 2 === 1, third: i % 3 === 0 });
    });
  const pages = async (limit: number, where: object = {}) => {
    const sizes: number[] = [];
    for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
      const page = await within(node, { rows }, ({ rows }) => rows.list({ limit, where, cursor }));
      sizes.push(page.items.length);
      cursor = page.next;
    }
    return sizes;
  };

  assert.deepEqual(await pages(1_000), [1_000, 1]);
  assert.deepEqual(await pages(143), [143, 143, 143, 143, 143, 143, 143]);
  assert.deepEqual(await pages(100, { odd: true, third: true }), [100, 67]);
  assert.deepEqual(await pages(999, { odd: true }), [500]);

  const first = await within(node, { rows }, ({ rows }) => rows.list({ limit: 2 }));
  await within(node, { rows }, ({ rows }) => rows.remove(1_001));
  assert.equal((await within(node, { rows }, ({ rows }) => rows.list({ limit: 1_000, cursor: first.next }))).items.length, 999);
});

test("a cursor from elsewhere is refused, or names a place among the same rows: never those of another", async () => {
  const node = await testNode();
  await within(node, { values }, ({ values }) => values.put("mine", 1), { tenant: "me" });
  await within(node, { values }, ({ values }) => values.put("theirs", 2), { tenant: "you" });
  const forged = [
    ["../you/", 0],
    ["", -1],
    ["zzz", 1e9],
    ["\u0000", 0],
    ["a".repeat(10_000), 0],
  ].map((parts) => Buffer.from(JSON.stringify(parts)).toString("base64url"));

  for (const cursor of ["", "!", "null", Buffer.from("[]").toString("base64url"), Buffer.from('{"a":1}').toString("base64url")])
    await assert.rejects(
      within(node, { values }, ({ values }) => values.list({ limit: 5, cursor })),
      (fault) => Fault.is(fault, "page.bad-cursor"),
    );
  for (const cursor of forged)
    assert.ok(!(await within(node, { values }, ({ values }) => values.list({ limit: 5, cursor }), { tenant: "me" })).items.includes(2));
  for (const limit of [0, -1, 1.5, 1_001, Number.NaN, Infinity])
    await assert.rejects(
      within(node, { values }, ({ values }) => values.list({ limit })),
      (fault) => Fault.is(fault, "page.limit-out-of-range"),
    );
});

test("seeds are put once by two nodes that start at once, also when they are too many or too large for one commit", async () => {
  const one = await testNode({ seed: "one" });
  const two = await testNode({ store: one.store, clock: one.clock, seed: "two" });
  const many = records("many", { key: z.string(), value: z.string(), seed: Array.from({ length: 450 }, (_, i) => [`k${i}`, "v"] as const) });
  const large = records("large", { key: z.string(), value: z.string(), seed: Array.from({ length: 12 }, (_, i) => [`k${i}`, "v".repeat(200_000)] as const) });

  for (const seeded of [many, large] as const) {
    await Promise.all([one, two].map(async (node) => definitionOf(seeded).prepare?.(node)));
    await within(one, { seeded }, ({ seeded }) => seeded.remove("k1"));
    await Promise.all([one, two].map(async (node) => definitionOf(seeded).prepare?.(node)));
    const rows = await one.store.read.list({ prefix: `${seeded.name}/`, order: "key", limit: 1_000 });
    assert.equal(rows.length, (seeded === many ? 450 : 12) - 1);
  }
});

test("a watch shows the last of many changes, each at most once, and what came between its look and its wait", async () => {
  const node = await testNode();
  const stop = new AbortController();
  const seen: unknown[] = [];
  const put = (value: number) => within(node, { values }, ({ values }) => values.put("k", value));
  const watching = within(
    node,
    { values },
    async ({ values }) => {
      for await (const value of values.watch("k")) {
        seen.push(value);
        if (value === 0) await put(1); // between a look and the next wait
        if (value === 9) stop.abort(Fault.create("stream.closed", "done", "nothing"));
      }
    },
    { mode: "read", signal: stop.signal },
  ).catch(() => undefined);
  for (let i = 0; i < 5; i++) await turn();
  await put(0);
  for (let i = 0; i < 10; i++) await turn();
  await Promise.all([put(2), put(3), put(9)]);
  for (let i = 0; i < 20; i++) await turn();
  await watching;

  assert.deepEqual([seen[0], seen[1], seen[2], seen.at(-1)], [undefined, 0, 1, 9]);
  assert.equal(new Set(seen).size, seen.length);
});

test("a record is kept as long as it should be, though the clock of the node that puts it is an hour behind the store's", async () => {
  const clock = virtualClock();
  const store = await openSqlite({ path: ":memory:", clock });
  const node = await testNode({ store, clock: { ...clock, wallMs: () => clock.wallMs() - 3_600_000 } });
  const held = records("held", { key: z.string(), value: z.string(), expire: "1m" });

  await within(node, { held }, ({ held }) => held.put("seat", "ada"));
  await clock.advance(59_000);
  const kept = await within(node, { held }, ({ held }) => held.get("seat"));
  await clock.advance(2_000);
  const gone = await within(node, { held }, ({ held }) => held.get("seat"));

  assert.deepEqual([kept, gone], ["ada", undefined]);
  await store.close();
});
