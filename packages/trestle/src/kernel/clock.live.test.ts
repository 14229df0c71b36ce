import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { sleep, systemClock, timingWheel } from "./index.ts";

test("the system clock's timers fire, never early by more than the millisecond it counts in", async () => {
  const startMs = systemClock.monotonicMs();
  const keepAlive = setTimeout(() => undefined, 5_000);
  await sleep(systemClock, 30);
  clearTimeout(keepAlive);
  assert.ok(systemClock.monotonicMs() - startMs >= 29);
});

test("what the machine has slept does not grow while it is awake", async () => {
  const before = systemClock.sleptMs?.();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const after = systemClock.sleptMs?.();
  assert.ok(before !== undefined && after !== undefined && Math.abs(after - before) < 2_000, `${before} ms, then ${after} ms`);
});

test("a timer beyond the reach of setTimeout does not fire at once", async () => {
  let fired = false;
  const timer = systemClock.after(2 ** 31 + 5, () => (fired = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  timer.cancel();
  assert.equal(fired, false);
});

test("neither a timer nor a wheel keeps a process alive", () => {
  const script = `import { systemClock, timingWheel } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
    systemClock.after(60_000, () => {}); timingWheel(systemClock).after(60_000, () => {});`;
  const run = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { timeout: 20_000 });
  assert.equal(run.status, 0, String(run.stderr));
});

test("a timing wheel over the system clock is never early", async () => {
  const wheel = timingWheel(systemClock);
  const startMs = systemClock.monotonicMs();
  const keepAlive = setTimeout(() => undefined, 5_000);
  const lateMs = await Promise.all(
    [1, 7, 63, 64, 65, 130].map((delay) => new Promise<number>((resolve) => wheel.after(delay, () => resolve(systemClock.monotonicMs() - startMs - delay)))),
  );
  clearTimeout(keepAlive);
  for (const late of lateMs) assert.ok(late >= 0, `early by ${-late} ms`);
  assert.equal(wheel.size, 0);
});
