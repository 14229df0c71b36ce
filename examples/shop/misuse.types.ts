// What must not compile around the shop. Each case is one mistake a tired person makes. Compile-only: `npm run typecheck` holds it. Not formatted:
// a broken line would move a mistake away from the comment that expects it.
import { z } from "zod";
import { aggregate, app, command, created, external, get, implement, kind, mutation, page, post, projection, query, queue, records, refuse, schedule, secret, service, setting, start, subscription, topic } from "trestle";
import shopApp, { mail, orderList, orders, payments, products, shop, stock } from "./shop.ts";

const OrderId = z.uuid().brand<"OrderId">();
const anOrder = OrderId.parse("0197a1b2-0000-7000-8000-000000000000");
const counters = records("counters", { key: z.int(), value: z.object({ n: z.number(), owner: z.string() }), index: ["owner"] });

// ---- wrong payloads -------------------------------------------------------------------------------------------------

queue("a", { input: z.object({}), uses: { mail } }, (_message, { mail }) => {
  // @ts-expect-error a field is missing
  mail.send({ to: "ada@example.com", subject: "Hello" });
  // @ts-expect-error a field has the wrong type
  mail.send({ to: "ada@example.com", subject: "Hello", text: 42 });
  // @ts-expect-error a field nobody declared
  mail.send({ to: "ada@example.com", subject: "Hello", text: "", html: "" });
  // @ts-expect-error a delay without a unit one can read
  mail.send({ to: "ada@example.com", subject: "Hello", text: "" }, { in: "30 sec" });
});

queue("b", { input: z.object({}), uses: { orders, counters, products } }, async (_message, { orders, counters, products }) => {
  // @ts-expect-error an unbranded string is not an OrderId
  await orders.ship("0197a1b2");
  // @ts-expect-error a string key for a numeric key
  await counters.get("7");
  // @ts-expect-error a field that is not indexed
  await counters.list({ limit: 10, where: { n: 1 } });
  // @ts-expect-error there is no such command
  await orders.refund(anOrder);
  // @ts-expect-error the command's input is missing
  await orders.cancel(anOrder);
  // @ts-expect-error a price is not a string
  products.put("TRE-001" as never, { sku: "TRE-001", name: "Table", priceCents: "189" });
});

// ---- edges nobody declared ------------------------------------------------------------------------------------------

queue("c", { input: z.object({}), uses: { mail } },
  // @ts-expect-error `orders` is not among the uses
  async (_message, { mail, orders }) => { mail.send({ to: "a@b.c", subject: "", text: "" }); });

service("d", { uses: { mail } }, {
  // @ts-expect-error `orders` is not among the service's uses
  ship: post("/ship", {}, async (_request, { orders }) => orders.ship(anOrder)),
});

service("d2", {}, {
  // @ts-expect-error this service uses nothing
  ship: post("/ship", {}, async (_request, { orders }) => { void orders; return "x"; }),
});

// @ts-expect-error a component is inert: it has no operations outside a handler
mail.send({ to: "ada@example.com", subject: "Hello", text: "" });
// @ts-expect-error the outer name is the component, not the handle
queue("e", { input: z.object({}) }, async () => { await orders.ship(anOrder); });
// @ts-expect-error an operation of a service is not a function of the service
shop.placeOrder({ body: {} });
// @ts-expect-error nothing can be asked of a schedule, so it cannot be used
queue("f", { input: z.object({}), uses: { nightly: schedule("nightly", { every: "1d" }, () => {}) } }, () => {});

// ---- missing and superfluous handlers -------------------------------------------------------------------------------

aggregate("g", {
  id: OrderId, events: { Opened: z.object({}), Closed: z.object({}) }, initial: () => ({ open: false }),
  // @ts-expect-error an event without a fold
  evolve: { Opened: () => ({ open: true }) },
}, {});

aggregate("h", {
  id: OrderId, events: { Opened: z.object({}) }, initial: () => ({ open: false }),
  // @ts-expect-error a fold of an event that does not exist
  evolve: { Opened: () => ({ open: true }), Shut: () => ({ open: false }) },
}, {});

aggregate("i", {
  id: OrderId, events: { Opened: z.object({ by: z.string() }) }, initial: () => ({ open: false }),
  evolve: { Opened: () => ({ open: true }) },
}, {
  // @ts-expect-error there is no such event
  shut: command((_state, emit) => emit.Shut()),
  // @ts-expect-error the event needs its data
  open: command((_state, emit) => emit.Opened({ at: 1 })),
  // @ts-expect-error state is what `initial` says it is
  look: command((state) => state.closed ? undefined : refuse("no")),
  // @ts-expect-error `get` is the aggregate's own
  get: command(() => undefined),
});

