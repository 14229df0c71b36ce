import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock } from "../kernel/index.ts";
import type { VirtualClock } from "../kernel/index.ts";
import { breaker, pipeline } from "./index.ts";
import type { Breaker, BreakerOptions } from "./index.ts";
import { tryEnter, type Pass } from "./testing/passes.ts";

const clockOf = new WeakMap<Breaker, VirtualClock>();

function setUp(options: Partial<BreakerOptions> = {}): { clock: VirtualClock; edges: string[]; one: Breaker } {
  const clock = virtualClock();
  const edges: string[] = [];
  const one = breaker({
    clock,
    name: "payments",
    minimumCalls: 4,
    cooldown: 1_000,
    window: 10_000,
    onChange: (from, to) => edges.push(`${from}→${to}`),
    ...options,
  });
  clockOf.set(one, clock);
  return { clock, edges, one };
}

function calls(one: Breaker, outcomes: string, clock: VirtualClock = clockOf.get(one) as VirtualClock): void {
  for (const outcome of outcomes) {
    const pass = tryEnter(one, clock);
    if (outcome === "f") pass?.failed();
    else if (outcome === "s") pass?.succeeded();
    else pass?.abandoned();
  }
}

// Not narrowed by an assertion: the state is another one the next time.
const kindOf = (one: Breaker): string => one.state.kind;

test("[RES-03] a breaker opens when enough of enough calls failed, and not before", () => {
  const { one, edges } = setUp();
  calls(one, "fff");
  assert.equal(kindOf(one), "closed");
  calls(one, "f");
  assert.equal(kindOf(one), "open");
  assert.deepEqual(edges, ["closed→open"]);

  const half = setUp().one;
  calls(half, "sssff");
  assert.equal(kindOf(half), "closed");
  calls(half, "f");
  assert.equal(kindOf(half), "open");

  const byASuccess = setUp({ failureRate: 0.7 }).one;
  calls(byASuccess, "fffs");
  assert.equal(kindOf(byASuccess), "closed", "3 of 4 is over 0.7, but the last says that they succeed again");
  calls(byASuccess, "f");
  assert.equal(kindOf(byASuccess), "open");
});

test("[RES-03] calls that reach a dead dependency stop after the threshold and what was in flight", () => {
  const { one, clock } = setUp({ minimumCalls: 20 });
  const inFlight = Array.from({ length: 7 }, () => tryEnter(one, clock) as Pass);
  let reached = inFlight.length;
  for (let i = 0; i < 1_000; i++) {
    const pass = tryEnter(one, clock);
    if (!pass) continue;
    reached++;
    pass.failed();
  }
  for (const pass of inFlight) pass.failed();
  assert.equal(reached, 20 + 7);
  assert.equal(kindOf(one), "open");
});

test("an open breaker declines with a fault that says when to come back", async () => {
  const { clock, one } = setUp();
  calls(one, "ffff");
  await clock.advance(400);
  assert.equal(tryEnter(one, clock), undefined);
  await assert.rejects(
    pipeline({ clock }, one)(() => 1),
    (thrown: unknown) => Fault.is(thrown, "breaker.open") && thrown.message.includes("payments") && thrown.details["retryAfterMs"] === 600,
  );
});

test("[RES-03] after the cool-down exactly the allowed probes pass", async () => {
  const { clock, one } = setUp({ probes: 3 });
  calls(one, "ffff");
  await clock.advance(999);
  assert.equal(tryEnter(one, clock), undefined);
  await clock.advance(1);
  const passes = Array.from({ length: 50 }, () => tryEnter(one, clock)).filter((pass) => pass !== undefined);
  assert.equal(passes.length, 3);
  await assert.rejects(
    pipeline({ clock }, one)(() => 1),
    (thrown: unknown) => Fault.is(thrown, "breaker.open"),
  );
  passes[0]?.succeeded();
  assert.equal(tryEnter(one, clock), undefined, "a probe that succeeded does not make room for another");
});

