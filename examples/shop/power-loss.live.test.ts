import assert from "node:assert/strict";
import { test } from "node:test";
import { buildShim, makeDisk } from "trestle/conformance/power-loss";
import { loadThroughCrashes, type CrashReport } from "./testing/crash-run.ts";
import { shopProcesses } from "./testing/shop-processes.ts";

const shim = buildShim();
const skip = shim.ok ? false : shim.reason;
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- examples/shop/power-loss`;
const deaths = 20;

/** The shop's store on a disk that keeps, at each death, only what was synced. Payments and mail have power of their own. */
async function throughPowerLosses(parameters: string, endWithinMs: number): Promise<CrashReport> {
  assert(shim.ok);
  const disk = makeDisk({ library: shim.library });
  try {
    await using shop = await shopProcesses({ env: { ...disk.env, TRESTLE_STORE: `sqlite:${disk.root}/shop.db${parameters}` } });
    return await loadThroughCrashes(shop, { deaths, seed, concurrency: 16, endWithinMs, afterDeath: () => disk.losePower() });
  } finally {
    disk.remove();
  }
}

function says({ orders, answers, check }: CrashReport): string {
  return `${replay}\n${orders} orders, answers ${JSON.stringify(answers)}, ${JSON.stringify(check.counts)}, ${check.violations.length} violations\n${check.violations.slice(0, 10).join("\n")}`;
}

test(`[F11] 20 power losses during load lose nothing that was acknowledged (seed ${seed})`, { skip }, async (t) => {
  const report = await throughPowerLosses("", 120_000);

  t.diagnostic(says(report));
  assert.equal(report.deaths, deaths);
  assert.equal(report.orders > deaths * 5, true, `only ${report.orders} orders: ${replay}`);
  assert.deepEqual([...report.unanswered, ...report.check.violations], [], replay);
});

test(`[F11] negative control: with synchronous=normal, power losses take acknowledged orders with them (seed ${seed})`, { skip }, async (t) => {
  const report = await throughPowerLosses("?synchronous=normal", 15_000);

  t.diagnostic(says(report));
  assert.match(report.check.violations.join("\n"), /does not exist/, `nothing acknowledged was lost, so the harness is blind: ${replay}`);
});