// @ts-expect-error an event of another aggregate
subscription("j", { to: orders }, { StockReserved: () => {} });
subscription("k", { to: orders }, {
  // @ts-expect-error the data of a cancellation has no payment
  OrderCancelled: ({ data }) => void data.paymentId,
});

projection("l", { from: orders, row: z.object({ id: OrderId, total: z.number() }) }, {
  // @ts-expect-error a row without all its fields
  creates: { OrderPlaced: (_placed, { key }) => ({ id: key }) },
});
// @ts-expect-error an event that does not exist
projection("m", { from: orders, row: z.object({ n: z.number() }) }, { creates: { OrderOpened: () => ({ n: 1 }) } });
// @ts-expect-error an index on a field that does not exist
projection("n", { from: orders, row: z.object({ n: z.number() }), index: ["customer"] }, { creates: { OrderPlaced: () => ({ n: 1 }) } });

// @ts-expect-error a queue with its handler where the handler is missing
queue("q", { input: z.object({}), uses: { mail } });

// ---- outcomes -------------------------------------------------------------------------------------------------------

queue("r", { input: z.object({}), uses: { stock } }, async (_message, { stock }) => {
  const reserved = await stock.reserve("TRE-001" as never, { orderId: anOrder, quantity: 1 });
  // @ts-expect-error the state is only there when the command was accepted
  void reserved.state;
  // @ts-expect-error a refusal is no longer possible here, and this one never was
  if (!reserved.ok && reserved.refused === "sold") return;
});
// @ts-expect-error a job cannot be refused: it is done, dead, or later
queue("r2", { input: z.object({}), uses: { stock } }, (_message, { stock }) => stock.reserve("TRE-001" as never, { orderId: anOrder, quantity: 1 }));

service("s", { uses: { orders, orderList } }, {
  // @ts-expect-error a refusal that `refuses` does not declare
  ship: post("/ship", {}, () => refuse("not-paid")),
  // @ts-expect-error `not-paid` comes from the command; only `too-late` is declared
  shipIt: post("/ship-it", { refuses: { "too-late": 409 } }, async (_request, { orders }) => { const shipped = await orders.ship(anOrder); return shipped.ok ? "shipped" : shipped; }),
  // @ts-expect-error a row that may be missing needs a word about it
  find: get("/find", {}, async (_request, { orderList }) => orderList.get(anOrder)),
  // @ts-expect-error the body is not what `returns` promises
  count: get("/count", { returns: z.object({ n: z.number() }) }, () => ({ n: "one" })),
  // @ts-expect-error the schema's keys are not the path's
  wrong: get("/orders/:id", { params: z.object({ order: z.string() }) }, () => "x"),
  // @ts-expect-error no body was declared
  body: post("/body", {}, ({ body }) => body.id),
  // @ts-expect-error no query parameter of that name
  query: get("/query", { query: page() }, ({ query }) => query.sort),
});

// ---- the wrong place ------------------------------------------------------------------------------------------------

service("t", { uses: { orders, mail, payments } }, {
  // @ts-expect-error a GET does not write
  view: get("/view", {}, async (_request, { mail }) => { mail.send({ to: "a@b.c", subject: "", text: "" }); return "x"; }),
  // @ts-expect-error nor does it command
  touch: get("/touch", {}, async (_request, { orders }) => { await orders.ship(anOrder); return "x"; }),
  // @ts-expect-error money moves only in a handler that will be finished: this route is not idempotent
  pay: post("/pay", {}, async (_request, { payments }) => payments.charge({ orderId: anOrder, amountCents: 1 })),
  fine: post("/fine", { idempotent: true }, async (_request, { payments }) => payments.charge({ orderId: anOrder, amountCents: 1 })),
  // @ts-expect-error a recovery point needs a handler that will be finished
  step: post("/step", {}, (_request, _uses, { step }) => step("x", async () => "y")),
});
subscription("u", { to: orders, when: "in-commit", uses: { payments } }, {
  // @ts-expect-error inside another's commit nobody talks to the outside
  OrderPlaced: async ({ key }, { payments }) => { await payments.charge({ orderId: key, amountCents: 1 }); },
});

// ---- the rest of the house ------------------------------------------------------------------------------------------

// @ts-expect-error Redis is not a store of truth
await start(shopApp, { store: "redis://localhost" });
// @ts-expect-error a role is a list
await start(shopApp, { roles: "web" });
// @ts-expect-error a topic's event has a schema
queue("ab", { input: z.object({}), uses: { t: topic("t", { events: { Done: z.object({ n: z.number() }) } }) } }, (_m, { t }) => t.publish.Done({ n: "1" }));
// @ts-expect-error an answer of the wrong shape is parsed, not assumed
external("ad", {}, { price: query({ input: z.object({}), returns: z.number() }, async () => 1) }) satisfies { price: () => Promise<string> };

