import assert from "node:assert/strict";
import { test } from "node:test";
import { degradation } from "../degradation/index.ts";
import { Fault } from "../kernel/index.ts";
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
