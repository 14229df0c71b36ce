import assert from "node:assert/strict";
import { test } from "node:test";
import { metricsRegistry, seededRandom, virtualClock } from "../kernel/index.ts";
import { makeObserver } from "./observer.ts";

function observed() {
  const metrics = metricsRegistry();
  const clock = virtualClock();
  const observer = makeObserver({ metrics, clock, random: seededRandom("observer"), spans: { start: () => undefined } });
  const value = (name: string, labels: Readonly<Record<string, string>>) =>
    metrics.read().find((sample) => sample.name === name && Object.entries(labels).every(([label, text]) => sample.labels[label] === text));
  return { metrics, clock, observer, value };
}

test("every invocation is counted by component, operation and end, with its duration", () => {
  const { observer, value } = observed();

  for (let i = 0; i < 7; i++) observer.invoked("shop", "placeOrder", "ok", 12, 1);
  observer.invoked("shop", "placeOrder", "refused", 3, 1);
  observer.invoked("shop", "placeOrder", "fault", 2_000, 1);

  for (const [end, count] of [
    ["ok", 7],
    ["refused", 1],
    ["fault", 1],
  ] as const) {
    const sample = value("trestle_invocations_total", { component: "shop", operation: "placeOrder", end });
    assert.ok(sample?.kind === "counter" && sample.value === count, `${end}: ${JSON.stringify(sample)}`);
  }
  const duration = value("trestle_invocation_duration_seconds", { component: "shop", operation: "placeOrder" });
  assert.ok(duration?.kind === "histogram");
  assert.deepEqual([duration.count, Math.round(duration.sum * 1_000)], [9, 2_087]);
});

test("what limits decide is counted by route, limit and decision, and so are the keys for which there was no room", () => {
  const { observer, value } = observed();

  for (let i = 0; i < 3; i++) observer.limited?.("shop", "placeOrder", "caller", "admitted", i === 0 ? 1 : 0);
  observer.limited?.("shop", "placeOrder", "caller", "refused", 1);

  const count = (decision: string) => value("trestle_limit_decisions_total", { component: "shop", operation: "placeOrder", limit: "caller", decision });
  const forgotten = value("trestle_limit_keys_forgotten_total", { component: "shop", limit: "caller" });
  assert.deepEqual(
    [count("admitted"), count("refused"), forgotten].map((sample) => sample?.kind === "counter" && sample.value),
    [3, 1, 2],
  );
});

test("what becomes of requests that ask for a place is counted by priority, and the places of a service are looked at when somebody scrapes", () => {
  const { observer, value } = observed();
  let running = 0;
  observer.admits?.("shop", () => ({ running, places: 8, waiting: 2 * running, overdue: 1 }));
  observer.admission?.("shop", "high", "admitted");
  for (let i = 0; i < 2; i++) observer.admission?.("shop", "low", "displaced");
  running = 3;

  const count = (priority: string, decision: string) => value("trestle_admission_decisions_total", { component: "shop", priority, decision });
  const gauge = (what: string) => value(`trestle_admission_${what}`, { component: "shop" });
  assert.deepEqual(
    [count("high", "admitted"), count("low", "displaced"), gauge("running"), gauge("places"), gauge("waiting"), gauge("overdue")].map(
      (sample) => sample?.kind !== "histogram" && sample?.value,
    ),
    [1, 2, 3, 8, 6, 1],
  );
});

test("the worker of a queue is looked at when somebody scrapes, and shows its places among what lets work pass, and whether they are found", () => {
  const { observer, value } = observed();
  let places = 16;
  observer.works?.("mail", true, () => ({ running: 9, places, waiting: 3, overdue: 2 }));
  observer.works?.("ship", false, () => ({ running: 1, places: 16, waiting: 0, overdue: 0 }));
  places = 24;

  const gauges = ["running", "places", "waiting", "overdue"].map((what) => value(`trestle_worker_${what}`, { queue: "mail" }));
  assert.deepEqual(
    gauges.map((sample) => sample?.kind === "gauge" && sample.value),
    [9, 24, 3, 2],
  );
  assert.deepEqual(observer.observed().gates, [
    { component: "mail", gate: "jobs", decisions: {}, room: { running: 9, places: 24, waiting: 3, overdue: 2, adaptive: true } },
    { component: "ship", gate: "jobs", decisions: {}, room: { running: 1, places: 16, waiting: 0, overdue: 0 } },
  ]);
});

