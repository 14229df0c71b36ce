import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, timingWheel, virtualClock } from "./index.ts";
import type { Clock, Timer, VirtualClock } from "./index.ts";

/** Counts the timers that are set on the clock below. */
function counting(clock: VirtualClock): Clock & { armed: number; made: number } {
  const counted = {
    ...clock,
    armed: 0,
    made: 0,
    after(delayMs: number, task: () => void): Timer {
      counted.armed++;
      counted.made++;
      let open = true;
      const close = () => {
        if (open) counted.armed--;
        open = false;
      };
      const timer = clock.after(delayMs, () => {
        close();
        task();
      });
      return {
        cancel: () => {
          close();
          timer.cancel();
        },
      };
    },
  };
  return counted;
}

test("timers fire on the first tick at or after their time, in the order they were set within a tick", async () => {
  const clock = virtualClock();
  const wheel = timingWheel(clock);
  const fired: [string, number][] = [];
  for (const [name, delay] of [
    ["c", 5],
    ["a", 1],
    ["d", 5],
    ["b", 4.2],
    ["far", 4_097],
    ["e", 5],
  ] as const)
    wheel.after(delay, () => fired.push([name, clock.monotonicMs()]));

  await clock.advance(5_000);
  assert.deepEqual(fired, [
    ["a", 1],
    ["c", 5],
    ["d", 5],
    ["b", 5],
    ["e", 5],
    ["far", 4_097],
  ]);
  assert.equal(wheel.size, 0);
});

test("a wheel never has more than one timer on the clock below", async () => {
  const clock = virtualClock();
  const below = counting(clock);
  const wheel = timingWheel(below);
  const random = seededRandom("one timer");
  for (let i = 0; i < 1_000; i++) {
    wheel.after(random.uint32() % 10_000, () => assert.ok(below.armed <= 1));
    assert.equal(below.armed, 1);
  }

  await clock.advance(10_000);
  assert.equal(wheel.size, 0);
  assert.equal(below.armed, 0);
});

test("an empty stretch costs a few wake-ups, not one for each tick", async () => {
  const clock = virtualClock();
  const below = counting(clock);
  const wheel = timingWheel(below);
  let firedAt = 0;
  wheel.after(3_600_000, () => (firedAt = clock.monotonicMs()));

  await clock.advance(3_600_000);
  assert.equal(firedAt, 3_600_000);
  assert.ok(below.made <= 8, `${below.made} wake-ups`);
});

test("a task may cancel a task of the same tick, set new ones, and throw, and the rest still runs", async () => {
  const clock = virtualClock();
  const thrown: unknown[] = [];
  const wheel = timingWheel({
    ...clock,
    soon: (task) => {
      try {
        task();
      } catch (error) {
        thrown.push(error);
      }
    },
  });
  const fired: string[] = [];
  wheel.after(5, () => {
    fired.push("first");
    doomed.cancel();
    wheel.after(0, () => fired.push("again at once"));
    throw new Error("from a task");
  });
  const doomed = wheel.after(5, () => fired.push("cancelled"));
  wheel.after(5, () => fired.push("last"));

  await clock.advance(5);
  assert.deepEqual(fired, ["first", "last", "again at once"]);
  assert.equal(thrown.length, 1);
  doomed.cancel();
  assert.equal(wheel.size, 0);
});

test("delays of any kind are accepted: negative and not a number mean at once, infinite means not in this life", async () => {
  const clock = virtualClock();
  const wheel = timingWheel(clock);
  const fired: string[] = [];
  wheel.after(-5, () => fired.push("negative"));
  wheel.after(Number.NaN, () => fired.push("nan"));
  const never = wheel.after(Infinity, () => fired.push("infinite"));

  await clock.advance(100_000);
  assert.deepEqual(fired, ["negative", "nan"]);
  assert.equal(wheel.size, 1);
  never.cancel();
  assert.equal(wheel.size, 0);
});

// Sums of fractions differ in their last bits by the order they are summed in.
const toMicroseconds = (ms: number) => Math.round(ms * 1_000) / 1_000;
const seeds = process.env["TRESTLE_SEED"] === undefined ? Array.from({ length: 60 }, (_, i) => `wheel-${i}`) : [process.env["TRESTLE_SEED"]];
test("the wheel fires what a sorted list would, in the same order at the same time, whatever is set and cancelled", async () => {
  for (const seed of seeds) {
    const random = seededRandom(seed);
    const clock = virtualClock();
    await clock.advance(random.uint32() % 5_000);
    const grainMs = [1, 1, 5, 10][random.uint32() % 4] as number;
    const wheel = timingWheel(clock, { grainMs });
    const originMs = clock.monotonicMs();
    const naive: { atMs: number; order: number; cancelled: boolean }[] = [];
    const fired: { atMs: number; order: number }[] = [];
    const set = () => {
      const order = naive.length;
      // Delays of all sizes: half of them near, some beyond four levels.
      const delay =
        random.next() < 0.02 ? 0 : Math.floor(2 ** (random.next() * [6, 10, 14, 25][random.uint32() % 4]!)) + (random.next() < 0.3 ? random.next() : 0);
      const entry = { atMs: originMs + Math.ceil((clock.monotonicMs() - originMs + delay) / grainMs) * grainMs, order, cancelled: false };
      naive.push(entry);
      const timer = wheel.after(delay, () => {
        fired.push({ atMs: toMicroseconds(clock.monotonicMs()), order });
        if (naive.length < 600 && random.next() < 0.4) set();
      });
      if (random.next() < 0.2) {
        const cancelAt = Math.floor(2 ** (random.next() * 14));
        clock.after(cancelAt, () => {
          if (!fired.some((one) => one.order === order)) entry.cancelled = true;
          timer.cancel();
        });
      }
    };
    for (let round = 0; round < 40; round++) {
      for (let i = random.uint32() % 8; i > 0; i--) set();
      await clock.advance(Math.floor(2 ** (random.next() * 12)) + (random.next() < 0.3 ? random.next() : 0));
    }
    await clock.advance(2 ** 27);

    const expected = naive
      .filter((entry) => !entry.cancelled)
      .toSorted((a, b) => a.atMs - b.atMs || a.order - b.order)
      .map(({ atMs, order }) => ({ atMs: toMicroseconds(atMs), order }));
    assert.deepEqual(fired, expected, `replay: TRESTLE_SEED=${seed} node --test ${import.meta.filename}`);
    assert.equal(wheel.size, 0);
  }
});
