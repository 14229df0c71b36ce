/** Compile-only: what is inferred for services and their clients, and what must not compile. */
import { z } from "zod";
import { refuse, type Handle, type Page, type Principal } from "../component/index.ts";
import { external, mutation } from "../external/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { created, del, get, html, noContent, page, post, service, sse, type Reply } from "./index.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(...proof: Equal<A, B> extends true ? [] : [{ expected: B; got: A }]): void;

const Sku = z.string().brand<"Sku">();
const mail = queue("mail", { input: z.object({ to: z.string(), subject: z.string(), text: z.string() }) }, () => {});
const stock = records("stock", { key: Sku, value: z.object({ sku: Sku, left: z.int() }) });
const payments = external("payments", { url: "http://localhost:1" }, {
  charge: mutation({ input: z.object({ orderId: z.string() }), returns: z.object({ status: z.enum(["captured", "declined"]) }) }, (charge, wire) => wire.post("/charges", charge)),
});
const billing = service("billing", {}, {
  invoice: post("/invoices", { body: z.object({ orderId: z.string() }), idempotent: true, refuses: { "no-such-order": 404 } }, ({ body }) => body.orderId === "" ? refuse("no-such-order") : created({ number: "1" })),
  touch: post("/touch", {}, () => noContent()),
  read: get("/invoices/:number", { refuses: { gone: 410 } }, ({ params }) => params.number === "0" ? refuse("gone") : { number: params.number }),
});

// ---- what is inferred -------------------------------------------------------------------------------------------------

service("s", { uses: { mail, stock, payments } }, {
  route: post("/a/:id/b/:n", { params: z.object({ id: z.string(), n: z.coerce.number<string>() }), query: page(), body: z.object({ at: z.iso.date() }), refuses: { no: 404 }, idempotent: true },
    async (request, uses, context) => {
      same<typeof request.params, { id: string; n: number }>();
      same<typeof request.body, { at: string }>();
      same<typeof request.query.limit, number>();
      same<typeof request.raw, Request>();
      same<typeof uses.mail, Handle<typeof mail>>();
      same<Awaited<ReturnType<typeof uses.payments.charge>>["status"], "captured" | "declined">();
      same<typeof context.tenant, string | undefined>();
      same<typeof context.principal, Principal | undefined>();
      same<keyof typeof uses, "mail" | "stock" | "payments">();
      same<typeof context.step extends Function ? true : false, true>();
      return context.random() > 1 ? refuse("no", { because: 1 }) : created({ n: 1 });
    }),
  bare: get("/:x", {}, ({ params, query, body }, uses) => {
    same<typeof params, { readonly x: string }>();
    same<typeof query, {}>();
    same<typeof body, undefined>();
    same<Awaited<ReturnType<typeof uses.stock.list>> extends Page<unknown> ? true : false, true>();
    return params.x;
  }),
  page: get("/page", {}, () => html("<p>")),
  follow: sse("/follow/:sku", { params: z.object({ sku: Sku }) }, ({ params }, { stock }) => stock.watch(params.sku)),
});

// a route in a file of its own, with uses of its own, joins any service
export const elsewhere = post("/elsewhere", { uses: { mail }, body: z.object({ to: z.string() }) }, ({ body }, { mail }) => {
  mail.send({ to: body.to, subject: "", text: "" });
  return created({});
});
export const joined = service("t", { uses: { stock } }, { elsewhere, own: get("/own", {}, async (_request, { stock }) => ({ left: (await stock.get(Sku.parse("")))?.left ?? 0 })) });

// a service among the uses is a typed client
service("u", { uses: { billing } }, {
  bill: post("/bill", { idempotent: true, refuses: { "no-such-order": 404, "outcome-unknown": 409 } }, async (_request, { billing }) => {
    const answer = await billing.invoice({ body: { orderId: "1" } });
    if (!answer.ok) {
      same<typeof answer.refused, "no-such-order">();
      return answer;
    }
    same<typeof answer, Reply<201, { readonly number: "1" }>>();
    const touched = await billing.touch();
    if (!touched.ok) same<typeof touched.refused, "outcome-unknown">();
    return touched.ok ? answer.body : touched;
  }),
  read: get("/read", {}, async (_request, { billing }) => {
    const answer = await billing.read({ params: { number: "1" } });
    return answer.ok ? answer.body.number : "";
  }),
});

// ---- what must not compile --------------------------------------------------------------------------------------------

