import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock, withContext } from "../kernel/index.ts";
import type { VirtualClock } from "../kernel/index.ts";
import { backoffMs, breaker, bulkhead, callWith, retryBudget } from "./index.ts";
import type { CallPolicy } from "./index.ts";

const never = () => new Promise<never>(() => undefined);
const always = { retryable: () => true };
const isExceeded = (thrown: unknown) => Fault.is(thrown, "deadline.exceeded");

function setUp(policy: Partial<CallPolicy> = {}): { clock: VirtualClock; policy: CallPolicy; ends: string[] } {
  const clock = virtualClock();
  const ends: string[] = [];
  return { clock, ends, policy: { clock, random: seededRandom("call"), onAttempt: (ended) => ends.push(`${ended.attempt} ${ended.outcome} ${ended.durationMs}`), ...policy } };
}

/** What a promise comes to while the clock advances. */
async function after<T>(clock: VirtualClock, promise: Promise<T>, byMs: number): Promise<unknown> {
  const settled = promise.then((value) => value, (thrown: unknown) => thrown);
  await clock.advance(byMs);
  return settled;
}

test("a call that succeeds is answered after one attempt", async () => {
  const { clock, policy, ends } = setUp({ retry: {}, timeoutMs: 100 });
  assert.equal(await after(clock, callWith(policy, ({ attempt }) => attempt, always), 0), 1);
  assert.deepEqual(ends, ["1 succeeded 0"]);
});

test("[RES-04] with jitter off the waits are exactly 0, 1, 2, 4 and 8 s, and there is no sixth attempt", async () => {
  const at: number[] = [];
  const error = new Error("down");
  const { clock, policy } = setUp({ retry: { attempts: 5, fromMs: 1_000, upToMs: 8_000, jitter: "none" } });

  const outcome = await after(clock, callWith(policy, () => { at.push(clock.monotonicMs()); throw error; }, always), 60_000);
  assert.equal(outcome, error);
  assert.deepEqual(at.map((time, i) => time - (at[i - 1] ?? 0)), [0, 1_000, 2_000, 4_000, 8_000]);
});

test("a wait is never longer than upTo, and with full jitter anywhere below it", () => {
  const random = seededRandom("backoff");
  assert.deepEqual([1, 2, 3, 4, 5, 6, 50].map((attempt) => backoffMs({ fromMs: 100, upToMs: 1_000, jitter: "none" }, attempt, random)), [0, 100, 200, 400, 800, 1_000, 1_000]);
  const waits = Array.from({ length: 10_000 }, () => backoffMs({ fromMs: 100, upToMs: 1_000, jitter: "full" }, 4, random));
  assert.ok(Math.min(...waits) < 5 && Math.max(...waits) > 395 && Math.max(...waits) < 400);
  const mean = waits.reduce((a, b) => a + b, 0) / waits.length;
  assert.ok(Math.abs(mean - 200) < 5, `mean ${mean}`);
});

test("[RES-04] 1,000 clients that failed at one instant do not come back together, and without jitter they do", async () => {
  const peakOverMean = async (jitter: "full" | "none") => {
    const { clock, policy } = setUp({ random: seededRandom("herd"), retry: { attempts: 2, fromMs: 1_000, upToMs: 8_000, jitter } });
    const buckets = new Array<number>(10).fill(0);
    const clients = Array.from({ length: 1_000 }, () => callWith(policy, ({ attempt }) => {
      const bucket = Math.min(9, Math.floor(clock.monotonicMs() / 100));
      if (attempt === 2) buckets[bucket] = (buckets[bucket] as number) + 1;
      throw new Error("down");
    }, always).catch(() => undefined));
    await clock.advance(1_001);
    await Promise.all(clients);
    assert.equal(buckets.reduce((a, b) => a + b, 0), 1_000);
    return Math.max(...buckets) / 100;
  };
  assert.ok(await peakOverMean("full") <= 2);
  assert.ok(await peakOverMean("none") >= 10);
});

test("[RES-04] in an outage of 60 s the retries stay within the budget, and without one they do not", async () => {
  const retriesWith = async (share: number | undefined) => {
    const clock = virtualClock();
    const budget = share === undefined ? undefined : retryBudget({ clock, share, floorPerSecond: 1, burst: 10 });
    const policy: CallPolicy = { clock, random: seededRandom("outage"), retry: { attempts: 4, fromMs: 100, upToMs: 1_000, ...(budget && { budget }) } };
    let retries = 0;
    let spent = 0;
    for (let i = 0; i < 600; i++) {
      for (let j = 0; j < 5; j++) void callWith(policy, ({ attempt }) => { if (attempt > 1) retries++; throw new Error("down"); }, always).catch((thrown: unknown) => { if (Fault.is(thrown, "retry.budget-spent")) spent++; });
      await clock.advance(100);
    }
    return { retries, spent };
  };
  const bounded = await retriesWith(0.2);
  assert.ok(bounded.retries <= 10 + 0.2 * 3_000 + 60 && bounded.retries > 500, `${bounded.retries} retries`);
  assert.ok(bounded.spent > 2_000);
  assert.ok((await retriesWith(undefined)).retries > 8_000);
});

