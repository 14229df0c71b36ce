import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, sleep, virtualClock, withContext } from "../kernel/index.ts";
import { declined, waits, type Caller } from "./gate.ts";
import { adaptiveThrottle, breaker, bulkhead, pipeline, timeout, type Bulkhead, type BulkheadOptions } from "./index.ts";
import { gateOf } from "./testing/passes.ts";

interface Guest extends Caller {
  startedMs: number;
  token: number | undefined;
  fault: Fault | undefined;
}

function setUp(options: Partial<BulkheadOptions> = {}) {
  const clock = virtualClock();
  const one = bulkhead({ clock, random: seededRandom("bulkhead"), name: "payments", running: 2, waiting: 10, ...options });
  const running: Guest[] = [];
  const come = (of: Partial<Caller> = {}): Guest => {
    const guest: Guest = {
      key: "k",
      priority: "normal",
      untilMs: Infinity,
      cost: 1,
      place: undefined,
      startedMs: clock.monotonicMs(),
      token: undefined,
      fault: undefined,
      ...of,
      admitted(token, nowMs) {
        guest.token = token;
        guest.startedMs = nowMs;
        running.push(guest);
      },
      declined(nowMs) {
        guest.fault = gateOf(one).fault(guest, nowMs);
      },
    };
    const token = gateOf(one).enter(guest, clock.monotonicMs());
    if (token === declined) guest.declined(clock.monotonicMs());
    else if (token !== waits) guest.admitted(token, clock.monotonicMs());
    return guest;
  };
  const end = (guest: Guest | undefined = running[0]) => {
    assert.ok(guest && guest.token !== undefined);
    running.splice(running.indexOf(guest), 1);
    gateOf(one).ended?.(guest, guest.token);
  };
  return { clock, one, come, end, running };
}

test("[RES-05] a bulkhead lets so many run, lets so many wait, and declines whoever comes then", () => {
  const { one, come, end } = setUp({ waiting: 2 });
  const [a, b, c, d, e] = [come(), come(), come(), come(), come()];
  assert.deepEqual([a.token, b.token, c.token, d.token, e.token], [0, 0, undefined, undefined, undefined]);
  assert.deepEqual([one.inFlight, one.waiting, e.fault?.code], [2, 2, "bulkhead.full"]);
  end(a);
  assert.deepEqual([c.token, one.inFlight, one.waiting], [0, 2, 1]);
  assert.deepEqual(one.counts, { admitted: 3, waited: 2, left: 0, declined: { full: 1, early: 0, displaced: 0, share: 0, waited: 0, late: 0 } });
});

test("a newcomer does not overtake those who wait, in the moment in which places come free either", () => {
  const { one, come } = setUp({ running: 1 });
  come();
  const [second, third] = [come(), come()];
  const newcomer: Caller = { ...second, place: undefined };
  let answers: unknown[] = [];
  second.admitted = () => {
    answers = [one.tryEnter(), gateOf(one).enter(newcomer, 0)];
  };
  one.resize(3);
  assert.deepEqual([answers, third.token, one.inFlight, one.waiting], [[undefined, waits], 0, 3, 1]);
});

test("a declined caller is told why, by which numbers, and when to come back", async () => {
  const { clock, one, come, end, running } = setUp({ running: 2, waiting: 3 });
  for (let i = 0; i < 30; i++) {
    come();
    await clock.advance(40);
    end();
  }
  for (let i = 0; i < 5; i++) come();
  const { fault } = come({ priority: "low" });
  assert.ok(Fault.is(fault, "bulkhead.full"));
  assert.equal(fault.message, "payments: 2 calls are running and at most 2 may; 3 wait and at most 3 may. Nobody who waits is less urgent.");
  assert.deepEqual(fault.details, { name: "payments", reason: "full", inFlight: 2, running: 2, waiting: 3, waitingMost: 3, priority: "low", retryAfterMs: 80 });
  await clock.advance(500);
  assert.equal(come().fault?.details["retryAfterMs"], 500, "nothing has moved for so long");
  await clock.advance(3_600_000);
  assert.equal(come().fault?.details["retryAfterMs"], 30_000);

  const urgent = come({ priority: "high" });
  assert.equal(urgent.fault, undefined);
  assert.equal(one.counts.declined.displaced, 1);
  assert.equal(running.length, 2);
});

test("when to come back follows calls that have become slow", async () => {
  const { clock, come, end } = setUp({ running: 1, waiting: 0 });
  const calls = async (count: number, ms: number) => {
    for (let i = 0; i < count; i++) {
      come();
      await clock.advance(ms);
      end();
    }
    come();
    const { fault } = come();
    end();
    return fault?.details["retryAfterMs"] as number;
  };
  assert.equal(await calls(20, 0.5), 1);
  assert.ok((await calls(200, 40)) > 35);
});

