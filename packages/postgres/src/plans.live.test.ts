/** No statement has a second plausible plan (FINDINGS F8): whatever the statistics claim, the function and the reads go through an index. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type pg from "pg";
import { systemClock, systemRandom, virtualClock } from "trestle/kernel";
import type { RecordRow } from "trestle/store";
import { batchCall, encodeBatch, type BatchRow } from "./batch.ts";
import { openPool } from "./sessions.ts";
import { stage } from "./staged.ts";
import { openSweep } from "./sweep.ts";
import { append, bytes, commitOf, enqueue, fixture, newId, put } from "./testing/fixture.ts";

const postgres = await fixture({ settings: { autovacuum: "off" } });
const tables = ["commit", "event", "stream_head", "job", "job_mark", "record", "entry", "token", "staged", "migration"];
const used = new Map<number, ReadonlyMap<string, number>>();

/** How often each table was read whole, and how often by an index. */
async function scans(session: pg.Client, schema: string): Promise<{ readonly whole: Readonly<Record<string, number>>; readonly byIndex: number }> {
  const { rows } = await session.query<{ name: string; whole: string; byindex: string }>(
    "select relname as name, seq_scan as whole, idx_scan as byindex from pg_stat_user_tables where schemaname = $1 and relname = any ($2) order by 1",
    [schema, tables],
  );
  return {
    whole: Object.fromEntries(rows.map(({ name, whole }) => [name, Number(whole)])),
    byIndex: rows.reduce((sum, { byindex }) => sum + Number(byindex), 0),
  };
}

/** How often each index was looked into. */
async function probes(session: pg.Client, schema: string): Promise<ReadonlyMap<string, number>> {
  const { rows } = await session.query<{ name: string; count: string }>(
    "select indexrelname as name, idx_scan as count from pg_stat_user_indexes where schemaname = $1 and relname = any ($2)",
    [schema, tables],
  );
  return new Map(rows.map(({ name, count }) => [name, Number(count)]));
}

