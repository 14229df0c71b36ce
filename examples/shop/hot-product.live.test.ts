/**
 * Many orders for one product beside many for a thousand (FINDINGS F2).
 *
 * Runs alone: it compares two rates.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { runLoad, type LoadReport } from "./closed-loop.ts";
import { shopProcesses, type ShopProcesses } from "./testing/shop-processes.ts";
import { shopStores, type ShopStore } from "./testing/stores.ts";

const orders = 2_000;

async function measured(store: ShopStore, skus: number): Promise<{ readonly report: LoadReport; readonly attemptsMax: number }> {
  await using shop = await shopProcesses({ env: { ...(await store.env()), SHOP_SPARE_PARTS: "1000" } });
  await shop.start();
  await load(shop, skus, 200); // warm
  const report = await load(shop, skus, orders);
  return { report, attemptsMax: await worstAttempts(shop) };
}

function load(shop: ShopProcesses, skus: number, count: number): Promise<LoadReport> {
  return runLoad({ url: shop.url, paymentsUrl: shop.paymentsUrl, mailUrl: shop.mailUrl, orders: count, concurrency: 64, seed: 1, twiceEvery: 0, skus });
}

for (const store of shopStores)
  test(
    `[F2] 2,000 orders on one product: no job takes more than ${store.attemptsMax} attempts, and they end at half the rate of a thousand products or better (${store.name})`,
    { skip: store.skip },
    (t) => hotProduct(store, t),
  );

async function hotProduct(store: ShopStore, t: TestContext): Promise<void> {
  const wide = await measured(store, 1_000);
  const hot = await measured(store, 1);
  const ratio = hot.report.ended.perSecond / wide.report.ended.perSecond;

  t.diagnostic(
    `one product ${hot.report.ended.perSecond}/s, a thousand ${wide.report.ended.perSecond}/s, ratio ${ratio.toFixed(2)}, worst attempts ${hot.attemptsMax} and ${wide.attemptsMax}`,
  );
  for (const { report } of [wide, hot]) assert.deepEqual([...report.unanswered, ...report.check.violations], []);
  assert.equal(hot.report.check.counts.shipped >= orders, true);
  assert.equal(hot.attemptsMax <= store.attemptsMax, true, `worst job took ${hot.attemptsMax} attempts`);
  assert.equal(ratio >= 0.5, true, `ratio ${ratio}`);
}

/** The most runs of a handler that one invocation took, over all components. */
async function worstAttempts(shop: ShopProcesses): Promise<number> {
  const metrics = await (await fetch(`${shop.url}/_trestle/metrics`)).text();
  const values = [...metrics.matchAll(/^trestle_attempts_per_commit_max\{[^}]*\} (\S+)$/gm)].map(([, value]) => Number(value));
  assert.equal(values.length > 0, true, "the metric trestle_attempts_per_commit_max is not there");
  return Math.max(...values);
}
