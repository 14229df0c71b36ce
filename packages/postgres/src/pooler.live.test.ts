/** Behind a transaction pooler there is no LISTEN and no session of one's own; the conformance cases run there too (conformance.live.test.ts). */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { missing, pgbouncer, postgres } from "@trestle/testing";
import { Fault, systemClock, systemRandom } from "trestle/kernel";
import { openPostgres } from "./index.ts";
import { openPool } from "./sessions.ts";
import { commitOf, put } from "./testing/fixture.ts";

const skip = (await missing("postgres", { managed: true })) || (await missing("pgbouncer", { managed: true }));
async function world() {
  const server = await postgres();
  // Fewer server sessions than clients, so that they change hands all the time.
  const pooler = await pgbouncer({ to: server.url, poolSize: 8 });
  return { server, pooler };
}
let opened: ReturnType<typeof world> | undefined;
const shared = () => (opened ??= world());
after(async () => {
  const of = await opened;
  await of?.pooler.close();
  await of?.server.close();
});

test("another process hears of a commit by polling, and keeps hearing", { skip }, async () => {
  const { pooler } = await shared();
  const [writer, listener] = [await openPostgres({ url: pooler.url, schema: "polled" }), await openPostgres({ url: pooler.url, schema: "polled" })];
  const heard = new Set<string>();
  listener.onChange(({ keys }) => keys.forEach((key) => heard.add(key)));

  for (let n = 0; n < 5; n++) {
    const from = performance.now();
    await writer.commit(commitOf([put(`k${n}`, "x")]));
    while (!heard.has(`k${n}`)) {
      assert.ok(performance.now() - from < 2_000, "silence after a write");
      await sleep(10);
    }
  }
  await Promise.all([writer.close(), listener.close()]);
});

test("a role whose isolation is not READ COMMITTED is a fault that says so, because a session there cannot be changed", { skip }, async () => {
  const { pooler, server } = await shared();
  const admin = openPool({ url: server.url, name: "admin", size: 1, answerWithinMs: 30_000, clock: systemClock, random: systemRandom });
  await admin.query({ text: "alter role postgres set default_transaction_isolation = 'serializable'" });
  await pooler.restart();
  try {
    const fault = await openPostgres({ url: pooler.url, schema: "strict" }).catch((error: unknown) => error);
    const direct = await openPostgres({ url: server.url, schema: "strict" });
    const outcome = await direct.commit(commitOf([put("k", "x")]));
    await direct.close();

    assert.ok(Fault.is(fault, "postgres.isolation"), String(fault));
    assert.equal(outcome.ok, true, "and without the pooler the session is ours");
  } finally {
    await admin.query({ text: "alter role postgres reset default_transaction_isolation" });
    await admin.close();
  }
});
