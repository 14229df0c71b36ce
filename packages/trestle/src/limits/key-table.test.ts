/** The table under its laws: room for what it was declared for, growth that loses nothing, and attackers with more keys than it has places. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyedHash, seededRandom, virtualClock } from "../kernel/index.ts";
import { rateLimit, slidingCounter, slidingLog } from "./index.ts";
import { KeyTable } from "./key-table.ts";

const clock = virtualClock();
const seed = process.env["SEED"] ?? "growth";

test("a table has room for as many keys as it was declared for, in at most 40 B for each, and none is forgotten", () => {
  for (const [nth, keys] of [1, 48, 100, 1_000, 12_345, 200_000, 1_000_000].entries()) {
    const limit = rateLimit({ rate: "1/h", burst: 2, keys, clock, random: seededRandom(`room ${nth}`) });

    for (let key = 0; key < keys; key++) assert.equal(limit.take(`key ${key}`, 2), 0);
    for (let key = 0; key < keys; key++) if (limit.take(`key ${key}`) === 0) assert.fail(`key ${key} of ${keys} was forgotten`);

    assert.equal(limit.forgotten, 0);
    if (keys >= 1_000) assert.ok(limit.bytes / keys <= 40, `${limit.bytes / keys} B for each of ${keys} keys`);
  }
});

test("what a law keeps survives the table's growth, call by call", () => {
  const random = seededRandom(seed);
  for (const limit of [
    ...Array.from({ length: 8 }, () => rateLimit({ rate: "1/h", burst: 5, keys: 50_000, clock, random })),
    rateLimit({ rate: "1/h", burst: 5, keys: 50_000, clock, random }),
    slidingLog({ limit: 5, window: "1h", keys: 50_000, clock, random }),
    slidingCounter({ limit: 5, window: "1h", keys: 50_000, clock, random }),
  ]) {
    const taken = new Map<string, number>();
    for (let nth = 0; nth < 150_000; nth++) {
      const key = `key ${random.uint32() % 40_000}`;
      const before = taken.get(key) ?? 0;
      assert.equal(limit.take(key) === 0, before < 5, `${key} after ${before}`);
      taken.set(key, Math.min(5, before + 1));
    }
    assert.equal(limit.forgotten, 0, `SEED=${seed} npm test -- limits/key-table`);
  }
});

test("a place whose time is over is free: keys that come and go take no more memory than those that are there at once", async () => {
  const moving = virtualClock();
  const limit = rateLimit({ rate: "10/s", burst: 1, keys: 1_000_000, clock: moving, random: seededRandom("passing") });

  for (let second = 0; second < 200; second++) {
    for (let nth = 0; nth < 1_000; nth++) limit.take(`key ${second} ${nth}`);
    await moving.advance(1_000);
  }

  assert.ok(limit.bytes < 100_000, `${limit.bytes} B after 200,000 keys, 1,000 at once`);
  assert.equal(limit.forgotten, 0);
});

test("three million keys of an attacker, against a table at its cap, cause no refusal of anybody else, and free nobody who used up his limit", () => {
  const keys = 50_000;
  const limit = rateLimit({ rate: "5/m", burst: 5, keys, clock, random: seededRandom("attack") });
  const spent = Array.from({ length: 1_000 }, (_, nth) => `spent ${nth}`);
  for (const key of spent) limit.take(key, 5);
  let refusedVictims = 0;
  let freed = 0;

  for (let nth = 0; nth < 3_000_000; nth++) {
    limit.take(`attacker ${nth}`);
    // Somebody who keeps to the limit, new or known: four calls, of the five that are allowed.
    if (nth % 3_000 === 0) for (let call = 0; call < 4; call++) if (limit.take(`victim ${nth}`) > 0) refusedVictims++;
    if (nth % 3_000 === 1_500 && limit.take(spent[(nth / 3_000) | 0] as string) === 0) freed++;
  }

  assert.equal(refusedVictims, 0);
  assert.equal(freed, 0);
  // Nobody was let in without being counted: what was forgotten is known, one token each.
  assert.ok(limit.forgotten > 2_800_000, `${limit.forgotten}`);
  assert.ok(limit.forgottenTokens >= limit.forgotten && limit.forgottenTokens < 1.1 * limit.forgotten, `${limit.forgottenTokens}`);
  assert.ok(limit.bytes <= 40 * keys, `${limit.bytes} B`);
});

test("keys that meet in a table with one secret do not in a table with another one", () => {
  const [known, fresh] = [new KeyedHash(seededRandom("known")), new KeyedHash(seededRandom("fresh"))];
  const slot = (hash: KeyedHash, key: string) => (hash.of(key) >>> 0) >>> 22; // the first of 1,024 parts
  const chosen: string[] = [];
  for (let nth = 0; chosen.length < 2_000; nth++) if (slot(known, `key ${nth}`) === 7) chosen.push(`key ${nth}`);
  const counts = new Map<number, number>();

  for (const key of chosen) counts.set(slot(fresh, key), (counts.get(slot(fresh, key)) ?? 0) + 1);

  assert.ok(counts.size > 800, `${counts.size} parts of 1,024`);
  assert.ok(Math.max(...counts.values()) < 15, `${Math.max(...counts.values())} in one part`);
});

test("both halves of the hash are even: each bit of keys that differ by one character is one in half of them", () => {
  const hash = new KeyedHash(seededRandom("even"));
  const ones = new Float64Array(64);
  const keys = 20_000;
  for (let nth = 0; nth < keys; nth++) {
    const first = hash.of(`k${nth}`);
    for (let bit = 0; bit < 32; bit++) {
      ones[bit] = (ones[bit] as number) + ((first >>> bit) & 1);
      ones[32 + bit] = (ones[32 + bit] as number) + ((hash.second >>> bit) & 1);
    }
  }
  // Five standard deviations.
  for (const [bit, count] of ones.entries()) assert.ok(Math.abs(count - keys / 2) < 5 * Math.sqrt(keys / 4), `bit ${bit}: ${count} of ${keys}`);
});

test("a text whose code units fit into bytes does not meet one whose do not, though both come to the same words and length modulo 256", () => {
  const hash = new KeyedHash(seededRandom("words"));

  const narrow = [hash.of("a\0ab".repeat(128)), hash.second];
  assert.notDeepEqual([hash.of("a\u6261".repeat(128)), hash.second], narrow);
});

test("a hash is the same the second time, remembered or not", () => {
  const hash = new KeyedHash(seededRandom("again"));
  const keys = Array.from({ length: 5_000 }, (_, nth) => `${"x".repeat(nth % 40)}${nth % 7 === 0 ? "ш" : ""}${nth}`);
  const before = keys.map((key) => [hash.of(key), hash.second]);

  for (let round = 0; round < 20; round++) for (const [nth, key] of keys.entries()) assert.deepEqual([hash.of(key), hash.second], before[nth]);
  assert.equal(new Set(before.map((halves) => halves.join())).size, keys.length);
});

test("a law that keeps many numbers for a key has them in the table's bytes", () => {
  assert.equal(KeyTable.bytesAt(1_000, 2), 1_000 * 64);
});
