import assert from "node:assert/strict";
import { test } from "node:test";
import { runLoad } from "./closed-loop.ts";
import { loadThroughCrashes, type CrashReport } from "./testing/crash-run.ts";
import { shopProcesses } from "./testing/shop-processes.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- examples/shop/crash`;
const deaths = 20;
const twoWrites = new URL("./testing/two-writes.ts", import.meta.url);

function says({ orders, answers, check, unanswered }: CrashReport): string {
  return `${replay}\n${orders} orders, answers ${JSON.stringify(answers)}, ${JSON.stringify(check.counts)}\n${[...unanswered, ...check.violations].slice(0, 10).join("\n")}`;
}

test(`[MSG-12] 20 times kill -9 during load: every key one order, every paid order one charge, every end one mail, stock adds up (seed ${seed})`, async (t) => {
  await using shop = await shopProcesses();

  const report = await loadThroughCrashes(shop, { deaths, seed, concurrency: 16 });

  t.diagnostic(says(report));
  assert.equal(report.deaths, deaths);
  assert.equal(report.orders > deaths * 10, true, `only ${report.orders} orders were placed: ${replay}`);
  assert.deepEqual(report.unanswered, [], replay);
  assert.deepEqual(report.check.violations, [], replay);
});

test(`a mail sink that does not honour ids gets repeats only from the send window, each under its one id (seed ${seed})`, async (t) => {
  await using shop = await shopProcesses();
  await shop.stub("mail", { honourIds: false, latencyMs: 5 });

  const report = await loadThroughCrashes(shop, { deaths: 5, seed: seed + 1, concurrency: 16, mailedTwiceMax: 5 * 64 });

  t.diagnostic(says(report));
  assert.deepEqual(report.check.violations, [], replay);
});

/** What is written in a commit of its own, what a crash in between leaves behind, and what it must not be blamed for. */
const controls = [
  ["job", /is stuck/, /has 2 orders/],
  ["answer", /has 2 orders/, /is stuck/],
] as const;

for (const [separately, found, other] of controls) {
  const control = () => shopProcesses({ script: twoWrites, env: { SHOP_SEPARATELY: separately } });

  test(`negative control: the shop with its ${separately} in a commit of its own keeps its books as long as nobody kills it`, async () => {
    await using shop = await control();
    await shop.start();

    const report = await runLoad({ url: shop.url, paymentsUrl: shop.paymentsUrl, mailUrl: shop.mailUrl, orders: 300, concurrency: 32, seed });

    assert.deepEqual([...report.unanswered, ...report.check.violations], []);
  });

  test(`negative control: with its ${separately} in a commit of its own the same run breaks the books in the way that this breaks them (seed ${seed})`, async (t) => {
    await using shop = await control();

    const report = await loadThroughCrashes(shop, { deaths, seed, concurrency: 32, endWithinMs: 10_000 });

    t.diagnostic(says(report));
    const violations = report.check.violations.join("\n");
    assert.match(violations, found, `nothing was found wrong, so the check is blind: ${replay}`);
    assert.doesNotMatch(violations, other, replay);
  });
}
