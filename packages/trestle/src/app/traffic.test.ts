import assert from "node:assert/strict";
import { test } from "node:test";
import { trafficOf, TrafficWindow } from "./traffic.ts";

test("a rate counts the last minute, and what is older leaves it", () => {
  const window = new TrafficWindow();
  for (let i = 0; i < 600; i++) window.record(i * 100, "ok", 1);

  const full = trafficOf([window], 59_999, 0);
  const later = trafficOf([window], 90_000, 0);
  const gone = trafficOf([window], 200_000, 0);

  assert.ok(Math.abs(full.perSecond - 10) < 0.1, `${full.perSecond}`);
  assert.ok(later.perSecond > 4 && later.perSecond < 6, `${later.perSecond}`);
  assert.deepEqual(gone, { perSecond: 0, refusedPerSecond: 0, faultsPerSecond: 0 });
});

test("a node that has just started does not water its rate down to a minute", () => {
  const window = new TrafficWindow();
  for (let i = 0; i < 20; i++) window.record(1_000_000 + i * 100, "ok", 1);

  assert.equal(trafficOf([window], 1_002_000, 1_000_000).perSecond, 10);
});

test("one call right after the start is not a thousand a second", () => {
  const window = new TrafficWindow();
  window.count(5);

  assert.equal(trafficOf([window], 6, 5).perSecond, 1);
});

test("ends are told apart, and durations are known within their bucket", () => {
  const window = new TrafficWindow();
  for (let i = 1; i <= 100; i++) window.record(1_000, i <= 90 ? "ok" : i <= 96 ? "refused" : "fault", i);

  const { perSecond, refusedPerSecond, faultsPerSecond, p50Ms = 0, p99Ms = 0 } = trafficOf([window], 11_000, 1_000);

  assert.deepEqual([perSecond, refusedPerSecond, faultsPerSecond], [10, 0.6, 0.4]);
  assert.ok(p50Ms >= 25 && p50Ms <= 50 && Math.abs(p50Ms - 50) <= 25, `${p50Ms}`);
  assert.ok(p99Ms > 50 && p99Ms <= 100, `${p99Ms}`);
});

test("windows of several operations come to one figure", () => {
  const [a, b] = [new TrafficWindow(), new TrafficWindow()];
  for (let i = 0; i < 50; i++) {
    a.record(2_000, "ok", 0.05);
    b.record(2_000, "ok", 200);
  }

  const { perSecond, p50Ms = 0, p99Ms = 0 } = trafficOf([a, b], 12_000, 2_000);

  assert.equal(perSecond, 10);
  assert.ok(p50Ms <= 0.1 && p99Ms > 100, `${p50Ms} ${p99Ms}`);
});

test("five seconds that come round again begin at nothing", () => {
  const window = new TrafficWindow();
  for (let i = 0; i < 100; i++) window.record(1_000, "fault", 1);
  window.record(61_000, "ok", 1);

  const { faultsPerSecond, perSecond } = trafficOf([window], 65_000, 0);

  assert.equal(faultsPerSecond, 0);
  assert.ok(perSecond > 0 && perSecond < 0.1, `${perSecond}`);
});
