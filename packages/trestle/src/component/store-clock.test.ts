import { test } from "node:test";
import assert from "node:assert/strict";
import { virtualClock, type VirtualClock } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";
import { StoreClock } from "./store-clock.ts";

/** A store an hour ahead, whose answers take as long as they are told to, each way. */
function far(clock: VirtualClock) {
  const way = { thereMs: 0, backMs: 0, aheadMs: 3_600_000, asked: 0 };
  const wait = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve));
  const claim = async () => {
    way.asked++;
    await wait(way.thereMs);
    const nowMs = clock.wallMs() + way.aheadMs;
    await wait(way.backMs);
    return { jobs: [], nextDueAtMs: undefined, nowMs };
  };
  const storeClock = new StoreClock({ claim } as unknown as Store, clock);
  /** How far it is out, to both sides. */
  const error = () => [storeClock.earliestMs() - clock.wallMs() - way.aheadMs, storeClock.latestMs() - clock.wallMs() - way.aheadMs];
  const ask = async (thereMs: number, backMs: number) => {
    Object.assign(way, { thereMs, backMs });
    const asking = storeClock.ask();
    for (let times = 1; times <= 3; times++) await clock.advance(thereMs + backMs);
    await asking;
  };
  return { way, storeClock, error, ask };
}

test("the store's time lies between what it would be had the answer, or the question, taken no time", async () => {
  const { error, ask } = far(virtualClock());

  await ask(30, 70);

  assert.deepEqual(error(), [-70, 30]);
});

test("before it has heard anything a node knows only its own clock", () => {
  const clock = virtualClock();
  const { storeClock } = far(clock);

  assert.deepEqual([storeClock.earliestMs(), storeClock.latestMs()], [clock.wallMs(), clock.wallMs()]);
});

test("each answer narrows what is known, and one that was on its way for long does not widen it", async () => {
  const clock = virtualClock();
  const { way, storeClock, error, ask } = far(clock);
  await ask(1, 1);
  const askedMs = clock.monotonicMs();
  const nowMs = clock.wallMs() + way.aheadMs;
  await clock.advance(5_000);

  storeClock.heard(nowMs, askedMs);

  const [least, most] = error() as [number, number];
  assert.ok(least >= -255 && least <= 0, `the lower bound is out by ${least} ms`);
  assert.ok(most <= 1 && most >= 0, `the upper bound is out by ${most} ms`);
});

test("when the answer took long it is asked again, a few times", async () => {
  const quick = far(virtualClock());
  const slow = far(virtualClock());

  await quick.ask(50, 50);
  await slow.ask(50, 51);

  assert.deepEqual([quick.way.asked, slow.way.asked], [1, 3]);
});

test("what was asked before, and is heard after, tells nothing new", async () => {
  const clock = virtualClock();
  const { way, storeClock, error } = far(clock);
  const askedMs = clock.monotonicMs();
  const nowMs = clock.wallMs() + way.aheadMs;
  await clock.advance(10);
  storeClock.heard(clock.wallMs() + way.aheadMs, clock.monotonicMs());

  storeClock.heard(nowMs - 60_000, askedMs);

  assert.deepEqual(error(), [0, 0]);
});

test("when one of the clocks was set, the newer answer counts", async () => {
  const clock = virtualClock();
  const { way, error, ask } = far(clock);
  await ask(1, 1);

  for (const aheadMs of [0, -3_600_000, 20]) {
    way.aheadMs = aheadMs;
    await ask(2, 3);
    assert.deepEqual(error(), [-3, 2]);
  }
});

/** A machine that can sleep: its monotonic clock stands still, its wall clock and the store's go on. */
function sleeper() {
  const clock = virtualClock();
  let sleptMs = 0;
  const sleep = (forMs: number) => {
    clock.jumpWall(forMs);
    sleptMs += forMs;
  };
  return { clock, sleep, ...far({ ...clock, sleptMs: () => 1e6 + sleptMs }) };
}

test("while the machine slept the store went on, which is known at once, to a second, and better when it was asked", async () => {
  const { clock, sleep, error, ask, way } = sleeper();
  await ask(1, 1);

  sleep(600_000);
  const woken = error();
  await clock.advance(10);

  assert.deepEqual(woken, [-1_001, 1_001]);
  assert.deepEqual(error(), [-1, 1]);
  assert.equal(way.asked, 2);
});

test("a wall clock that is set changes nothing of what is known of the store, which is asked once more", async () => {
  for (const byMs of [3_600_000, -3_600_000]) {
    const { clock, error, ask, way } = sleeper();
    await ask(1, 1);

    clock.jumpWall(byMs);
    way.aheadMs -= byMs;
    const set = error();
    await clock.advance(10);

    assert.deepEqual([set, error(), way.asked], [[-1, 1], [-1, 1], 2]);
  }
});

test("an answer that was asked for before the machine slept says nothing of the time after it", async () => {
  const { clock, sleep, way, storeClock, error, ask } = sleeper();
  await ask(1, 1);
  const askedMs = clock.monotonicMs();
  const nowMs = clock.wallMs() + way.aheadMs;
  await clock.advance(1);
  sleep(600_000);

  storeClock.heard(nowMs, askedMs);

  const [least, most] = error() as [number, number];
  assert.ok(least <= 0 && most >= 0, `out by ${least} to ${most} ms`);
  await clock.advance(10);
  assert.deepEqual(error(), [-1, 1]);
});

test("who has not heard for long has it asked again, once for all, and goes by what it knew meanwhile", async () => {
  const clock = virtualClock();
  const { way, storeClock, error, ask } = far(clock);
  await ask(1, 1);
  await clock.advance(14_000);
  error();
  const soon = way.asked;
  await clock.advance(2_000);
  way.aheadMs += 60_000;

  const before = error();
  storeClock.latestMs();
  await clock.advance(10);

  assert.equal(soon, 1);
  assert.deepEqual(before, [-60_001, -59_999]);
  assert.deepEqual(error(), [-1, 1]);
  assert.equal(way.asked, 2);
});