test("[RES-03] healed closes, still failing opens again", async () => {
  const { clock, one, edges } = setUp({ probes: 2 });
  calls(one, "ffff");
  await clock.advance(1_000);
  calls(one, "sf");
  assert.equal(kindOf(one), "open");
  await clock.advance(1_000);
  calls(one, "ss");
  assert.equal(kindOf(one), "closed");
  assert.deepEqual(edges, ["closed→open", "open→half-open", "half-open→open", "open→half-open", "half-open→closed"]);
  calls(one, "fff");
  assert.equal(kindOf(one), "closed", "what failed before it closed is forgotten");
});

test("a probe whose caller went away gives its place to another", async () => {
  const { clock, one } = setUp();
  calls(one, "ffff");
  await clock.advance(1_000);
  const gone = tryEnter(one, clock);
  assert.equal(tryEnter(one, clock), undefined);
  gone?.abandoned();
  gone?.failed();
  tryEnter(one, clock)?.succeeded();
  assert.equal(kindOf(one), "closed");
});

test("a probe that never answers has failed when its time is over", async () => {
  const { clock, one } = setUp({ probeWithin: 300 });
  calls(one, "ffff");
  await clock.advance(1_000);
  const hangs = tryEnter(one, clock);
  await clock.advance(299);
  assert.equal(kindOf(one), "half-open");
  await clock.advance(1);
  hangs?.succeeded();
  assert.equal(kindOf(one), "open");
});

test("a probe that answered in time is not held against the next one", async () => {
  const { clock, one } = setUp({ probes: 2, probeWithin: 300 });
  calls(one, "ffff");
  await clock.advance(1_000);
  calls(one, "s");
  await clock.advance(200);
  const second = tryEnter(one, clock);
  await clock.advance(299);
  assert.equal(kindOf(one), "half-open");
  second?.succeeded();
  assert.equal(kindOf(one), "closed");
});

test("outcomes of a time that is over are not counted", async () => {
  const { clock, one } = setUp();
  const late = Array.from({ length: 10 }, () => tryEnter(one, clock) as Pass);
  calls(one, "ffff");
  await clock.advance(1_000);
  assert.equal(kindOf(one), "half-open");
  late[0]?.succeeded();
  late[1]?.failed();
  assert.equal(kindOf(one), "half-open");
  calls(one, "s");
  for (const pass of late.slice(2)) pass.failed();
  assert.equal(kindOf(one), "closed");
});

test("failures older than the window are forgotten", async () => {
  const { clock, one } = setUp();
  calls(one, "fff");
  await clock.advance(10_000);
  calls(one, "sssf");
  assert.equal(kindOf(one), "closed");
  await clock.advance(8_000);
  calls(one, "ff");
  assert.equal(kindOf(one), "open", "3 of the 6 within the window");
});

test("the window's sums are those of its calls, whatever the times", async () => {
  const random = seededRandom("window");
  for (let round = 0; round < 200; round++) {
    const clock = virtualClock();
    await clock.advance(random.uint32() % 100_000);
    // Never opens by the rate alone: it opens exactly when the minimum is reached, so the minimum measures the number of calls it still knows.
    const times: number[] = [];
    let openedAt = 0;
    const one = breaker({ clock, window: 1_000, minimumCalls: 10, failureRate: 0.001, onChange: () => (openedAt = times.length) });
    while (openedAt === 0 && times.length < 500) {
      await clock.advance(random.uint32() % 300);
      times.push(clock.monotonicMs());
      tryEnter(one, clock)?.failed();
      const bucket = Math.floor(clock.monotonicMs() / 100);
      const known = times.filter((time) => Math.floor(time / 100) > bucket - 10).length;
      assert.equal(openedAt !== 0, known >= 10, `after ${times.length} calls, ${known} within the window`);
    }
  }
});

test("a success that was too slow counts as a failure", async () => {
  const { clock, one } = setUp({ slowerThan: 100 });
  const passes = Array.from({ length: 4 }, () => tryEnter(one, clock) as Pass);
  await clock.advance(101);
  for (const pass of passes) pass.succeeded();
  assert.equal(kindOf(one), "open");
});

