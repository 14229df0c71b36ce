import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, open, start } from "../app/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { get, post, service } from "../service/index.ts";
import { kind } from "./index.ts";

const quiet = { store: "memory:", log: () => undefined } as const;

// The tour's: a third-party kind in fourteen lines.
const sequence = kind("sequence", {
  options: z.object({ startAt: z.int().nonnegative() }),
  needs: ["records.compare-and-set"],
  gives: ["sequence.without-gaps"],
  view: ({ name }, { records }) => ({ last: async () => Number((await records.get(name)) ?? 0) }),
  handle: ({ name, options }, { records }) => ({
    last: async () => Number((await records.get(name)) ?? 0),
    next: async () => {
      const number = Number((await records.get(name)) ?? options.startAt) + 1;
      records.put(name, number);
      return number;
    },
  }),
});
const invoiceNumbers = sequence("invoice-numbers", { startAt: 1000, owner: "books" });
const given = records("given", { key: z.string(), value: z.object({ number: z.int() }) });
const billing = service(
  "billing",
  { uses: { invoiceNumbers, given } },
  {
    number: post("/numbers/:id", {}, async ({ params }, { invoiceNumbers, given }) => {
      const number = await invoiceNumbers.next();
      if (params.id === "13") throw new Error("boom");
      given.put(params.id, { number });
      return { number };
    }),
    last: get("/last", {}, (_request, { invoiceNumbers }) => invoiceNumbers.last()),
  },
);

test("a kind of one's own joins the commit of whoever uses it: no number is lost or given twice, over conflicts, failures and two nodes' turns", async () => {
  await using node = await start(app("books", [billing]), quiet);
  const ask = (id: number) => node.fetch(new Request(`http://x/numbers/${id}`, { method: "POST" }));

  const answers = await Promise.all(Array.from({ length: 40 }, (_, id) => ask(id)));
  const numbers = await Promise.all(answers.filter(({ ok }) => ok).map(async (answer) => ((await answer.json()) as { number: number }).number));

  assert.equal(answers.filter(({ ok }) => !ok).length, 1);
  assert.deepEqual(
    numbers.sort((a, b) => a - b),
    Array.from({ length: 39 }, (_, i) => 1001 + i),
  );
  assert.equal(await (await node.fetch(new Request("http://x/last"))).text(), "1039");
  assert.equal(await node.open(invoiceNumbers).next(), 1040);
});

test("it stands in the graph with its annotations, and works alone", async () => {
  const { graph } = app("books", [billing]);
  await using alone = await open(invoiceNumbers, { store: "memory:" });

  assert.deepEqual(
    graph.components.find(({ name }) => name === "invoice-numbers"),
    { kind: "sequence", name: "invoice-numbers", role: "any", annotations: { owner: "books" } },
  );
  assert.equal(await alone.next(), 1001);
});

test("a store that lacks what a component needs is refused at the start, by name", async () => {
  const picky = kind("picky", { options: z.object({}), needs: ["store.reads-minds"], gives: [], view: () => ({}), handle: () => ({}) });

  await assert.rejects(
    start(app("books", [picky("one", {})]), quiet),
    (thrown) =>
      Fault.is(thrown, "app.guarantee-missing") && /picky "one" needs store.reads-minds; the store \(memory\) lacks store.reads-minds/.test(thrown.message),
  );
});

test("options are checked where they are declared, and guarantees have the shape of an id", () => {
  assert.throws(
    () => sequence("x", { startAt: -1 }),
    (thrown) => Fault.is(thrown, "kind.bad-options") && thrown.message.includes("startAt"),
  );
  const bad = { options: z.object({}), gives: [], view: () => ({}), handle: () => ({}) };
  assert.throws(
    () => kind("bad", { ...bad, needs: ["Reads.Minds"] }),
    (thrown) => Fault.is(thrown, "kind.bad-guarantee"),
  );
});

// A kind with a log, a queue and work of its own: it counts beats, and sends every second one.
const told = records("told", { key: z.string(), value: z.object({ beat: z.int() }) });
const hear = queue("hear", { input: z.object({ beat: z.int() }), uses: { told } }, ({ beat }, { told }) => told.put(String(beat), { beat }));
const runs: string[] = [];
const heart = kind("heart", {
  options: z.object({ beats: z.int() }),
  needs: ["log.gapless"],
  gives: ["heart.beats"],
  view: (_heart, { log }) => ({
    async beats() {
      let beats = 0;
      for await (const { data } of log.read("beats")) beats += (data as { by: number }).by;
      return beats;
    },
  }),
  handle: (_heart, { log }) => ({
    async beats() {
      let beats = 0;
      for await (const { data } of log.read("beats")) beats += (data as { by: number }).by;
      return beats;
    },
  }),
  async run({ options }, { commit, signal }) {
    runs.push("begun");
    for (let beat = 1; beat <= options.beats && !signal.aborted; beat++) {
      await commit(({ log, queue }) => {
        log.append("beats", [{ type: "Beat", data: { by: 1 } }]);
        if (beat % 2 === 0) queue.add({ queue: "hear", payload: { beat } });
      });
      if (beat === 2 && runs.length === 1) throw new Error("skipped a beat");
    }
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    runs.push("ended");
  },
});

test("a kind's own work runs on the node, commits, is begun again when it fails, and ends with the node", async () => {
  const clock = virtualClock();
  const own = heart("own", { beats: 4 });
  const node = await start(app("body", [own, hear]), { ...quiet, clock });

  await node.idle();
  await clock.advance(200);
  await node.idle();

  assert.equal(await node.open(own).beats(), 6);
  assert.deepEqual([await node.open(told).get("2"), await node.open(told).get("4"), await node.open(told).get("3")], [{ beat: 2 }, { beat: 4 }, undefined]);
  await node.stop();
  assert.deepEqual(runs, ["begun", "begun", "ended"]);
});