test("a budget that is spent is a fault with the failure as its cause", async () => {
  const clock = virtualClock();
  const budget = retryBudget({ clock, share: 0, floorPerSecond: 0, burst: 1 });
  const error = new Error("down");
  const { policy } = setUp({ clock, retry: { attempts: 5, fromMs: 1, budget } });
  let attempts = 0;

  const outcome = await after(clock, callWith(policy, () => { attempts++; throw error; }, always), 1_000);
  assert.ok(Fault.is(outcome, "retry.budget-spent"));
  assert.deepEqual([outcome.cause, attempts], [error, 2]);
});

test("a budget fills by calls and by time, up to its burst, and ten tenths make one", async () => {
  const clock = virtualClock();
  const budget = retryBudget({ clock, share: 0.1, floorPerSecond: 2, burst: 3 });
  for (let i = 0; i < 3; i++) assert.equal(budget.tryWithdraw(), true);
  assert.equal(budget.tryWithdraw(), false);

  for (let i = 0; i < 10; i++) budget.deposit();
  assert.deepEqual([budget.left, budget.tryWithdraw(), budget.tryWithdraw()], [1, true, false]);
  await clock.advance(500);
  assert.equal(budget.left, 1);
  await clock.advance(60_000);
  for (let i = 0; i < 100; i++) budget.deposit();
  assert.equal(budget.left, 3);
});

test("[RES-04] what is not retryable is not tried again", async () => {
  const { clock, policy } = setUp({ retry: { attempts: 5 } });
  const error = new Error("bad request");
  let attempts = 0;
  assert.equal(await after(clock, callWith(policy, () => { attempts++; throw error; }, { retryable: () => false }), 60_000), error);
  assert.equal(attempts, 1);
});

test("[RES-04] a failure that asks for a wait gets it, and one that asks for too much is not tried again", async () => {
  const at: number[] = [];
  const { clock, policy } = setUp({ retry: { attempts: 3, fromMs: 10, upToMs: 100, retryAfterMsMax: 5_000 } });
  const busy = (retryAfterMs: number) => Fault.create("external.refused", "429", "wait", { details: { retryAfterMs } });
  const asks = [3_000, 6_000];

  const outcome = await after(clock, callWith(policy, () => { at.push(clock.monotonicMs()); throw busy(asks[at.length - 1] as number); }, always), 60_000);
  assert.deepEqual(at, [0, 3_000]);
  assert.equal((outcome as Fault).details["retryAfterMs"], 6_000);
});

test("[RES-04] a wait that would go beyond the deadline is not begun: the failure is thrown at once", async () => {
  const { clock, policy } = setUp({ retry: { attempts: 5, fromMs: 1_000, upToMs: 8_000, jitter: "none" } });
  const at: number[] = [];
  const error = new Error("down");

  const outcome = callWith(policy, () => { at.push(clock.monotonicMs()); throw error; }, { ...always, deadlineMs: 3_000 }).catch((thrown: unknown) => ({ thrown, atMs: clock.monotonicMs() }));
  await clock.advance(60_000);
  assert.deepEqual(at, [0, 1_000]);
  assert.deepEqual(await outcome, { thrown: error, atMs: 1_000 });
});

test("[RES-04] an abort during the wait between two attempts returns at once", async () => {
  const { clock, policy } = setUp({ retry: { attempts: 5, fromMs: 60_000, upToMs: 60_000, jitter: "none" } });
  const caller = new AbortController();
  const reason = new Error("gone");
  const outcome = callWith(policy, () => { throw new Error("down"); }, { ...always, signal: caller.signal });

  await clock.advance(100);
  caller.abort(reason);
  await assert.rejects(outcome, reason);
  assert.equal(clock.monotonicMs(), 100);
  assert.equal(getEventListeners(caller.signal, "abort").length, 0);
});

test("[RES-02] an attempt that hangs is over after its time, its signal aborts, and the next one begins", async () => {
  const { clock, policy, ends } = setUp({ timeoutMs: 100, retry: { attempts: 2, fromMs: 50, jitter: "none" } });
  const reasons: unknown[] = [];
  const outcome = await after(clock, callWith(policy, ({ signal }) => { signal.addEventListener("abort", () => reasons.push(signal.reason)); return never(); }, always), 1_000);
  assert.ok(isExceeded(outcome));
  assert.deepEqual([(outcome as Fault).details["scope"], reasons.length, reasons[1]], ["attempt", 2, outcome]);
  assert.deepEqual(ends, ["1 timed-out 100", "2 timed-out 100"]);
});

