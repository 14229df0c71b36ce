import assert from "node:assert/strict";
import { test } from "node:test";
import { eventLoopLoad, sleep, systemClock } from "./index.ts";

test("a loop that stands still for a while is seen to have done so, and one that is free is not", async (t) => {
  // The clock's timers keep no process alive; this one does until the test is over.
  const alive = setInterval(() => undefined, 1_000);
  t.after(() => clearInterval(alive));
  eventLoopLoad(0);
  await sleep(systemClock, 300);
  const beforeMs = systemClock.monotonicMs();
  const untilMs = beforeMs + 250;
  while (systemClock.monotonicMs() < untilMs);
  await sleep(systemClock, 300);
  const stood = eventLoopLoad(beforeMs - 1);
  assert.ok(stood.delayMsMax > 200 && stood.delayMsMax < 2_000, JSON.stringify(stood));
  assert.ok(stood.utilization > 0.3, JSON.stringify(stood));
  const afterMs = systemClock.monotonicMs();
  await sleep(systemClock, 600);
  const free = eventLoopLoad(afterMs);
  assert.ok(free.delayMsMax < stood.delayMsMax / 2 && free.utilization < stood.utilization, JSON.stringify(free));
});
