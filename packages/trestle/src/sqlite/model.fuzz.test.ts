/** Random commits and random queue life against the models of conformance/. `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CommitModel, liveQueue } from "../conformance/index.ts";
import { seededRandom, uuidv7Ids, virtualClock, type Random } from "../kernel/index.ts";
import type { Commit, CommitOutcome, Expectation, Store, Write } from "../store/index.ts";
import { openSqlite } from "./index.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => value && new TextDecoder().decode(value);
const given = process.env["FUZZ_SEED"];
const seeds = (runs: number): string[] => (given ? [given] : Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? runs) }, (_, i) => `store-${i}`));
const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
const chance = (random: Random, likely: number) => random.next() < likely;
const below = (random: Random, most: number) => Math.floor(random.next() * most);

async function replayable(file: string, seed: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/trestle/src/sqlite/${file}`, { cause: error });
  }
}

async function commitsAgainstModel(
  seed: string,
  open: (clock: ReturnType<typeof virtualClock>) => Promise<{ store: Store; close: () => Promise<void> }>,
): Promise<void> {
  const random = seededRandom(seed);
  const clock = virtualClock();
  const ids = uuidv7Ids(clock, random);
  const { store, close } = await open(clock);
  const model = new CommitModel();
  const keys = ["a//1", "a//2", "a//10", "b//1", "b/t/1", "c//é"];
  const streams = ["s//1", "s//2"];
  const sent: Commit[] = [];
  const numbers: number[] = [0];
  const kept: string[] = [];

  const value = () => bytes(pick(random, ["1", "5", "-3", '["x"]', '{"a":1}', "", "\u0000"]));
  const write = (): Write => {
    const key = pick(random, keys);
    switch (below(random, 11)) {
      case 0:
      case 1:
        return {
          kind: "put",
          key,
          value: value(),
          ...(chance(random, 0.3) && { expiresAtMs: clock.wallMs() + below(random, 3_000) }),
          ...(chance(random, 0.3) && { index: [{ field: "f", value: below(random, 3) }] }),
        };
      case 2:
        return { kind: "remove", key };
      case 3:
        return {
          kind: "append",
          stream: pick(random, streams),
          events: Array.from({ length: below(random, 3) }, () => ({ id: ids.next(), type: "T", data: value() })),
        };
      case 4:
        return { kind: "token", key: `t${key}`, value: value(), keepForMs: 30 * 24 * 3_600_000 };
      case 5:
        return { kind: "merge", key, merge: { kind: pick(random, ["max", "min"] as const), value: below(random, 10) - 5 } };
      case 6:
        return { kind: "merge", key, merge: { kind: "union", members: [pick(random, ["x", "y", "z"]), "w"] } };
      case 7:
        return { kind: "merge", key, merge: { kind: "set-once", value: value() } };
      case 8:
        return { kind: "merge", key, merge: { kind: "take", amountUs: 1_000 * (below(random, 8) - 2), burstUs: 1_000 * (6 + below(random, 10)) } };
      default:
        return {
          kind: "merge",
          key,
          merge: { kind: "add", amount: below(random, 7) - 3, ...(chance(random, 0.5) && { min: -2 }), ...(chance(random, 0.5) && { max: 6 }) },
        };
    }
  };
  const expectation = (): Expectation => {
    const key = pick(random, keys);
    const version = () =>
      chance(random, 0.3) && sent.length ? pick(random, sent.slice(-5)).id : chance(random, 0.7) ? (model.record(key)?.version ?? 0) : pick(random, numbers);
    switch (below(random, 5)) {
      case 0:
        return streamExpectation();
      case 1:
        return { kind: "unchanged", prefix: pick(random, ["a//", "a//1", "b/", "c//"]), since: chance(random, 0.6) ? model.n : pick(random, numbers) };
      case 2:
        return { kind: "token", key: `t${key}`, version: chance(random, 0.7) ? (model.token(`t${key}`)?.version ?? 0) : pick(random, numbers) };
      default:
        return { kind: "record", key, version: version() };
    }
  };

  // Half of them on what the burst itself has staged: its version counted on, after one of the last commits that appended.
  const streamExpectation = (): Expectation => {
    const stream = pick(random, streams);
    const version = chance(random, 0.8) ? model.events(stream).length : below(random, 5);
    if (chance(random, 0.5)) return { kind: "stream", stream, version };
    const appending = sent.filter(({ writes }) => writes.some((write) => write.kind === "append" && write.stream === stream && write.events.length > 0));
    const base = chance(random, 0.9) ? appending.at(-1 - below(random, 2)) : undefined;
    const staged =
      base && !model.knows(base.id)
        ? base.writes.reduce((sum, write) => sum + (write.kind === "append" && write.stream === stream ? write.events.length : 0), 0)
        : 0;
    return { kind: "stream", stream, version: version + staged, after: base?.id ?? ids.next() };
  };

  for (let round = 0; round < 60; round++) {
    model.nowMs = clock.wallMs();
    // A burst, which the engine applies as one batch. The model judges it one by one.
    const burst = Array.from({ length: 1 + below(random, 12) }, (): Commit | string => {
      if (chance(random, 0.05)) return chance(random, 0.5) && sent.length ? pick(random, sent).id : ids.next();
      if (chance(random, 0.1) && sent.length) return pick(random, sent);
      const commit: Commit = {
        id: chance(random, 0.03) && kept.length ? pick(random, kept) : ids.next(),
        expects: Array.from({ length: below(random, 3) }, expectation),
        writes: Array.from({ length: below(random, 4) }, write),
      };
      sent.push(commit);
      return commit;
    });
    const answers = await Promise.all(burst.map((each) => (typeof each === "string" ? store.resolve(each) : store.commit(each))));
    burst.forEach((each, i) => {
      const expected = typeof each === "string" ? model.resolve(each) : model.commit(each);
      assert.deepEqual(plain(answers[i]), plain(expected), `round ${round}, ${i}: ${JSON.stringify(each)}`);
      if (expected.ok) numbers.push(expected.n);
      else if (typeof each === "string") kept.push(each);
    });

    const records = await store.read.records(keys);
    assert.deepEqual(
      records.map((record) => record && [text(record.value), record.version, record.created, record.expiresAtMs]),
      keys.map((key) => model.record(key)).map((record) => record && [text(record.value), record.version, record.created, record.expiresAtMs]),
    );
    assert.deepEqual(
      (await store.read.list({ prefix: "", order: "key", limit: 100 })).map(({ key }) => key),
      model.keys().sort((x, y) => Buffer.compare(bytes(x), bytes(y))),
    );
    for (const stream of streams)
      assert.deepEqual(
        (await store.read.stream(stream, { after: 0, limit: 1_000 })).map(({ id }) => id),
        model.events(stream),
      );
    for (const key of keys) assert.deepEqual([(await store.read.token(`t${key}`))?.version], [model.token(`t${key}`)?.version]);
    assert.deepEqual(await store.read.head(), { epoch: 1, n: model.n, position: model.position });
    await clock.advance(chance(random, 0.3) ? below(random, 2_000) : 1);
  }
  await close();
}

/** The text of a refused statement is the engine's own. */
function plain(outcome: CommitOutcome | undefined): unknown {
  return outcome && !outcome.ok && outcome.refused === "statement" ? { ...outcome, message: "" } : outcome;
}

