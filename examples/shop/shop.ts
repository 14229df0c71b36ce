// The example shop. An order is placed, paid and shipped, or it is cancelled; every mail is sent once.
import { z } from "zod";
import {
  aggregate,
  app,
  command,
  created,
  external,
  get,
  html,
  mutation,
  page,
  post,
  projection,
  query,
  queue,
  records,
  refuse,
  service,
  setting,
  sse,
  subscription,
  type Handles,
} from "trestle";
import { catalogue, firstStock } from "./catalogue.ts";
import { storefrontFile } from "./storefront/storefront.ts";

// ---- the words of the shop ------------------------------------------------------------------------------------------

export const Sku = z
  .string()
  .regex(/^[A-Z]{3}-\d{3}$/)
  .brand<"Sku">();
export const OrderId = z.uuid().brand<"OrderId">();
const Cents = z.int().nonnegative();
const Item = z.object({ sku: Sku, quantity: z.int().positive().max(100) });
const Held = z.object({ orderId: OrderId, quantity: z.int().positive() });
export const PlaceOrder = z.object({ customer: z.string().min(1).max(200), email: z.email().max(320), items: z.array(Item).min(1).max(50) });
const Placed = PlaceOrder.extend({ totalCents: Cents });
const Reason = z.object({ reason: z.string() });
const Payment = z.object({ paymentId: z.string() });
const Mail = z.object({ to: z.email(), subject: z.string(), text: z.string() });
const OrderRow = z.object({
  id: OrderId,
  customer: z.string(),
  status: z.enum(["placed", "paid", "shipped", "cancelled"]),
  totalCents: Cents,
  items: z.array(Item),
  paymentId: z.string().optional(),
  reason: z.string().optional(),
});

// ---- what the shop keeps --------------------------------------------------------------------------------------------

export const products = records("products", {
  key: Sku,
  value: z.object({ sku: Sku, name: z.string(), priceCents: Cents, about: z.string().default("") }),
  seed: catalogue.map((product) => [product.sku, product] as const),
});

export const stock = aggregate(
  "stock",
  {
    id: Sku,
    events: { StockReserved: Held, StockReleased: Held },
    initial: firstStock,
    evolve: {
      StockReserved: (available, { quantity }) => available - quantity,
      StockReleased: (available, { quantity }) => available + quantity,
    },
  },
  {
    reserve: command(Held, (available, held, emit) => (available >= held.quantity ? emit.StockReserved(held) : refuse("out-of-stock", { left: available }))),
    release: command(Held, (_available, held, emit) => emit.StockReleased(held)),
  },
);

interface Order extends z.infer<typeof Placed> {
  readonly status: "new" | "placed" | "paid" | "shipped" | "cancelled";
}

export const orders = aggregate(
  "orders",
  {
    id: OrderId,
    owner: "orders",
    dataClass: "confidential",
    events: {
      OrderPlaced: Placed,
      PaymentCaptured: Payment,
      PaymentDeclined: Reason,
      OrderShipped: z.object({}),
      OrderCancelled: Reason,
    },
    initial: (): Order => ({ status: "new", customer: "", email: "", items: [], totalCents: 0 }),
    evolve: {
      OrderPlaced: (_, placed) => ({ ...placed, status: "placed" }),
      PaymentCaptured: (order) => ({ ...order, status: "paid" }),
      PaymentDeclined: (order) => order,
      OrderShipped: (order) => ({ ...order, status: "shipped" }),
      OrderCancelled: (order) => ({ ...order, status: "cancelled" }),
    },
  },
  {
    place: command(Placed, (order, placed, emit) => (order.status === "new" ? emit.OrderPlaced(placed) : refuse("already-placed"))),
    pay: command(Payment, (order, payment, emit) => (order.status === "placed" ? emit.PaymentCaptured(payment) : refuse("not-awaiting-payment"))),
    decline: command(Reason, (order, why, emit) => (order.status === "placed" ? emit.PaymentDeclined(why) : refuse("not-awaiting-payment"))),
    ship: command((order, emit) => (order.status === "paid" ? emit.OrderShipped() : refuse("not-paid"))),
    cancel: command(Reason, (order, why, emit) => (order.status === "placed" ? emit.OrderCancelled(why) : refuse("too-late"))),
  },
);

