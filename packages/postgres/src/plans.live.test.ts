/** No statement has a second plausible plan (FINDINGS F8): whatever the statistics claim, the function and the reads go through an index. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type pg from "pg";
import { batchCall, encodeBatch } from "./batch.ts";
import { append, bytes, commitOf, enqueue, fixture, newId, put } from "./testing/fixture.ts";

const postgres = await fixture({ settings: { autovacuum: "off" } });
const tables = ["commit", "event", "job", "record", "token"];

async function scans(session: pg.Client, schema: string): Promise<{ readonly whole: number; readonly byIndex: number }> {
  const { rows } = await session.query<{ whole: string; byindex: string }>(
    "select sum(seq_scan) as whole, sum(idx_scan) as byindex from pg_stat_user_tables where schemaname = $1 and relname = any ($2)",
    [schema, tables],
  );
  return { whole: Number(rows[0]?.whole), byIndex: Number(rows[0]?.byindex) };
}

for (const claimed of [0, 1, 10_000_000]) {
  test(`[F8] with statistics that claim ${claimed} rows, neither a batch nor a read scans a table`, { skip: postgres.skip }, async () => {
    const first = await postgres.open();
    const session = await postgres.session(first.schema);
    await first.commit(
      commitOf([
        ...Array.from({ length: 300 }, (_, i) => put(`old${i}`, "x")),
        append("old", "x"),
        { kind: "token", key: "old", value: bytes("x"), keepForMs: 60_000 },
      ]),
    );
    await session.query("update pg_class set reltuples = $1, relpages = $2 where relnamespace = $3::regnamespace and relname = any ($4)", [
      claimed,
      Math.ceil(claimed / 50),
      first.schema,
      tables,
    ]);
    const before = await scans(session, first.schema);

    const store = await postgres.open(first.schema); // sessions of its own, so plans of its own
    let bases: readonly string[] = [];
    for (let round = 0; round < 8; round++) {
      const ids = Array.from({ length: 5 }, newId);
      const outcomes = await Promise.all(
        ids.map((id, i) =>
          store.commit(
            commitOf(
              [
                put(`k${round}-${i}`, "x"),
                { kind: "remove", key: `old${round}` },
                { kind: "merge", key: "n", merge: { kind: "add", amount: 1 } },
                { kind: "merge", key: "set", merge: { kind: "union", members: [`m${i}`] } },
                { kind: "token", key: `t${round}-${i}`, value: bytes("x"), keepForMs: 1_000 },
                append(`s${i}`, "x"),
                enqueue("x"),
              ],
              [
                { kind: "record", key: `k${round}-${i}`, version: 0 },
                { kind: "stream", stream: `s${i}`, version: round, ...(round % 2 === 0 ? {} : { after: bases[i] as string }) },
                { kind: "token", key: `t${round}-${i}`, version: 0 },
                { kind: "unchanged", prefix: "never/", since: 0 },
              ],
              id,
            ),
          ),
        ),
      );
      assert.ok(outcomes.every((outcome) => outcome.ok));
      bases = ids;
      await store.read.records(["n", `k${round}-0`]);
      await store.read.stream("s0", { after: 0, limit: 10 });
      await store.read.streamVersion("s0");
      await store.read.token("old");
      await store.read.commits({ after: { epoch: 1, n: 0 }, limit: 10 });
      await store.read.log({ after: { epoch: 1, position: 0 }, limit: 10 });
      await store.read.head();
      await store.resolve((await store.read.commits({ after: { epoch: 1, n: 0 }, limit: 1 }))[0]?.id as string);
    }
    // The function carries its settings with it, into a session that has none.
    const bare = await postgres.session(first.schema);
    for (let round = 0; round < 8; round++)
      await bare.query(batchCall(first.schema), [
        ...encodeBatch([commitOf([put(`bare${round}`, "x"), append("bare", "x")], [{ kind: "record", key: `old${round}`, version: 0 }])], {
          nowMs: null,
          inside: false,
          inDoubt: () => false,
        }).parameters,
      ]);
    await Promise.all([store.close(), bare.end()]); // an ending session reports what it counted

    const after = await scans(session, first.schema);
    assert.equal(after.whole - before.whole, 0, "tables were read whole");
    assert.ok(after.byIndex - before.byIndex > 400, `${after.byIndex - before.byIndex} probes: the counters did not move`);
  });
}
