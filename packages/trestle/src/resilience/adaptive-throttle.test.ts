import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock } from "../kernel/index.ts";
import { adaptiveThrottle, type AdaptiveThrottleOptions } from "./index.ts";
import { callerAt, gateOf, tryEnter } from "./testing/passes.ts";

function setUp(options: AdaptiveThrottleOptions = {}) {
  const clock = virtualClock();
  const one = adaptiveThrottle({ clock, random: seededRandom("throttle"), name: "payments", ...options });
  /** So many calls, of which the other side accepts a share. How many reached it. */
  const calls = (count: number, share: number): number => {
    let reached = 0;
    for (let i = 0; i < count; i++) {
      const pass = tryEnter(one, clock);
      if (!pass) continue;
      reached++;
      if (Math.floor(reached * share) > Math.floor((reached - 1) * share)) pass.succeeded();
      else pass.failed();
    }
    return reached;
  };
  return { clock, one, calls };
}

test("[RES-07] a client asks at most about twice what the other side accepts, and everything when it is well", () => {
  const well = setUp();
  assert.equal(well.calls(10_000, 1), 10_000);
  assert.equal(well.calls(10_000, 0.6), 10_000, "more than half is accepted");

  const { one } = setUp({ minimumCalls: 0 });
  let reached = 0;
  let accepted = 0;
  for (let i = 0; i < 20_000; i++) {
    const pass = tryEnter(one);
    if (!pass) continue;
    reached++;
    // The other side takes 100 of 1,000 that come, however many those are.
    if (accepted < (i + 1) / 10) {
      accepted++;
      pass.succeeded();
    } else pass.failed();
  }
  assert.ok(reached / accepted > 1.8 && reached / accepted < 2.3, `${reached} reached it, ${accepted} were accepted`);
});

test("a client of what accepts nothing asks a tenth, and all again within two and a half windows once it is well", async () => {
  const secondsUntilWell = async (rejectionMost: number) => {
    const { clock, one, calls } = setUp({ window: 10_000, rejectionMost });
    calls(2_000, 0);
    assert.ok(calls(1_000, 0) < 1_000 * (1 - rejectionMost) + 50);
    for (let second = 1; ; second++) {
      calls(100, 1);
      await clock.advance(1_000);
      if (one.rejection === 0 || second === 60) return second;
    }
  };
  const seconds = await secondsUntilWell(0.9);
  assert.ok(seconds <= 25, `${seconds} s`);
  assert.ok((await secondsUntilWell(1)) > 1.5 * seconds, "the control declines as many as the formula says");
});

test("what is long ago counts no more, in accepts either", async () => {
  const { clock, one, calls } = setUp({ window: 10_000 });
  calls(1_000, 1);
  await clock.advance(10_001);
  assert.ok(calls(200, 0) < 150, "a thousand accepts of the last window help nobody");
  await clock.advance(10_001);
  assert.equal(one.rejection, 0);
});

test("few calls say nothing", () => {
  assert.equal(setUp().calls(20, 0), 20);
  assert.ok(setUp().calls(40, 0) < 40);
});

test("a throttled call is told how many were accepted", () => {
  const { one, calls } = setUp({ window: 1_000 });
  calls(99, 0);
  const fault = gateOf(one).fault(callerAt(0), 0);
  assert.ok(Fault.is(fault, "throttle.declined"));
  assert.equal(fault.message, "payments: of 99 calls of late only 0 were accepted, so 90 % of the calls are declined here");
  assert.deepEqual(fault.details, { name: "payments", requests: 99, accepts: 0, rejection: 0.9, retryAfterMs: 100 });
});

test("options of a throttle outside their range are faults that name them", () => {
  for (const [name, options] of [
    ["throttle.k", { k: 0.5 }],
    ["throttle.window", { window: 1 }],
    ["throttle.rejectionMost", { rejectionMost: 2 }],
    ["throttle.minimumCalls", { minimumCalls: 1.5 }],
  ] as const)
    assert.throws(
      () => adaptiveThrottle(options),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && thrown.message.startsWith(`${name} `),
    );
});