for (const claimed of [0, 1, 10_000_000]) {
  test(`[F8] with statistics that claim ${claimed} rows, neither a batch nor a read scans a table`, { skip: postgres.skip }, async () => {
    const first = await postgres.open();
    const session = await postgres.session(first.schema);
    await first.commit(
      commitOf([
        ...Array.from({ length: 300 }, (_, i) => ({ kind: "put", key: `home//old${i}`, value: bytes("x"), index: [{ field: "f", value: i % 7 }] }) as const),
        ...Array.from({ length: 10 }, (_, i) => put(`old${i}`, "x")),
        append("old", "x"),
        { kind: "token", key: "old", value: bytes("x"), keepForMs: 60_000 },
      ]),
    );
    await first.close(); // an ending session reports what it counted, here the making of the indexes
    await session.query("update pg_class set reltuples = $1, relpages = $2 where relnamespace = $3::regnamespace and relname = any ($4)", [
      claimed,
      Math.ceil(claimed / 50),
      first.schema,
      tables,
    ]);
    const before = await scans(session, first.schema);
    const probed = await probes(session, first.schema);

    // Sessions of its own, so plans of its own; and no sweeps and looks of its own time.
    const store = await postgres.open(first.schema, { clock: virtualClock() });
    const side = openPool({ url: postgres.server.url, name: "trestle side", size: 1, answerWithinMs: 30_000, clock: systemClock, random: systemRandom });
    const sweep = openSweep({ schema: first.schema, side, clock: virtualClock(), random: systemRandom, nowMs: () => Date.now() + 61_000 });
    const stager = await postgres.session(first.schema);
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
      await store.read.stream("s0", { after: 0, before: 3, order: "newest", limit: 10 });
      await store.read.log({ after: { epoch: 1, position: 0 }, components: ["s0"], types: ["Happened"], limit: 10 });
      for (const order of ["key", "newest"] as const)
        for (const prefix of ["home//", "ho"])
          for (const where of [undefined, { field: "f", value: 3 }]) {
            const page = await store.read.list({ prefix, order, limit: 5, ...(where && { where }) });
            assert.equal(page.length, 5, "found");
            await store.read.list({ prefix, order, limit: 5, ...(where && { where }), after: page[4] as RecordRow });
          }
      await store.commit(
        commitOf([
          { kind: "put", key: `home//old${round}`, value: bytes("y"), index: [{ field: "f", value: 99 }] },
          { kind: "trim", stream: "old", upTo: 1 },
        ]),
      );
      await stage(stager, commitOf([append("staged", "x")]), { schema: first.schema });
      await stager.query("select * from read_staged_v1(0, 10)");
      await stager.query("select * from commit_known_v1($1)", [newId()]);
      await stager.query("select find_migration_v1('c', 'n')");
      await sweep.round();
      await store.resolve((await store.read.commits({ after: { epoch: 1, n: 0 }, limit: 1 }))[0]?.id as string);
    }
    // The function carries its settings with it, into a session that has none. Here its commits are apart, and all hold.
    const bare = await postgres.session(first.schema);
    for (let round = 0; round < 8; round++)
      await bare.query(batchCall(first.schema), [
        ...encodeBatch(
          [
            commitOf(
              [
                put(`bare${round}`, "x"),
                put("again", "x"),
                append("bare", "x"),
                enqueue("x"),
                { kind: "token", key: `bare${round}`, value: bytes("x"), keepForMs: 1_000 },
              ],
              [{ kind: "record", key: `old${round}`, version: 0 }],
            ),
          ],
          { nowMs: null, inside: false, inDoubt: () => false },
        ).parameters,
      ]);
    await sweep.stop();
    await Promise.all([store.close(), side.close(), bare.end(), stager.end()]);

    const after = await scans(session, first.schema);
    assert.deepEqual(after.whole, before.whole, "a table was read whole");
    used.set(claimed, new Map([...(await probes(session, first.schema))].map(([name, count]) => [name, count - (probed.get(name) ?? 0)])));
    assert.ok(after.byIndex - before.byIndex > 400, `${after.byIndex - before.byIndex} probes: the counters did not move`);
  });
}

/** What each index was asked for, and how many of its entries were read for it. */
async function entriesRead(session: pg.Client, schema: string): Promise<ReadonlyMap<string, { readonly scans: number; readonly entries: number }>> {
  const { rows } = await session.query<{ name: string; scans: string; entries: string }>(
    "select indexrelname as name, idx_scan as scans, idx_tup_read as entries from pg_stat_user_indexes where schemaname = $1",
    [schema],
  );
  return new Map(rows.map(({ name, scans, entries }) => [name, { scans: Number(scans), entries: Number(entries) }]));
}

const statistics = [
  [0, 0],
  [1, 1],
  [1, 2_000],
  [10_000_000, 200_000],
];

