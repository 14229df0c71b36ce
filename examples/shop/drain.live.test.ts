import assert from "node:assert/strict";
import { test } from "node:test";
import { runLoad } from "./closed-loop.ts";
import { shopProcesses } from "./testing/shop-processes.ts";
import { shopStores, type ShopStore } from "./testing/stores.ts";

for (const store of shopStores)
  test(
    `[MSG-08] SIGTERM under load: no request fails, the exit code is 0, and what was left is done by the next shop (${store.name})`,
    { skip: store.skip },
    () => drains(store),
  );

async function drains(store: ShopStore): Promise<void> {
  await using shop = await shopProcesses({ env: await store.env() });
  await shop.start();
  const underLoad = Promise.withResolvers<void>();
  let stopped = false;
  const exits: (number | string)[] = [];

  const loading = runLoad({
    url: shop.url,
    paymentsUrl: shop.paymentsUrl,
    mailUrl: shop.mailUrl,
    orders: 100_000,
    concurrency: 32,
    seed: 1,
    twiceEvery: 0,
    stopWhen: () => stopped,
    onProgress: () => underLoad.resolve(),
  });
  await Promise.race([underLoad.promise, loading]);
  for (let round = 0; round < 3; round++) {
    await new Promise((resolve) => setTimeout(resolve, 700));
    exits.push(await shop.terminate());
    await shop.start();
  }
  stopped = true;
  const { answers, unanswered, check, orders } = await loading;

  assert.deepEqual(exits, [0, 0, 0], shop.output());
  assert.deepEqual(
    Object.keys(answers).filter((answer) => answer !== "201" && answer !== "ECONNREFUSED"),
    [],
    JSON.stringify(answers),
  );
  assert.deepEqual([...unanswered, ...check.violations], []);
  assert.equal(orders > 100, true, `only ${orders} orders`);
}