test("options outside their range are faults", () => {
  const clock = virtualClock();
  for (const options of [
    { failureRate: 0 },
    { failureRate: 1.1 },
    { minimumCalls: 0 },
    { probes: 0 },
    { window: 0 },
    { window: 5 },
    { window: 1e300 },
    { window: { calls: 0 } },
    { window: { calls: 10 }, minimumCalls: 11 },
    { slowRate: 2 },
    { slowerThan: "soon" as "1s" },
    { cooldown: -1 },
    { probeWithin: Number.NaN },
    { probeWithin: 0.5 },
    { probeWithin: 1e300 },
    { per: "tenant" as "key" },
  ])
    assert.throws(
      () => breaker({ clock, ...options }),
      (thrown: unknown) =>
        Fault.is(thrown) &&
        /^(option.out-of-range|quantity.not-a-duration)$/.test(thrown.code) &&
        thrown.message.includes(`breaker.${Object.keys(options).at(-1)}`),
    );
});

const seeds = process.env["TRESTLE_SEED"] === undefined ? Array.from({ length: 10_000 }, (_, i) => `breaker-${i}`) : [process.env["TRESTLE_SEED"]];
test("held as what it cannot be held as, a breaker says so and is as before", () => {
  const { one } = setUp({});
  assert.throws(() => one.hold("opened" as "open"), /breaker\.hold must be "open" or "closed", got "opened"/);
  assert.equal(one.held, undefined);
});

test("[RES-03] 10,000 random sequences: only the diagram's edges appear, each for its reason, and probes are never more than allowed", async () => {
  const reasons = new Map<string, number>();
  for (const seed of seeds) {
    const replay = `replay: TRESTLE_SEED=${seed} node --test ${import.meta.filename}`;
    const random = seededRandom(seed);
    const pick = (n: number) => random.uint32() % n;
    // A clock without promises: 10,000 sequences of 60 steps.
    let nowMs = pick(10_000);
    const clock = { wallMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel: () => undefined }), soon: () => undefined };
    const options = {
      failureRate: [0.1, 0.5, 1][pick(3)] as number,
      minimumCalls: 1 + pick(8),
      window: [50, 500][pick(2)] as number,
      cooldown: pick(100),
      probes: 1 + pick(3),
      probeWithin: 1 + pick(200),
    };
    let step = "";
    let probesPassed = 0;
    let sinceMs = nowMs;
    let known = "closed";
    const one = breaker({
      clock,
      ...options,
      onChange(from, to) {
        assert.equal(from, known, replay);
        const edge = `${from}→${to}`;
        if (edge === "closed→open") assert.equal(step, "failed", replay);
        else if (edge === "open→half-open") assert.ok(nowMs - sinceMs >= options.cooldown, replay);
        else if (edge === "half-open→closed") assert.ok(step === "succeeded" && probesPassed >= options.probes, replay);
        else if (edge === "half-open→open") assert.ok(step === "failed" || nowMs - sinceMs >= options.probeWithin, replay);
        else assert.fail(`no such edge: ${edge}; ${replay}`);
        reasons.set(edge, (reasons.get(edge) ?? 0) + 1);
        known = to;
        sinceMs = nowMs;
        probesPassed = 0;
        probesOut.clear();
      },
    });
    const out: Pass[] = [];
    const probesOut = new Set<Pass>();
    const probesDone = new Set<Pass>();
    for (let i = 0; i < 60; i++) {
      const action = pick(10);
      if (action < 4) {
        step = "enter";
        const before = one.state.kind;
        const pass = tryEnter(one, clock);
        assert.equal(before === "open" ? pass === undefined : true, true, replay);
        if (pass) out.push(pass);
        else assert.notEqual(before, "closed", replay);
        if (pass && before === "half-open") {
          probesPassed++;
          probesOut.add(pass);
        }
        assert.ok(probesOut.size <= options.probes, replay);
      } else if (action < 8 && out.length > 0) {
        const [pass] = out.splice(pick(out.length), 1) as [Pass];
        step = ["succeeded", "failed", "failed", "abandoned"][pick(4)] as string;
        if (step === "abandoned")
          probesOut.delete(pass); // its place is free again, and another may pass
        else probesDone.add(pass);
        pass[step as "succeeded" | "failed" | "abandoned"]();
        pass.failed(); // what is said twice is not heard
      } else {
        step = "wait";
        nowMs += pick(120);
      }
      assert.equal(one.state.kind, known, replay);
    }
  }
  if (seeds.length > 1)
    for (const edge of ["closed→open", "open→half-open", "half-open→closed", "half-open→open"])
      assert.ok((reasons.get(edge) ?? 0) > 500, `${edge} was seen ${reasons.get(edge) ?? 0} times`);
});

