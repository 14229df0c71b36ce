/**
 * A bank under load while PostgreSQL fails in every way a server has: nothing acknowledged is lost, nothing is applied twice, and every
 * caller is told. What a seed decides is replayed by it.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { missing, postgres, type PostgresOptions, type PostgresServer } from "@trestle/testing";
import type { Store } from "trestle/store";
import { openPostgres } from "./open.ts";
import { auditLedger, openAccounts, runLedger, type Ledger } from "./testing/ledger.ts";

const skip = await missing("postgres", { managed: true });
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- postgres/src/failures`;
const closing: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const close of closing.toReversed()) await close().catch(() => undefined);
});

async function bank(options: PostgresOptions = {}) {
  const server = await postgres(options);
  closing.push(() => server.close());
  const open = async (url = server.url): Promise<Store> => {
    const store = await openPostgres({ url });
    closing.push(() => store.close());
    return store;
  };
  await openAccounts(await open());
  return { server, open };
}
function told({ applied, notApplied, resolved, slowestMs }: Ledger): string {
  return `${applied.size} applied, ${notApplied.size} not, ${resolved} resolved, slowest ${Math.round(slowestMs)} ms; ${replay}`;
}
async function isInOrder(server: PostgresServer, ledger: Ledger): Promise<void> {
  const fresh = await openPostgres({ url: server.url });
  try {
    assert.deepEqual((await auditLedger(fresh, ledger)).slice(0, 10), [], replay);
  } finally {
    await fresh.close();
  }
}

test(`four times kill -9 under load with 20 ms flushes, back within a second: nothing acknowledged is lost or doubled (seed ${seed})`, { skip }, async (t) => {
  const { server, open } = await bank({ flushDelayMs: 20 });

  const ledger = await runLedger({
    stores: [await open(), await open()],
    seed,
    async during() {
      for (let round = 0; round < 4; round++) {
        await sleep(300 + 37 * round);
        await server.kill();
        await server.start();
      }
      await sleep(300);
    },
  });

  t.diagnostic(told(ledger));
  assert.ok(ledger.applied.size > 40);
  await isInOrder(server, ledger);
});