// ---- parts that are implemented elsewhere -----------------------------------------------------------------------------

const fetchPage = queue("fetch-page", { input: z.object({ url: z.url() }) });
const parsePage = queue("parse-page", { input: z.object({ html: z.string() }) });
const fetcher = implement(fetchPage, { uses: { parsePage } }, async ({ url }, { parsePage }, { step }) => {
  parsePage.send({ html: await step("download", async ({ signal }) => (await fetch(url, { signal })).text()) });
});
const parser = implement(parsePage, { uses: { fetchPage }, concurrency: 4 }, ({ html }, { fetchPage }, job) => {
  for (const [url] of html.matchAll(/https:\S+/g)) fetchPage.send({ url }, { unique: url });
  if (html === "") return job.dead("an empty page stays empty");
});
const Invoice = z.object({ number: z.string(), cents: z.int() });
const billing = service("billing", { uses: {} }, {
  invoice: post("/invoices", { body: z.object({ orderId: z.string() }), idempotent: true, returns: Invoice, refuses: { "no-such-order": 404 } }),
  read: get("/invoices/:number", { returns: Invoice, refuses: { "no-such-invoice": 404 } }),
});
const invoicing = subscription("invoicing", { to: orders, uses: { billing } }, {
  OrderShipped: async ({ key }, { billing }, { log }) => { const invoice = await billing.invoice({ body: { orderId: key } }); if (!invoice.ok) return log.warn("no invoice", { why: invoice.refused }); },
});

// @ts-expect-error two queues are used, one is implemented, the other is forgotten
app("o", [fetcher]);
app("p", [fetcher, parser]);
// @ts-expect-error a contract that is used, neither implemented nor elsewhere
app("o2", [invoicing]);
app("p2", [invoicing], { elsewhere: [billing] });
app("p3", [invoicing, implement(billing, {}, { invoice: async () => ({ number: "", cents: 1 }), read: async ({ params }) => params.number === "1" ? { number: "", cents: 1 } : refuse("no-such-invoice") })]);
// @ts-expect-error a contract that nobody implements
app("o3", [billing]);
// @ts-expect-error an answer the contract does not have
implement(billing, {}, { invoice: async () => ({ number: "", cents: 1 }), read: async () => refuse("gone") });
// @ts-expect-error an operation of the contract is missing
implement(billing, {}, { invoice: async () => ({ number: "", cents: 1 }) });
// @ts-expect-error the message of this queue is a page, not a url
implement(parsePage, {}, ({ url }) => {});
// @ts-expect-error a complete queue is not implemented twice
implement(mail, {}, () => {});
service("bills", { uses: { billing } }, {
  // @ts-expect-error a call to another service needs a handler that will be finished
  bill: post("/bill", {}, async (_request, { billing }) => { await billing.invoice({ body: { orderId: "1" } }); return "x"; }),
});

// ---- kinds of one's own, and secrets -----------------------------------------------------------------------------------

const sequence = kind("sequence", {
  options: z.object({ startAt: z.int().nonnegative() }), needs: ["records.compare-and-set"], gives: ["sequence.without-gaps"],
  view: ({ name }, { records }) => ({ last: async () => Number(await records.get(name) ?? 0) }),
  handle: ({ name, options }, { records }) => ({
    last: async () => Number(await records.get(name) ?? 0),
    next: async () => { const number = Number(await records.get(name) ?? options.startAt) + 1; records.put(name, number); return number; },
  }),
});
const numbers = sequence("numbers", { startAt: 1000 });
// @ts-expect-error an option of the wrong type
sequence("numbers2", { startAt: "1000" });
// @ts-expect-error a view that looks cannot write
kind("peeping", { options: z.object({}), needs: [], gives: [], view: (_one, { records }) => ({ put: () => records.put("k", 1) }), handle: () => ({ put: () => undefined }) });
// @ts-expect-error a guarantee is a part and what it does
kind("vague", { options: z.object({}), needs: ["gapless"], gives: [], view: () => ({}), handle: () => ({}) });
service("ac", { uses: { numbers } }, {
  // @ts-expect-error a GET does not draw a number
  draw: get("/draw", {}, (_request, { numbers }) => numbers.next()),
  last: get("/last", {}, (_request, { numbers }) => numbers.last()),
});
queue("ae", { input: z.object({}), uses: { key: secret("KEY") } }, (_message, { key }) => {
  // @ts-expect-error a secret is not its text
  const text: string = key;
  void text;
});
// @ts-expect-error a setting is seen by everybody, so it is no credential
external("af", { url: "https://air.example", auth: setting("KEY") }, {});

void [created, mutation, orderList];
