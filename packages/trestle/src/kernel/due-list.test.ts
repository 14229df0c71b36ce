import assert from "node:assert/strict";
import { test } from "node:test";
import { beginUntil, currentContext, DueList, emptyContext, seededRandom, unlink, virtualClock, withContext, type Due, type Link } from "./index.ts";

class Entry implements Due {
  next: Link = this;
  previous: Link = this;
  dueMs: number;
  readonly untilMs: number;
  readonly due: (nowMs: number) => void;

  constructor(untilMs: number, due: (nowMs: number) => void) {
    this.dueMs = this.untilMs = untilMs;
    this.due = due;
  }
}

/** A virtual clock that counts the timers that wait. */
function countedClock() {
  const clock = virtualClock();
  const timers = { waiting: 0, most: 0 };
  const after: typeof clock.after = (delayMs, task) => {
    timers.most = Math.max(timers.most, ++timers.waiting);
    return clock.after(delayMs, () => {
      timers.waiting--;
      task();
    });
  };
  return { clock: { ...clock, after }, timers };
}

test("whatever begins and is ended, each entry of a list is told once, at its time, by one timer", async () => {
  const seed = "due-list";
  const random = seededRandom(seed);
  const { clock, timers } = countedClock();
  const list = new DueList(100, clock);
  const [told, ended] = [new Map<Entry, number>(), new Set<Entry>()];
  const begun: Entry[] = [];
  for (let step = 0; step < 2_000; step++) {
    if (random.next() < 0.6) {
      const entry = new Entry(clock.monotonicMs() + list.ms, (nowMs) => told.set(entry, nowMs));
      begun.push(entry);
      list.begin(entry);
    }
    const some = begun.at(-1 - (random.uint32() % 20));
    if (some && random.next() < 0.1 && !told.has(some)) {
      unlink(some);
      ended.add(some);
    }
    if (random.next() < 0.5) await clock.advance(random.next() * 10);
  }
  await clock.advance(list.ms);

  assert.ok(told.size > 500 && ended.size > 50, `seed ${seed}: ${told.size} were told, ${ended.size} ended`);
  for (const entry of begun) {
    const atMs = told.get(entry);
    if (ended.has(entry)) assert.equal(atMs, undefined, `seed ${seed}`);
    else assert.ok(atMs !== undefined && Math.abs(atMs - entry.untilMs) < 0.01, `seed ${seed}: due at ${entry.untilMs}, told at ${atMs}`);
  }
  assert.equal(timers.most, 1);
});

test("what ends at moments of somebody else's choosing is told less than a millisecond late, by a timer for each power of two", async () => {
  const seed = "due-until";
  const random = seededRandom(seed);
  const { clock, timers } = countedClock();
  const lateMs: number[] = [];
  for (let nth = 0; nth < 500; nth++) {
    const untilMs = clock.monotonicMs() + 1 + random.next() * 2_000;
    const entry = new Entry(untilMs, (nowMs) => {
      if (nowMs < untilMs) beginUntil(clock, entry, untilMs - nowMs, nowMs);
      else lateMs.push(nowMs - untilMs);
    });
    beginUntil(clock, entry, untilMs - clock.monotonicMs(), clock.monotonicMs());
    await clock.advance(random.next() * 5);
  }
  await clock.advance(4_000);

  assert.equal(lateMs.length, 500, `seed ${seed}`);
  assert.ok(Math.max(...lateMs) < 1, `seed ${seed}: late by ${Math.max(...lateMs)} ms`);
  assert.ok(timers.most <= 11, `seed ${seed}: ${timers.most} timers at once`);
});

test("a list's timer is of nobody's context, whoever was the first to need it", async () => {
  const clock = { ...virtualClock(), after: (delayMs: number, task: () => void) => ({ cancel: clearTimeout.bind(undefined, setTimeout(task, delayMs)) }) };
  const context = await new Promise((resolve) =>
    withContext({ tenant: "first" }, () => new DueList(1, clock).begin(new Entry(0, () => resolve(currentContext())))),
  );

  assert.equal(context, emptyContext);
});

test("what has arrived by then is read before anything is called late", async () => {
  const virtual = virtualClock();
  const entry = new Entry(virtual.monotonicMs() + 100, () => assert.fail("it was answered"));
  let isTold = false;
  const unanswered = new Entry(entry.dueMs, () => (isTold = true));
  const after: typeof virtual.after = (delayMs, task) =>
    virtual.after(delayMs, () => {
      setImmediate(() => unlink(entry)); // the answer is there when the timer fires, and is read in the same turn of the loop
      task();
    });
  const list = new DueList(100, { ...virtual, after });
  list.begin(entry);
  list.begin(unanswered);
  await virtual.advance(100);
  assert.ok(isTold);
});
