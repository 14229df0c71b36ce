// What must not compile around queues, topics, subscriptions and schedules, and what must be inferred. Compile-only.
import { z } from "zod";
import * as v from "valibot";
import { aggregate, app, command, queue, records, schedule, subscription, topic, type DurableContext, type Handle, type JobContext, type JobRef, type JobResult, type Live, type Queue, type QueueHandle, type ReturningQueue, type Topic, type WriteContext } from "../index.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(...proof: Equal<A, B> extends true ? [] : [{ expected: B; got: A }]): void;

const Sku = z.string().brand<"Sku">();
const OrderId = z.uuid().brand<"OrderId">();
type OrderId = z.infer<typeof OrderId>;
const Mail = z.object({ to: z.string(), subject: z.string(), text: z.string() });

const stock = aggregate("stock", { id: Sku, events: { StockReserved: z.object({ quantity: z.int() }) }, initial: () => 10, evolve: { StockReserved: (left, { quantity }) => left - quantity } }, {
  reserve: command(z.object({ quantity: z.int() }), (_left, held, emit) => emit.StockReserved(held)),
});
const orders = aggregate("orders", {
  id: OrderId, events: { OrderPlaced: z.object({ email: z.string() }), OrderCancelled: z.object({ reason: z.string() }) }, initial: () => ({ open: false }),
  evolve: { OrderPlaced: () => ({ open: true }), OrderCancelled: () => ({ open: false }) },
}, { cancel: command(z.object({ reason: z.string() }), (_order, why, emit) => emit.OrderCancelled(why)) });
const mailbox = records("mailbox", { key: z.string(), value: Mail });
const mail = queue("mail", { input: Mail, uses: { mailbox } }, (letter, { mailbox }, { id }) => mailbox.put(id, letter));

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
  // @ts-expect-error a priority that does not exist
  mail.send({ to: "ada@example.com", subject: "Hello", text: "" }, { priority: "urgent" });
});

// ---- edges nobody declared ------------------------------------------------------------------------------------------

queue("c", { input: z.object({}), uses: { mail } },
  // @ts-expect-error `orders` is not among the uses
  async (_message, { mail, orders }) => { mail.send({ to: "a@b.c", subject: "", text: "" }); });
// @ts-expect-error a component is inert: it has no operations outside a handler
mail.send({ to: "ada@example.com", subject: "Hello", text: "" });
// @ts-expect-error the outer name is the component, not the handle
queue("e", { input: z.object({}) }, async () => { await orders.cancel("" as OrderId, { reason: "" }); });
// @ts-expect-error nothing can be asked of a schedule, so it cannot be used
queue("f", { input: z.object({}), uses: { nightly: schedule("nightly", { every: "1d" }, () => {}) } }, () => {});
// @ts-expect-error nor of a subscription
queue("f2", { input: z.object({}), uses: { s: subscription("s", { to: orders }, {}) } }, () => {});

// ---- missing and superfluous handlers -------------------------------------------------------------------------------

// @ts-expect-error a queue without its handler
queue("q", { input: z.object({}), uses: { mail } });
// @ts-expect-error an event of another aggregate
subscription("j", { to: orders }, { StockReserved: () => {} });
subscription("k", { to: orders }, {
  // @ts-expect-error the data of a cancellation has no payment
  OrderCancelled: ({ data }) => void data.paymentId,
});
// @ts-expect-error a queue has no events
subscription("k2", { to: mail }, {});
// @ts-expect-error a job cannot be refused: it is done, dead, or later
queue("r2", { input: z.object({}), uses: { stock } }, (_message, { stock }) => stock.reserve("TRE-001" as never, { quantity: 1 }));
queue("v8", { input: z.object({}), concurrency: "adaptive" }, () => {});
queue("v9", { input: z.object({}), concurrency: { least: 2, most: 64 } }, () => {});
// @ts-expect-error a concurrency is a number, found or given
queue("r3", { input: z.object({}), concurrency: "sixteen" }, () => {});
// @ts-expect-error neither a cron nor an interval
schedule("s2", {}, () => {});
// @ts-expect-error a cron has five fields
schedule("s3", { cron: "every day" }, () => {});
// @ts-expect-error not a way to treat a tick
schedule("s4", { every: "1m", overlap: "maybe" }, () => {});

// ---- topics ---------------------------------------------------------------------------------------------------------

const shipments = topic("shipments", { events: { Shipped: v.object({ orderId: v.string(), at: v.number() }), Closed: z.object({}) }, key: (event) => (event.type === "Shipped" ? event.data.orderId : ""), needs: ["topic.fifo-per-key"] });
queue("ab", { input: z.object({}), uses: { shipments } }, (_m, { shipments }) => {
  // @ts-expect-error a topic's event has a schema
  shipments.publish.Shipped({ orderId: "1", at: "now" });
  // @ts-expect-error there is no such event
  shipments.publish.Delivered({});
  // @ts-expect-error its data cannot be left out
  shipments.publish.Shipped();
  shipments.publish.Closed();
});
// @ts-expect-error not a guarantee that a topic can need
topic("t2", { events: {}, needs: ["topic.fast"] });

// ---- the wrong place ------------------------------------------------------------------------------------------------

subscription("u", { to: orders, when: "in-commit", uses: { mail } }, {
  OrderPlaced: (_event, { mail }, context) => {
    mail.send({ to: "", subject: "", text: "" });
    same<typeof context, WriteContext>();
    // @ts-expect-error inside another's commit there are no recovery points
    void context.step;
  },
});

// ---- what is inferred -----------------------------------------------------------------------------------------------

