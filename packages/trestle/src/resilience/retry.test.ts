import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, inContext, emptyContext, seededRandom, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { backoffMs, budget, pipeline, retry, type Policy, type RetryOptions } from "./index.ts";

const never = () => new Promise<never>(() => undefined);
const down = () => {
  throw new Error("down");
};

function setUp(options: RetryOptions, clock: VirtualClock = virtualClock()): { clock: VirtualClock; retried: Policy<"retry.budget-spent"> } {
  return { clock, retried: pipeline({ clock, random: seededRandom("retry") }, retry(options)) };
}

/** What a promise comes to while the clock advances. */
async function after<T>(clock: VirtualClock, promise: Promise<T>, byMs: number): Promise<unknown> {
  const settled = promise.then(
    (value) => value,
    (thrown: unknown) => thrown,
  );
  await clock.advance(byMs);
  return settled;
}

test("[RES-04] with jitter off the waits are exactly 0, 1, 2, 4 and 8 s, and there is no sixth attempt", async () => {
  const at: number[] = [];
  const error = new Error("down");
  const { clock, retried } = setUp({ attempts: 5, from: "1s", upTo: "8s", jitter: "none" });

  const outcome = await after(
    clock,
    retried(() => {
      at.push(clock.monotonicMs());
      throw error;
    }),
    60_000,
  );
  assert.equal(outcome, error);
  assert.deepEqual(
    at.map((time, i) => time - (at[i - 1] ?? 0)),
    [0, 1_000, 2_000, 4_000, 8_000],
  );
});

test("a wait is never longer than upTo, with full jitter anywhere below it, and decorrelated between from and three times the one before", () => {
  const random = seededRandom("backoff");
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 50].map((attempt) => backoffMs({ fromMs: 100, upToMs: 1_000, jitter: "none" }, attempt, random)),
    [0, 100, 200, 400, 800, 1_000, 1_000],
  );
  const waits = Array.from({ length: 10_000 }, () => backoffMs({ fromMs: 100, upToMs: 1_000, jitter: "full" }, 4, random));
  assert.ok(Math.min(...waits) < 5 && Math.max(...waits) > 395 && Math.max(...waits) < 400);
  const mean = waits.reduce((a, b) => a + b, 0) / waits.length;
  assert.ok(Math.abs(mean - 200) < 5, `mean ${mean}`);
  for (let round = 0; round < 1_000; round++) {
    let before: number | undefined;
    for (let attempt = 2; attempt < 9; attempt++) {
      const wait = backoffMs({ fromMs: 100, upToMs: 5_000, jitter: "decorrelated" }, attempt, random, before);
      assert.ok(wait >= 100 && wait <= Math.min(5_000, 3 * (before ?? 100)), `${wait} after ${before}`);
      before = wait;
    }
  }
});

for (const jitter of ["full", "decorrelated", "none"] as const)
  test(`[RES-04] 1,000 clients that failed at one instant ${jitter === "none" ? "come back together without jitter" : `do not come back together (${jitter})`}`, async () => {
    const attempts = 2;
    const { clock, retried } = setUp({ attempts, from: "1s", upTo: "8s", jitter });
    const buckets = new Array<number>(40).fill(0);
    const clients = Array.from({ length: 1_000 }, () =>
      retried(({ attempt }) => {
        const bucket = Math.floor(clock.monotonicMs() / 100);
        if (attempt === attempts) buckets[bucket] = (buckets[bucket] as number) + 1;
        throw new Error("down");
      }).catch(() => undefined),
    );
    await clock.advance(4_001);
    await Promise.all(clients);
    const used = buckets.filter((count) => count > 0).length;
    const peakOverMean = Math.max(...buckets) / (1_000 / Math.max(10, used));
    if (jitter === "none") assert.ok(peakOverMean >= 10, `${peakOverMean}`);
    else assert.ok(peakOverMean <= 2, `${peakOverMean}`);
  });

test("[RES-04] in an outage of 60 s the retries stay within the budget, and without one they do not", async () => {
  const retriesWith = async (share: `${number}%` | undefined) => {
    const clock = virtualClock();
    const { retried } = setUp({ attempts: 4, from: 100, upTo: "1s", ...(share && { budget: budget({ clock, share, floor: "1/s", burst: 10 }) }) }, clock);
    let retries = 0;
    let spent = 0;
    for (let i = 0; i < 600; i++) {
      for (let j = 0; j < 5; j++)
        void retried(({ attempt }) => {
          if (attempt > 1) retries++;
          throw new Error("down");
        }).catch((thrown: unknown) => {
          if (Fault.is(thrown, "retry.budget-spent")) spent++;
        });
      await clock.advance(100);
    }
    return { retries, spent };
  };
  const bounded = await retriesWith("20%");
  assert.ok(bounded.retries <= 10 + 0.2 * 3_000 + 60 && bounded.retries > 500, `${bounded.retries} retries`);
  assert.ok(bounded.spent > 2_000);
  assert.ok((await retriesWith(undefined)).retries > 8_000);
});

test("a budget that is spent is a fault with the failure as its cause", async () => {
  const clock = virtualClock();
  const { retried } = setUp({ attempts: 5, from: 1, budget: budget({ clock, share: "0%", floor: false, burst: 1 }) }, clock);
  const error = new Error("down");
  let attempts = 0;

  const outcome = await after(
    clock,
    retried(() => {
      attempts++;
      throw error;
    }),
    1_000,
  );
  assert.ok(Fault.is(outcome, "retry.budget-spent"));
  assert.deepEqual([outcome.cause, attempts], [error, 2]);
});

