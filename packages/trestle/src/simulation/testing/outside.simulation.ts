/** Calls to the outside from a durable handler: under one key over crashes, and what was answered is what is kept. */
import { z } from "zod";
import { app, external, Fault, mutation, post, query, queue, records, service } from "../../index.ts";
import type { Random } from "../../kernel/index.ts";
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

/** A line that is often engaged. */
const line = ({ random }: { readonly random: Random }) =>
  gatePolicy("line", {
    refused: "line.engaged",
    enter: () => (random.next() < 0.3 ? declined : 0),
    fault: () => Fault.create("line.engaged", "the line is engaged", "Call again."),
  });
const lender = external(
  "lender",
  { timeout: "1s", retry: false, policy: line },
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

const notary = external(
  "notary",
  { timeout: "1s", retry: false, policy: line },
  {
    isOpen: query({ input: z.object({}), returns: z.object({ open: z.boolean() }) }, (_input, wire) => wire.get("/open")),
    certify: mutation({ input: z.object({ id: z.string() }), returns: z.object({ deed: z.string() }) }, (asked, wire) => wire.post("/deeds", asked)),
  },
);
const deeds = records("deeds", { key: z.string(), value: z.string() });
const registry = service(
  "registry",
  { uses: { notary, deeds } },
  {
    register: post("/deeds", { body: z.object({ id: z.string() }), idempotent: true, timeout: "5s" }, async ({ body }, { notary, deeds }) => {
      await notary.isOpen({});
      const { deed } = await notary.certify(body);
      deeds.put(body.id, deed);
      return { deed };
    }),
  },
);
const estates = records("estates", { key: z.string(), value: z.object({ sold: z.enum(["by deed", "by word"]).optional() }) });
const selling = queue(
  "selling",
  { input: z.object({ id: z.string() }), uses: { estates, registry }, retry: patient, timeout: "500ms" },
  async ({ id }, { estates, registry }, { attempt }) => {
    try {
      await registry.register({ body: { id } });
      estates.put(id, { sold: "by deed" });
    } catch (fault) {
      // Of the query, or of the mutation: that one is told behind a recovery point.
      const notCalled = Fault.is(fault, "line.engaged") || Fault.is(fault, "external.unreachable");
      if (attempt === 1 || !notCalled) throw fault;
      estates.put(id, { sold: "by word" });
    }
  },
);
const broker = service(
  "broker",
  { uses: { estates, selling } },
  {
    sell: post("/estates", { body: z.object({ id: z.string() }), idempotent: true }, ({ body: { id } }, { estates, selling }) => {
      estates.put(id, {});
      selling.send({ id });
      return {};
    }),
  },
);

/** As `anotherWay`, where a service stands between: what it has begun is not told as what it has not. */
export const wordOrDeed = scenario(app("estate-agency", [broker, selling, registry]), {
  uses: { broker, estates, deeds },
  for: "15s",
  outside: [model(notary, { isOpen: () => ({ open: true }), certify: ({ id }) => ({ deed: `deed of ${id}` }) })],
  clients: {
    count: 3,
    times: 4,
    each: async ({ broker }, chance) => void (await broker.sell({ body: { id: chance.id() } })),
  },
  eventually: {
    "what is sold by word has no deed as well": async ({ estates, deeds }) => {
      const { items } = await estates.list({ limit: 1_000 });
      sometimes(
        "an estate is sold by word",
        items.some(({ sold }) => sold === "by word"),
      );
      const byDeed = items.filter(({ sold }) => sold === "by deed").length;
      return items.every(({ sold }) => sold !== undefined) && byDeed === (await deeds.list({ limit: 1_000 })).items.length;
    },
  },
});
