import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyContext, inContext, seededRandom, sleep, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { breaker, budget, pipeline, retry, timeout, type Policy } from "./index.ts";

/** Serves one after the other, also those whose callers have gone: what a database without deadlines does. For ten seconds it takes ten times as long. */
class Dependency {
  asked = 0;
  readonly #clock: VirtualClock;
  #freeMs = 0;
  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }
  async ask(): Promise<void> {
    this.asked++;
    const nowMs = this.#clock.monotonicMs();
    const beginsMs = Math.max(this.#freeMs, nowMs);
    this.#freeMs = beginsMs + (beginsMs >= 10_000 && beginsMs < 20_000 ? 250 : 25);
    await sleep(this.#clock, this.#freeMs - nowMs);
  }
}

interface Outcome {
  /** Calls of each layer by calls of the one before, from the dependency's trouble to the end: the clients' first. */
  readonly amplification: readonly number[];
  /** When the clients' calls succeed again, nearly all of them, after the dependency is well; `Infinity` when they never do. */
  readonly recoveredAfterMs: number;
}

/** 32 calls a second, of which the dependency can do 40, for 34 s, through three layers that know nothing of each other. */
async function storm(layer: (clock: VirtualClock, n: number) => Policy<string>): Promise<Outcome> {
  const clock = virtualClock();
  const dependency = new Dependency(clock);
  const layers = [0, 1, 2].map((n) => layer(clock, n));
  const calls = [0, 0, 0];
  const within = (n: number): Promise<void> => {
    const next = layers[n];
    if (!next) return dependency.ask();
    calls[n] = (calls[n] as number) + 1;
    // Another process each, and an old one that does not tell that it repeats.
    return inContext(emptyContext, () => next(() => within(n + 1)));
  };
  const secondsOk = new Array<number>(70).fill(0);
  let before: number[] = [];
  for (let i = 0; i < 34 * 32; i++) {
    const startedMs = clock.monotonicMs();
    if (i === 10 * 32) before = [...calls, dependency.asked];
    void within(0).then(
      () => (secondsOk[Math.floor(startedMs / 1_000)] = (secondsOk[Math.floor(startedMs / 1_000)] as number) + 1),
      () => undefined,
    );
    await clock.advance(1_000 / 32);
  }
  const during = [...calls, dependency.asked].map((count, n) => count - (before[n] as number));
  const well = secondsOk.slice(0, 32).findIndex((_, at) => at >= 20 && secondsOk.slice(at, 32).every((ok) => ok >= 31));
  return {
    amplification: during.slice(1).map((count, n) => count / (during[n] as number)),
    recoveredAfterMs: well < 0 ? Infinity : (well - 20) * 1_000,
  };
}

const options = { attempts: 3, from: 50, upTo: 500 } as const;

test("[RES-04] a retry storm through three layers: with budgets and breakers each makes at most 1.2 calls of one, and all is well within 10 s of the dependency's recovery", async () => {
  const { amplification, recoveredAfterMs } = await storm((clock, n) =>
    pipeline(
      { clock, random: seededRandom(`layer ${n}`) },
      retry({ ...options, budget: budget({ clock, share: "10%", floor: "1/s", burst: 10 }) }),
      timeout(900 - n * 200),
      breaker({ clock, cooldown: "1s", window: "5s" }),
    ),
  );
  assert.ok(
    amplification.every((times) => times <= 1.2),
    `amplification ${amplification.map((times) => times.toFixed(2)).join(", ")}`,
  );
  assert.ok(recoveredAfterMs < 10_000, `recovered after ${recoveredAfterMs} ms`);
});

test("the same without budgets and breakers: many calls of one, and it never recovers, though the dependency does", async () => {
  const { amplification, recoveredAfterMs } = await storm((clock, n) =>
    pipeline({ clock, random: seededRandom(`layer ${n}`) }, retry(options), timeout(900 - n * 200)),
  );
  assert.ok(amplification.reduce((all, times) => all * times, 1) > 4, `amplification ${amplification.map((times) => times.toFixed(2)).join(", ")}`);
  assert.equal(recoveredAfterMs, Infinity);
});
