/**
 * commit_batch_v1 has two ways: commits that are apart, and hold, are applied by one statement for each table; all others go through the loop that defines what
 * a batch means. Here random batches go through the function as they come in one store, and through the loop only in another: the answers and the rows must be the same.
 * `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type pg from "pg";
import { seededRandom, uuidv7Ids, virtualClock, type Ids, type Random, type VirtualClock } from "trestle/kernel";
import type { Claim, Expectation, JobEnd, Write } from "trestle/store";
import { array, parameter } from "./arguments.ts";
import { batchCall, encodeBatch, type BatchRow, type InternalCommit } from "./batch.ts";
import { bytes, fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const given = process.env["FUZZ_SEED"];
const seeds = given ? [given] : Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? 4) }, (_, i) => `ways-${i}`);
const batches = 120;

const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
const chance = (random: Random, likely: number) => random.next() < likely;
const below = (random: Random, most: number) => Math.floor(random.next() * most);

const tables = ["commit", "event", "stream_head", "record", "entry", "token", "job", "job_mark", "job_paused", "store"];
/** Every row as text, but not where it lies. */
const rows = `select t.row from (${tables.map((name) => `select '${name} ' || row_to_json(x)::text as row from ${name} x`).join(" union all ")}) t order by t.row collate "C"`;
const digest = `select md5(string_agg(r.row, ' ')) as digest from (${rows}) r`;

/** What is there: versions by which expectations hold, and the claims that do. */
interface Standing {
  readonly versions: ReadonlyMap<string, number>;
  readonly held: Claim[];
  readonly jobs: string[];
  readonly sent: InternalCommit[];
}
const versions = `select 'record ' || r.key as key, max(r.version) as version from record r where r.expires_at_ms is null or r.expires_at_ms > $1 group by 1
  union all select 'token ' || t.key, t.version from token t where t.keep_until_ms > $1
  union all select 'stream ' || e.stream, max(e.version) from event e group by 1`;

/** Names that no other commit of the batch has, mostly. */
interface Names {
  readonly record: string[];
  readonly token: string[];
  readonly stream: string[];
  readonly held: Claim[];
}

