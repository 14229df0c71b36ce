/** A schedule: each tick once, however many nodes there are and whichever of them dies. */
import { z } from "zod";
import { app, records, schedule } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const ticks = records("ticks", { key: z.string(), value: z.int() });
const notes = records("notes", { key: z.string(), value: z.int() });
const clock = schedule("clock", { every: "2s", missed: "each", overlap: "queue", uses: { ticks } }, async ({ due }, { ticks }) => {
  if (Math.random() < 0.1) throw new Error("the hand slipped");
  const key = String(due);
  ticks.put(key, ((await ticks.get(key)) ?? 0) + 1);
});

export const tickingOnce = scenario(app("clockwork", [clock, ticks, notes]), {
  uses: { ticks, notes },
  for: "20s",
  clients: { count: 1, times: 2, each: async ({ notes }, chance) => void (await notes.put(chance.id(), 1)) },
  always: {
    "no tick is done twice": async ({ ticks }) => {
      const { items } = await ticks.list({ limit: 1_000 });
      sometimes("it has ticked", items.length > 3);
      return items.every((times) => times === 1);
    },
  },
  eventually: {
    "it ticks": async ({ ticks }) => (await ticks.list({ limit: 1_000 })).items.length >= 5,
  },
});
