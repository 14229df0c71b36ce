import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { z } from "zod";
import { app, Fault, open, projection, records, start, aggregate, command } from "../index.ts";
import { virtualClock } from "../kernel/index.ts";

const notes = records("notes", {
  key: z.string(),
  value: z.string(),
  seed: [
    ["welcome", "hello"],
    ["bye", "so long"],
  ],
});
const counter = aggregate(
  "counter",
  { id: z.string(), events: { Counted: z.object({}) }, initial: () => 0, evolve: { Counted: (n) => n + 1 } },
  { count: command((_n, emit) => emit.Counted()) },
);
const counts = projection(
  "counts",
  { from: counter, row: z.object({ n: z.int() }) },
  { creates: { Counted: () => ({ n: 1 }) }, updates: { Counted: ({ n }) => ({ n: n + 1 }) } },
);
const quiet = { store: "memory:", log: () => undefined } as const;

test("declaring is inert: an app reaches what its components use and follow, dependencies first, and starts nothing", () => {
  const declared = app("a", [counts, notes]);

  assert.deepEqual(
    declared.components.map(({ kind, name }) => `${kind} ${name}`),
    ["aggregate counter", "projection counts", "records notes"],
  );
  assert.deepEqual(declared.graph.edges, [{ from: "counts", to: "counter", operation: "follow" }]);
});

test("two components of one name are refused before anything is opened, naming both kinds", async () => {
  const other = records("counter", { key: z.string(), value: z.string() });

  await assert.rejects(
    start(app("a", [counter, other]), quiet),
    (fault) => Fault.is(fault, "app.duplicate-name") && /aggregate and a records/.test(fault.message),
  );
});

test("a bad name is refused where it is declared, with the rule and the value", () => {
  assert.throws(
    () => records("Not A Name", { key: z.string(), value: z.string() }),
    (fault) => Fault.is(fault, "component.bad-name") && fault.message.includes('"Not A Name"'),
  );
  assert.throws(
    () => app("../etc", []),
    (fault) => Fault.is(fault, "app.bad-name"),
  );
});

test("seeds are put once in the life of a store: a removed one stays removed, a later one is added", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-seed-"));
  const store = `sqlite:${join(directory, "a.db")}` as const;
  const more = records("notes", {
    key: z.string(),
    value: z.string(),
    seed: [
      ["welcome", "hello"],
      ["bye", "so long"],
      ["new", "later"],
    ],
  });
  try {
    {
      await using node = await start(app("a", [notes]), { ...quiet, store });
      await node.open(notes).remove("welcome");
    }
    await using node = await start(app("a", [more]), { ...quiet, store });

    assert.deepEqual(
      [await node.open(more).get("welcome"), await node.open(more).get("bye"), await node.open(more).get("new")],
      [undefined, "so long", "later"],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a component that is not part of the app cannot be opened", async () => {
  await using node = await start(app("a", [notes]), quiet);

  assert.throws(
    () => node.open(counter),
    (fault) => Fault.is(fault, "app.component-not-listed"),
  );
});

test("without roles nothing runs in the background", async () => {
  const declared = app("a", [counts]);
  await using script = await start(declared, { ...quiet, roles: [], clock: virtualClock() });

  await script.open(counter).count("x");
  await script.idle();

  assert.equal(await script.open(counts).get("x"), undefined);
});

test("a node may be stopped twice, and drained before", async () => {
  const node = await start(app("a", [counts]), quiet);

  await node.drain("1s");
  await node.stop();
  await node.stop();

  await assert.rejects(
    node.commit({}, () => undefined).then(() => node.open(counter).count("x")),
    (fault) => Fault.is(fault),
  );
});

test("[F19] a transaction's statements and the handles' writes are one commit; a throw takes both back", async () => {
  await using node = await start(app("a", [notes]), quiet);
  await node.transaction({}, async (_uses, { connection }) => void (await connection.execute({ text: "create table ledger (entry text)", parameters: [] })));

  await node.transaction({ notes }, async ({ notes }, { connection }) => {
    await connection.execute({ text: "insert into ledger values (?)", parameters: ["kept"] });
    notes.put("kept", "yes");
  });
  await assert.rejects(
    node.transaction({ notes }, async ({ notes }, { connection }) => {
      await connection.execute({ text: "insert into ledger values (?)", parameters: ["lost"] });
      notes.put("lost", "yes");
      throw new Error("no");
    }),
    /no/,
  );

  const rows = await node.transaction(
    {},
    async (_uses, { connection }) => (await connection.execute({ text: "select entry from ledger", parameters: [] })).rows,
  );
  assert.deepEqual(
    rows.map(({ entry }) => entry),
    ["kept"],
  );
  assert.deepEqual([await node.open(notes).get("kept"), await node.open(notes).get("lost")], ["yes", undefined]);
});

test("[F19] a transaction in memory reads through its handles, and its commit rests on what it has read", async () => {
  await using node = await start(app("a", [notes]), quiet);
  await node.commit({ notes }, ({ notes }) => notes.put("k", "before"));

  const seen = await node.transaction({ notes }, async ({ notes }) => {
    const value = await notes.get("k");
    notes.put("k", `${value}, after`);
    return [value, (await notes.list({ limit: 5 })).items.includes("before")];
  });

  assert.deepEqual([seen, await node.open(notes).get("k")], [["before", true], "before, after"]);
});

test("a piece alone: one component, its own store, no app", async () => {
  await using alone = await open(notes, { store: "memory:" });

  await alone.put("a", "hello");

  assert.equal(await alone.get("a"), "hello");
});

test("a store's URL that nothing understands is refused with what it may be", async () => {
  await assert.rejects(
    start(app("a", [notes]), { ...quiet, store: "redis://localhost" as never }),
    (fault) => Fault.is(fault) && fault.message.includes("redis://localhost"),
  );
});
