/** Calls to the outside from a durable handler: under one key over crashes, and what was answered is what is kept. */
import { z } from "zod";
import { app, external, mutation, post, queue, records, service } from "../../index.ts";
import { always, model, scenario, sometimes } from "../index.ts";

const Charge = z.object({ order: z.string(), cents: z.int() });
const bank = external(
  "bank",
  { timeout: "2s", retry: { attempts: 3 } },
  {
    charge: mutation(
      { input: Charge, returns: z.object({ receipt: z.string() }), lookup: ({ order }, wire) => wire.find(`/charges/${order}`) },
      (charge, wire) => wire.post("/charges", charge),
    ),
  },
);
const orders = records("orders", { key: z.string(), value: z.object({ cents: z.int(), receipt: z.string().optional() }) });
const charging = queue(
  "charging",
  { input: z.object({ order: z.string() }), uses: { orders, bank }, retry: { attempts: 100, from: "50ms", upTo: "2s" } },
  async ({ order }, { orders, bank }) => {
    const placed = await orders.get(order);
    if (!placed) throw new Error(`there is no order ${order}`);
    const { receipt } = await bank.charge({ order, cents: placed.cents });
    orders.put(order, { ...placed, receipt });
  },
);
const shop = service(
  "shop",
  { uses: { orders, charging } },
  {
    order: post("/orders", { body: Charge, idempotent: true }, ({ body: { order, cents } }, { orders, charging }) => {
      orders.put(order, { cents });
      charging.send({ order });
      return {};
    }),
  },
);

export const chargingOnce = scenario(app("charging-shop", [shop, charging]), {
  uses: { shop, orders },
  for: "15s",
  outside: [
    model(bank, {
      charge: ({ order, cents }, { chance, memory }) => {
        // It acts, and keeps the key; a second key for one order is a second charge.
        always("an order is charged once", !memory.has(order), { order });
        const receipt = `${order} ${cents} ${chance.integer(1, 1_000)}`;
        memory.set(order, receipt);
        return { receipt };
      },
    }),
  ],
  clients: {
    count: 3,
    times: 4,
    each: async ({ shop }, chance) => void (await shop.order({ body: { order: chance.id(), cents: chance.integer(1, 500) } })),
  },
  always: {
    "a receipt is that of its order": async ({ orders }) => {
      const { items } = await orders.list({ limit: 1_000 });
      sometimes(
        "an order has its receipt",
        items.some(({ receipt }) => receipt !== undefined),
      );
      return items.every(({ receipt, cents }) => receipt === undefined || receipt.split(" ")[1] === String(cents));
    },
  },
  eventually: {
    "every order has its receipt": async ({ orders }) => (await orders.list({ limit: 1_000 })).items.every(({ receipt }) => receipt !== undefined),
  },
});