test("what lets calls pass shows what it decided in the last minute, how full it is and its breaker", async () => {
  const { observer, clock } = observed();
  let waiting = 0;
  observer.admits?.("shop", () => ({ running: 8, places: 8, waiting, overdue: 0 }));
  for (const priority of ["high", "low"] as const) for (let i = 0; i < 30; i++) observer.admission?.("shop", priority, "admitted");
  for (let i = 0; i < 15; i++) observer.admission?.("shop", "low", "full");
  for (const operation of ["placeOrder", "listProducts"]) for (let i = 0; i < 15; i++) observer.limited?.("shop", operation, "caller", "refused", 0);
  observer.failed?.("bank", "timing");
  observer.broke?.("bank", "closed", "open");
  observer.declined?.("bank", "breaker-open");
  waiting = 5;
  await clock.advance(30_000);

  const perSecond = (count: number) => count / 30;
  assert.deepEqual(observer.observed().gates, [
    {
      component: "shop",
      gate: "admission",
      decisions: { admitted: perSecond(60), full: perSecond(15) },
      room: { running: 8, places: 8, waiting: 5, overdue: 0 },
    },
    { component: "shop", gate: "limit caller", decisions: { refused: perSecond(30) } },
    { component: "bank", gate: "calls", decisions: { timing: perSecond(1), "breaker-open": perSecond(1) }, breaker: "open" },
  ]);

  await clock.advance(60_000);
  observer.broke?.("bank", "open", "half-open");
  const [, , bank] = observer.observed().gates;
  assert.deepEqual([bank?.decisions, bank?.breaker], [{ timing: 0, "breaker-open": 0 }, "half-open"]);
});

test("the worst number of attempts is kept beside the distribution", () => {
  const { observer, value } = observed();

  for (const attempts of [1, 1, 4, 2]) observer.invoked("fulfilment", "", "ok", 1, attempts);

  const most = value("trestle_attempts_per_commit_max", { component: "fulfilment" });
  const all = value("trestle_attempts_per_commit", { component: "fulfilment" });
  assert.ok(most?.kind === "gauge" && most.value === 4);
  assert.ok(all?.kind === "histogram" && all.count === 4 && all.sum === 8);
});

test("an edge has the rate of its use, and the failures and durations of what was waited for", async () => {
  const { observer, clock } = observed();

  for (let i = 0; i < 20; i++) observer.used("fulfilment", "payments");
  for (let i = 0; i < 10; i++) observer.called?.("fulfilment", "payments", i < 2 ? "fault" : "ok", 40);
  observer.used("shop", "orders");
  await clock.advance(10_000);

  const { edges } = observer.observed();
  const [payments, orders] = [edges.find(({ to }) => to === "payments"), edges.find(({ to }) => to === "orders")];
  assert.deepEqual([payments?.total, payments?.traffic.perSecond, payments?.traffic.faultsPerSecond], [20, 2, 0.2]);
  assert.ok((payments?.traffic.p99Ms ?? 0) > 25 && (payments?.traffic.p99Ms ?? 0) <= 50);
  assert.deepEqual(orders?.traffic, { perSecond: 0.1, refusedPerSecond: 0, faultsPerSecond: 0 });
});

test("a component that is asked from outside any handler has no edge to itself", () => {
  const { observer } = observed();

  observer.used("mail", "mail");
  observer.called?.("mail", "mail", "ok", 1);

  assert.deepEqual(observer.observed().edges, []);
});

test("operations without end are bounded: what comes after the five hundredth is counted together", () => {
  const { observer } = observed();

  for (let i = 0; i < 2_000; i++) observer.invoked("shop", `op-${i}`, "ok", 1, 1);

  const operations = observer.observed().components.get("shop")?.operations;
  assert.equal(operations?.size, 501);
  assert.equal(operations?.get("(other)")?.total, 1_500);
});

test("edges without end are bounded too", () => {
  const { observer } = observed();

  for (let i = 0; i < 6_000; i++) observer.used(`a${i}`, "b");

  const { edges } = observer.observed();
  assert.equal(edges.length, 5_001);
  assert.equal(edges.find(({ from }) => from === "(other)")?.total, 1_000);
});