/** One commit. Longer than most functions, because it is one list of what may be in it. */
function randomCommit(random: Random, clock: VirtualClock, ids: Ids, names: Names, { versions, jobs, sent }: Standing): InternalCommit {
  if (sent.length > 0 && chance(random, 0.05)) return pick(random, sent); // an id that is known
  const expects: Expectation[] = [];
  const writes: Write[] = [];
  const take = <T>(from: T[]): T | undefined => (chance(random, 0.96) ? from.splice(below(random, from.length), 1)[0] : from[below(random, from.length)]);
  const version = (of: string) => (versions.get(of) ?? 0) + (chance(random, 0.04) ? 1 : 0);
  const value = () => bytes(String(below(random, 1_000)));

  if (chance(random, 0.7)) {
    const key = take(names.record);
    if (key !== undefined) {
      if (chance(random, 0.5)) expects.push({ kind: "record", key, version: version(`record ${key}`) });
      const luck = random.next();
      if (luck < 0.02) writes.push({ kind: "put", key, value: value(), index: [{ field: "f", value: below(random, 3) }] });
      else if (luck < 0.06) writes.push({ kind: "remove", key });
      else if (luck < 0.1) writes.push({ kind: "merge", key, merge: { kind: "add", amount: 1, max: 900 } });
      else if (luck < 0.14) writes.push({ kind: "merge", key, merge: { kind: "take", amountUs: below(random, 5_000), burstUs: 6_000 } });
      else if (luck < 0.95)
        writes.push({ kind: "put", key, value: value(), ...(chance(random, 0.3) && { expiresAtMs: clock.wallMs() + below(random, 3_000) }) });
    }
  }
  if (chance(random, 0.4)) {
    const key = take(names.token);
    if (key !== undefined) {
      if (chance(random, 0.6)) expects.push({ kind: "token", key, version: version(`token ${key}`) });
      writes.push({ kind: "token", key, value: value(), keepForMs: 1 + below(random, 4_000) });
    }
  }
  if (chance(random, 0.5)) {
    const stream = take(names.stream);
    if (stream !== undefined) {
      if (chance(random, 0.5)) expects.push({ kind: "stream", stream, version: version(`stream ${stream}`) });
      const events = Array.from({ length: 1 + below(random, 3) }, () => ({
        id: ids.next(),
        type: "T",
        data: value(),
        ...(chance(random, 0.5) && { meta: value() }),
      }));
      writes.push({ kind: "append", stream, events });
      if (chance(random, 0.03)) writes.push({ kind: "trim", stream, upTo: below(random, 4) });
    }
  }
  const sends = chance(random, 0.5) ? 1 + below(random, 3) : 0;
  for (let i = 0; i < sends; i++) {
    const id = jobs.length > 0 && chance(random, 0.03) ? pick(random, jobs) : ids.next();
    jobs.push(id);
    const more = {
      ...(chance(random, 0.1) && { group: pick(random, ["", "a"]) }),
      ...(chance(random, 0.1) && { key: pick(random, ["k", "l"]) }),
      ...(chance(random, 0.05) && { unique: "u", ...(chance(random, 0.3) && { replace: { atMostMs: 100 } }) }),
      ...(chance(random, 0.15) && { dueAtMs: clock.wallMs() + below(random, 3_000) - 500 }),
      ...(chance(random, 0.05) && { startByMs: clock.wallMs() + below(random, 2_000) }),
    };
    writes.push({ kind: "enqueue", job: { id, queue: pick(random, ["p", "q"]), payload: value(), priority: below(random, 2), ...more } });
  }
  if (chance(random, 0.4)) {
    const claim = take(names.held);
    if (claim) {
      const fence = chance(random, 0.03) ? { ...claim.fence, n: claim.fence.n + 1 } : claim.fence;
      if (chance(random, 0.3)) expects.push({ kind: "claim", job: claim.id, fence });
      const end = pick<JobEnd>(random, [
        { kind: "done" },
        { kind: "done", keepUntilMs: clock.wallMs() + 500 },
        { kind: "retry", dueAtMs: clock.wallMs() + below(random, 1_000) - 200, error: "e" },
        { kind: "later", dueAtMs: clock.wallMs() + below(random, 1_000) },
        { kind: "dead", error: "e" },
        { kind: "parked", error: "e" },
      ]);
      if (chance(random, 0.8)) writes.push({ kind: "finish", job: claim.id, fence, end });
    }
  }
  if (jobs.length > 0 && chance(random, 0.02)) writes.push({ kind: pick(random, ["cancel", "redrive"]), job: pick(random, jobs) });
  if (chance(random, 0.01)) writes.push({ kind: "pause", queue: "p", paused: chance(random, 0.3) });
  if (writes.length === 0 && chance(random, 0.95)) writes.push({ kind: "token", key: ids.next(), value: value(), keepForMs: 1_000 });
  const commit = { id: ids.next(), expects, writes };
  if (expects.length === 0 && sent.push(commit) > 8) sent.shift();
  return commit;
}

/** Two stores with one history. `both` does one thing in each, and insists that they answer the same. */
async function twoStores() {
  const stores = [await postgres.open(), await postgres.open()];
  const sessions = await Promise.all(stores.map(({ schema }) => postgres.session(schema)));
  await Promise.all(stores.map((store) => store.close())); // nothing goes on beside
  const both = async <T>(ask: (session: pg.Client, at: number) => Promise<T>): Promise<T> => {
    const [here, there] = (await Promise.all(sessions.map(ask))) as [T, T];
    assert.deepEqual(there, here);
    return here;
  };
  return { both, schemas: stores.map(({ schema }) => schema) };
}