test("a budget fills by calls and by time, up to its burst, and ten tenths make one", async () => {
  const clock = virtualClock();
  const one = budget({ clock, share: "10%", floor: "2/s", burst: 3 });
  for (let i = 0; i < 3; i++) assert.equal(one.tryWithdraw(), true);
  assert.equal(one.tryWithdraw(), false);

  for (let i = 0; i < 10; i++) one.deposit();
  assert.deepEqual([one.left, one.tryWithdraw(), one.tryWithdraw()], [1, true, false]);
  await clock.advance(500);
  assert.equal(one.left, 1);
  await clock.advance(60_000);
  for (let i = 0; i < 100; i++) one.deposit();
  assert.equal(one.left, 3);
});

test("[RES-04] what is not retryable is not tried again", async () => {
  const attemptsOn = async (error: unknown, options: RetryOptions = {}, idempotent?: boolean) => {
    const { clock, retried } = setUp({ attempts: 5, ...options });
    let attempts = 0;
    const outcome = await after(
      clock,
      retried(
        () => {
          attempts++;
          throw error;
        },
        { idempotent },
      ),
      60_000,
    );
    assert.equal(outcome, error);
    return attempts;
  };
  assert.equal(await attemptsOn(new Error("x"), { when: () => false }), 1);
  assert.equal(await attemptsOn(Fault.create("external.refused", "m", "r")), 1, "a refusal is an answer");
  assert.equal(await attemptsOn(Object.assign(new Error("x"), { status: 404 })), 1);
  assert.equal(await attemptsOn(Object.assign(new Error("x"), { status: 500 })), 5);
  assert.equal(await attemptsOn(Object.assign(new Error("x"), { status: 500 }), {}, false), 1, "it may have acted, and may not be repeated");
  assert.equal(await attemptsOn(Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNRESET" } }), {}, false), 1);
  assert.equal(await attemptsOn(Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED" } }), {}, false), 5, "it never heard of it");
});

test("[RES-04] a failure that asks for a wait gets it, and one that asks for too much is not tried again", async () => {
  const at: number[] = [];
  const { clock, retried } = setUp({ attempts: 3, from: 10, upTo: 100, retryAfterMax: "5s" });
  const busy = (retryAfterMs: number) => Fault.create("external.refused", "429", "wait", { details: { retryAfterMs } });
  const asks = [3_000, 6_000];

  const outcome = await after(
    clock,
    retried(() => {
      at.push(clock.monotonicMs());
      throw busy(asks[at.length - 1] as number);
    }),
    60_000,
  );
  assert.deepEqual(at, [0, 3_000]);
  assert.equal((outcome as Fault).details["retryAfterMs"], 6_000);
});

test("[RES-04] a wait that would go beyond the deadline is not begun: the failure is thrown at once", async () => {
  const { clock, retried } = setUp({ attempts: 5, from: "1s", upTo: "8s", jitter: "none" });
  const at: number[] = [];
  const error = new Error("down");

  const outcome = retried(
    () => {
      at.push(clock.monotonicMs());
      throw error;
    },
    { deadlineMs: 3_000 },
  ).catch((thrown: unknown) => ({ thrown, atMs: clock.monotonicMs() }));
  await clock.advance(60_000);
  assert.deepEqual(at, [0, 1_000]);
  assert.deepEqual(await outcome, { thrown: error, atMs: 1_000 });
});

test("[RES-04] an abort during the wait between two attempts returns at once", async () => {
  const { clock, retried } = setUp({ attempts: 5, from: "1m", upTo: "1m", jitter: "none" });
  const caller = new AbortController();
  const reason = new Error("gone");
  const outcome = retried(down, { signal: caller.signal });

  await clock.advance(100);
  caller.abort(reason);
  await assert.rejects(outcome, reason);
  assert.equal(clock.monotonicMs(), 100);
});

test("a caller whose signal says that time was over gets that, and takes nothing out of the budget", async () => {
  const clock = virtualClock();
  const one = budget({ clock, floor: false, burst: 1 });
  const caller = new AbortController();
  const reason = Fault.create("deadline.exceeded", "m", "r");
  const { retried } = setUp({ attempts: 3, budget: one }, clock);
  await assert.rejects(
    retried(
      () => {
        caller.abort(reason);
        return never();
      },
      { signal: caller.signal },
    ),
    reason,
  );
  assert.equal(one.left, 1);
});

test("three layers that each try three times make three attempts within one context, and 7 outside of any", async () => {
  const made = async (context: boolean) => {
    const { clock, retried } = setUp({ attempts: 3, from: 1, upTo: 1 });
    let attempts = 0;
    const call = () =>
      retried(() =>
        retried(() =>
          retried(() => {
            attempts++;
            throw new Error("down");
          }),
        ),
      );
    await after(clock, context ? inContext({ ...emptyContext, correlation: "request" }, call) : call(), 1_000);
    return attempts;
  };
  assert.equal(await made(true), 3);
  assert.equal(await made(false), 7, "a first attempt outside of any context says nothing of what may follow it");
});

test("options outside their range are faults that name them", () => {
  for (const [name, make] of [
    ["retry.attempts", () => retry({ attempts: 0 })],
    ["retry.attempts", () => retry({ attempts: 1.5 })],
    ["retry.attempts", () => retry({ attempts: Infinity })],
    ["retry.from", () => retry({ from: -1 })],
    ["retry.upTo", () => retry({ upTo: Number.NaN })],
    ["retry.retryAfterMax", () => retry({ retryAfterMax: "never" as "1s" })],
    ["budget.share", () => budget({ share: "-1%" as "1%" })],
    ["budget.floor", () => budget({ floor: "0/s" })],
    ["budget.burst", () => budget({ burst: Number.NaN })],
  ] as const)
    assert.throws(make, (thrown: unknown) => Fault.is(thrown) && /^(option|quantity)\./.test(thrown.code) && thrown.message.includes(name), name);
});
