/** The shop as two web and two worker processes on one SQLite file, any of which is killed, or stopped, at any time, the one that writes the file included. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededChance } from "./foreign/misbehaviour.ts";
import { loadThroughCrashes } from "./testing/crash-run.ts";
import { shopProcesses, type ShopProcesses } from "./testing/shop-processes.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- examples/shop/crash-processes`;
const deaths = 20;

interface Status {
  readonly processes: readonly { readonly name: string; readonly pid: number; readonly phase: string }[];
}

async function statusOf(shop: ShopProcesses): Promise<Status | undefined> {
  try {
    return (await (await fetch(`${shop.url}/_trestle/status.json`, { headers: { connection: "close" }, signal: AbortSignal.timeout(3_000) })).json()) as Status;
  } catch {
    return undefined; // whoever was asked has just been killed
  }
}

test(`[MSG-12] [RES-12] 20 times kill -9, or SIGSTOP, of any of four processes during load: every key one order, every paid order one charge, stock adds up (seed ${seed})`, async (t) => {
  await using shop = await shopProcesses({ env: { TRESTLE_PROCESSES: "web:2,worker:2", TRESTLE_SILENT_LOOKS: "5" } });
  const chance = seededChance(seed);
  const victims: string[] = [];
  let started = false;
  const allReady = async (): Promise<Status> => {
    for (const until = performance.now() + 30_000; performance.now() < until; await new Promise((resolve) => setTimeout(resolve, 50))) {
      const status = await statusOf(shop);
      if (status?.processes.every(({ phase }) => phase === "ready")) return status;
    }
    throw new Error(`the processes did not come back: ${shop.output().slice(-2_000)}`);
  };
  const dying: ShopProcesses = {
    ...shop,
    async start() {
      if (!started) await shop.start();
      started = true;
      await allReady();
      return 0;
    },
    async kill() {
      const { processes } = await allReady();
      const victim = processes[Math.floor(chance() * processes.length)] as Status["processes"][number];
      // Every fifth lives on and does nothing, until its supervisor notices.
      const wedged = victims.length % 5 === 4;
      victims.push(wedged ? `${victim.name} (stopped)` : victim.name);
      process.kill(victim.pid, wedged ? "SIGSTOP" : "SIGKILL");
    },
  };

  const report = await loadThroughCrashes(dying, { deaths, seed, concurrency: 16, thinkMs: 250 });

  t.diagnostic(`${replay}\n${report.orders} orders, ${JSON.stringify(report.check.counts)}, killed ${victims.join(" ")}`);
  assert.equal(victims.length, deaths);
  assert.equal(report.orders > deaths * 10, true, `only ${report.orders} orders were placed: ${replay}`);
  assert.deepEqual(report.unanswered, [], replay);
  assert.deepEqual(report.check.violations, [], replay);
  assert.equal(await shop.terminate(), 0);
});
