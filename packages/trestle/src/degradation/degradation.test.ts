import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, virtualClock } from "../kernel/index.ts";
import { degradation, type Answers, type Policies, type RoutePolicy, type Rung, type RungChange, type Signals } from "./index.ts";

const route = "shop.catalogue";
const ladder = ["full", "stale", "partial", "static", "unavailable"] as const;

/** One route under a clock of its own, and what happens around it. */
function stage(policy: Partial<RoutePolicy> & Pick<RoutePolicy, "when">) {
  const clock = virtualClock();
  const world = { breaker: "closed" as "closed" | "half-open" | "open", health: "up" as "up" | "down", full: 0, admitted: { asked: 0, declined: 0 } };
  const signals: Signals = { breaker: () => world.breaker, health: () => world.health, saturation: () => world.full, admission: () => world.admitted };
  const changes: RungChange[] = [];
  const answered: Rung[] = [];
  const policies: Policies = { version: 1, mode: "enforce", routes: { [route]: { ladder, dwell: "10s", ...policy } } };
  const guard = degradation(policies, { clock, signals, onChange: (change) => changes.push(change), onAnswer: (_route, rung) => answered.push(rung) });
  const whole: Answers<string> = { full: () => "full", stale: () => "stale", partial: () => "partial", static: () => "static" };
  const ask = async (answers: Answers<string> = whole) => (await guard.answer(route, answers)).rung;
  /** The rung at each of so many seconds. */
  const seconds = async (count: number): Promise<Rung[]> => {
    const seen: Rung[] = [];
    for (let second = 0; second < count; second++) {
      await clock.advance(1_000);
      seen.push(guard.of(route)?.rung as Rung);
    }
    return seen;
  };
  return { clock, world, signals, guard, changes, answered, policies, ask, seconds, whole };
}
const steps = (changes: readonly RungChange[]) => changes.map(({ from, to }) => `${from} → ${to}`);

test("[RES-06] a route goes down at once, past the rungs between, and up one rung for each dwell", async () => {
  const { world, ask, seconds, changes, clock } = stage({ when: [{ breaker: "prices", serve: "static" }] });
  assert.equal(await ask(), "full");

  world.breaker = "open";
  await clock.advance(100);
  assert.equal(await ask(), "static");
  assert.deepEqual(new Set(await seconds(30)), new Set(["static"]));
  world.breaker = "closed";
  const seen = await seconds(40);

  assert.deepEqual(steps(changes), ["full → static", "static → partial", "partial → stale", "stale → full"]);
  assert.deepEqual(seen.indexOf("partial"), 9, "not before it has dwelt for 10 s");
  assert.deepEqual(seen.indexOf("full"), 29);
  assert.match(changes[0]?.why as string, /breaker of prices is open/);
});

test("a breaker that is half-open holds a route down, and brings none down", async () => {
  const { world, seconds, changes } = stage({ when: [{ breaker: "prices", serve: "stale" }] });

  world.breaker = "half-open";
  await seconds(5);
  assert.deepEqual(changes, []);
  world.breaker = "open";
  await seconds(1);
  world.breaker = "half-open";
  assert.deepEqual(new Set(await seconds(60)), new Set(["stale"]));
});

test("between enter and leave a route stays where it is, however the value wavers", async () => {
  const { world, seconds, changes } = stage({ dwell: "2s", when: [{ saturation: "pool", enter: 0.9, leave: 0.7, serve: "partial" }] });

  for (let round = 0; round < 20; round++) {
    world.full = round % 2 === 0 ? 0.89 : 0.71;
    await seconds(1);
  }
  assert.deepEqual(changes, [], "never entered");
  world.full = 0.9;
  await seconds(1);
  for (let round = 0; round < 20; round++) {
    world.full = round % 2 === 0 ? 0.89 : 0.71;
    await seconds(1);
  }
  assert.deepEqual(steps(changes), ["full → partial"], "never left");
  world.full = 0.69;
  await seconds(4);
  assert.deepEqual(steps(changes), ["full → partial", "partial → stale", "stale → full"]);
});

test("a service that declines more of its requests than it may brings a route down, until it declines hardly any; few requests say nothing", async () => {
  const { world, seconds, changes } = stage({
    ladder: ["full", "static"],
    dwell: "2s",
    when: [{ admission: "shop", enter: 0.2, leave: 0.1, serve: "static" }],
  });

  world.admitted = { asked: 19, declined: 19 };
  await seconds(3);
  world.admitted = { asked: 100, declined: 19 };
  await seconds(3);
  assert.deepEqual(changes, []);
  world.admitted = { asked: 100, declined: 20 };
  assert.deepEqual(await seconds(1), ["static"]);
  world.admitted = { asked: 10, declined: 1 };
  await seconds(10);
  assert.equal(changes.length, 1, "what has entered is left at the lower value only");
  world.admitted = { asked: 0, declined: 0 };
  await seconds(3);
  assert.deepEqual(steps(changes), ["full → static", "static → full"]);
  assert.match(changes.map(({ why }) => why).join(), /shop declines 20 % of its requests/);
});