test("[RES-05] calls that were given up, or stood still with this process, do not make it decline others as too late", async () => {
  for (const trouble of ["hangs", "stands still"] as const) {
    const clock = virtualClock();
    const places = bulkhead({ clock, running: 10, waiting: 20 });
    const ask = pipeline({ clock }, timeout(400), places);
    const many = (count: number, takesMs: number) =>
      Promise.allSettled(Array.from({ length: count }, async () => ask(({ signal }) => sleep(clock, takesMs, signal))));
    const within = async <T>(ms: number, all: Promise<T>): Promise<T> => (await clock.advance(ms), all);
    for (let round = 0; round < 20; round++) await within(80, many(10, 80));
    // Ten hang three times until they are given up; or were under way for 300 ms, of which this process saw nothing.
    if (trouble === "hangs") for (let round = 0; round < 3; round++) await within(400, many(10, 10_000));
    else await within(300, many(10, 300));
    // The last ten have 240 ms left when their turn comes.
    const ends = await within(320, many(30, 80));
    assert.equal(ends.filter(({ status }) => status === "fulfilled").length, 30, trouble);
    assert.equal(places.counts.declined.late, 0, trouble);
  }
});

test("a caller that was displaced in the line hears that a more urgent one came", () => {
  const { come } = setUp({ running: 1, waiting: 1 });
  come();
  const slow = come({ priority: "low" });
  come({ priority: "high" });
  assert.equal(slow.fault?.details["reason"], "displaced");
  assert.match(slow.fault?.message ?? "", /its own priority is low/);
});

test("[RES-05] a dependency that hangs holds its places until its calls have truly ended, whoever stopped waiting", async () => {
  const { clock, one, come, end, running } = setUp({ running: 2, waiting: 1 });
  const [, , third] = [come(), come(), come({ untilMs: 100 })];
  await clock.advance(100);
  gateOf(one).leave?.(third, clock.monotonicMs());
  assert.deepEqual([one.inFlight, one.waiting, one.counts.left], [2, 0, 1]);
  const fourth = come();
  end(running[0]);
  assert.deepEqual([fourth.token, third.token, one.inFlight], [0, undefined, 2]);
});

test("operations that end at once, while a hundred thousand wait, are no deep recursion", () => {
  const { one, come, end } = setUp({ running: 1, waiting: 100_000 });
  const first = come();
  let done = 0;
  for (let i = 0; i < 100_000; i++) {
    const guest = come();
    guest.admitted = (token) => {
      done++;
      gateOf(one).ended?.(guest, token);
    };
  }
  end(first);
  assert.deepEqual([done, one.inFlight, one.waiting], [100_000, 0, 0]);
});

test("a caller that comes again as soon as it is declined does no harm", () => {
  const { one, come, end } = setUp({ running: 1, waiting: 2, order: "lifo" });
  come();
  const stubborn = come();
  let again = 0;
  stubborn.declined = () => {
    if (again++ < 3) gateOf(one).enter(stubborn, 0);
  };
  come();
  come();
  assert.ok(again >= 1);
  assert.deepEqual([one.waiting, one.inFlight], [2, 1]);
  end();
  assert.deepEqual([one.waiting, one.inFlight], [1, 1]);
});

test("more places let those in who wait; fewer let nobody in until enough have ended", () => {
  const { one, come, end } = setUp({ running: 1 });
  for (let i = 0; i < 6; i++) come();
  one.resize(4);
  assert.deepEqual([one.inFlight, one.waiting, one.running], [4, 2, 4]);
  one.resize(2);
  end();
  end();
  assert.deepEqual([one.inFlight, one.waiting], [2, 2]);
  end();
  assert.deepEqual([one.inFlight, one.waiting], [2, 1]);
});

test("a fair bulkhead charges what a call took: a key with slow calls gets the same time, not the same number", async () => {
  const served = async (order: "fair" | "fifo") => {
    const { clock, one, come, end, running } = setUp({ running: 1, waiting: 100_000, order });
    for (let i = 0; i < 2_000; i++) {
      come({ key: "slow" });
      come({ key: "quick" });
    }
    const ms = { slow: 0, quick: 0 };
    for (let i = 0; i < 2_000; i++) {
      const { key } = running[0] as Guest;
      const tookMs = key === "slow" ? 20 : 2;
      await clock.advance(tookMs);
      ms[key as "slow" | "quick"] += tookMs;
      end();
    }
    assert.equal(one.inFlight, 1);
    return ms.slow / ms.quick;
  };
  const ratio = await served("fair");
  assert.ok(ratio > 0.8 && ratio < 1.25, String(ratio));
  assert.ok((await served("fifo")) > 9, "the control");
});

