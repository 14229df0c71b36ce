import assert from "node:assert/strict";
import { test } from "node:test";
import { RecentMap, seededRandom } from "./index.ts";

/** Of these keys, those that it knows. To ask is to use, and adds none. */
const known = <K>(map: RecentMap<K, unknown>, keys: readonly K[]): number => keys.filter((key) => map.get(key) !== undefined).length;

test("what is used stays; of what is not, at most so many are kept", () => {
  const map = new RecentMap<string, number>(100);
  map.set("hot", 1);

  for (let n = 0; n < 1_000; n++) {
    map.set(`cold${n}`, n);
    assert.equal(map.get("hot"), 1);
  }

  assert.deepEqual(
    Array.from({ length: 49 }, (_, n) => map.get(`cold${999 - n}`)),
    Array.from({ length: 49 }, (_, n) => 999 - n),
    "half of them at the least",
  );
  const all = Array.from({ length: 1_000 }, (_, n) => `cold${n}`);
  assert.ok(known(map, all) < 100, `${known(map, all)} entries, and the hot one`);
});

test("what it answers is what was set last, or nothing", () => {
  const seed = `recent ${Math.floor(performance.now())}`;
  const random = seededRandom(seed);
  const map = new RecentMap<number, number>(8);
  const last = new Map<number, number>();
  const keys = Array.from({ length: 24 }, (_, key) => key);
  for (let step = 0; step < 10_000; step++) {
    const key = random.uint32() % keys.length;
    const dice = random.uint32() % 10;
    if (dice < 5) {
      map.set(key, step);
      last.set(key, step);
      assert.equal(map.get(key), step, seed);
    } else if (dice < 8) {
      const found = map.get(key);
      if (found !== undefined) assert.equal(found, last.get(key), seed);
    } else if (dice < 9 || step % 97 !== 0) {
      map.delete(key);
      last.delete(key);
      assert.equal(map.get(key), undefined, seed);
    } else {
      map.clear();
      assert.equal(known(map, keys), 0, seed);
    }
    assert.equal([...map.values()].length, new Set(map.values()).size, seed);
    if (step % 7 === 0) assert.ok(known(map, keys) <= 8, seed);
  }
});