test("whoever is brought down again on the way up goes no further, and dwells anew", async () => {
  const { world, seconds, changes } = stage({ when: [{ health: "prices", serve: "static" }] });
  world.health = "down";
  await seconds(1);
  world.health = "up";
  await seconds(12);
  world.health = "down";
  await seconds(1);
  world.health = "up";

  assert.deepEqual(new Set(await seconds(9)), new Set(["static"]));
  assert.deepEqual(steps(changes), ["full → static", "static → partial", "partial → static"]);
});

test("of several triggers the lowest rung counts", async () => {
  const { world, seconds } = stage({
    when: [
      { health: "prices", serve: "stale" },
      { breaker: "prices", serve: "static" },
    ],
  });
  world.health = "down";
  world.breaker = "open";

  assert.deepEqual(await seconds(1), ["static"]);
  world.breaker = "closed";
  assert.equal((await seconds(60)).at(-1), "stale", "what the other one asks for is kept");
});

test("errors bring a route down when they burn both windows, and not when there are few or they are long gone", async () => {
  const { clock, ask, changes, guard, whole } = stage({
    when: [{ burn: "errors", objective: "99%", windows: ["10s", "60s"], calls: 10, enter: 10, leave: 1, serve: "static" }],
  });
  const failing: Answers<string> = { ...whole, full: () => Promise.reject(new Error("no")) };
  const ten = async (bad: number) => {
    for (let call = 0; call < 10; call++) await guard.answer(route, call < bad ? failing : whole).catch(() => undefined);
    await clock.advance(1_000);
  };

  for (let call = 0; call < 9; call++) await guard.answer(route, failing);
  await clock.advance(200);
  await ask();
  assert.deepEqual(changes, [], "nine answers say nothing");
  await clock.advance(120_000);
  for (let second = 0; second < 55; second++) await ten(0);
  for (let second = 0; second < 2; second++) await ten(10);
  await ask();
  assert.deepEqual(changes, [], "20 of 100 in ten seconds are twenty times the budget, and less than four times over a minute");
  for (let second = 0; second < 12; second++) await ten(10);
  await ask();

  assert.deepEqual(steps(changes), ["full → static"]);
  assert.match(changes.map(({ why }) => why).join(), /the budget of errors is spent [\d.]+ times too fast/);
});

test("slow answers burn the budget of latency, and failed ones too", async () => {
  const { clock, changes, guard, ask } = stage({
    when: [{ burn: "latency", slowerThan: "200ms", objective: "90%", windows: ["10s", "60s"], calls: 5, enter: 5, serve: "partial" }],
  });
  const takes = (ms: number): Answers<string> => ({ full: () => clock.advance(ms).then(() => "full"), partial: () => "partial" });

  for (let call = 0; call < 20; call++) await guard.answer(route, takes(200));
  assert.deepEqual(changes, [], "as long as allowed");
  for (let call = 0; call < 40; call++) await guard.answer(route, takes(201));
  await ask();

  assert.deepEqual(steps(changes), ["full → partial"]);
});

test("below full one request in each probe interval goes the whole way, and its failure is answered from below", async () => {
  const { clock, world, guard, answered } = stage({ probe: "1s", when: [{ breaker: "prices", serve: "static" }] });
  world.breaker = "open";
  await clock.advance(100);
  let whole = 0;
  const answers: Answers<string> = { full: () => (whole++, Promise.reject(new Error("still gone"))), static: () => "static" };

  for (let call = 0; call < 100; call++) {
    assert.equal((await guard.answer(route, answers)).rung, "static");
    await clock.advance(100);
  }

  assert.ok(whole >= 9 && whole <= 10, `${whole} probes in ten seconds`);
  assert.equal(answered.length, 100);
});

test("a rung that has nothing hands on to the next one below; below the last one what failed is thrown", async () => {
  const { clock, world, guard } = stage({ ladder: ["full", "stale", "partial", "static"], when: [{ breaker: "prices", serve: "stale" }] });
  world.breaker = "open";
  await clock.advance(100);
  const gone = new Error("the other handler fails too");

  assert.equal(
    (await guard.answer(route, { full: () => "full", stale: () => undefined, partial: () => Promise.reject(gone), static: () => "static" })).rung,
    "static",
  );
  assert.equal((await guard.answer(route, { full: () => "full", partial: () => "partial" })).rung, "partial");
  await assert.rejects(guard.answer(route, { full: () => "full", partial: () => Promise.reject(gone) }), (thrown) => thrown === gone);
  await assert.rejects(guard.answer(route, { full: () => "full" }), (fault) => Fault.is(fault, "degradation.unavailable"));
});

