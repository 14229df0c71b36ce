import assert from "node:assert/strict";
import { test } from "node:test";
import { degradation } from "../degradation/index.ts";
import { Fault, type FaultCode } from "../kernel/index.ts";
import { rateLimit, slidingLog } from "../limits/index.ts";
import { adaptiveThrottle, breaker, bulkhead, hedge, pipeline, retry, timeout, type Policy } from "../resilience/index.ts";
import { edge, guardedDispatch, guardedFetch, guardedPool, guardedRedis, problemOf, type EdgeOptions } from "./index.ts";

const nothingSaid = { get: () => null };

test("a guard that would try a handler again is a fault where the edge is made: nobody would leave the place of the second try", () => {
  for (const [kind, guard] of [
    ["retry", pipeline(retry(), timeout("1s"), bulkhead({ running: 2 }))],
    ["hedge", pipeline(hedge({ after: "10ms" }), bulkhead({ running: 2 }))],
  ] as const)
    assert.throws(
      () => edge({ guard }),
      (thrown: unknown) => Fault.is(thrown, "adapters.bad-guard") && thrown.message.includes(kind),
    );
  edge({ guard: pipeline(timeout("1s"), breaker(), bulkhead({ running: 2 })) });
});

test("what guards calls and is no policy is a fault where the adapter is made", () => {
  const pool = { connect: () => Promise.reject(new Error("not asked")) };
  const client = { getBuiltinCommands: () => ["get"] };
  for (const guard of [undefined, null, (operation: () => unknown) => operation()] as unknown as Policy[])
    for (const make of [
      () => guardedFetch(guard),
      () => guardedDispatch(guard),
      () => guardedPool(pool, guard),
      () => guardedRedis(client, guard),
      ...(guard === undefined ? [] : [() => edge({ guard })]),
    ])
      assert.throws(make, (thrown: unknown) => Fault.is(thrown, "pipeline.not-a-policy"), String(make));
});

test("what would be wrong with every request is a fault where the edge is made: of its limits a missing part, a second one of a name, a cost that never fits", () => {
  const key = () => "";
  const limit = rateLimit({ rate: "5/s" });
  const log = slidingLog({ limit: 5, window: "1s" });
  const first = { name: "a", limit, key };
  const wrong: readonly (readonly [unknown, FaultCode, RegExp])[] = [
    [null, "option.out-of-range", /edge\.limits must be a list, got object/],
    [[undefined], "adapters.bad-limit-name", /edge\.limits\[0\]: its name begins with a letter .*, got undefined/],
    [[first, { ...first, key: undefined, name: "b" }], "option.out-of-range", /edge\.limits\[1\]\.key must be a function, got undefined/],
    [[{ name: "a", key }], "option.out-of-range", /edge\.limits\[0\]\.limit\.decide must be a function, got undefined/],
    [[first, { ...first, limit: log }], "adapters.bad-limit-name", /edge\.limits\[1\]: another limit of this edge has its name, "a"/],
    [[{ ...first, cost: 6 }], "option.out-of-range", /edge\.limits\[0\]: cost must be a number from 0\.000001 to 5, got 6/],
    [[{ ...first, limit: log, cost: 1.5 }], "option.out-of-range", /cost must be an integer from 1 to 5, got 1\.5/],
  ];

  for (const [limits, code, message] of wrong)
    assert.throws(
      () => edge({ limits: limits as never }),
      (thrown: unknown) => Fault.is(thrown, code) && message.test(thrown.message),
      String(message),
    );
  assert.throws(() => edge({ tenant: "t" as never }), /edge\.tenant must be a function, got string/);
  assert.throws(() => guardedFetch(retry(), { key: "k" as never }), /guardedFetch\.key must be a function, got string/);
  assert.throws(() => guardedFetch(retry(), { clock: {} as never }), /guardedFetch\.clock\.wallMs must be a function, got undefined/);
  assert.throws(() => edge({ clock: {} as never }), /edge\.clock\.monotonicMs must be a function, got undefined/);
  assert.throws(() => guardedDispatch(retry(), { key: "k" as never }), /guardedDispatch\.key must be a function, got string/);
  assert.throws(() => guardedDispatch(retry(), { clock: {} as never }), /guardedDispatch\.clock\.wallMs must be a function, got undefined/);
  edge({ limits: [first, { ...first, name: "b", limit: log, cost: 5 }] });
  for (const nothing of [undefined, null]) edge(nothing as never);
});

test("words that an adapter does not know are faults", () => {
  assert.throws(() => edge({ callers: "trust" } as unknown as EdgeOptions<unknown>), /edge\.callers must be "trusted" or "foreign", got "trust"/);
  assert.throws(() => guardedDispatch(retry(), { until: "Head" as "head" }), /guardedDispatch\.until must be "head" or "body", got "Head"/);
});

test("what a policy declines with is an answer for its callers, and says when to come back", async () => {
  const down = () => Promise.reject(new Error("down"));
  const throttled = adaptiveThrottle({ minimumCalls: 0, rejectionMost: 1, k: 1, random: { next: () => 0, uint32: () => 0 } });
  const open = breaker({ window: { calls: 1 } });
  await Promise.allSettled([throttled(down), open(down)]);
  const ladder = { ladder: ["full", "unavailable"], hold: "unavailable", when: [{ breaker: "prices", serve: "unavailable" }] } as const;
  const guard = degradation({ version: 1, mode: "enforce", routes: { "shop.catalogue": ladder } });
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    "breaker.open": () => open(() => 1),
    "degradation.unavailable": () => guard.answer("shop.catalogue", { full: () => 1 }),
    "throttle.declined": () => throttled(down),
  };

  for (const [code, call] of Object.entries(calls)) {
    const thrown = await call().catch((fault: unknown) => fault);
    assert.ok(Fault.is(thrown, code as "breaker.open"), `${code}: ${String(thrown)}`);
    const { status, headers } = problemOf(thrown) ?? {};
    assert.equal(status, 503, code);
    assert.match(headers?.["retry-after"] ?? "", /^[1-9]\d*$/, code);
  }
});

test("a request whose guard declines it is answered, and its place is free when it has been answered", async () => {
  const places = bulkhead({ running: 1 });
  const { enter } = edge({ guard: pipeline(timeout("1s"), places) });
  const signal = new AbortController().signal;

  const first = await enter({}, nothingSaid, signal);
  const second = await enter({}, nothingSaid, signal);
  assert.ok(first.ok && !second.ok && second.answer.status === 503);
  first.leave();
  await Promise.resolve();
  assert.equal(places.inFlight, 0);
});
