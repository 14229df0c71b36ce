/** The shop on PostgreSQL as a fleet: what the crash test promises of one process, it promises of five and their server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { missing, postgres } from "@trestle/testing";
import { runLoad } from "./closed-loop.ts";
import { seededChance } from "./foreign/misbehaviour.ts";
import { startAsSupervised } from "./testing/crash-run.ts";
import { shopFleet } from "./testing/shop-fleet.ts";

const skip = await missing("postgres", { managed: true });
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- examples/shop/fleet`;
const deaths = 8;

test(
  `3 web and 2 worker processes on one PostgreSQL, any of them or the server killed -9, ${deaths} times during load: every key one order, every paid order one charge, every end one mail, stock adds up (seed ${seed})`,
  { skip },
  async (t) => {
    await using server = await postgres();
    await using fleet = await shopFleet({ store: server.url, web: 3, workers: 2 });
    await fleet.start();
    const chance = seededChance(seed);
    const died: Record<string, number> = {};
    const back: Promise<unknown>[] = [];
    const underLoad = Promise.withResolvers<void>();
    let over = false;

    const loading = runLoad({
      url: fleet.url,
      paymentsUrl: fleet.paymentsUrl,
      mailUrl: fleet.mailUrl,
      orders: 100_000,
      concurrency: 4,
      seed,
      stopWhen: () => over,
      onProgress: () => underLoad.resolve(),
    });
    const dying = (async () => {
      await Promise.race([underLoad.promise, loading]);
      for (let death = 0; death < deaths; death++) {
        await sleep(100 + chance() * 500);
        // The server in every fourth, so that each run has it.
        const victim = death % 4 === 3 ? server : fleet.processes.all[Math.floor(chance() * fleet.processes.all.length)];
        const name = victim === server ? "PostgreSQL" : ((victim as { name?: string }).name ?? "");
        died[name] = (died[name] ?? 0) + 1;
        // It starts again while others die: a process needs seconds to be back, and the fleet goes on without it.
        await victim?.kill();
        if (victim) back.push(startAsSupervised(victim));
      }
      await Promise.all(back);
    })().finally(() => (over = true));
    const [report] = await Promise.all([loading, dying]);

    const says = `${report.orders} orders, answers ${JSON.stringify(report.answers)}, died ${JSON.stringify(died)}; ${replay}`;
    t.diagnostic(says);
    assert.ok(report.orders > deaths * 3, says);
    assert.deepEqual([...report.unanswered, ...report.check.violations].slice(0, 10), [], `${says}\n${fleet.processes.log().slice(-4_000)}`);
  },
);