// An index that is read from end to end counts as one probe. That is what a plan for a table that was analysed when it was empty may come to: it joins with the
// whole index, and each batch then costs as much as the table has rows, dead ones too.
for (const [reltuples, relpages] of statistics) {
  test(
    `[F8] with statistics that claim ${reltuples} rows on ${relpages} pages, a batch reads as many index entries as it asks for`,
    { skip: postgres.skip },
    async () => {
      const first = await postgres.open();
      const session = await postgres.session(first.schema);
      const many = 2_000;
      for (let from = 0; from < many; from += 500)
        await Promise.all(
          Array.from({ length: 500 }, (_, i) =>
            first.commit(
              commitOf([
                put(`full${from + i}`, "x"),
                append(`full${from + i}`, "x"),
                { kind: "enqueue", job: { id: newId(), queue: "far", payload: bytes("x"), priority: 1, dueAtMs: 4_000_000_000_000 } },
              ]),
            ),
          ),
        );
      await first.close();
      await session.query("update pg_class set reltuples = $1, relpages = $2 where relnamespace = $3::regnamespace and relname = any ($4)", [
        reltuples,
        relpages,
        first.schema,
        tables,
      ]);
      const before = await entriesRead(session, first.schema);

      const store = await postgres.open(first.schema, { clock: virtualClock() });
      for (let round = 0; round < 4; round++) {
        // Apart, with values before them; and one that is not, for which they are judged one after the other.
        const apart = Array.from({ length: 100 }, (_, i) =>
          commitOf(
            [put(`full${round * 100 + i}`, "y"), append(`new${round}-${i}`, "x"), enqueue("x")],
            [{ kind: "stream", stream: `new${round}-${i}`, version: 0 }],
          ),
        );
        const outcomes = await Promise.all(
          [...apart, ...(round % 2 === 0 ? [] : [commitOf([put(`full${round * 100}`, "z")])])].map((commit) => store.commit(commit)),
        );
        assert.ok(outcomes.every((outcome) => outcome.ok));
      }
      await store.close();

      const wide = [...(await entriesRead(session, first.schema))].flatMap(([name, { scans, entries }]) => {
        const [asked, read] = [scans - (before.get(name)?.scans ?? 0), entries - (before.get(name)?.entries ?? 0)];
        return read > 10 * asked + 500 ? [`${name}: ${read} entries for ${asked} probes`] : [];
      });
      assert.deepEqual(wide, []);
    },
  );
}

for (const [reltuples, relpages] of statistics) {
  test(
    `[F8] with statistics that claim ${reltuples} rows on ${relpages} pages, what was staged is moved without a look at what others have staged`,
    { skip: postgres.skip },
    async () => {
      const store = await postgres.open();
      await store.close(); // nobody else moves
      const session = await postgres.session(store.schema);
      await session.query("insert into staged (tx, facts, body) select 1, '', '' from generate_series(1, 2000)");
      await session.query("update pg_class set reltuples = $1, relpages = $2 where oid = 'staged'::regclass", [reltuples, relpages]);
      const before = (await entriesRead(session, store.schema)).get("staged_pkey");
      const mover = await postgres.session(store.schema);
      const rounds = 8;
      for (let tx = 2; tx < 2 + rounds; tx++) {
        const { rows } = await mover.query<{ seq: string }>("insert into staged (tx, facts, body) select $1, '', '' from generate_series(1, 3) returning seq", [
          tx,
        ]);
        const { parameters } = encodeBatch([{ ...commitOf([append("moved", "x")]), expects: [{ kind: "staged", tx, seq: Number(rows[2]?.seq), rows: 3 }] }], {
          nowMs: null,
          inside: false,
          inDoubt: () => false,
        });
        const answer = (await mover.query<BatchRow>(batchCall(store.schema), [...parameters])).rows[0] as BatchRow;
        assert.deepEqual(answer.status, [0]);
      }
      await mover.end();

      const after = (await entriesRead(session, store.schema)).get("staged_pkey");
      assert.equal((await session.query("select from staged")).rowCount, 2000);
      const [asked, read] = [(after?.scans ?? 0) - (before?.scans ?? 0), (after?.entries ?? 0) - (before?.entries ?? 0)];
      assert.ok(asked >= 2 * rounds, `${asked} probes: the counters did not move`);
      assert.ok(read <= 20 * rounds, `${read} entries for ${asked} probes`);
    },
  );
}

test("[F8] whatever the statistics claim, the same indexes are looked into, and as often", { skip: postgres.skip }, () => {
  const [none, one, many] = [0, 1, 10_000_000].map((claimed) => used.get(claimed) as ReadonlyMap<string, number>);
  assert.ok(none && one && many && none.size > 10);
  const differ = [...none].flatMap(([name, count]) =>
    [one, many]
      .map((other) => other.get(name) ?? 0)
      .flatMap((counted) => (Math.abs(counted - count) <= Math.max(8, count * 0.1) ? [] : [`${name}: ${count} and ${counted} probes`])),
  );
  assert.deepEqual(differ, []);
});