test("[RES-05] a place by hand: counted, given back once, and not taken past those who wait", () => {
  const { one, come, end } = setUp({ running: 2 });
  const leave = one.tryEnter() as () => void;
  come();
  assert.equal(one.tryEnter(), undefined);
  come();
  leave();
  leave();
  assert.deepEqual([one.inFlight, one.waiting], [2, 0]);
  end();
  assert.equal(one.inFlight, 1);
});

test("options of a bulkhead outside their range are faults that name them", () => {
  for (const nothing of [undefined, null])
    assert.throws(
      () => bulkhead(nothing as never),
      (thrown) => Fault.is(thrown, "option.out-of-range") && /^bulkhead\.running must be .* got undefined/.test(thrown.message),
    );
  const names = (options: Partial<BulkheadOptions>): string => {
    try {
      bulkhead({ running: 1, ...options });
    } catch (thrown) {
      if (Fault.is(thrown, "option.out-of-range")) return thrown.message.split(" ")[0] as string;
    }
    return "none";
  };
  const odd = (value: unknown) => value as never;
  for (const [name, options] of [
    ["bulkhead.running", { running: 0 }],
    ["bulkhead.running", { running: Number.NaN }],
    ["bulkhead.running", { running: odd("4") }],
    ["bulkhead.waiting", { waiting: -1 }],
    ["bulkhead.waiting", { waiting: Infinity }],
    ["bulkhead.waiting.from", { waiting: { from: 5, most: 4 } }],
    ["bulkhead.order", { order: odd("random") }],
    ["bulkhead.codel.targetMs", { codel: { targetMs: 0 } }],
    ["bulkhead.codel.intervalMs", { codel: { intervalMs: 0 } }],
  ] as const)
    assert.equal(names(options as Partial<BulkheadOptions>), name);
});

for (const order of ["fifo", "fair"] as const)
  test(`a cost that is none, or a key that is no text, is a fault for its own call and changes nothing for the others (${order})`, async () => {
    const { clock, one } = setUp({ running: 1, waiting: 100, order });
    const odd = (value: unknown) => value as never;
    const served: string[] = [];
    const work = (name: string) => async () => {
      served.push(name);
      await sleep(clock, 10);
    };
    const first = one(work("first"));
    const wrong = [Number.NaN, -1, 0, Infinity, odd("2")].flatMap((cost) => [one(work("wrong"), { cost }), one.acquire({ cost })]);
    if (order === "fair") wrong.push(...[odd(7), odd({})].flatMap((key) => [one(work("wrong"), { key }), one.acquire({ key })]));
    const faults = await Promise.all(wrong.map((call) => Promise.resolve(call).catch((thrown: unknown) => thrown)));
    for (const fault of faults) assert.match(String(fault), /^Fault: (cost must be a number from 0\.000001 to 1000000000|typeof key must be "string"), got /);

    const others = ["a", "a", "a", "b", "b", "b"].map((key) => one(work(key), { key }));
    await clock.advance(100);
    await Promise.all([first, ...others]);
    assert.equal(served.join(" "), order === "fair" ? "first a b a b a b" : "first a a a b b b");
    assert.deepEqual([one.inFlight, one.waiting], [0, 0]);
    const full = setUp({ running: 1, waiting: 0, order });
    await Promise.allSettled([full.one(() => 1, { cost: 0 }), full.one(() => sleep(full.clock, 5)), full.clock.advance(5)]);
    full.come();
    assert.equal(full.come().fault?.details["retryAfterMs"], 5);
  });

test("called by itself, a gate counts its caller's time by its own clock", async () => {
  const clock = virtualClock();
  for (const alone of [bulkhead({ clock, running: 1 }), breaker({ clock }), adaptiveThrottle({ clock })])
    assert.equal(await withContext({ deadlineMs: clock.monotonicMs() + 1 }, () => alone(() => "in time")), "in time");
});

test("a bulkhead without a bound only counts", () => {
  const one: Bulkhead = bulkhead({ running: Infinity });
  const leaves = Array.from({ length: 1_000 }, () => one.tryEnter());
  assert.equal(one.inFlight, 1_000);
  for (const leave of leaves) leave?.();
  assert.equal(one.inFlight, 0);
});
