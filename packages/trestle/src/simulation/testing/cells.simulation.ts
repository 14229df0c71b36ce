/** Records one by one: whatever fails, each key behaves as one value that everybody shares, and what was answered stays. */
import { z } from "zod";
import { app, post, records, service } from "../../index.ts";
import { checkLinearizable, register, scenario, sometimes, type RegisterCall } from "../index.ts";

const names = ["left", "right"] as const;
const Name = z.enum(names);
const cells = records("cells", { key: Name, value: z.string() });
const rack = service(
  "rack",
  { uses: { cells } },
  {
    /** Without an idempotency key: done at most once, and nobody knows whether when the answer is lost. */
    swap: post("/swaps", { body: z.object({ name: Name, from: z.string(), to: z.string() }) }, async ({ body: { name, from, to } }, { cells }) => {
      if (((await cells.get(name)) ?? "") !== from) return { swapped: false };
      cells.put(name, to);
      return { swapped: true };
    }),
  },
);

export const sharingCells = scenario(app("rack", [rack]), {
  uses: { rack, cells },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ rack, cells }, chance, history) => {
      const name = chance.pick(names);
      const read = history.invoke({ kind: "read" }, name);
      const from = (await cells.get(name)) ?? "";
      read.ok(from);
      const to = chance.id();
      if (chance.next() < 0.5) {
        const write = history.invoke({ kind: "write", value: to }, name);
        await cells.put(name, to);
        return write.ok();
      }
      const swap = history.invoke({ kind: "cas", from, to }, name);
      const answer = await rack.swap({ body: { name, from, to } });
      if (!answer.ok) return; // nobody knows
      sometimes("a swap comes too late", !answer.body.swapped);
      swap.ok(answer.body.swapped);
    },
  },
  eventually: {
    "each cell is one value that all share": async ({ cells }, history) => {
      for (const name of names) history.invoke({ kind: "read" }, name).ok((await cells.get(name)) ?? "");
      return checkLinearizable(history.history<RegisterCall>(), register(""));
    },
  },
});