test("[RES-02] an attempt never has more time than its caller, and says how much that is", async () => {
  const { clock, policy, ends } = setUp({ timeoutMs: 100, retry: { attempts: 9, fromMs: 1, jitter: "none" } });
  const left: number[] = [];
  const outcome = await after(clock, withContext({ deadlineMs: 130 }, () => callWith(policy, (attempt) => { left.push(attempt.remainingMs); return never(); }, always)), 1_000);
  assert.ok(isExceeded(outcome));
  assert.equal((outcome as Fault).details["scope"], "call");
  assert.deepEqual([left, ends], [[100, 29], ["1 timed-out 100", "2 timed-out 29"]]);
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
  await assert.rejects(callWith(policy, () => 1, always), (thrown: unknown) => Fault.is(thrown, "bulkhead.full"));
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
  const outcome = await after(clock, callWith(policy, () => { attempts++; throw error; }, always), 1_000);
  assert.ok(Fault.is(outcome, "breaker.open"));
  assert.deepEqual([attempts, outcome.cause, ends], [2, error, ["1 failed 0", "2 failed 0", "3 declined 0"]]);

  await assert.rejects(callWith(policy, () => 1, always), (thrown: unknown) => Fault.is(thrown, "breaker.open") && thrown.cause === undefined);
});

test("a full bulkhead gives a probe's place back", async () => {
  const clock = virtualClock();
  const one = breaker({ clock, minimumCalls: 1, cooldownMs: 100 });
  const places = bulkhead({ running: 1 });
  const { policy } = setUp({ clock, breaker: one, bulkhead: places });
  await assert.rejects(callWith(policy, () => { throw new Error("down"); }, always));
  await clock.advance(100);
  const leave = places.enter();
  await assert.rejects(callWith(policy, () => 1, always), (thrown: unknown) => Fault.is(thrown, "bulkhead.full"));
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
  const fails = () => { throw new Error("x"); };
  assert.equal(await failuresUntilOpen({ retryable: () => true }, fails), "open");
  assert.equal(await failuresUntilOpen({ retryable: () => false }, fails), "closed", "a refusal is an answer");
  assert.equal(await failuresUntilOpen({ retryable: () => false, unwell: () => true }, fails), "open");
  assert.equal(await failuresUntilOpen({ ...always, deadlineMs: 50 }, never, { timeoutMs: 100 }, 50), "open", "the caller waited half the usual time");
  assert.equal(await failuresUntilOpen({ ...always, deadlineMs: 5 }, never, { timeoutMs: 100 }, 50), "closed", "the caller hardly waited");
  const caller = new AbortController();
  assert.equal(await failuresUntilOpen({ ...always, signal: caller.signal }, () => { caller.abort(new Error("gone")); return never(); }), "closed", "the caller went away");
  const late = new AbortController();
  assert.equal(await failuresUntilOpen({ ...always, signal: late.signal }, () => { late.abort(Fault.create("deadline.exceeded", "m", "r")); return never(); }), "open", "the caller's signal aborted because time was over");
});

test("a caller whose signal says that time was over gets that, and takes nothing out of the budget", async () => {
  const clock = virtualClock();
  const budget = retryBudget({ clock, floorPerSecond: 0, burst: 1 });
  const caller = new AbortController();
  const reason = Fault.create("deadline.exceeded", "m", "r");
  const { policy } = setUp({ clock, retry: { attempts: 3, budget } });
  await assert.rejects(callWith(policy, () => { caller.abort(reason); return never(); }, { ...always, signal: caller.signal }), reason);
  assert.equal(budget.left, 1);
});

test("a signal asked for after its attempt was cut short has aborted already", async () => {
  const { clock, policy } = setUp({ timeoutMs: 10 });
  let reason: unknown;
  const outcome = await after(clock, callWith(policy, (attempt) => new Promise<never>(() => clock.after(20, () => (reason = attempt.signal.reason))), always), 30);
  assert.ok(isExceeded(outcome));
  assert.equal(reason, outcome);
});

test("a call leaves neither timers nor listeners behind", async () => {
  const clock = virtualClock();
  let open = 0;
  const counted = { ...clock, after: (ms: number, task: () => void) => {
    open++;
    let live = true;
    const close = () => { if (live) open--; live = false; };
    const timer = clock.after(ms, () => { close(); task(); });
    return { cancel: () => { close(); timer.cancel(); } };
  } };
  const caller = new AbortController();
  const { policy } = setUp({ clock: counted, timeoutMs: 100, retry: { attempts: 3, fromMs: 10 } });
  const decisions = { ...always, signal: caller.signal };
  await callWith(policy, () => 1, decisions);
  assert.deepEqual([open, getEventListeners(caller.signal, "abort").length], [0, 0]);
  await after(clock, callWith(policy, () => { throw new Error("x"); }, decisions), 1_000);
  await after(clock, callWith(policy, never, decisions), 1_000);
  assert.deepEqual([open, getEventListeners(caller.signal, "abort").length], [0, 0]);
});

test("options outside their range are faults that name them", async () => {
  const { clock } = setUp();
  for (const [name, retry] of [["retry.attempts", { attempts: 0 }], ["retry.attempts", { attempts: 1.5 }], ["retry.fromMs", { fromMs: -1 }], ["retry.upToMs", { upToMs: Number.NaN }]] as const) await assert.rejects(callWith(setUp({ retry }).policy, () => 1, always), (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && thrown.message.includes(name));
  assert.throws(() => retryBudget({ clock, share: -1 }), (thrown: unknown) => Fault.is(thrown, "option.out-of-range"));
  assert.throws(() => bulkhead({ running: 0 }), (thrown: unknown) => Fault.is(thrown, "option.out-of-range"));
});
