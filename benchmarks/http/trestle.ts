/** The whole stack: body validated, idempotency key checked, event and job and stored answer in one durable commit, then the answer. */
import { join } from "node:path";
import { aggregate, app, command, created, post, queue, refuse, service, start } from "trestle";
import { z } from "zod";
import type { Variant } from "../harness/benchmark.ts";
import { runClient } from "../harness/clients.ts";
import { PlaceOrder } from "./order.ts";

const OrderId = z.uuid();
const orders = aggregate(
  "orders",
  {
    id: OrderId,
    events: { OrderPlaced: PlaceOrder },
    initial: () => ({ status: "new" as "new" | "placed" }),
    evolve: { OrderPlaced: () => ({ status: "placed" as const }) },
  },
  { place: command(PlaceOrder, (order, placed, emit) => (order.status === "new" ? emit.OrderPlaced(placed) : refuse("already-placed"))) },
);
const mail = queue("mail", { input: z.object({ orderId: OrderId }) }, () => undefined);
const shop = service(
  "shop",
  { uses: { orders, mail } },
  {
    placeOrder: post("/orders", { body: PlaceOrder, idempotent: true, refuses: { "already-placed": 409 } }, async ({ body }, { orders, mail }, { newId }) => {
      const id = newId(OrderId);
      const placed = await orders.place(id, body);
      if (!placed.ok) return placed;
      mail.send({ orderId: id });
      return created({ id, status: placed.state.status });
    }),
  },
);

const trestle: Variant = async ({ load, seconds, scratch }) => {
  // The job is sent and not worked on: who works on it is another process, or another benchmark.
  await using node = await start(app("bench", [shop]), {
    store: `sqlite:${join(scratch, "store.db")}`,
    port: 0,
    host: "127.0.0.1",
    roles: ["web"],
    log: () => undefined,
  });
  return await runClient("closed-loop-client", `${node.url.replace("localhost", "127.0.0.1")}/orders`, load, seconds);
};
export default trestle;
