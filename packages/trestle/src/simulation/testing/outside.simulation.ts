/** Calls to the outside from a durable handler: under one key over crashes, and what was answered is what is kept. */
import { z } from "zod";
import { app, external, Fault, mutation, post, query, queue, records, service } from "../../index.ts";
import { declined, gatePolicy } from "../../resilience/index.ts";
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

const lender = external(
  "lender",
  {
    timeout: "1s",
    retry: false,
    // A line that is often engaged.
    policy: ({ random }) =>
      gatePolicy("line", {
        refused: "line.engaged",
        enter: () => (random.next() < 0.3 ? declined : 0),
        fault: () => Fault.create("line.engaged", "the line is engaged", "Call again."),
      }),
  },
  {
    lend: mutation({ input: z.object({ order: z.string() }), returns: z.object({ loan: z.string() }) }, (order, wire) => wire.post("/loans", order)),
    has: query({ input: z.object({ order: z.string() }), returns: z.object({ loan: z.string().optional() }) }, ({ order }, wire) =>
      wire.get(`/loans/${order}`),
    ),
  },
);
const sales = records("sales", { key: z.string(), value: z.object({ paid: z.enum(["by the lender", "in cash"]).optional() }) });
const patient = { attempts: 100, from: "50ms", upTo: "2s" } as const;
const audit = queue("audit", { input: z.object({ order: z.string() }), uses: { lender }, retry: patient }, async ({ order }, { lender }) => {
  const { loan } = await lender.has({ order });
  always("what is paid in cash is not lent as well", loan === undefined, { order });
});
const lending = queue(
  "lending",
  { input: z.object({ order: z.string() }), uses: { sales, lender, audit }, retry: patient },
  async ({ order }, { sales, lender, audit }, { attempt }) => {
    try {
      await lender.lend({ order });
      sales.put(order, { paid: "by the lender" });
    } catch (fault) {
      if (attempt === 1 || !Fault.is(fault, "external.unreachable")) throw fault;
      sales.put(order, { paid: "in cash" });
      audit.send({ order });
    }
  },
);
const counter = service(
  "counter",
  { uses: { sales, lending } },
  {
    sell: post("/sales", { body: z.object({ order: z.string() }), idempotent: true }, ({ body: { order } }, { sales, lending }) => {
      sales.put(order, {});
      lending.send({ order });
      return {};
    }),
  },
);

/** Who goes another way when the other side was not called has not called it, in this run or an earlier one. */
export const anotherWay = scenario(app("lending-shop", [counter, lending, audit]), {
  uses: { counter, sales },
  for: "15s",
  outside: [
    model(lender, {
      lend: ({ order }, { memory }) => {
        const loan = `loan of ${order}`;
        memory.set(order, loan);
        return { loan };
      },
      has: ({ order }, { memory }) => ({ loan: memory.get(order) as string | undefined }),
    }),
  ],
  clients: {
    count: 3,
    times: 4,
    each: async ({ counter }, chance) => void (await counter.sell({ body: { order: chance.id() } })),
  },
  eventually: {
    "every sale is paid": async ({ sales }) => {
      const { items } = await sales.list({ limit: 1_000 });
      sometimes(
        "a sale is paid in cash",
        items.some(({ paid }) => paid === "in cash"),
      );
      return items.every(({ paid }) => paid !== undefined);
    },
  },
});