test("random bursts of commits answer and leave what the model says, in memory", async () => {
  for (const seed of seeds(40)) {
    await replayable("model.fuzz.test.ts", seed, () =>
      commitsAgainstModel(seed, async (clock) => {
        const store = await openSqlite({ path: ":memory:", clock });
        return { store, close: () => store.close() };
      }),
    );
  }
});

test("random bursts of commits answer and leave what the model says, through the writer's thread", async () => {
  for (const seed of seeds(5)) {
    await replayable("model.fuzz.test.ts", seed, () =>
      commitsAgainstModel(seed, async (clock) => {
        const directory = mkdtempSync(join(tmpdir(), "trestle-fuzz-"));
        const store = await openSqlite({ path: join(directory, "store.db"), clock });
        return {
          store,
          close: async () => {
            await store.close();
            rmSync(directory, { recursive: true });
          },
        };
      }),
    );
  }
});

test("[F17] the life of a queue is what the model says, step by step", async () => {
  for (const seed of seeds(40))
    await replayable("model.fuzz.test.ts", seed, async () => {
      const random = seededRandom(seed);
      const clock = virtualClock();
      const store = await openSqlite({ path: ":memory:", clock });
      await liveQueue({ store, clock, ids: uuidv7Ids(clock, random), random, steps: 400 });
      await store.close();
    });
});
