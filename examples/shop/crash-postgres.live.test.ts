/** The shop on PostgreSQL: killed, and its server killed, during load. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { missing, postgres } from "@trestle/testing";
import { loadThroughCrashes } from "./testing/crash-run.ts";
import { shopProcesses } from "./testing/shop-processes.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- examples/shop/crash-postgres`;
const skip = await missing("postgres", { managed: true });

test(
  `on PostgreSQL, kill -9 of the shop during load: every key one order, every paid order one charge, every end one mail (seed ${seed})`,
  { skip, timeout: 120_000 },
  async (t) => {
    await using server = await postgres();
    await using shop = await shopProcesses({ env: { TRESTLE_STORE: server.url } });

    const report = await loadThroughCrashes(shop, { deaths: 8, seed, concurrency: 16 });

    t.diagnostic(`${replay}: ${report.orders} orders, ${JSON.stringify(report.check.counts)}`);
    assert.equal(report.deaths, 8);
    assert.deepEqual(report.unanswered, [], replay);
    assert.deepEqual(report.check.violations, [], replay);
  },
);

test(
  `on PostgreSQL, kill -9 of PostgreSQL itself during load, five times: nothing is lost or doubled (seed ${seed})`,
  { skip, timeout: 120_000 },
  async (t) => {
    await using server = await postgres();
    await using shop = await shopProcesses({ env: { TRESTLE_STORE: server.url } });
    const loaded = Promise.withResolvers<void>();
    let over = false;
    const killing = (async () => {
      await loaded.promise;
      for (let kills = 0; kills < 5 && !over; kills++) {
        await sleep(1_500);
        await server.kill();
        await server.start();
      }
    })();

    const report = await loadThroughCrashes(shop, { deaths: 2, seed: seed + 1, concurrency: 16, underLoad: loaded.resolve });
    over = true;
    await killing;

    t.diagnostic(`${replay}: ${report.orders} orders, ${JSON.stringify(report.check.counts)}`);
    assert.deepEqual(report.unanswered, [], replay);
    assert.deepEqual(report.check.violations, [], replay);
  },
);
