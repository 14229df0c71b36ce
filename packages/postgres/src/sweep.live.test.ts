/** What time has made superfluous is swept beside the lane; what is kept on purpose stays. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, systemClock, systemRandom, uuidv7Ids, virtualClock } from "trestle/kernel";
import { openPool } from "./sessions.ts";
import { openSweep } from "./sweep.ts";
import { bytes, fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;
const hourMs = 3_600_000;

async function world() {
  const clock = virtualClock();
  const ids = uuidv7Ids(clock, systemRandom);
  const store = await postgres.open(undefined, { time: clock, clock: virtualClock() }); // its own sweeps stand still
  const session = await postgres.session(store.schema);
  const side = openPool({ url: postgres.server.url, name: "trestle side", size: 1, answerWithinMs: 30_000, clock: systemClock, random: systemRandom });
  const sweep = openSweep({ schema: store.schema, side, clock: systemClock, random: systemRandom, nowMs: () => clock.wallMs() });
  const count = async (table: string) => (await session.query(`select from ${table}`)).rowCount;
  const commit = async (...writes: Parameters<typeof store.commit>[0]["writes"]) => {
    const outcome = await store.commit({ id: ids.next(), expects: [], writes });
    assert.ok(outcome.ok);
    return outcome.n;
  };
  return { clock, ids, store, session, sweep, count, commit, close: async () => (await sweep.stop(), await side.close()) };
}

test("expired and removed records, their index entries and tokens go a minute later, in steps; living ones stay", { skip }, async () => {
  const { clock, store, sweep, count, commit, close } = await world();
  const index = [{ field: "f", value: "v" }];
  for (let at = 0; at < 1_300; at += 100)
    await commit(
      ...Array.from(
        { length: 100 },
        (_, i) => ({ kind: "put", key: `gone/${at + i}`, value: bytes("x"), expiresAtMs: clock.wallMs() + 1_000, index }) as const,
      ),
    );
  await commit({ kind: "put", key: "kept", value: bytes("x"), index }, { kind: "put", key: "removed", value: bytes("x"), index });
  await commit({ kind: "remove", key: "removed" }, { kind: "token", key: "t", value: bytes("x"), keepForMs: 1_000 });
  await clock.advance(30_000);
  const early = await sweep.round();
  await clock.advance(60_000);

  const late = await sweep.round();

  assert.deepEqual([early, late], [0, 1_302]);
  assert.deepEqual([await count("record"), await count("entry"), await count("token")], [1, 1, 0]);
  assert.equal((await store.read.records(["kept"]))[0]?.key, "kept");
  assert.equal(await sweep.round(), 0, "nothing is left to do");
  await close();
});

test("commit ids and the feed go after a day; the head stays, and a reader from before is told", { skip }, async () => {
  const { clock, ids, store, sweep, count, commit, close } = await world();
  for (let n = 0; n < 5; n++) await commit({ kind: "put", key: `a${n}`, value: bytes("x") });
  await store.resolve(ids.next());
  const { epoch } = await store.read.head();
  await clock.advance(25 * hourMs);

  await sweep.round();
  const head = await store.read.head();
  const next = await commit({ kind: "put", key: "b", value: bytes("x") });

  assert.deepEqual([head.n, next, await count("commit")], [5, 6, 2]);
  await assert.rejects(store.read.commits({ after: { epoch, n: 2 }, limit: 10 }), (fault) => Fault.is(fault, "log.trimmed"));
  assert.deepEqual(
    (await store.read.commits({ after: { epoch, n: 0 }, limit: 10 })).map(({ n }) => n),
    [5, 6],
  );
  await close();
});

test("while one process sweeps, another does not", { skip }, async () => {
  const { clock, session, sweep, commit, close } = await world();
  await commit({ kind: "put", key: "gone", value: bytes("x"), expiresAtMs: clock.wallMs() + 1 });
  await clock.advance(70_000);
  await session.query("begin; select pg_advisory_xact_lock((1953657704::bigint << 32) | 'store'::regclass::oid::bigint)");
  const meanwhile = await sweep.round();
  await session.query("rollback");

  assert.deepEqual([meanwhile, await sweep.round()], [0, 1]);
  await close();
});
