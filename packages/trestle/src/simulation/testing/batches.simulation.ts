/** Jobs that are handled together: each is ended by itself, and its effect is there once. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const washed = records("washed", { key: z.string(), value: z.int() });
const broken = records("broken", { key: z.string(), value: z.int() });
const washing = queue(
  "washing",
  { input: z.object({ id: z.string(), isBroken: z.boolean() }), batch: 4, uses: { washed, broken }, retry: { attempts: 50, from: "20ms", upTo: "500ms" } },
  async (messages, { washed, broken }) => {
    sometimes("several are washed together", messages.length > 1);
    if (Math.random() < 0.1) throw new Error("the machine stopped");
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
    for (const one of messages) {
      const { id, isBroken } = one.message;
      const luck = Math.random();
      if (isBroken) {
        broken.add(id, 1);
        one.dead("it has a hole");
      } else if (luck < 0.1) one.fail(new Error("it is still dirty"));
      else if (luck < 0.2) one.later("200ms");
      else washed.put(id, ((await washed.get(id)) ?? 0) + 1);
    }
  },
);
const laundry = service(
  "laundry",
  { uses: { washing } },
  {
    bring: post(
      "/baskets",
      { body: z.object({ items: z.array(z.object({ id: z.string(), isBroken: z.boolean() })) }), idempotent: true },
      ({ body: { items } }, { washing }) => {
        washing.sendMany(items);
        return {};
      },
    ),
  },
);

export const washingTogether = scenario(app("laundry", [laundry, washing]), {
  uses: { laundry, washed, broken, washing },
  for: "10s",
  clients: {
    count: 3,
    times: 3,
    each: async ({ laundry }, chance, history) => {
      const items = Array.from({ length: chance.integer(1, 6) }, () => ({ id: chance.id(), isBroken: chance.next() < 0.15 }));
      const brought = history.invoke<number>("bring");
      await laundry.bring({ body: { items } });
      brought.ok(items.length);
    },
  },
  always: {
    "nothing is washed twice, nor set aside twice": async ({ washed, broken, washing }) => {
      const holes = (await broken.list({ limit: 1_000 })).items;
      return [...(await washed.list({ limit: 1_000 })).items, ...holes].every((times) => times === 1) && holes.length === (await washing.depth()).dead;
    },
  },
  eventually: {
    "all that was brought is washed or set aside": async ({ washed, broken, washing }, history) => {
      const { waiting, running } = await washing.depth();
      const ended = (await washed.list({ limit: 1_000 })).items.length + (await broken.list({ limit: 1_000 })).items.length;
      const brought = history.history<string, number>().reduce((sum, { result = 0 }) => sum + result, 0);
      return waiting + running === 0 && ended >= brought;
    },
  },
});
