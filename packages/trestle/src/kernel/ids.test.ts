import assert from "node:assert/strict";
import { test } from "node:test";
import { formatUuidv7, mintedAtMs, seededRandom, seriesLength, uuidv7Ids, uuidv7Series, virtualClock } from "./index.ts";

const shape = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("ids sort in the order they were minted, within a millisecond, across them, and while wall time runs backwards", async () => {
  const clock = virtualClock();
  const ids = uuidv7Ids(clock, seededRandom("ids"));
  const minted: string[] = [];
  for (let round = 0; round < 300; round++) {
    for (let i = 0; i < 20; i++) minted.push(ids.next());
    if (round % 3 === 0) clock.jumpWall(round % 2 === 0 ? 5 : -40);
  }

  assert.deepEqual(minted, minted.toSorted());
  assert.equal(new Set(minted).size, minted.length);
});

test("an id has the version and variant bits of RFC 9562 and carries its millisecond", () => {
  const clock = virtualClock(0x0123_4567_89ab);
  const ids = uuidv7Ids(clock, seededRandom("bits"));
  for (let i = 0; i < 1_000; i++) {
    const id = ids.next();
    assert.match(id, shape);
    assert.equal(mintedAtMs(id), 0x0123_4567_89ab);
  }
});

test("the example of RFC 9562, appendix A.6, comes out", () => {
  // 017F22E2-79B0-7CC3-98C4-DC0C0C07398F: unix_ts_ms, rand_a = CC3, rand_b = 18C4DC0C0C07398F
  const counter = 0xcc3 * 2 ** 30 + 0x18c4 * 2 ** 16 + 0xdc0c;
  assert.equal(formatUuidv7(0x017f_22e2_79b0, counter, 0x0c07_398f), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
  assert.equal(mintedAtMs("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), 1_645_557_742_000);
});

test("a counter's order is the text's order, and each of its 42 bits is in the text", () => {
  const random = seededRandom("counter");
  const bitsOf = (id: string) =>
    (Number.parseInt(id.slice(15, 18), 16) * 2 ** 14 + (Number.parseInt(id.slice(19, 23), 16) & 0x3fff)) * 2 ** 16 + Number.parseInt(id.slice(24, 28), 16);
  for (let i = 0; i < 2_000; i++) {
    const a = Math.floor(random.next() * 2 ** 42);
    const b = i % 2 === 0 ? Math.floor(random.next() * 2 ** 42) : a + (random.uint32() % 3);
    const text = formatUuidv7(1, a, random.uint32());
    assert.equal(bitsOf(text), a);
    if (a !== b) assert.equal(text < formatUuidv7(1, b, random.uint32()), a < b, `${a} ${b}`);
  }
});

test("a virtual clock between two milliseconds still gives a well-formed id", async () => {
  const clock = virtualClock(1_000);
  await clock.advance(0.5);
  const id = uuidv7Ids(clock, seededRandom(1)).next();
  assert.match(id, shape);
  assert.equal(mintedAtMs(id), 1_000);
});

test("text that is no UUIDv7 was minted at no time", () => {
  for (const text of [
    "",
    "x",
    "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
    "017f22e2-79b0-7cc3-18c4-dc0c0c07398f",
    "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
    "017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n",
  ])
    assert.equal(mintedAtMs(text), undefined, JSON.stringify(text));
});

test("a series of ids follows from its name, rises, and meets no other series", () => {
  const ms = 1_700_000_000_000;
  const one = uuidv7Series(ms, "one");
  const ids = Array.from({ length: seriesLength }, (_, at) => one(at));

  assert.deepEqual(ids, [...ids].sort());
  assert.equal(new Set(ids).size, seriesLength);
  assert.ok(ids.every((id) => mintedAtMs(id) === ms));
  assert.equal(uuidv7Series(ms, "one")(7), ids[7]);
  assert.notEqual(uuidv7Series(ms, "two")(7), ids[7]);
});
