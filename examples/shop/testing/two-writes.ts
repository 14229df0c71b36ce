/**
 * The negative control: the same shop with one-commit switched off. The order, its job and its answer are three commits, one
 * after the other, as they are wherever a database, a queue and a response cache are three systems. A key that is in flight is
 * held off, so as long as nobody dies the books agree. What the crash test proves about the shop it must refute about this one.
 */
import { app, created, get, page, post, records, refuse, service } from "trestle";
import { z } from "zod";
import { fulfilment, OrderId, orderList, orders, PlaceOrder, products, shipping, Sku, stock } from "../shop.ts";
import { runShop, tellAndExit } from "../start.ts";

const answers = records("answers", { key: z.string(), value: z.object({ id: OrderId, status: z.string() }) });

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
          const placed = await commitSeparately("negative control", { orders }, ({ orders }) => orders.place(id, { ...body, totalCents }));
          if (!placed.ok) return placed;
          await commitSeparately("negative control", { fulfilment }, ({ fulfilment }) => void fulfilment.send({ orderId: id }));
          const answer = { id, status: placed.state.status };
          await commitSeparately("negative control", { answers }, ({ answers }) => answers.put(key, answer));
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
