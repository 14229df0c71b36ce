/** A kind of one's own, on the store's primitives: numbers without gaps, each given out once. */
import { z } from "zod";
import { app, kind, post, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const sequence = kind("sequence", {
  options: z.object({ startAt: z.int() }),
  needs: ["records.compare-and-set"],
  gives: ["sequence.without-gaps"],
  view: (_of, { records }) => ({ last: () => records.get("last") }),
  handle: ({ options }, { records, log }) => ({
    last: () => records.get("last"),
    async next(): Promise<number> {
      const next = Number((await records.get("last")) ?? options.startAt) + 1;
      records.put("last", next);
      log.append("given", [{ type: "Given", data: { next } }]);
      return next;
    },
    async given(): Promise<number> {
      let count = 0;
      for await (const _ of log.read("given")) count++;
      return count;
    },
  }),
});
const numbers = sequence("numbers", { startAt: 1_000 });
const invoices = records("invoices", { key: z.string(), value: z.int() });
const office = service(
  "office",
  { uses: { numbers, invoices } },
  {
    write: post("/invoices", { body: z.object({ id: z.string() }), idempotent: true }, async ({ body: { id } }, { numbers, invoices }) => {
      const number = await numbers.next();
      invoices.put(id, number);
      return { number };
    }),
  },
);

export const numberingInvoices = scenario(app("office", [office]), {
  uses: { office, numbers, invoices },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ office, invoices }, chance) => {
      const id = chance.id();
      const { number } = (await office.write({ body: { id } })).body;
      sometimes("numbers are given");
      const kept = await invoices.get(id);
      if (kept !== number) throw new Error(`invoice ${id} was answered as ${number} and is ${kept}`);
    },
  },
  always: {
    "numbers have no gap and no number is there twice": async ({ numbers, invoices }) => {
      const all = (await invoices.list({ limit: 1_000 })).items.toSorted((a, b) => a - b);
      return all.every((number, at) => number === 1_001 + at) && (await numbers.given()) === all.length;
    },
  },
});
