/**
 * The app under soak: one route of everything that leaves something behind. Orders are idempotent (a token each), record an event, send a job whose
 * handler commands the same aggregate; carts are records that expire; the counter is one hot key; readers list.
 */
import { aggregate, app, command, created, get, post, projection, queue, records, refuse, service } from "trestle";
import { z } from "zod";

const Id = z.uuid();
const Placed = z.object({ customer: z.string(), items: z.array(z.object({ sku: z.string(), quantity: z.int() })) });

const orders = aggregate(
  "orders",
  {
    id: Id,
    events: { OrderPlaced: Placed, OrderShipped: z.object({}) },
    initial: () => ({ status: "new" as "new" | "placed" | "shipped" }),
    evolve: { OrderPlaced: () => ({ status: "placed" as const }), OrderShipped: () => ({ status: "shipped" as const }) },
  },
  {
    place: command(Placed, (order, placed, emit) => (order.status === "new" ? emit.OrderPlaced(placed) : refuse("already-placed"))),
    ship: command(z.object({}), (order, _, emit) => (order.status === "placed" ? emit.OrderShipped({}) : refuse("not-placed"))),
  },
);
const orderList = projection(
  "order-list",
  { from: orders, when: "in-commit", row: z.object({ id: Id, status: z.string() }) },
  {
    creates: { OrderPlaced: (_, { key }) => ({ id: key, status: "placed" }) },
    updates: { OrderShipped: (row) => ({ ...row, status: "shipped" }) },
  },
);
const carts = records("carts", { key: z.string(), value: z.object({ text: z.string() }), expire: "2m" });
const visits = records("visits", { key: z.string(), value: z.number() });
const fulfilment = queue("fulfilment", { input: z.object({ orderId: Id }), uses: { orders } }, async ({ orderId }, { orders }) => {
  const shipped = await orders.ship(orderId, {});
  if (!shipped.ok) return;
});

const shop = service(
  "shop",
  { uses: { orders, orderList, carts, visits, fulfilment } },
  {
    place: post("/orders", { body: Placed, idempotent: true, refuses: { "already-placed": 409 } }, async ({ body }, { orders, fulfilment }, { newId }) => {
      const id = newId(Id);
      const placed = await orders.place(id, body);
      if (!placed.ok) return placed;
      fulfilment.send({ orderId: id });
      return created({ id });
    }),
    cart: post("/carts/:key", { params: z.object({ key: z.string() }), body: z.object({ text: z.string() }) }, ({ params, body }, { carts, visits }) => {
      carts.put(params.key, body);
      visits.add("all", 1);
      return { kept: true };
    }),
    list: get("/orders", {}, (_request, { orderList }) => orderList.list({ limit: 20 })),
  },
);

export default app("soak", [shop]);
