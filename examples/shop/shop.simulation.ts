/** The shop on three nodes while machines, disks, networks and clocks fail: `npx trestle sim shop.simulation.ts`. */
import assert from "node:assert/strict";
import { always, model, scenario, sometimes } from "trestle/simulation";
import { catalogue, firstStock } from "./catalogue.ts";
import shopApp, { mailSink, orderList, orders, payments, shop, stock, Sku } from "./shop.ts";

const skus = catalogue.slice(0, 3).map(({ sku }) => Sku.parse(sku));
/** Amounts that end in 13 are declined. */
const declined = "HRS-012";

export const busyDay = scenario(shopApp, {
  uses: { shop, orders, orderList, stock },
  seeds: 25,
  nodes: 3,
  outside: [
    model(payments, {
      identity: () => ({ system: "payments" }),
      charge: ({ orderId, amountCents }, { chance, memory }) => {
        if (amountCents % 100 === 13) return { status: "declined", reason: "no money" };
        const charged = ((memory.get(orderId) as number | undefined) ?? 0) + 1;
        memory.set(orderId, charged);
        always("an order is charged once", charged === 1, { orderId, charged });
        return { status: "captured", paymentId: `p-${chance.id()}` };
      },
    }),
    model(mailSink, { identity: () => ({ system: "mail" }), deliver: ({ id }) => ({ id }), received: () => ({ items: [] }) }),
  ],
  clients: {
    count: 4,
    times: 2,
    each: async ({ shop }, chance) => {
      const items = [{ sku: chance.next() < 0.1 ? declined : chance.pick(skus), quantity: chance.integer(1, 3) }];
      const placed = await shop.placeOrder({ body: { customer: "Ada", email: "ada@example.com", items } });
      assert.ok(placed.ok, JSON.stringify(placed));
    },
  },
  eventually: {
    "no order is left half done": async ({ orderList }) => {
      const { items } = await orderList.list({ limit: 1_000 });
      sometimes(
        "an order is cancelled",
        items.some(({ status }) => status === "cancelled"),
      );
      sometimes(
        "an order is shipped",
        items.some(({ status }) => status === "shipped"),
      );
      return items.every(({ status }) => status === "shipped" || status === "cancelled");
    },
    "the stock is what the orders left of it": async ({ orderList, stock }) => {
      const { items } = await orderList.list({ limit: 1_000 });
      for (const sku of skus) {
        const sold = items
          .filter(({ status }) => status !== "cancelled")
          .flatMap((order) => order.items)
          .reduce((sum, item) => sum + (item.sku === sku ? item.quantity : 0), 0);
        if ((await stock.get(sku)) !== firstStock(sku) - sold) return false;
      }
      return true;
    },
  },
});
