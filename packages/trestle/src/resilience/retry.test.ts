import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock } from "../kernel/index.ts";
import type { VirtualClock } from "../kernel/index.ts";
import { backoffMs, callWith, retryBudget } from "./index.ts";
import type { CallPolicy } from "./index.ts";

const never = () => new Promise<never>(() => undefined);
const always = { retryable: () => true };

function setUp(policy: Partial<CallPolicy> = {}): { clock: VirtualClock; policy: CallPolicy } {
  const clock = virtualClock();
  return { clock, policy: { clock, random: seededRandom("retry"), ...policy } };
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
  const { clock, policy } = setUp({ retry: { attempts: 5, fromMs: 1_000, upToMs: 8_000, jitter: "none" } });

  const outcome = await after(
    clock,
    callWith(
      policy,
      () => {
        at.push(clock.monotonicMs());
        throw error;
      },
      always,
    ),
    60_000,
  );
  assert.equal(outcome, error);
  assert.deepEqual(
    at.map((time, i) => time - (at[i - 1] ?? 0)),
    [0, 1_000, 2_000, 4_000, 8_000],
  );
});

test("a wait is never longer than upTo, and with full jitter anywhere below it", () => {
  const random = seededRandom("backoff");
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 50].map((attempt) => backoffMs({ fromMs: 100, upToMs: 1_000, jitter: "none" }, attempt, random)),
    [0, 100, 200, 400, 800, 1_000, 1_000],
  );
  const waits = Array.from({ length: 10_000 }, () => backoffMs({ fromMs: 100, upToMs: 1_000, jitter: "full" }, 4, random));
  assert.ok(Math.min(...waits) < 5 && Math.max(...waits) > 395 && Math.max(...waits) < 400);
  const mean = waits.reduce((a, b) => a + b, 0) / waits.length;
  assert.ok(Math.abs(mean - 200) < 5, `mean ${mean}`);
});

test("[RES-04] 1,000 clients that failed at one instant do not come back together, and without jitter they do", async () => {
  const peakOverMean = async (jitter: "full" | "none") => {
    const { clock, policy } = setUp({ random: seededRandom("herd"), retry: { attempts: 2, fromMs: 1_000, upToMs: 8_000, jitter } });
    const buckets = new Array<number>(10).fill(0);
    const clients = Array.from({ length: 1_000 }, () =>
      callWith(
        policy,
        ({ attempt }) => {
          const bucket = Math.min(9, Math.floor(clock.monotonicMs() / 100));
          if (attempt === 2) buckets[bucket] = (buckets[bucket] as number) + 1;
          throw new Error("down");
        },
        always,
      ).catch(() => undefined),
    );
    await clock.advance(1_001);
    await Promise.all(clients);
    assert.equal(
      buckets.reduce((a, b) => a + b, 0),
      1_000,
    );
    return Math.max(...buckets) / 100;
  };
  assert.ok((await peakOverMean("full")) <= 2);
  assert.ok((await peakOverMean("none")) >= 10);
});

test("[RES-04] in an outage of 60 s the retries stay within the budget, and without one they do not", async () => {
  const retriesWith = async (share: number | undefined) => {
    const clock = virtualClock();
    const budget = share === undefined ? undefined : retryBudget({ clock, share, floorPerSecond: 1, burst: 10 });
    const policy: CallPolicy = { clock, random: seededRandom("outage"), retry: { attempts: 4, fromMs: 100, upToMs: 1_000, ...(budget && { budget }) } };
    let retries = 0;
    let spent = 0;
    for (let i = 0; i < 600; i++) {
      for (let j = 0; j < 5; j++)
        void callWith(
          policy,
          ({ attempt }) => {
            if (attempt > 1) retries++;
            throw new Error("down");
          },
          always,
        ).catch((thrown: unknown) => {
          if (Fault.is(thrown, "retry.budget-spent")) spent++;
        });
      await clock.advance(100);
    }
    return { retries, spent };
  };
  const bounded = await retriesWith(0.2);
  assert.ok(bounded.retries <= 10 + 0.2 * 3_000 + 60 && bounded.retries > 500, `${bounded.retries} retries`);
  assert.ok(bounded.spent > 2_000);
  assert.ok((await retriesWith(undefined)).retries > 8_000);
});

