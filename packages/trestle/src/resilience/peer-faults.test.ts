/**
 * Faults that were reproduced in the libraries most people take, by library; here each is a promise. Where a fault is one of cost, what the library does
 * is done beside it in the same run: absolute times say nothing on a busy machine.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, systemClock, virtualClock, type Clock } from "../kernel/index.ts";
import { breaker, budget, bulkhead, pipeline, retry, timeout } from "./index.ts";

const isExceeded = (thrown: unknown) => Fault.is(thrown, "deadline.exceeded");
const down = () => {
  throw new Error("down");
};

function tookMs(work: () => void): number {
  const beganMs = systemClock.monotonicMs();
  work();
  return systemClock.monotonicMs() - beganMs;
}

// ---- opossum 10.0.0 ---------------------------------------------------------------------------------------------------

test("opossum sorts every latency of its window on each failure; here a failure costs the same after 100,000 calls", async () => {
  const samples = 100_000;
  const clock = virtualClock();
  const one = breaker({ clock, window: "10s", failureRate: 1, minimumCalls: 1_000_000 });
  for (let i = 0; i < samples; i++) await one(() => i);
  const random = seededRandom("latencies");
  const latencies = Array.from({ length: samples }, () => random.next() * 100);
  const outcomes: Promise<unknown>[] = [];

  const sortMs = Math.min(...[1, 2, 3].map(() => tookMs(() => void latencies.toSorted((a, b) => a - b))));
  const failures = 1_000;
  const beganMs = systemClock.monotonicMs();
  for (let i = 0; i < failures; i++) outcomes.push(one(down).catch(() => undefined));
  await Promise.all(outcomes);
  const failedMs = systemClock.monotonicMs() - beganMs;

  assert.ok(failedMs < (failures * sortMs) / 20, `${failures} failures took ${failedMs} ms, one sort of the window ${sortMs} ms`);
});

test("opossum has one AbortController for all calls; here a time-out aborts the call that ran out of time", async () => {
  const clock = virtualClock();
  const guarded = pipeline({ clock }, timeout(100), breaker({ clock }));
  const signals: AbortSignal[] = [];
  const call = (ms: number) =>
    guarded(({ signal }) => {
      signals.push(signal);
      return new Promise<number>((resolve) => clock.after(ms, () => resolve(ms)));
    });
  const slow = call(1_000).catch((thrown: unknown) => thrown);
  const healthy = [call(90), call(99)];

  await clock.advance(50);
  const late = call(90);
  await clock.advance(60);
  assert.ok(isExceeded(await slow));
  assert.deepEqual(
    signals.map(({ aborted }) => aborted),
    [true, false, false, false],
  );
  assert.deepEqual(await Promise.all(healthy), [90, 99]);
  await clock.advance(100);
  assert.equal(await late, 90);
});

test("opossum frees a place when its caller times out; here ten places are never more than ten calls in flight", async () => {
  const clock = virtualClock();
  const places = bulkhead({ running: 10, clock });
  const guarded = pipeline({ clock }, timeout(10), places);
  let [inFlight, most] = [0, 0];
  const slow = async () => {
    most = Math.max(most, ++inFlight);
    await new Promise<void>((resolve) => clock.after(200, resolve));
    inFlight--;
  };

  for (let round = 0; round < 20; round++) {
    const outcomes = Array.from({ length: 10 }, () => guarded(slow).catch((thrown: unknown) => thrown));
    await clock.advance(10);
    for (const outcome of await Promise.all(outcomes)) assert.ok(isExceeded(outcome) || Fault.is(outcome, "bulkhead.full"));
  }
  assert.equal(most, 10);
});

// ---- cockatiel 4.0.0 --------------------------------------------------------------------------------------------------

test("cockatiel sleeps through an abort between two attempts; here the caller is answered in that moment", async () => {
  const clock = virtualClock();
  const caller = new AbortController();
  const gone = new Error("gone");
  let answeredAtMs = -1;
  const outcome = pipeline({ clock }, retry({ attempts: 3, from: "2s", upTo: "2s", jitter: "none" }))(down, { signal: caller.signal }).catch(
    (thrown: unknown) => {
      answeredAtMs = clock.monotonicMs();
      return thrown;
    },
  );

  await clock.advance(100);
  caller.abort(gone);
  assert.equal(await outcome, gone);
  assert.equal(answeredAtMs, 100);
});

test("cockatiel shifts its queue, which is slower the longer it is; here 100,000 that wait are served at the pace of few", async () => {
  const depth = 100_000;
  const perCallUs = async (waiting: number) => {
    const places = bulkhead({ running: 1, waiting });
    let open: () => void = () => undefined;
    const first = places(() => new Promise<void>((resolve) => (open = resolve)));
    const calls = Array.from({ length: waiting }, () => places(() => undefined));
    const beganMs = systemClock.monotonicMs();
    open();
    await Promise.all([first, ...calls]);
    return ((systemClock.monotonicMs() - beganMs) * 1_000) / waiting;
  };
  await perCallUs(10_000);
  const few = Math.min(await perCallUs(5_000), await perCallUs(5_000), await perCallUs(5_000));
  const many = Math.min(await perCallUs(depth), await perCallUs(depth));

  assert.ok(many < 6 * few + 2, `${many} us each with ${depth} waiting, ${few} us with 5,000`);
});

test("cockatiel makes a timer, a controller and listeners for every call with a time limit; here they share one timer", async () => {
  const clock = virtualClock();
  let timers = 0;
  const counting: Clock = {
    ...clock,
    after(delayMs, task) {
      timers++;
      return clock.after(delayMs, task);
    },
  };
  const guarded = pipeline({ clock: counting }, timeout("1s"));

  await Promise.all(Array.from({ length: 1_000 }, () => guarded(() => Promise.resolve(1))));
  assert.ok(timers <= 1, `${timers} timers for 1,000 calls`);
});

// ---- cockatiel, opossum, p-retry, undici's RetryAgent -----------------------------------------------------------------

test("none of the four bounds what retries add; here an outage adds a tenth to the load, not twice the load", async () => {
  const clock = virtualClock();
  const attemptsOf = async (bound: { readonly budget?: ReturnType<typeof budget> }) => {
    let attempts = 0;
    const guarded = pipeline({ clock, random: seededRandom("outage") }, retry({ attempts: 3, from: 10, ...bound }));
    const calls = Array.from({ length: 1_000 }, () =>
      guarded(() => {
        attempts++;
        return down();
      }).catch(() => undefined),
    );
    await clock.advance(1_000);
    await Promise.all(calls);
    return attempts;
  };

  assert.equal(await attemptsOf({}), 3_000);
  const bounded = await attemptsOf({ budget: budget({ clock, share: "10%", burst: 10, floor: false }) });
  assert.ok(bounded > 1_000 && bounded <= 1_110, `${bounded} attempts of 1,000 calls`);
});