export const orderList = projection(
  "order-list",
  { from: orders, row: OrderRow, when: "in-commit", index: ["customer"] },
  {
    creates: {
      OrderPlaced: ({ customer, totalCents, items }, { key }) => ({ id: key, customer, totalCents, items, status: "placed" }),
    },
    updates: {
      PaymentCaptured: (row, { paymentId }) => ({ ...row, paymentId, status: "paid" }),
      OrderShipped: (row) => ({ ...row, status: "shipped" }),
      OrderCancelled: (row, { reason }) => ({ ...row, reason, status: "cancelled" }),
    },
  },
);

// ---- the world outside ----------------------------------------------------------------------------------------------

const Charge = z.object({ orderId: OrderId, amountCents: Cents });
const Charged = z.discriminatedUnion("status", [
  z.object({ status: z.literal("captured"), paymentId: z.string() }),
  z.object({ status: z.literal("declined"), reason: z.string() }),
]);

/** Both say at one address who they are: what their health is asked by. */
const identity = query({ input: z.object({}), returns: z.object({ system: z.string() }) }, (_input, wire) => wire.get("/_identity"));
const health = { ask: "identity", input: {}, every: "5s" } as const;

export const payments = external(
  "payments",
  {
    url: setting("PAYMENTS_URL", { default: "http://localhost:3001" }),
    timeout: "2s",
    retry: { attempts: 4 },
    breaker: { cooldown: "10s" },
    health,
  },
  {
    identity,
    charge: mutation(
      {
        input: Charge,
        returns: Charged,
        key: ({ orderId }) => orderId,
        lookup: ({ orderId }, wire) => wire.find(`/charges/${orderId}`), // no answer? ask what became of it before giving up on it
      },
      (charge, wire) => wire.post("/charges", charge),
    ),
  },
);

const Mailbox = z.object({ items: z.array(Mail.extend({ id: z.string(), atMs: z.number() })) });

export const mailSink = external(
  "mail-sink",
  {
    url: setting("MAIL_URL", { default: "http://localhost:3002" }),
    timeout: "2s",
    retry: { attempts: 4 },
    breaker: { cooldown: "10s" },
    health,
  },
  {
    identity,
    deliver: mutation(
      {
        input: Mail.extend({ id: z.string() }),
        returns: z.object({ id: z.string() }),
        key: ({ id }) => id,
        outcome: "may-repeat", // the same letter twice under one message id is better than none
      },
      ({ id: _, ...letter }, wire) => wire.post("/messages", letter),
    ),
    received: query({ input: z.object({ to: z.email() }), returns: Mailbox }, ({ to }, wire) => wire.get(`/messages?to=${encodeURIComponent(to)}`)),
  },
);

// ---- what happens by itself -----------------------------------------------------------------------------------------

export const mail = queue("mail", { input: Mail, uses: { mailSink }, retry: { attempts: 20, upTo: "1m" } }, async (letter, { mailSink }, { id }) => {
  await mailSink.deliver({ id, ...letter });
});

export const fulfilment = queue(
  "fulfilment",
  {
    input: z.object({ orderId: OrderId }),
    uses: { orders, stock, payments },
    retry: { attempts: 20, upTo: "1m" },
  },
  async ({ orderId }, { orders, stock, payments }) => {
    const order = await orders.get(orderId);
    const held: z.infer<typeof Item>[] = [];

    for (const item of order.items) {
      const reserved = await stock.reserve(item.sku, { orderId, quantity: item.quantity });
      if (!reserved.ok) return giveUp(`only ${reserved.left} of ${item.sku} left`);
      held.push(item);
    }

    // A recovery point: what is written above is committed before the call, its answer is remembered, no crash charges twice.
    const charged = await payments.charge({ orderId, amountCents: order.totalCents });
    if (charged.status === "declined") {
      await orders.decline(orderId, { reason: charged.reason });
      return giveUp("your payment was declined");
    }

    await orders.pay(orderId, { paymentId: charged.paymentId });

    async function giveUp(reason: string) {
      for (const { sku, quantity } of held) await stock.release(sku, { orderId, quantity });
      await orders.cancel(orderId, { reason });
    }
  },
);

