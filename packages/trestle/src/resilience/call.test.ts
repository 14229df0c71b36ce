import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock, withContext } from "../kernel/index.ts";
import type { VirtualClock } from "../kernel/index.ts";
import { breaker, bulkhead, callWith, retryBudget } from "./index.ts";
import type { CallPolicy } from "./index.ts";

const never = () => new Promise<never>(() => undefined);
const always = { retryable: () => true };
const isExceeded = (thrown: unknown) => Fault.is(thrown, "deadline.exceeded");

function setUp(policy: Partial<CallPolicy> = {}): { clock: VirtualClock; policy: CallPolicy; ends: string[] } {
  const clock = virtualClock();
  const ends: string[] = [];
  return {
    clock,
    ends,
    policy: { clock, random: seededRandom("call"), onAttempt: (ended) => ends.push(`${ended.attempt} ${ended.outcome} ${ended.durationMs}`), ...policy },
  };
}

/** What a promise comes to while the clock advances. */
async function after<T>(clock: VirtualClock, promise: Promise<T>, byMs: number): Promise<unknown> {
  const settled = promise.then(
    (value) => value,
    (thrown: unknown) => thrown,
  );
  await clock.advance(byMs);
  return settled;
}

test("a call that succeeds is answered after one attempt", async () => {
  const { clock, policy, ends } = setUp({ retry: {}, timeoutMs: 100 });
  assert.equal(
    await after(
      clock,
      callWith(policy, ({ attempt }) => attempt, always),
      0,
    ),
    1,
  );
  assert.deepEqual(ends, ["1 succeeded 0"]);
});

test("[RES-02] an attempt that hangs is over after its time, its signal aborts, and the next one begins", async () => {
  const { clock, policy, ends } = setUp({ timeoutMs: 100, retry: { attempts: 2, fromMs: 50, jitter: "none" } });
  const reasons: unknown[] = [];
  const outcome = await after(
    clock,
    callWith(
      policy,
      ({ signal }) => {
        signal.addEventListener("abort", () => reasons.push(signal.reason));
        return never();
      },
      always,
    ),
    1_000,
  );
  assert.ok(isExceeded(outcome));
  assert.deepEqual([(outcome as Fault).details["scope"], reasons.length, reasons[1]], ["attempt", 2, outcome]);
  assert.deepEqual(ends, ["1 timed-out 100", "2 timed-out 100"]);
});

test("[RES-02] an attempt never has more time than its caller, and says how much that is", async () => {
  const { clock, policy, ends } = setUp({ timeoutMs: 100, retry: { attempts: 9, fromMs: 1, jitter: "none" } });
  const left: number[] = [];
  const outcome = await after(
    clock,
    withContext({ deadlineMs: 130 }, () =>
      callWith(
        policy,
        (attempt) => {
          left.push(attempt.remainingMs);
          return never();
        },
        always,
      ),
    ),
    1_000,
  );
  assert.ok(isExceeded(outcome));
  assert.equal((outcome as Fault).details["scope"], "call");
  assert.deepEqual(
    [left, ends],
    [
      [100, 29],
      ["1 timed-out 100", "2 timed-out 29"],
    ],
  );
});

test("no attempt is made when the time is over or the caller has gone", async () => {
  const { policy } = setUp();
  const reason = new Error("gone");
  let attempts = 0;
  const operation = () => attempts++;
  await assert.rejects(callWith(policy, operation, { ...always, deadlineMs: 0 }), isExceeded);
  await assert.rejects(callWith(policy, operation, { ...always, signal: AbortSignal.abort(reason) }), reason);
  assert.equal(attempts, 0);
});

test("the caller's abort ends an attempt that does not listen, and what comes of it later disturbs nobody", async () => {
  const { clock, policy, ends } = setUp({ retry: { attempts: 5 }, timeoutMs: 1_000 });
  const caller = new AbortController();
  const reason = new Error("gone");
  let fail: (error: Error) => void = () => undefined;
  const outcome = callWith(policy, () => new Promise<never>((_, reject) => (fail = reject)), { ...always, signal: caller.signal });
  await clock.advance(10);
  caller.abort(reason);
  await assert.rejects(outcome, reason);
  fail(new Error("late")); // an unhandled rejection would fail this file
  await clock.advance(10_000);
  assert.deepEqual(ends, ["1 abandoned 10"]);
});

test("[RES-02] an attempt that timed out keeps its place until it has truly ended", async () => {
  const places = bulkhead({ running: 2, name: "payments" });
  const { clock, policy } = setUp({ timeoutMs: 100, bulkhead: places });
  const finish: (() => void)[] = [];
  const hangs = () => new Promise<void>((resolve) => finish.push(resolve));
  const outcomes = [callWith(policy, hangs, always), callWith(policy, hangs, always)].map((call) => call.catch((thrown: unknown) => thrown));

  await clock.advance(100);
  for (const outcome of await Promise.all(outcomes)) assert.ok(isExceeded(outcome));
  assert.equal(places.inFlight, 2);
  await assert.rejects(
    callWith(policy, () => 1, always),
    (thrown: unknown) => Fault.is(thrown, "bulkhead.full"),
  );
  finish[0]?.();
  await clock.advance(0);
  assert.equal(places.inFlight, 1);
  assert.equal(await callWith(policy, () => 1, always), 1);
});

