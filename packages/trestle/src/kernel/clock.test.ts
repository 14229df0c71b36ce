import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { seededRandom, sleep, virtualClock } from "./index.ts";

test("a virtual clock stands still until it is told to advance", async () => {
  const clock = virtualClock(1_000);
  let fired = 0;
  clock.after(10, () => fired++);

  await clock.advance(9);
  assert.deepEqual([clock.monotonicMs(), clock.wallMs(), fired], [9, 1_009, 0]);
  await clock.advance(1);
  assert.deepEqual([clock.monotonicMs(), fired], [10, 1]);
});

test("virtual timers fire in order of time, then of creation, each at its own moment", async () => {
  const clock = virtualClock();
  const random = seededRandom("virtual-order");
  const fired: { at: number; due: number; order: number }[] = [];
  for (let order = 0; order < 500; order++) {
    const due = random.uint32() % 50;
    const timer = clock.after(due, () => fired.push({ at: clock.monotonicMs(), due, order }));
    if (order % 7 === 0) timer.cancel();
  }

  await clock.advance(50);
  assert.equal(fired.length, 500 - Math.ceil(500 / 7));
  for (const entry of fired) assert.equal(entry.at, entry.due);
  assert.deepEqual(
    fired,
    fired.toSorted((a, b) => a.due - b.due || a.order - b.order),
  );
});

test("promises and tasks of soon settle between two virtual timers", async () => {
  const clock = virtualClock();
  const seen: string[] = [];
  clock.after(1, () => {
    void Promise.resolve().then(() => {
      seen.push("promise");
      clock.soon(() => clock.soon(() => seen.push("soon of soon")));
    });
  });
  clock.after(2, () => seen.push("second timer"));

  await clock.advance(2);
  assert.deepEqual(seen, ["promise", "soon of soon", "second timer"]);
});

test("a timer set by a timer fires within the same advance when it is due", async () => {
  const clock = virtualClock();
  const at: number[] = [];
  const beat = () => {
    at.push(clock.monotonicMs());
    clock.after(3, beat);
  };
  clock.after(3, beat);

  await clock.advance(10);
  assert.deepEqual(at, [3, 6, 9]);
});

test("cancelling a timer twice, or after it fired, does nothing", async () => {
  const clock = virtualClock();
  let fired = 0;
  const timer = clock.after(1, () => fired++);

  await clock.advance(1);
  timer.cancel();
  timer.cancel();
  await clock.advance(5);
  assert.equal(fired, 1);
});

test("a jump of wall time leaves monotonic time and timers alone", async () => {
  const clock = virtualClock(0);
  let fired = 0;
  clock.after(10, () => fired++);

  clock.jumpWall(3_600_000);
  await clock.advance(1);
  assert.deepEqual([clock.wallMs(), clock.monotonicMs(), fired], [3_600_001, 1, 0]);
});

test("a sleep ends at once when its signal aborts, with the signal's reason, and leaves no listener behind", async () => {
  const clock = virtualClock();
  const stop = new AbortController();
  const sleeping = sleep(clock, 1_000, stop.signal);
  const reason = new Error("enough");

  stop.abort(reason);
  await assert.rejects(sleeping, reason);
  await assert.rejects(sleep(clock, 1, stop.signal), reason);

  const calm = new AbortController();
  const whole = sleep(clock, 5, calm.signal);
  await clock.advance(5);
  await whole;
  assert.equal(getEventListeners(calm.signal, "abort").length, 0);
});