/** One history. Answers how many batches went at once, and how many were refused something. */
async function history(seed: string): Promise<{ readonly atOnce: number; readonly refused: number; readonly handedOut: number }> {
  const random = seededRandom(seed);
  const clock = virtualClock();
  const ids = uuidv7Ids(clock, random);
  const { both, schemas } = await twoStores();
  const held: Claim[] = [];
  const jobs: string[] = [];
  const sent: InternalCommit[] = [];
  const seen = { atOnce: 0, refused: 0, handedOut: 0 };

  for (let step = 0; step < batches; step++) {
    await clock.advance(chance(random, 0.1) ? 10_000 + below(random, 2_000) : below(random, 400));
    const nowMs = clock.wallMs();
    const standing = new Map(
      (await both(async (session) => (await session.query<{ key: string; version: string }>(`${versions} order by 1`, [nowMs])).rows)).map(
        ({ key, version }) => [key, Number(version)],
      ),
    );
    const names = { record: ["c/t/a", "c/t/b", "c/t/c", "c/t/d", "c/t/e"], token: ["a", "b", "c"], stream: ["a", "b", "c"], held: [...held] };
    const commits = new Map<string, InternalCommit>();
    for (let left = 1 + below(random, 6); left > 0; left--) {
      const commit = randomCommit(random, clock, ids, names, { versions: standing, held, jobs, sent });
      commits.set(commit.id, commit);
    }
    const doubted = new Set([...commits.keys()].filter(() => chance(random, 0.05)));
    const encoded = encodeBatch([...commits.values()], { nowMs, inDoubt: (id) => doubted.has(id) });
    // The second truth value says that they are apart.
    const [, apart] = encoded.arguments.flatMap((argument, i) => (typeof argument === "boolean" ? [i] : []));
    const told = await both(async (session, at) => {
      const parameters = encoded.parameters.map((value, i) => (at === 1 && i === apart ? false : value));
      const row = (await session.query<BatchRow>(batchCall(schemas[at] as string), parameters)).rows[0] as BatchRow;
      if (at === 0 && row.first !== null) seen.atOnce++;
      if (at === 1) assert.equal(row.first, null, "the loop");
      return { outcomes: encoded.outcomes(row), applied: encoded.applied(row), head: Number(row.head), epoch: row.now_epoch };
    });
    if (told.outcomes.some(({ ok }) => !ok)) seen.refused++;

    if (chance(random, 0.5)) {
      const policy = pick(random, [null, null, JSON.stringify({ concurrency: 6 }), JSON.stringify({ perGroup: { concurrency: 2 } })]);
      const asking = [
        nowMs,
        8,
        array("int4", [0, 0]),
        array("text", ["p", "q"]),
        array("int4", [3, 3]),
        array("int8", [5_000, 5_000]),
        array("text", ["h", "h"]),
        array("text", [policy, policy]),
      ];
      const claims = await both(async (session, at) => {
        const answer = await session.query<{ id: string | null; n: string | null; epoch: number; life: string; hint: string }>(
          `select * from "${schemas[at]}".claim_jobs_v1($1, $2, $3, $4, $5, $6, $7, $8)`,
          asking.map(parameter),
        );
        return answer.rows.map(({ life: _life, hint: _hint, ...row }) => row);
      });
      const { epoch, n } = claims.at(-1) ?? { epoch: 1, n: null };
      for (const { id } of claims) if (id !== null) seen.handedOut += held.push({ id, fence: { epoch, n: Number(n) } }) > 0 ? 1 : 0;
    }
    const digests: string[] = [];
    await both(async (session, at) => void (digests[at] = (await session.query<{ digest: string }>(digest)).rows[0]?.digest as string));
    if (digests[0] !== digests[1]) await both(async (session) => (await session.query<{ row: string }>(rows)).rows.map(({ row }) => row));
    held.splice(0, Math.max(0, held.length - 12));
  }
  return seen;
}

test(
  "[F3] whichever way a batch takes through the function, at once or one commit after the other, it answers and leaves the same",
  { skip: postgres.skip },
  async () => {
    for (const seed of seeds) {
      try {
        const { atOnce, refused, handedOut } = await history(seed);
        assert.ok(
          atOnce >= batches / 4 && refused >= batches / 10 && handedOut >= batches / 4,
          `${atOnce} batches went at once, ${refused} were refused something, ${handedOut} jobs were handed out`,
        );
      } catch (error) {
        throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/postgres/src/batch-ways`, { cause: error });
      }
    }
  },
);