test("unavailable is a fault that says when to come back", async () => {
  const { clock, world, guard, answered } = stage({ ladder: ["full", "unavailable"], when: [{ breaker: "prices", serve: "unavailable" }] });
  world.breaker = "open";
  await clock.advance(100);

  await assert.rejects(
    guard.answer(route, { full: () => "full" }),
    (fault) => Fault.is(fault, "degradation.unavailable") && (fault.details["headers"] as Record<string, string>)["retry-after"] === "1",
  );
  assert.deepEqual(answered, ["unavailable"]);
});

test("a request that finds the whole handler failing is answered from below before any trigger holds", async () => {
  const { guard, changes } = stage({ when: [{ breaker: "prices", serve: "static" }] });
  const failure = new Error("the first to notice");

  const { rung } = await guard.answer(route, { full: () => Promise.reject(failure), stale: () => "yesterday's" });

  assert.equal(rung, "stale");
  assert.deepEqual(changes, []);
  await assert.rejects(
    guard.answer(route, { full: () => Promise.reject(failure), stale: () => "yesterday's" }, { insteadOf: () => false }),
    (thrown) => thrown === failure,
  );
});

test("a signal that throws is one of which nothing is known: the route is answered, and it is told once", async (t) => {
  const warnings = t.mock.method(process, "emitWarning", () => undefined);
  const { world, ask, clock, signals } = stage({
    when: [
      { saturation: "pool", enter: 0.5, serve: "static" },
      { breaker: "prices", serve: "stale" },
    ],
  });
  Object.assign(signals, {
    saturation: () => {
      throw new TypeError("no pool");
    },
  });

  assert.equal(await ask(), "full");
  world.breaker = "open";
  await clock.advance(100);
  assert.equal(await ask(), "stale", "the others still count");
  assert.deepEqual(
    warnings.mock.calls.map(({ arguments: [told] }) => told),
    ["degradation: the saturation of pool threw, and counts as not known: TypeError: no pool"],
  );
});

test("dark mode decides and tells, and changes no answer", async () => {
  const { clock, world, guard, changes, answered, ask } = stage({ mode: "dark", when: [{ breaker: "prices", serve: "static" }] });
  world.breaker = "open";
  await clock.advance(100);

  assert.equal(await ask(), "full");
  assert.deepEqual(
    changes.map(({ to, mode }) => `${to}, ${mode}`),
    ["static, dark"],
  );
  assert.deepEqual(answered, []);
  const failure = new Error("as without a policy");
  await assert.rejects(guard.answer(route, { full: () => Promise.reject(failure), static: () => "static" }), (thrown) => thrown === failure);
});

test("held by hand a route stays where it is put, without probes; released it comes back by itself", async () => {
  const { clock, guard, world, ask, seconds, changes } = stage({ when: [{ breaker: "prices", serve: "static" }] });

  guard.hold(route, "partial");
  for (let call = 0; call < 50; call++) {
    assert.equal(await ask(), "partial");
    await clock.advance(100);
  }
  world.breaker = "open";
  assert.equal(await ask(), "partial", "whatever is seen");
  guard.hold(route, "full");
  assert.equal(await ask(), "full");
  await assert.rejects(guard.answer(route, { full: () => Promise.reject(new Error("asked for")), static: () => "static" }));
  guard.hold(route, undefined);
  assert.deepEqual(await seconds(1), ["static"]);
  world.breaker = "closed";
  assert.equal((await seconds(31)).at(-1), "full");

  assert.equal(changes.filter(({ why }) => why === "held by hand").length, 2);
  assert.throws(
    () => guard.hold("shop.unheard", "full"),
    (fault) => Fault.is(fault, "degradation.no-such-route"),
  );
  assert.throws(
    () => guard.hold(route, "halfway" as Rung),
    (fault) => Fault.is(fault, "degradation.no-such-rung"),
  );
});

test("[RES-06] policies are replaced as a whole: what does not fit changes nothing, what fits keeps the rung and what equal triggers know", async () => {
  const { clock, guard, world, policies, ask, changes } = stage({ when: [{ breaker: "prices", serve: "static" }] });
  world.breaker = "open";
  await clock.advance(100);
  assert.equal(await ask(), "static");
  world.breaker = "half-open"; // holds only because it was open: it is the trigger that knows

  assert.throws(
    () => guard.replace({ ...policies, routes: { [route]: { ladder: ["stale", "full"], when: [] } } }),
    (fault) => Fault.is(fault, "degradation.bad-policy"),
  );
  assert.equal(await ask(), "static");
  guard.replace({ ...policies, routes: { [route]: { ladder: ["full", "static"], dwell: "1s", when: [{ breaker: "prices", serve: "static" }] } } });
  await clock.advance(5_000);
  assert.equal(await ask({ full: () => Promise.reject(new Error("gone")), static: () => "static" }), "static");
  guard.replace({ ...policies, routes: { [route]: { ladder: ["full", "stale", "unavailable"], when: [{ health: "prices", serve: "stale" }] } } });

  assert.deepEqual(steps(changes), ["full → static", "static → stale"]);
  guard.replace({ ...policies, routes: {} });
  assert.equal(guard.of(route), undefined);
  assert.equal(await ask(), "full");
});
