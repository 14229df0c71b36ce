/**
 * Random fleets: nodes come, stop, die and pause while events are recorded and the number of partitions changes. `FUZZ_SEED=<seed>` replays
 * one run; `FUZZ_RUNS` says how many.
 */
import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { decode } from "../component/index.ts";
import { Fault, partitionOf, seededRandom, sleep, type Random } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { subscription, topic } from "./index.ts";
import { memoryStore, runNode, type RunningTestNode } from "./testing.ts";

const given = process.env["FUZZ_SEED"];
// 58 shows a change of partitions that does not wait for what was taken under the old number.
const seeds = given ? [given] : [...Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? 10) }, (_, i) => `partitions-${i}`), "partitions-58"];
const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;

const keys = ["ada", "bob", "cy", "dee", "eve", "fay", "gus", "hal"];
const paid = topic("paid", { events: { Paid: z.object({ key: z.string(), n: z.int() }) }, key: ({ data }) => data.key });
const seen = records("seen", { key: z.string(), value: z.string() });

/** Who runs what now, over all nodes that are alive. A dead node's handler runs on in this process, and counts for nothing. */
interface Running {
  readonly node: number;
  readonly line: string;
}

async function run(seed: string, fixed: boolean): Promise<{ readonly events: number; readonly layouts: number }> {
  const random = seededRandom(seed);
  const { clock, store } = await memoryStore();
  const running = new Set<Running>();
  const dead = new Set<number>();
  const overlaps: string[] = [];
  let next = 0;
  const nodes = new Map<number, RunningTestNode>();
  const layouts = [1, 2, 3, 5, 8, undefined];
  let layout = pick(random, layouts);
  let changes = 1;
  const begin = async () => {
    const id = next++;
    const partitions = layout;
    const collect = subscription(
      "collect",
      { to: paid, uses: { seen }, retry: { from: 0, upTo: 0 }, ...(partitions === undefined ? {} : { partitions }) },
      {
        Paid: async ({ key, data }, { seen }, { signal }) => {
          // One key has one handler at a time, always. A partition too, where it was one partition for whoever fed and whoever runs.
          const line = partitions === undefined || !fixed ? key : String(partitionOf(key, partitions));
          const me: Running = { node: id, line };
          for (const other of running) if (!dead.has(other.node) && !dead.has(id) && other.line === line) overlaps.push(`${line} on ${other.node} and ${id}`);
          running.add(me);
          try {
            await sleep(clock, random.next() * 4, signal); // a run that is handed back ends before the next one begins
            if (random.next() < 0.05) throw new Error("chance");
            const before = (await seen.get(key)) ?? "";
            seen.put(key, `${before}${data.n};`);
          } finally {
            running.delete(me);
          }
        },
      },
    );
    nodes.set(id, await runNode([collect], { clock, store, seed }));
  };
  /** Time passes until it is over. */
  const elapsing = async (stopping: Promise<void>) => {
    let over = false;
    const ended = stopping.then(() => void (over = true));
    for (let steps = 0; !over && steps < 1_000; steps++) await clock.advance(5);
    assert.ok(over, "a node stops within 5 s");
    await ended;
  };
  const writer = await runNode([], { clock, store, seed });
  await begin();
  await begin();
  const recorded = new Map<string, number>();
  let events = 0;
  for (let round = 0; round < 60; round++) {
    const act = random.next();
    if (act < 0.5) {
      const burst = Array.from({ length: 1 + Math.floor(random.next() * 6) }, () => pick(random, keys));
      await writer.commit({ paid }, ({ paid }) => {
        for (const key of burst) {
          const n = recorded.get(key) ?? 0;
          recorded.set(key, n + 1);
          paid.publish.Paid({ key, n });
          events += 1;
        }
      });
    } else if (act < 0.62) await begin();
    else if (act < 0.74 && nodes.size > 1) {
      const id = pick(random, [...nodes.keys()]);
      const leaving = nodes.get(id) as RunningTestNode;
      nodes.delete(id);
      await elapsing(random.next() < 0.5 ? leaving.drain(50).then(() => leaving.stop()) : leaving.stop());
    } else if (act < 0.84 && nodes.size > 1) {
      const id = pick(random, [...nodes.keys()]);
      dead.add(id);
      nodes.get(id)?.crash();
      nodes.delete(id);
    } else if (act < 0.92) {
      // A deploy: new nodes with another number come, the old ones go.
      if (!fixed) layout = pick(random, layouts);
      changes += 1;
      const old = [...nodes.entries()];
      await begin();
      for (const [id, leaving] of old) {
        nodes.delete(id);
        await elapsing(leaving.stop());
      }
    }
    await clock.advance(random.next() * 40);
  }
  // Leases of the dead run out, and everything comes to rest.
  for (let i = 0; i < 200; i++) await clock.advance(500);
  for (const node of nodes.values()) await node.idle();

  const rows = await store.read.records(keys.map((key) => `seen//${key}`));
  keys.forEach((key, i) => {
    const expected = Array.from({ length: recorded.get(key) ?? 0 }, (_, n) => `${n};`).join("");
    const row = rows[i];
    assert.equal(row ? decode(row.value) : "", expected, `the events of ${key}, each once and in order`);
  });
  assert.deepEqual(overlaps, []);
  for (const node of nodes.values()) await node.stop();
  await store.close();
  return { events, layouts: changes };
}

test("[F10] [MSG-06] whoever comes, stops or dies, and whatever number of partitions is chosen: each event once, keys in order, no two holders of a line", async () => {
  let [events, layouts] = [0, 0];
  for (const seed of seeds) {
    try {
      const ran = await run(seed, Number(/\d+$/.exec(seed)) % 2 === 1);
      events += ran.events;
      layouts += ran.layouts;
    } catch (error) {
      throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/trestle/src/messaging/partitions.fuzz.test.ts`, { cause: error });
    }
  }

  if (!given) assert.ok(events > 50 * seeds.length && layouts > 2 * seeds.length, `${events} events under ${layouts} numbers of partitions`);
});

test("a key's partition is the CRC of its UTF-8 bytes, the same everywhere and always", () => {
  assert.deepEqual(
    ["", "ada", "ünïcode", "😀"].map((key) => partitionOf(key, 4_096)),
    [0, 1_896, 1_194, 1_348],
  );
  const of64 = new Map<number, number>();
  for (let i = 0; i < 64_000; i++) of64.set(partitionOf(`customer-${i}`, 64), (of64.get(partitionOf(`customer-${i}`, 64)) ?? 0) + 1);
  assert.ok(
    [...of64.values()].every((count) => count > 800 && count < 1_200),
    "spread evenly",
  );
});

test("partitions out of range, or on an in-commit subscription, are faults where they are declared", () => {
  assert.throws(
    () => subscription("s", { to: paid, partitions: 0 }, {}),
    (thrown) => Fault.is(thrown, "option.out-of-range"),
  );
  assert.throws(
    () => subscription("s", { to: paid, when: "in-commit", partitions: 2 }, {}),
    (thrown) => Fault.is(thrown, "subscription.bad-option"),
  );
});
