import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { currentContext, Fault, linkSignals, remainingMs, virtualClock, withContext, withDeadline } from "./index.ts";

const isExceeded = (thrown: unknown) => Fault.is(thrown, "deadline.exceeded");

test("work that is done in time is answered, and leaves neither timer nor listener", async () => {
  const clock = virtualClock();
  const caller = new AbortController();
  let after = 0;
  const counted = {
    ...clock,
    after: (ms: number, task: () => void) => {
      after++;
      const timer = clock.after(ms, task);
      return {
        cancel: () => {
          after--;
          timer.cancel();
        },
      };
    },
  };

  assert.equal(await withDeadline(counted, 100, async () => 5, { signal: caller.signal }), 5);
  assert.equal(after, 0);
  assert.equal(getEventListeners(caller.signal, "abort").length, 0);
});

test("[RES-02] at the deadline the signal aborts and the caller is answered at once, also when the work does not listen", async () => {
  const clock = virtualClock();
  let seen: unknown;
  const outcome = withDeadline(clock, 100, (signal) => {
    signal.addEventListener("abort", () => (seen = signal.reason));
    return new Promise<never>(() => undefined);
  }).catch((thrown: unknown) => thrown);

  await clock.advance(99);
  assert.equal(seen, undefined);
  await clock.advance(1);
  assert.ok(isExceeded(await outcome));
  assert.equal(seen, await outcome);
});

test("[RES-02] a deadline is never later than the caller's, and what is called inside sees it", async () => {
  const clock = virtualClock();
  await withContext({ deadlineMs: 40 }, async () => {
    const inside = await withDeadline(clock, 100, () => remainingMs(clock));
    assert.equal(inside, 40);
    assert.equal(await withDeadline(clock, 10, () => remainingMs(clock)), 10);
    const outcome = withDeadline(clock, 100, () => new Promise<never>(() => undefined)).catch(() => clock.monotonicMs());
    await clock.advance(60);
    assert.equal(await outcome, 40);
  });
});

test("nothing is started when the time is over already or the caller is gone", async () => {
  const clock = virtualClock();
  let started = 0;
  const work = () => started++;

  await assert.rejects(withDeadline(clock, 0, work), isExceeded);
  await assert.rejects(
    withContext({ deadlineMs: 0 }, () => withDeadline(clock, 100, work)),
    isExceeded,
  );
  const reason = new Error("gone");
  await assert.rejects(withDeadline(clock, 100, work, { signal: AbortSignal.abort(reason) }), reason);
  await assert.rejects(
    withContext({ signal: AbortSignal.abort(reason) }, () => withDeadline(clock, 100, work)),
    reason,
  );
  assert.equal(started, 0);
});

test("the caller's abort passes through with its reason", async () => {
  const clock = virtualClock();
  const caller = new AbortController();
  const reason = new Error("gone");
  const outcome = withDeadline(clock, 100, () => new Promise<never>(() => undefined), { signal: caller.signal });

  caller.abort(reason);
  await assert.rejects(outcome, reason);
});

test("work that fails after its deadline disturbs nobody", async () => {
  const clock = virtualClock();
  let fail: (error: Error) => void = () => undefined;
  const outcome = withDeadline(clock, 10, () => new Promise<never>((_, reject) => (fail = reject))).catch((thrown: unknown) => thrown);

  await clock.advance(10);
  fail(new Error("late")); // an unhandled rejection would fail this file
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(isExceeded(await outcome));
});

test("without any deadline the signal is still the caller's", async () => {
  const clock = virtualClock();
  await withDeadline(clock, Infinity, (signal) => {
    assert.equal(signal.aborted, false);
    assert.equal(currentContext().deadlineMs, undefined);
    assert.equal(currentContext().signal, signal);
  });
});

test("a linked signal aborts with the first parent, and 10,000 released links leave nothing on a parent", () => {
  const parent = new AbortController();
  const other = new AbortController();
  for (let i = 0; i < 10_000; i++) {
    using link = linkSignals(parent.signal, undefined, other.signal);
    assert.equal(link.signal.aborted, false);
  }
  assert.equal(getEventListeners(parent.signal, "abort").length, 0);

  const link = linkSignals(parent.signal, other.signal);
  const reason = new Error("first");
  other.abort(reason);
  assert.equal(link.signal.reason, reason);
  assert.equal(getEventListeners(parent.signal, "abort").length, 0);
  parent.abort(new Error("second"));
  assert.equal(link.signal.reason, reason);
});

test("linking to a parent that has aborted aborts at once and listens to nobody", () => {
  const parent = new AbortController();
  const reason = new Error("before");
  const link = linkSignals(parent.signal, AbortSignal.abort(reason));
  assert.equal(link.signal.reason, reason);
  assert.equal(getEventListeners(parent.signal, "abort").length, 0);
});
