import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { runLoad } from "./closed-loop.ts";
import { shopProcesses } from "./testing/shop-processes.ts";
import { shopStores, type ShopStore } from "./testing/stores.ts";

for (const store of shopStores) {
  test(
    `[F16] payments and mail that fail and hang, before the effect or after it: once they heal every order ends, nobody paid twice (${store.name})`,
    { skip: store.skip },
    (t) => heals(store, t),
  );
  test(
    `a payment provider that never answers keeps the order placed and its stock held, and shipped it is when the answer comes (${store.name})`,
    { skip: store.skip },
    () => waits(store),
  );
}

async function heals(store: ShopStore, t: TestContext): Promise<void> {
  await using shop = await shopProcesses({ env: await store.env() });
  await shop.start();
  await shop.stub("payments", { failRate: 0.3, hang: 0.05, latencyMs: 5, seed: 3 });
  await shop.stub("mail", { failRate: 0.3, hang: 0.05, seed: 4 });
  const healing = setTimeout(() => void Promise.all([shop.stub("payments", {}), shop.stub("mail", {})]), 8_000);

  const report = await runLoad({ url: shop.url, paymentsUrl: shop.paymentsUrl, mailUrl: shop.mailUrl, orders: 200, concurrency: 16, seed: 5 });
  clearTimeout(healing);

  t.diagnostic(`${JSON.stringify(report.check.counts)}, ended after ${report.ended.seconds} s`);
  assert.deepEqual([...report.unanswered, ...report.check.violations], []);
}

async function waits(store: ShopStore): Promise<void> {
  await using shop = await shopProcesses({ env: await store.env() });
  await shop.start();
  await shop.stub("payments", { hang: true });
  const body = JSON.stringify({ customer: "Ada", email: "ada@example.com", items: [{ sku: "VAS-007", quantity: 3 }] });
  const placed = (await (
    await fetch(`${shop.url}/orders`, { method: "POST", headers: { "content-type": "application/json", "idempotency-key": "hang" }, body })
  ).json()) as { id: string };
  const look = async (path: string) => (await (await fetch(`${shop.url}${path}`)).json()) as { status?: string; available?: number };

  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const hanging = { order: await look(`/orders/${placed.id}`), stock: await look("/stock/VAS-007") };
  await shop.stub("payments", {});
  let order = hanging.order;
  for (const untilMs = performance.now() + 60_000; order.status !== "shipped" && performance.now() < untilMs; order = await look(`/orders/${placed.id}`))
    await new Promise((resolve) => setTimeout(resolve, 100));
  const { items } = (await (await fetch(`${shop.paymentsUrl}/ledger`)).json()) as { items: { orderId: string }[] };

  assert.equal(hanging.order.status, "placed");
  assert.equal(hanging.stock.available, 997);
  assert.equal(order.status, "shipped");
  assert.equal(items.filter(({ orderId }) => orderId === placed.id).length, 1);
}
