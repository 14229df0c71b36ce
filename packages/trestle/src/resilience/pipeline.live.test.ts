// Runs alone: it bounds by how much a call may pass its time.
import assert from "node:assert/strict";
import { request } from "node:http";
import { test } from "node:test";
import { Fault, sleep, systemClock, timingWheel } from "../kernel/index.ts";
import { breaker, pipeline, timeout } from "./index.ts";
import { listening } from "./testing/listening.ts";

/** The status of a GET on a socket of its own. Not `fetch`: its pool opens a new idle socket in place of each one that an abort closed. */
function statusOf(url: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { signal, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode as number);
    })
      .on("error", reject)
      .end();
  });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !holds(); i++) await sleep(systemClock, 10);
  assert.ok(holds(), what);
}

for (const [name, clock] of [
  ["the system clock", systemClock],
  ["a timing wheel", timingWheel(systemClock, { grainMs: 5 })],
] as const) {
  test(`[RES-02] a dependency that accepts and never answers costs its caller the timeout and no socket, and sees the abort (${name})`, async (t) => {
    let aborted = 0;
    const { url, asked, sockets } = await listening(t, (incoming) => void incoming.on("close", () => aborted++));
    const guarded = pipeline({ clock }, timeout("200ms"));

    const calls = Array.from({ length: 10 }, async () => {
      const startMs = systemClock.monotonicMs();
      const outcome = await guarded(({ signal }) => statusOf(url, signal)).catch((thrown: unknown) => thrown);
      return { outcome, tookMs: systemClock.monotonicMs() - startMs };
    });
    // How late a timer of Node's own is on this machine right now.
    const timerStartMs = systemClock.monotonicMs();
    const timerMs = new Promise<number>((resolve) => setTimeout(() => resolve(systemClock.monotonicMs() - timerStartMs), 200));
    for (const { outcome, tookMs } of await Promise.all(calls)) {
      assert.ok(Fault.is(outcome, "deadline.exceeded"), String(outcome));
      assert.ok(tookMs >= 199 && tookMs <= (await timerMs) + 50, `${tookMs} ms, a timer ${await timerMs}`);
    }
    assert.equal(asked.length, 10);
    await until("the dependency saw each abort", () => aborted === 10);
    await until("no socket is left open", () => sockets.size === 0);
  });
}

test("[RES-03] a dependency at 100 % errors is left alone, probed when the cool-down is over, and used again once healed", async (t) => {
  let healthy = false;
  const { url, asked } = await listening(t, (_, response) => void response.writeHead(healthy ? 200 : 500).end());
  const edges: string[] = [];
  const one = breaker({ clock: systemClock, minimumCalls: 10, cooldown: "300ms", probes: 2, onChange: (from, to) => edges.push(`${from}→${to}`) });
  const guarded = pipeline(timeout("5s"), one);
  const call = () =>
    guarded(async ({ signal }) => {
      const status = await statusOf(url, signal);
      if (status >= 500) throw new Error(String(status));
    }).then(
      () => "ok",
      (thrown: unknown) => (Fault.is(thrown, "breaker.open") ? "declined" : "failed"),
    );

  const lanes = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const outcomes: string[] = [];
      for (let i = 0; i < 50; i++) outcomes.push(await call());
      return outcomes;
    }),
  );
  const reached = asked.length;
  assert.ok(reached >= 10 && reached <= 10 + 4, `${reached} calls: the threshold and what was in flight`);
  assert.equal(lanes.flat().filter((outcome) => outcome === "declined").length, 200 - reached);

  await sleep(systemClock, 310);
  await Promise.all(Array.from({ length: 20 }, call));
  assert.equal(asked.length - reached, 2, "exactly the allowed probes");
  healthy = true;
  await sleep(systemClock, 310);
  assert.deepEqual(await Promise.all([call(), call()]), ["ok", "ok"]);
  assert.deepEqual(await Promise.all(Array.from({ length: 20 }, call)), new Array(20).fill("ok"));
  assert.deepEqual(edges, ["closed→open", "open→half-open", "half-open→open", "open→half-open", "half-open→closed"]);
});