test("what a breaker or a bulkhead declines is not tried again, and says what failed before", async () => {
  const clock = virtualClock();
  const { policy, ends } = setUp({ clock, breaker: breaker({ clock, minimumCalls: 2 }), retry: { attempts: 9, fromMs: 10, jitter: "none" } });
  const error = new Error("down");
  let attempts = 0;
  const outcome = await after(
    clock,
    callWith(
      policy,
      () => {
        attempts++;
        throw error;
      },
      always,
    ),
    1_000,
  );
  assert.ok(Fault.is(outcome, "breaker.open"));
  assert.deepEqual([attempts, outcome.cause, ends], [2, error, ["1 failed 0", "2 failed 0", "3 declined 0"]]);

  await assert.rejects(
    callWith(policy, () => 1, always),
    (thrown: unknown) => Fault.is(thrown, "breaker.open") && thrown.cause === undefined,
  );
});

test("a full bulkhead gives a probe's place back", async () => {
  const clock = virtualClock();
  const one = breaker({ clock, minimumCalls: 1, cooldownMs: 100 });
  const places = bulkhead({ running: 1 });
  const { policy } = setUp({ clock, breaker: one, bulkhead: places });
  await assert.rejects(
    callWith(
      policy,
      () => {
        throw new Error("down");
      },
      always,
    ),
  );
  await clock.advance(100);
  const leave = places.tryEnter() as () => void;
  await assert.rejects(
    callWith(policy, () => 1, always),
    (thrown: unknown) => Fault.is(thrown, "bulkhead.full"),
  );
  leave();
  leave();
  assert.equal(places.inFlight, 0);
  assert.equal(await callWith(policy, () => 1, always), 1);
  assert.equal(one.state.kind, "closed");
});

test("the breaker hears what the failure says about the other side", async () => {
  const failuresUntilOpen = async (decisions: Parameters<typeof callWith>[2], operation: () => unknown, policyOver: Partial<CallPolicy> = {}, byMs = 0) => {
    const clock = virtualClock();
    const one = breaker({ clock, minimumCalls: 1 });
    const { policy } = setUp({ clock, breaker: one, ...policyOver });
    await after(clock, callWith(policy, operation, decisions), byMs);
    return one.state.kind;
  };
  const fails = () => {
    throw new Error("x");
  };
  assert.equal(await failuresUntilOpen({ retryable: () => true }, fails), "open");
  assert.equal(await failuresUntilOpen({ retryable: () => false }, fails), "closed", "a refusal is an answer");
  assert.equal(await failuresUntilOpen({ retryable: () => false, unwell: () => true }, fails), "open");
  assert.equal(await failuresUntilOpen({ ...always, deadlineMs: 50 }, never, { timeoutMs: 100 }, 50), "open", "the caller waited half the usual time");
  assert.equal(await failuresUntilOpen({ ...always, deadlineMs: 5 }, never, { timeoutMs: 100 }, 50), "closed", "the caller hardly waited");
  const caller = new AbortController();
  assert.equal(
    await failuresUntilOpen({ ...always, signal: caller.signal }, () => {
      caller.abort(new Error("gone"));
      return never();
    }),
    "closed",
    "the caller went away",
  );
  const late = new AbortController();
  assert.equal(
    await failuresUntilOpen({ ...always, signal: late.signal }, () => {
      late.abort(Fault.create("deadline.exceeded", "m", "r"));
      return never();
    }),
    "open",
    "the caller's signal aborted because time was over",
  );
});

test("a signal asked for after its attempt was cut short has aborted already", async () => {
  const { clock, policy } = setUp({ timeoutMs: 10 });
  let reason: unknown;
  const outcome = await after(
    clock,
    callWith(policy, (attempt) => new Promise<never>(() => clock.after(20, () => (reason = attempt.signal.reason))), always),
    30,
  );
  assert.ok(isExceeded(outcome));
  assert.equal(reason, outcome);
});

test("a call leaves neither timers nor listeners behind", async () => {
  const clock = virtualClock();
  let open = 0;
  const counted = {
    ...clock,
    after: (ms: number, task: () => void) => {
      open++;
      let live = true;
      const close = () => {
        if (live) open--;
        live = false;
      };
      const timer = clock.after(ms, () => {
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
  const caller = new AbortController();
  const { policy } = setUp({ clock: counted, timeoutMs: 100, retry: { attempts: 3, fromMs: 10 } });
  const decisions = { ...always, signal: caller.signal };
  await callWith(policy, () => 1, decisions);
  assert.deepEqual([open, getEventListeners(caller.signal, "abort").length], [0, 0]);
  await after(
    clock,
    callWith(
      policy,
      () => {
        throw new Error("x");
      },
      decisions,
    ),
    1_000,
  );
  await after(clock, callWith(policy, never, decisions), 1_000);
  assert.deepEqual([open, getEventListeners(caller.signal, "abort").length], [0, 0]);
});

test("options outside their range are faults that name them", async () => {
  const { clock } = setUp();
  for (const [name, retry] of [
    ["retry.attempts", { attempts: 0 }],
    ["retry.attempts", { attempts: 1.5 }],
    ["retry.fromMs", { fromMs: -1 }],
    ["retry.upToMs", { upToMs: Number.NaN }],
  ] as const)
    await assert.rejects(
      callWith(setUp({ retry }).policy, () => 1, always),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && thrown.message.includes(name),
    );
  assert.throws(
    () => retryBudget({ clock, share: -1 }),
    (thrown: unknown) => Fault.is(thrown, "option.out-of-range"),
  );
  assert.throws(
    () => bulkhead({ running: 0 }),
    (thrown: unknown) => Fault.is(thrown, "option.out-of-range"),
  );
});
