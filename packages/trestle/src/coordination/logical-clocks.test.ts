import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../kernel/index.ts";
import { compareVectors, lamportClock, mergeVectors, vectorClock } from "./index.ts";

test("a Lamport clock rises with each event and beyond each stamp that it receives", () => {
  const clock = lamportClock({ after: 3 });

  assert.deepEqual([clock.now(), clock.receive(10), clock.receive(2), clock.now()], [4, 11, 12, 13]);
});

test("a vector stamp is before another one when it counts no process further, and concurrent when each counts one further", () => {
  assert.equal(compareVectors({ a: 1 }, { a: 1, b: 2 }), "before");
  assert.equal(compareVectors({ a: 2, b: 2 }, { a: 1, b: 2 }), "after");
  assert.equal(compareVectors({ a: 1, b: 0 }, { a: 1 }), "equal");
  assert.equal(compareVectors({ a: 1 }, { b: 1 }), "concurrent");
  assert.deepEqual(mergeVectors({ a: 3, b: 1 }, { b: 2, c: 1 }), { a: 3, b: 2, c: 1 });
});

test("a vector clock counts its own events and keeps what it hears of the others'", () => {
  const [a, b] = [vectorClock("a"), vectorClock("b", { after: { b: 7 } })];

  const sent = a.now();
  const received = b.receive(sent);

  assert.deepEqual([sent, received, b.now(), a.now()], [{ a: 1 }, { a: 1, b: 8 }, { a: 1, b: 9 }, { a: 2 }]);
});

test("a process may have any name, also that of a property every object has", () => {
  const [one, other] = [vectorClock("constructor"), vectorClock("__proto__")];

  const received = other.receive(one.now());

  assert.deepEqual(Object.entries(received), [
    ["constructor", 1],
    ["__proto__", 1],
  ]);
  assert.equal(compareVectors({}, JSON.parse('{"__proto__":1}') as Record<string, number>), "before");
});

test("a stamp that has no next one, or is none, is refused and leaves the clock as it was", () => {
  const [lamport, vector] = [lamportClock(), vectorClock("a")];

  for (const stamp of [Number.MAX_SAFE_INTEGER, -1, 0.5, Number.NaN, "7" as unknown as number]) {
    assert.throws(
      () => lamport.receive(stamp),
      (error) => Fault.is(error, "lamport-clock.bad-stamp"),
    );
    assert.throws(
      () => vector.receive({ b: stamp }),
      (error) => Fault.is(error, "vector-clock.bad-stamp"),
    );
  }

  assert.equal(lamport.now(), 1);
  assert.deepEqual(vector.now(), { a: 1 });
});
