/**
 * Nobody waits for a foreign transaction (FINDINGS F7): see `testing/never-skips.ts`.
 *
 * Runs alone: it bounds how long a commit takes.
 */
import assert from "node:assert/strict";
import { availableParallelism, loadavg } from "node:os";
import { test } from "node:test";
import { missing } from "@trestle/testing";
import { attack } from "./testing/never-skips.ts";

const skip = await missing("postgres", { managed: true });
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const replay = `SEED=${seed} npm test -- never-skips-latency`;

test(`[F7] while a foreign transaction stands open no commit takes longer than 250 ms, open loop (seed ${seed})`, { skip }, async (t) => {
  const report = await attack({ seed, events: 100, kills: 0, calmMs: 5_000, pauseMs: 2_000, perSecond: 10 });

  t.diagnostic(`slowest ${report.slowestMs} ms, timers late by ${report.timersLateMs} ms; ${replay}`);
  assert.deepEqual(report.violations.slice(0, 10), [], replay);
  const [load] = loadavg() as [number];
  if (report.slowestMs > 250 && (report.timersLateMs > 50 || load > availableParallelism()))
    return t.skip(`the machine is busy: load ${load.toFixed(1)}, timers late by ${report.timersLateMs} ms`);
  assert.ok(report.slowestMs <= 250, `${report.slowestMs} ms: ${replay}`);
});