test("a window of calls looks back so many calls, whatever the time", async () => {
  const { clock, one } = setUp({ window: { calls: 8 }, minimumCalls: 8 });
  calls(one, "ffssssff"); // the eighth is the first that is judged
  assert.equal(kindOf(one), "open");

  const { clock: slowly, one: other } = setUp({ window: { calls: 4 } });
  for (const outcome of "fssfsssssf") {
    await slowly.advance(60_000);
    calls(other, outcome);
  }
  assert.equal(kindOf(other), "closed");
  calls(other, "f");
  assert.equal(kindOf(other), "open", "2 of the last 4");
  void clock;
});

test("slow calls open it by a rate of their own", async () => {
  const { clock, one } = setUp({ slowerThan: "100ms", slowRate: 0.75, failureRate: 1 });
  const take = async (ms: number) => {
    const pass = tryEnter(one, clock);
    await clock.advance(ms);
    pass?.succeeded();
  };
  for (const ms of [10, 200, 10, 200, 200, 200, 200]) await take(ms);
  assert.equal(kindOf(one), "closed", "5 of 7");
  await take(200);
  assert.equal(kindOf(one), "open", "6 of 8");
});

test("one breaker for each key: what is unwell does not close the others", async () => {
  const { clock, one, edges } = setUp({ per: "key", onChange: (from, to, key) => edges.push(`${key}: ${from}→${to}`) });
  for (let i = 0; i < 4; i++) tryEnter(one, clock, { key: "a" })?.failed();
  assert.deepEqual([one.stateOf("a").kind, one.stateOf("b").kind, one.state.kind], ["open", "closed", "closed"]);
  assert.equal(tryEnter(one, clock, { key: "a" }), undefined);
  assert.ok(tryEnter(one, clock, { key: "b" }));
  assert.deepEqual(edges, ["a: closed→open"]);
  await assert.rejects(
    pipeline({ clock }, one)(() => 1, { key: "a" }),
    (thrown: unknown) => Fault.is(thrown, "breaker.open") && thrown.details["key"] === "a",
  );
  for (let i = 0; i < 100_000; i++) tryEnter(one, clock, { key: `key ${i}` });
});

test("a reset closes the breaker of each key, tells it, and counts nothing of what began before", () => {
  const edges: string[] = [];
  const clock = virtualClock();
  const one = breaker({ clock, per: "key", minimumCalls: 2, onChange: (from, to, key) => edges.push(`${key}: ${from}→${to}`) });
  const before = [tryEnter(one, clock, { key: "a" }), tryEnter(one, clock, { key: "a" })];
  for (let call = 0; call < 2; call++) tryEnter(one, clock, { key: "b" })?.failed();
  one.reset();
  for (const pass of before) pass?.failed();
  assert.deepEqual(edges, ["b: closed→open", "b: open→closed"]);
  assert.equal(one.stateOf("a").kind, "closed");
});

test("a person can hold it open or closed, let go, and reset it", async () => {
  const { clock, one } = setUp();
  one.hold("open");
  assert.equal(tryEnter(one, clock), undefined);
  await assert.rejects(
    pipeline({ clock }, one)(() => 1),
    (thrown: unknown) => Fault.is(thrown, "breaker.open") && thrown.message.includes("by hand"),
  );
  one.hold(undefined);
  calls(one, "ffff");
  assert.equal(kindOf(one), "open");
  one.hold("closed");
  tryEnter(one, clock)?.failed();
  assert.deepEqual([kindOf(one), one.held], ["open", "closed"]);
  one.hold(undefined);
  assert.equal(tryEnter(one, clock), undefined);
  one.reset();
  assert.equal(kindOf(one), "closed");
  calls(one, "fff");
  assert.equal(kindOf(one), "closed", "what failed before is forgotten");
});