service("d", { uses: { mail } }, {
  // @ts-expect-error `stock` is not among the service's uses
  ship: post("/ship", {}, async (_request, { stock }) => stock.get("x")),
});
service("d2", {}, {
  // @ts-expect-error this service uses nothing
  ship: post("/ship", {}, async (_request, { stock }) => { void stock; return "x"; }),
});
// @ts-expect-error an operation of a service is not a function of the service
billing.invoice({ body: {} });

service("e", { uses: { stock } }, {
  // @ts-expect-error a refusal that `refuses` does not declare
  ship: post("/ship", {}, () => refuse("not-paid")),
  // @ts-expect-error only `too-late` is declared
  shipIt: post("/ship-it", { refuses: { "too-late": 409 } }, async () => Math.random() > 2 ? "shipped" : refuse("not-paid")),
  // @ts-expect-error a value that may be missing needs a word about it
  find: get("/find", {}, async (_request, { stock }) => stock.get(Sku.parse(""))),
  // @ts-expect-error the body is not what `returns` promises
  count: get("/count", { returns: z.object({ n: z.number() }) }, () => ({ n: "one" })),
  // @ts-expect-error the schema's keys are not the path's
  wrong: get("/orders/:id", { params: z.object({ order: z.string() }) }, () => "x"),
  // @ts-expect-error no body was declared
  body: post("/body", {}, ({ body }) => body.id),
  // @ts-expect-error no query parameter of that name
  query: get("/query", { query: page() }, ({ query }) => query.sort),
  // @ts-expect-error a status that says it went well is not one of a refusal
  status: del("/status", { refuses: { no: 200 } }, () => noContent()),
  // @ts-expect-error a rate without a unit one can read
  rate: del("/rate", { limit: { per: "caller", rate: "5 per second" } }, () => noContent()),
});

service("f", { uses: { mail, payments, billing, stock } }, {
  // @ts-expect-error a GET does not write
  view: get("/view", {}, async (_request, { mail }) => { mail.send({ to: "a@b.c", subject: "", text: "" }); return "x"; }),
  // @ts-expect-error money moves only in a handler that will be finished: this route is not idempotent
  pay: post("/pay", {}, async (_request, { payments }) => payments.charge({ orderId: "1" })),
  // @ts-expect-error and so does a call to another service
  bill: post("/bill", {}, async (_request, { billing }) => { await billing.invoice({ body: { orderId: "1" } }); return "x"; }),
  fine: post("/fine", { idempotent: true }, async (_request, { payments }) => payments.charge({ orderId: "1" })),
  // @ts-expect-error a recovery point needs a handler that will be finished
  step: post("/step", {}, (_request, _uses, { step }) => step("x", async () => "y")),
});

// ---- what answers in place of a handler ---------------------------------------------------------------------------------

const Stocked = z.object({ sku: z.string(), left: z.int().optional() });
service("v", { uses: { stock, payments, mail } }, {
  look: get("/look/:sku", { params: z.object({ sku: Sku }), returns: Stocked, refuses: { no: 404 }, degrade: {
      stale: { for: "5m" },
      partial: ({ params }, uses, context) => {
        same<typeof params.sku, z.infer<typeof Sku>>();
        same<keyof typeof uses, "stock" | "payments" | "mail">();
        same<typeof context.tenant, string | undefined>();
        return { sku: params.sku };
      },
      static: { sku: "any" },
    } }, async ({ params }, { stock }) => (await stock.get(params.sku)) ?? refuse("no")),
  take: post("/take/:sku", { returns: Stocked, idempotent: true, degrade: {
      partial: ({ params }, { mail, payments }) => {
        mail.send({ to: "", subject: "", text: "" });
        // @ts-expect-error -- a partial handler is not durable: it changes nothing outside
        void payments.charge({ orderId: "" });
        return created({ sku: params.sku });
      },
    } }, ({ params }) => created({ sku: params.sku })),
});
// @ts-expect-error -- what stands in for an answer is held to `returns`, and there is none
get("/undescribed", { degrade: { static: "x" } }, () => "y");
// @ts-expect-error -- nothing was changed when nobody's handler ran
post("/changes", { returns: z.string(), degrade: { static: "x" } }, () => "y");
// @ts-expect-error -- of another shape than `returns` says
get("/other", { returns: z.object({ n: z.int() }), degrade: { static: { n: "one" } } }, () => ({ n: 1 }));
