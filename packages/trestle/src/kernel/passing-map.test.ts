import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import { test } from "node:test";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { PassingMap, seededRandom } from "./index.ts";

test("it answers what a Map would", () => {
  const seed = `passing ${Math.floor(performance.now())}`;
  const random = seededRandom(seed);
  const [map, plain] = [new PassingMap<number, number>(), new Map<number, number>()];
  for (let step = 0; step < 20_000; step++) {
    const key = random.uint32() % 700;
    if (random.uint32() % 2 === 0) {
      map.set(key, step);
      plain.set(key, step);
    } else assert.equal(map.delete(key), plain.delete(key), seed);
    assert.deepEqual([map.size, map.has(key), map.get(key)], [plain.size, plain.has(key), plain.get(key)], seed);
  }
  assert.deepEqual([...map.values()].sort(), [...plain.values()].sort(), seed);
});

test("what has passed through it does not become old, as what passes through a Map does", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const oldMb = () => (getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")?.space_used_size ?? 0) / 1e6;

  /** How much the old space has grown while 20 MB have passed through the map, 64 entries at a time. */
  async function grownMb(map: { set(key: number, value: object): unknown; delete(key: number): unknown }): Promise<number> {
    collect(); // the map is old now
    let from = oldMb();
    let grown = 0;
    for (let n = 0; n < 20_000; n++) {
      map.set(n, { payload: Array.from({ length: 125 }, () => n) });
      map.delete(n - 64);
      if (n % 50 !== 0) continue;
      await nextTurn();
      const now = oldMb();
      if (now > from) grown += now - from;
      from = now;
    }
    return grown;
  }

  const [passing, plain] = [await grownMb(new PassingMap()), await grownMb(new Map())];
  assert.ok(passing < 3 && plain > 5, `${passing.toFixed(1)} MB of the PassingMap's became old, and ${plain.toFixed(1)} MB of the Map's`);
});