same<typeof mail, Queue<{ to: string; subject: string; text: string }>>();
same<typeof shipments, Topic<{ Shipped: { orderId: string; at: number }; Closed: Record<string, never> }, { Shipped: { orderId: string; at: number }; Closed: Record<string, never> }>>();
same<keyof Handle<typeof mail, "read">, "depth">();
same<ReturnType<Handle<typeof mail>["send"]>, JobRef>();
same<Awaited<ReturnType<Live<typeof mail>["send"]>>["id"], string>();
same<ReturnType<Live<typeof shipments>["publish"]["Shipped"]>, Promise<void>>();
same<ReturnType<Live<typeof mail>["pause"]>, Promise<void>>();
queue("v2", { input: Mail, fairBy: ({ to }) => to, rate: "50/s", fleetConcurrency: 4, perTenant: { rate: "5/m", concurrency: 2, weights: { acme: 3 } }, keep: { dead: "30d" } }, () => {});
const sized = queue("sized", { input: z.object({ width: z.number() }), returns: z.object({ at: z.coerce.date<string>() }) }, (_message, _uses, job) =>
  job.attempt > 3 ? job.dead("no") : { at: "2026-01-01" },
);
same<typeof sized, ReturningQueue<{ width: number }, { at: Date }>>();
same<Awaited<ReturnType<Live<typeof sized>["result"]>>, JobResult<{ at: Date }>>();
same<keyof Handle<typeof sized, "read">, "depth" | "result">();
// @ts-expect-error what a queue returns has a schema
queue("sized2", { input: Mail, returns: z.number() }, () => "text");
// @ts-expect-error a queue without results has none to wait for
declare const noResult: Handle<typeof mail>["result"];
queue("many", { input: Mail, uses: { mailbox, stock }, batch: 50, keep: { dead: "1d" } }, (messages, uses, context) => {
  same<typeof context, WriteContext>();
  for (const { message, id, dead } of messages) {
    same<typeof message, { to: string; subject: string; text: string }>();
    if (message.to === "") dead("nobody");
    else uses.mailbox.put(id, message);
  }
});
const typed = queue("typed", { messages: { welcome: z.object({ to: z.string() }), bill: z.object({ at: z.coerce.date<string>() }) }, key: (message) => (message.type === "bill" ? "bills" : message.data.to), uses: { mail } }, {
  welcome: ({ to }, { mail }) => void mail.send({ to, subject: "", text: "" }),
  bill: ({ at }, _uses, job) => (same<typeof at, Date>(), job.later("5m")),
});
queue("typed2", { input: z.object({}), uses: { typed } }, (_message, { typed }) => {
  same<ReturnType<typeof typed.send.bill>, JobRef>();
  typed.send.welcome({ to: "ada" }, { in: "1s" });
  // @ts-expect-error the message of another type
  typed.send.bill({ to: "ada" });
  // @ts-expect-error there is no such type
  typed.send.reminder({});
});
same<Parameters<Live<typeof typed>["send"]["bill"]>[0], { at: string }>();
same<ReturnType<Live<typeof typed>["send"]["welcome"]>, Promise<JobRef>>();
// @ts-expect-error a handler is missing
queue("typed3", { messages: { a: z.string(), b: z.string() } }, { a: () => {} });
// @ts-expect-error a batch answers nothing
queue("many2", { input: Mail, batch: 50 }, () => 7);
queue("layers", { input: Mail, around: [({ to }, next, job) => (to === "" ? job.dead("nobody") : next())] }, () => {});
// @ts-expect-error a layer sees the queue's message
queue("layers2", { input: Mail, around: [({ from }, next) => next()] }, () => {});
// @ts-expect-error a rate has a unit
queue("v3", { input: Mail, rate: "50" }, () => {});
// @ts-expect-error whose share it is, is a name
queue("v4", { input: Mail, fairBy: () => 7 }, () => {});
queue("v5", { input: z.object({}), uses: { mail } }, (_message, { mail }) => {
  mail.send({ to: "", subject: "", text: "" }, { debounce: { key: "k", wait: "1s", atMost: "1m" }, startWithin: "1h" });
  // @ts-expect-error a debounce says how long it waits
  mail.send({ to: "", subject: "", text: "" }, { debounce: { key: "k" } });
});

queue("v", { input: z.object({ at: z.coerce.date<string>() }), key: ({ at }) => at.toISOString(), uses: { mail, shipments } }, (message, uses, job) => {
  same<typeof message.at, Date>(); // the wire carries a string, the handler gets a Date
  same<keyof typeof uses, "mail" | "shipments">();
  same<typeof uses.mail, Handle<typeof mail>>();
  same<typeof job, JobContext>();
  if (job.attempt > 3) return job.dead("too often");
  return job.later("5m");
});

subscription("w", { to: orders, uses: { stock } }, {
  OrderCancelled: async (event, { stock }, context) => {
    same<typeof event.type, "OrderCancelled">();
    same<typeof event.data, { reason: string }>();
    same<typeof event.key, OrderId>();
    same<typeof context, DurableContext>();
    const reserved = await stock.reserve("" as never, { quantity: 1 });
    same<typeof reserved.ok, true>(); // it has no refusals
  },
});
subscription("x", { to: shipments }, { Shipped: ({ data, key }) => {
  same<typeof data, { orderId: string; at: number }>();
  same<typeof key, string>();
} });
schedule("y", { cron: "0 3 * * *", zone: "Europe/Berlin", uses: { mail } }, ({ due, missed }, { mail }, context) => {
  same<typeof due, number>();
  same<typeof missed, number>();
  same<typeof mail, QueueHandle<{ to: string; subject: string; text: string }>>();
  same<typeof context, DurableContext>();
});
app("z", [mail, subscription("w2", { to: orders }, {}), schedule("w3", { every: "1m" }, () => undefined)]);
