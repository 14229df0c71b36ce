/**
 * The negative control: the same shop with one-commit switched off. SHOP_SEPARATELY=job writes the job in a commit after the one of
 * order and answer, as it is where a queue is another system than the database; SHOP_SEPARATELY=answer the answer, as it is where
 * the responses are cached elsewhere. A key that is in flight is held off, so as long as nobody dies the books agree. What the crash
 * test proves about the shop it must refute about these two.
 */
import { app, created, get, page, post, records, refuse, service } from "trestle";
import { z } from "zod";
import { fulfilment, OrderId, orderList, orders, PlaceOrder, products, shipping, Sku, stock } from "../shop.ts";
import { runShop, tellAndExit } from "../run.ts";

const answers = records("answers", { key: z.string(), value: z.object({ id: OrderId, status: z.string() }) });

const separately = process.env["SHOP_SEPARATELY"];
if (separately !== "job" && separately !== "answer") throw new Error(`SHOP_SEPARATELY must be job or answer, got ${String(separately)}`);
const inFlight = new Set<string>();

const shop = service(
  "shop",
  { uses: { products, orders, orderList, stock, fulfilment, answers } },
  {
    placeOrder: post(
      "/orders",
      { body: PlaceOrder, refuses: { "unknown-sku": 422, "already-placed": 409, "in-flight": 409 } },
      async ({ body, raw }, { products, orders, fulfilment, answers }, { newId, commitSeparately }) => {
        const key = raw.headers.get("idempotency-key") ?? "";
        if (inFlight.has(key)) return refuse("in-flight");
        inFlight.add(key);
        try {
          const before = await answers.get(key);
          if (before) return created(before);

          let totalCents = 0;
          for (const { sku, quantity } of body.items) {
            const product = await products.get(sku);
            if (!product) return refuse("unknown-sku", { sku });
            totalCents += quantity * product.priceCents;
          }
          const id = newId(OrderId);
          const answer = { id, status: "placed" };
          const placed = await commitSeparately("negative control", { orders, fulfilment, answers }, async ({ orders, fulfilment, answers }) => {
            const outcome = await orders.place(id, { ...body, totalCents });
            if (!outcome.ok) return outcome;
            if (separately !== "job") fulfilment.send({ orderId: id });
            if (separately !== "answer") answers.put(key, answer);
            return outcome;
          });
          if (!placed.ok) return placed;
          if (separately === "job")
            await commitSeparately("negative control: the job", { fulfilment }, ({ fulfilment }) => void fulfilment.send({ orderId: id }));
          else await commitSeparately("negative control: the answer", { answers }, ({ answers }) => answers.put(key, answer));
          return created(answer);
        } finally {
          inFlight.delete(key);
        }
      },
    ),
    getOrder: get(
      "/orders/:id",
      { params: z.object({ id: OrderId }), refuses: { "no-such-order": 404 } },
      async ({ params }, { orderList }) => (await orderList.get(params.id)) ?? refuse("no-such-order"),
    ),
    listOrders: get("/orders", { query: page() }, ({ query }, { orderList }) => orderList.list(query)),
    listProducts: get("/products", { query: page() }, ({ query }, { products }) => products.list(query)),
    readStock: get("/stock/:sku", { params: z.object({ sku: Sku }) }, async ({ params }, { stock }) => ({
      sku: params.sku,
      available: await stock.get(params.sku),
    })),
  },
);

if (import.meta.main) await runShop(app("shop", [shop, shipping])).catch(tellAndExit);