test("a budget that is spent is a fault with the failure as its cause", async () => {
  const clock = virtualClock();
  const budget = retryBudget({ clock, share: 0, floorPerSecond: 0, burst: 1 });
  const error = new Error("down");
  const { policy } = setUp({ clock, retry: { attempts: 5, fromMs: 1, budget } });
  let attempts = 0;

  const outcome = await after(
    clock,
    callWith(
      policy,
      () => {
        attempts++;
        throw error;
      },
      always,
    ),
    1_000,
  );
  assert.ok(Fault.is(outcome, "retry.budget-spent"));
  assert.deepEqual([outcome.cause, attempts], [error, 2]);
});

test("a budget fills by calls and by time, up to its burst, and ten tenths make one", async () => {
  const clock = virtualClock();
  const budget = retryBudget({ clock, share: 0.1, floorPerSecond: 2, burst: 3 });
  for (let i = 0; i < 3; i++) assert.equal(budget.tryWithdraw(), true);
  assert.equal(budget.tryWithdraw(), false);

  for (let i = 0; i < 10; i++) budget.deposit();
  assert.deepEqual([budget.left, budget.tryWithdraw(), budget.tryWithdraw()], [1, true, false]);
  await clock.advance(500);
  assert.equal(budget.left, 1);
  await clock.advance(60_000);
  for (let i = 0; i < 100; i++) budget.deposit();
  assert.equal(budget.left, 3);
});

test("[RES-04] what is not retryable is not tried again", async () => {
  const { clock, policy } = setUp({ retry: { attempts: 5 } });
  const error = new Error("bad request");
  let attempts = 0;
  assert.equal(
    await after(
      clock,
      callWith(
        policy,
        () => {
          attempts++;
          throw error;
        },
        { retryable: () => false },
      ),
      60_000,
    ),
    error,
  );
  assert.equal(attempts, 1);
});

test("[RES-04] a failure that asks for a wait gets it, and one that asks for too much is not tried again", async () => {
  const at: number[] = [];
  const { clock, policy } = setUp({ retry: { attempts: 3, fromMs: 10, upToMs: 100, retryAfterMsMax: 5_000 } });
  const busy = (retryAfterMs: number) => Fault.create("external.refused", "429", "wait", { details: { retryAfterMs } });
  const asks = [3_000, 6_000];

  const outcome = await after(
    clock,
    callWith(
      policy,
      () => {
        at.push(clock.monotonicMs());
        throw busy(asks[at.length - 1] as number);
      },
      always,
    ),
    60_000,
  );
  assert.deepEqual(at, [0, 3_000]);
  assert.equal((outcome as Fault).details["retryAfterMs"], 6_000);
});

test("[RES-04] a wait that would go beyond the deadline is not begun: the failure is thrown at once", async () => {
  const { clock, policy } = setUp({ retry: { attempts: 5, fromMs: 1_000, upToMs: 8_000, jitter: "none" } });
  const at: number[] = [];
  const error = new Error("down");

  const outcome = callWith(
    policy,
    () => {
      at.push(clock.monotonicMs());
      throw error;
    },
    { ...always, deadlineMs: 3_000 },
  ).catch((thrown: unknown) => ({ thrown, atMs: clock.monotonicMs() }));
  await clock.advance(60_000);
  assert.deepEqual(at, [0, 1_000]);
  assert.deepEqual(await outcome, { thrown: error, atMs: 1_000 });
});

test("[RES-04] an abort during the wait between two attempts returns at once", async () => {
  const { clock, policy } = setUp({ retry: { attempts: 5, fromMs: 60_000, upToMs: 60_000, jitter: "none" } });
  const caller = new AbortController();
  const reason = new Error("gone");
  const outcome = callWith(
    policy,
    () => {
      throw new Error("down");
    },
    { ...always, signal: caller.signal },
  );

  await clock.advance(100);
  caller.abort(reason);
  await assert.rejects(outcome, reason);
  assert.equal(clock.monotonicMs(), 100);
  assert.equal(getEventListeners(caller.signal, "abort").length, 0);
});

test("a caller whose signal says that time was over gets that, and takes nothing out of the budget", async () => {
  const clock = virtualClock();
  const budget = retryBudget({ clock, floorPerSecond: 0, burst: 1 });
  const caller = new AbortController();
  const reason = Fault.create("deadline.exceeded", "m", "r");
  const { policy } = setUp({ clock, retry: { attempts: 3, budget } });
  await assert.rejects(
    callWith(
      policy,
      () => {
        caller.abort(reason);
        return never();
      },
      { ...always, signal: caller.signal },
    ),
    reason,
  );
  assert.equal(budget.left, 1);
});