export const shipping = subscription(
  "shipping",
  { to: orders, uses: { orders, mail } },
  {
    PaymentCaptured: async ({ key }, { orders }) => {
      await orders.ship(key);
    },
    OrderShipped: async ({ key }, { orders, mail }) => {
      const { email, customer } = await orders.get(key);
      mail.send({ to: email, subject: "Your order is on its way", text: `Dear ${customer}, order ${key} has left our house.` });
    },
    OrderCancelled: async ({ key, data }, { orders, mail }) => {
      const { email, customer } = await orders.get(key);
      mail.send({ to: email, subject: "Your order was cancelled", text: `Dear ${customer}, we are sorry about order ${key}: ${data.reason}.` });
    },
  },
);

// ---- what people can ask for ----------------------------------------------------------------------------------------

const Accepted = z.object({ id: OrderId, status: z.string(), payment: z.literal("later").optional() });
const placing = { products, orders, fulfilment };

/** Takes no word from payments: while they are gone an order is placed all the same, and its buyer is told (`degradation-policies.yaml`). */
async function place(
  id: z.infer<typeof OrderId>,
  order: z.infer<typeof PlaceOrder>,
  { products, orders, fulfilment }: Handles<typeof placing>,
  told: Pick<z.infer<typeof Accepted>, "payment"> = {},
) {
  let totalCents = 0;
  for (const { sku, quantity } of order.items) {
    const product = await products.get(sku);
    if (!product) return refuse("unknown-sku", { sku });
    totalCents += quantity * product.priceCents;
  }

  const placed = await orders.place(id, { ...order, totalCents });
  if (!placed.ok) return placed;

  fulfilment.send({ orderId: id });
  return created({ id, status: placed.state.status, ...told }); // event, row, job and this answer: one commit
}

export const shop = service(
  "shop",
  {
    owner: "orders",
    slo: { availability: 0.999, p99: "300ms" },
    uses: { products, orders, orderList, stock, fulfilment, mailSink },
  },
  {
    placeOrder: post(
      "/orders",
      {
        body: PlaceOrder,
        returns: Accepted,
        idempotent: true,
        refuses: { "unknown-sku": 422, "already-placed": 409 },
        degrade: { partial: ({ body }, uses, { newId }) => place(newId(OrderId), body, uses, { payment: "later" }) },
      },
      ({ body }, uses, { newId }) => place(newId(OrderId), body, uses),
    ),

    getOrder: get(
      "/orders/:id",
      { params: z.object({ id: OrderId }), refuses: { "no-such-order": 404 } },
      async ({ params }, { orderList }) => (await orderList.get(params.id)) ?? refuse("no-such-order"),
    ),

    listOrders: get("/orders", { query: page() }, ({ query }, { orderList }) => orderList.list(query)),

    watchOrder: sse("/orders/:id/events", { params: z.object({ id: OrderId }) }, ({ params }, { orderList }) => orderList.watch(params.id)),

    listProducts: get("/products", { query: page() }, ({ query }, { products }) => products.list(query)),

    readStock: get("/stock/:sku", { params: z.object({ sku: Sku }) }, async ({ params }, { stock }) => ({
      sku: params.sku,
      available: await stock.get(params.sku),
    })),

    readMailbox: get(
      "/mailbox",
      { query: z.object({ to: z.email() }), returns: Mailbox, degrade: { stale: { for: "10m" }, static: { items: [] } } },
      ({ query }, { mailSink }) => mailSink.received({ to: query.to }),
    ),

    storefront: get("/", {}, () => html(storefrontFile("index.html"))),
    storefrontStyle: get(
      "/storefront/style.css",
      {},
      () => new Response(storefrontFile("style.css"), { headers: { "content-type": "text/css; charset=utf-8" } }),
    ),
    storefrontScript: get(
      "/storefront/page.js",
      {},
      () => new Response(storefrontFile("page.js"), { headers: { "content-type": "text/javascript; charset=utf-8" } }),
    ),
  },
);

export default app("shop", [shop, shipping]);
