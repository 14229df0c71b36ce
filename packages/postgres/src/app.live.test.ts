/** An app whose store is named by a URL: several nodes on one store, roles apart, the user's tables beside them. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { app, queue, records, sql, start, type StartOptions } from "trestle";
import { z } from "zod";
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;

test("an app runs on PostgreSQL by its URL alone: one node sends, another works, and both write one store", { skip }, async () => {
  const migrations = mkdtempSync(join(tmpdir(), "trestle-app-"));
  writeFileSync(join(migrations, "001.sql"), "create table app_ledger (account text primary key, cents bigint not null)");
  const books = sql("books", { migrations: { postgres: migrations } });
  const seen = records("seen", { key: z.string(), value: z.object({ by: z.string() }) });
  const work = queue("work", { input: z.object({ account: z.string() }), uses: { books, seen } }, (job, { books, seen }) => {
    books.run`insert into app_ledger values (${job.account}, ${5}) on conflict (account) do update set cents = app_ledger.cents + excluded.cents`;
    seen.put(job.account, { by: books.dialect });
  });
  const store = `${postgres.server.url}?schema=of_an_app` as NonNullable<StartOptions["store"]>;
  const node = (roles: readonly string[]) => start(app("bank", [books, seen, work]), { store, roles, log: () => undefined });
  try {
    await using sender = await node([]);
    await using worker = await node(["worker"]);
    const accounts = Array.from({ length: 20 }, (_, i) => `account-${i}`);
    for (const account of accounts) await sender.open(work).send({ account });

    const from = performance.now();
    while (
      (await Promise.all(accounts.map((account) => sender.open(seen).get(account)))).some((found) => found === undefined) &&
      performance.now() - from < 20_000
    )
      await sleep(20);

    const rows = await sender.commit(
      { books },
      ({ books }) => books.rows(z.object({ n: z.number(), cents: z.number() }))`select count(*) as n, sum(cents)::bigint as cents from app_ledger`,
    );
    assert.deepEqual(rows, [{ n: 20, cents: 100 }]);
    assert.deepEqual(await sender.open(seen).get("account-7"), { by: "postgres" });
    await worker.stop();
  } finally {
    rmSync(migrations, { recursive: true });
  }
});
