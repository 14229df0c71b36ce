import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { currentContext, emptyContext, Fault, inContext, seededRandom, virtualClock, whenSettled, withContext, type VirtualClock } from "../kernel/index.ts";
import {
  breaker,
  budget,
  bulkhead,
  deadline,
  hedge,
  pipeline,
  retry,
  timeout,
  type CallOptions,
  type Operation,
  type PipelineOptions,
  type Policy,
} from "./index.ts";
import { tryEnter } from "./testing/passes.ts";

const never = () => new Promise<never>(() => undefined);
const isExceeded = (thrown: unknown) => Fault.is(thrown, "deadline.exceeded");
const down = (error: Error = new Error("down")) => {
  throw error;
};

function setUp(clock: VirtualClock = virtualClock()): { clock: VirtualClock; ends: string[]; options: PipelineOptions } {
  const ends: string[] = [];
  return {
    clock,
    ends,
    options: { clock, random: seededRandom("call"), onAttempt: ({ attempt, outcome, durationMs }) => ends.push(`${attempt} ${outcome} ${durationMs}`) },
  };
}

function countControllers(t: TestContext, made: () => void): void {
  const Real = AbortController;
  globalThis.AbortController = class extends Real {
    constructor() {
      super();
      made();
    }
  };
  t.after(() => void (globalThis.AbortController = Real));
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

test("a call that succeeds is answered after one attempt", async () => {
  const { options, ends } = setUp();
  assert.equal(await pipeline(options, retry(), timeout(100))(({ attempt }) => attempt), 1);
  assert.equal(await pipeline(options)(async () => 2), 2);
  assert.deepEqual(ends, ["1 succeeded 0", "1 succeeded 0"]);
});

test("[RES-02] an attempt that hangs is over after its time, its signal aborts, and the next one begins", async () => {
  const { clock, options, ends } = setUp();
  const reasons: unknown[] = [];
  const outcome = await after(
    clock,
    pipeline(
      options,
      retry({ attempts: 2, from: 50, jitter: "none" }),
      timeout(100),
    )(({ signal }) => {
      signal.addEventListener("abort", () => reasons.push(signal.reason));
      return never();
    }),
    1_000,
  );
  assert.ok(isExceeded(outcome));
  assert.deepEqual([(outcome as Fault).details["scope"], reasons.length, reasons[1]], ["attempt", 2, outcome]);
  assert.deepEqual(ends, ["1 timed-out 100", "2 timed-out 100"]);
});

for (const bound of ["the context's deadline", "the pipeline's deadline", "the call's deadline"] as const)
  test(`[RES-02] an attempt never has more time than its call, and says how much that is: ${bound}`, async () => {
    const { clock, options, ends } = setUp();
    const left: number[] = [];
    const parts = [retry({ attempts: 9, from: 1, jitter: "none" }), timeout(100)] as const;
    const guarded = bound === "the pipeline's deadline" ? pipeline(options, deadline(130), ...parts) : pipeline(options, ...parts);
    const operation = (attempt: { readonly remainingMs: number }) => {
      left.push(attempt.remainingMs);
      return never();
    };
    const call = () => guarded(operation, bound === "the call's deadline" ? { deadlineMs: 130 } : {});
    const outcome = await after(clock, bound === "the context's deadline" ? withContext({ deadlineMs: 130 }, call) : call(), 1_000);
    assert.ok(isExceeded(outcome));
    assert.equal((outcome as Fault).details["scope"], "call");
    assert.deepEqual(
      [left, ends],
      [
        [100, 29],
        ["1 timed-out 100", "2 timed-out 29"],
      ],
    );
  });

test("the operation's own calls are bound by its attempt: deadline, signal, and that it is repeated", async () => {
  const { clock, options } = setUp();
  const guarded = pipeline(options, deadline(200), retry(), timeout(50));
  const seen: unknown[] = [];
  const look = ({ signal }: { readonly signal: AbortSignal }) => {
    const context = currentContext();
    seen.push([
      context.tenant,
      context.deadlineMs,
      context.repeated,
      context.signal === signal,
      withContext({ component: "x" }, () => currentContext().signal === signal),
    ]);
  };
  await clock.advance(1_000);
  await inContext({ ...emptyContext, tenant: "ada" }, () => guarded(look));
  await inContext({ ...emptyContext, tenant: "ada", deadlineMs: 1_010 }, () => guarded(look));
  await guarded(look);
  assert.deepEqual(seen, [
    ["ada", 1_050, true, true, true],
    ["ada", 1_010, true, true, true],
    [undefined, undefined, false, false, false],
  ]);
});

test("no attempt is made when the time is over or the caller has gone", async () => {
  const { options } = setUp();
  const reason = new Error("gone");
  let attempts = 0;
  const guarded = pipeline(options, timeout("1s"));
  await assert.rejects(
    guarded(() => attempts++, { deadlineMs: 0 }),
    isExceeded,
  );
  await assert.rejects(
    inContext({ ...emptyContext, deadlineMs: 1e9 }, () => guarded(() => attempts++, { deadlineMs: Number.NaN })),
    isExceeded,
  );
  await assert.rejects(
    guarded(() => attempts++, { signal: AbortSignal.abort(reason) }),
    reason,
  );
  await assert.rejects(
    withContext({ signal: AbortSignal.abort(reason) }, () => guarded(() => attempts++)),
    reason,
  );
  assert.equal(attempts, 0);
});

test("the caller's abort ends an attempt that does not listen, and what comes of it later disturbs nobody", async () => {
  const { clock, options, ends } = setUp();
  const caller = new AbortController();
  const reason = new Error("gone");
  let fail: (error: Error) => void = () => undefined;
  const outcome = pipeline(options, retry({ attempts: 5 }), timeout("1s"))(() => new Promise<never>((_, reject) => (fail = reject)), { signal: caller.signal });
  await clock.advance(10);
  caller.abort(reason);
  await assert.rejects(outcome, reason);
  fail(new Error("late")); // an unhandled rejection would fail this file
  await clock.advance(10_000);
  assert.deepEqual(ends, ["1 abandoned 10"]);
});

test("one attempt's time-out aborts no other call in flight", async () => {
  const { clock, options } = setUp();
  const guarded = pipeline(options, timeout(100));
  const healthy: AbortSignal[] = [];
  const hangs = guarded(never).catch((thrown: unknown) => thrown);
  await clock.advance(60);
  const others = Array.from({ length: 10 }, (_, i) =>
    guarded(({ signal }) => {
      healthy.push(signal);
      return new Promise<number>((resolve) => clock.after(90, () => resolve(i)));
    }),
  );
  await clock.advance(40);
  assert.ok(isExceeded(await hangs));
  assert.ok(healthy.every(({ aborted }) => !aborted));
  await clock.advance(50);
  assert.deepEqual(
    await Promise.all(others),
    others.map((_, i) => i),
  );
});

test("[RES-02] an attempt that timed out keeps its place until it has truly ended", async () => {
  const { clock, options } = setUp();
  const places = bulkhead({ running: 2, name: "payments" });
  const guarded = pipeline(options, timeout(100), places);
  const finish: (() => void)[] = [];
  const hangs = () => new Promise<void>((resolve) => finish.push(resolve));
  const outcomes = [guarded(hangs), guarded(hangs)].map((call) => call.catch((thrown: unknown) => thrown));

  await clock.advance(100);
  for (const outcome of await Promise.all(outcomes)) assert.ok(isExceeded(outcome));
  assert.equal(places.inFlight, 2);
  await assert.rejects(
    guarded(() => 1),
    (thrown: unknown) => Fault.is(thrown, "bulkhead.full"),
  );
  finish[0]?.();
  await clock.advance(0);
  assert.equal(places.inFlight, 1);
  assert.equal(await guarded(() => 1), 1);
});

test("what a gate declines is not tried again, and says what failed before", async () => {
  const { clock, options, ends } = setUp();
  const guarded = pipeline(options, retry({ attempts: 9, from: 10, jitter: "none" }), breaker({ clock, minimumCalls: 2 }));
  const error = new Error("down");
  let attempts = 0;
  const outcome = await after(
    clock,
    guarded(() => {
      attempts++;
      throw error;
    }),
    1_000,
  );
  assert.ok(Fault.is(outcome, "breaker.open"));
  assert.deepEqual([attempts, outcome.cause, ends], [2, error, ["1 failed 0", "2 failed 0", "3 declined 0"]]);

  await assert.rejects(
    guarded(() => 1),
    (thrown: unknown) => Fault.is(thrown, "breaker.open") && thrown.cause === undefined,
  );
});

test("a full bulkhead gives a probe's place back", async () => {
  const { clock, options } = setUp();
  const one = breaker({ clock, minimumCalls: 1, cooldown: 100 });
  const places = bulkhead({ running: 1 });
  const guarded = pipeline(options, one, places);
  await assert.rejects(guarded(() => down()));
  await clock.advance(100);
  const pass = tryEnter(places, clock);
  await assert.rejects(
    guarded(() => 1),
    (thrown: unknown) => Fault.is(thrown, "bulkhead.full"),
  );
  pass?.succeeded();
  assert.equal(places.inFlight, 0);
  assert.equal(await guarded(() => 1), 1);
  assert.equal(one.state.kind, "closed");
});

test("of any number of gates each hears of the calls that it let pass, and of no other", async () => {
  const { clock, options } = setUp();
  const breakers = [breaker({ clock, minimumCalls: 2 }), breaker({ clock, minimumCalls: 2 })] as const;
  const places = [bulkhead({ clock, running: 3 }), bulkhead({ clock, running: 1, waiting: 1, order: "fair" })] as const;
  const guarded = pipeline(options, breakers[0], places[0], breakers[1], places[1]);
  const ends: ((error?: Error) => void)[] = [];
  const hangs = () => new Promise<void>((resolve, reject) => ends.push((error) => (error ? reject(error) : resolve())));
  const seen = () => [places.map(({ inFlight }) => inFlight), breakers.map(({ state }) => state.kind)];

  const [first, waits] = [guarded(hangs), guarded(hangs)];
  await assert.rejects(guarded(hangs), (thrown: unknown) => Fault.is(thrown, "bulkhead.full"));
  assert.deepEqual(
    [ends.length, seen()],
    [
      1,
      [
        [2, 1],
        ["closed", "closed"],
      ],
    ],
  );
  ends[0]?.();
  await first;
  assert.deepEqual(
    [ends.length, seen()],
    [
      2,
      [
        [1, 1],
        ["closed", "closed"],
      ],
    ],
  );
  ends[1]?.(new Error("down"));
  await assert.rejects(waits, /down/);
  assert.deepEqual(seen(), [
    [0, 0],
    ["open", "open"],
  ]);
});

test("declining is a value for whoever asks so, and what the operation throws is thrown", async () => {
  const { clock, options } = setUp();
  const places = bulkhead({ running: 1 });
  const guarded = pipeline(options, deadline(100), places);
  assert.deepEqual(await guarded.attempt(() => 1), { ok: true, value: 1 });
  const error = new Error("x");
  await assert.rejects(
    guarded.attempt(() => down(error)),
    error,
  );
  const hangs = guarded.attempt(never);
  const full = await guarded.attempt(() => 1);
  assert.ok(!full.ok && full.refused === "bulkhead.full" && Fault.is(full.fault, "bulkhead.full"));
  await clock.advance(100);
  const late = await hangs;
  assert.ok(!late.ok && late.refused === "deadline.exceeded");
});

test("the breaker hears what the failure says about the other side", async () => {
  const stateAfter = async (
    operation: () => unknown,
    {
      parts = [],
      unwell,
      byMs = 0,
      ...call
    }: { parts?: Policy<string>[]; unwell?: (thrown: unknown) => boolean; byMs?: number; deadlineMs?: number; signal?: AbortSignal } = {},
  ) => {
    const { clock, options } = setUp();
    const one = breaker({ clock, minimumCalls: 1 });
    await after(clock, pipeline({ ...options, ...(unwell && { unwell }) }, ...parts, one)(operation, call), byMs);
    return one.state.kind;
  };
  assert.equal(await stateAfter(() => down()), "open");
  assert.equal(await stateAfter(() => down(Fault.create("external.refused", "m", "r"))), "closed", "a refusal is an answer");
  assert.equal(await stateAfter(() => down(Fault.create("external.refused", "m", "r")), { unwell: () => true }), "open");
  assert.equal(await stateAfter(() => down(), { unwell: () => false }), "closed");
  assert.equal(await stateAfter(never, { parts: [timeout(100)], deadlineMs: 50, byMs: 50 }), "open", "the caller waited half the usual time");
  assert.equal(await stateAfter(never, { parts: [timeout(100)], deadlineMs: 5, byMs: 50 }), "closed", "the caller hardly waited");
  const caller = new AbortController();
  const leaves = () => {
    caller.abort(new Error("gone"));
    return never();
  };
  assert.equal(await stateAfter(leaves, { signal: caller.signal }), "closed", "the caller went away");
  const late = new AbortController();
  const isLate = () => {
    late.abort(Fault.create("deadline.exceeded", "m", "r"));
    return never();
  };
  assert.equal(await stateAfter(isLate, { signal: late.signal }), "open", "the caller's signal aborted because time was over");
});

test("a signal asked for after its attempt was cut short has aborted already", async () => {
  const { clock, options } = setUp();
  let reason: unknown;
  const outcome = await after(
    clock,
    pipeline(options, timeout(10))((attempt) => new Promise<never>(() => clock.after(20, () => (reason = attempt.signal.reason)))),
    30,
  );
  assert.ok(isExceeded(outcome));
  assert.equal(reason, outcome);
});

test("any number of calls have one timer for each limit and one listener for each signal", async () => {
  const clock = virtualClock();
  let open = 0;
  let most = 0;
  const counted = {
    ...clock,
    after: (ms: number, task: () => void) => {
      most = Math.max(most, ++open);
      let live = true;
      const close = () => {
        if (live) open--;
        live = false;
      };
      const timer = clock.after(ms, () => {
        close();
        task();
      });
      return {
        cancel: () => {
          close();
          timer.cancel();
        },
      };
    },
  };
  const caller = new AbortController();
  const guarded = pipeline(
    { clock: counted, random: seededRandom("timers") },
    deadline(1_000),
    retry({ attempts: 3, from: 10, upTo: 10, jitter: "none" }),
    timeout(100),
  );
  const calls: Promise<unknown>[] = [];
  for (let i = 0; i < 1_000; i++) {
    calls.push(guarded(() => (i % 2 === 0 ? i : never()), { signal: caller.signal }).catch(() => undefined));
    await clock.advance(0.01);
  }
  assert.ok(most >= 1 && most <= 2, `${most} timers`);
  assert.equal(getEventListeners(caller.signal, "abort").length, 1);
  await clock.advance(10_000);
  await Promise.all(calls);
  assert.deepEqual([open, getEventListeners(caller.signal, "abort").length], [0, 1]);
});

test("a call that succeeds makes no timer and no AbortController, and looks at the clock twice at most, within a context or outside of any", async (t) => {
  const clock = virtualClock();
  let [timers, reads, controllers] = [0, 0, 0];
  const counting = {
    ...clock,
    monotonicMs: () => (reads++, clock.monotonicMs()),
    after: (ms: number, task: () => void) => (timers++, clock.after(ms, task)),
  };
  countControllers(t, () => controllers++);
  const guarded = pipeline(
    { clock: counting, random: seededRandom("counted") },
    deadline("3s"),
    retry({ budget: budget({ clock: counting }) }),
    timeout("1s"),
    breaker({ clock: counting }),
    bulkhead({ running: 64, clock: counting }),
  );
  const calls = async () => {
    for (let i = 0; i < 3_200; i++) assert.equal(await guarded(async () => i), i);
  };

  for (const context of [emptyContext, { ...emptyContext, tenant: "ada" }, { ...emptyContext, tenant: "ada", deadlineMs: 700 }]) {
    timers = reads = controllers = 0;
    await inContext(context, calls);
    assert.ok(timers <= 1, `${timers} timers for 3,200 calls`);
    assert.equal(controllers, 0);
    // One when it comes, and a bulkhead measures some of them at their end: every one until it knows that they are brief.
    assert.ok(reads <= 2 * 3_200, `${reads} looks at the clock for 3,200 calls`);
  }
});

test("a pipeline inside of another hears that the outer one is cut short, and no AbortController is made for it that nobody asked for", async (t) => {
  const { clock, options } = setUp();
  let controllers = 0;
  const outer = pipeline(options, deadline("10s"));
  const inner = pipeline(options, retry({ attempts: 2, from: "1s", jitter: "none" }), timeout("5s"));
  const inOne = pipeline(options, deadline("10s"), bulkhead({ clock, running: 9 }), retry({ attempts: 2, from: "1s", jitter: "none" }), timeout("5s"));
  const ways: (<T>(operation: Operation<T>, call: CallOptions) => Promise<T>)[] = [
    (operation, call) => inContext({ ...emptyContext, tenant: "ada" }, () => outer(() => inner(operation), call)),
    (operation, call) => inOne(operation, call),
  ];
  countControllers(t, () => controllers++);
  for (const call of ways) {
    const [caller, reason] = [new AbortController(), new Error("gone")];
    controllers = 0;
    assert.equal(await call(async ({ attempt }) => attempt, { signal: caller.signal }), 1);
    assert.equal(controllers, 0, "nobody asked for a signal");

    const told: unknown[] = [];
    const hangs = call(
      ({ signal }) => {
        signal.addEventListener("abort", () => told.push(signal.reason));
        return never();
      },
      { signal: caller.signal },
    );
    const waits = call(() => down(), { signal: caller.signal });
    assert.equal(controllers, 1, "the one that was asked for");
    await clock.advance(500);
    caller.abort(reason);
    await Promise.all([assert.rejects(hangs, reason), assert.rejects(waits, reason)]);
    assert.deepEqual(told, [reason]);
  }
});

test("who waited outside of any context does not run in that of the call that made room for it", async () => {
  const { options } = setUp();
  const guarded = pipeline(options, bulkhead({ running: 1, waiting: 2 }));
  let finish: () => void = () => undefined;
  const tenants: (string | undefined)[] = [];
  const look = () => void tenants.push(currentContext().tenant);

  const first = inContext({ ...emptyContext, tenant: "ada" }, () => guarded(() => new Promise<void>((resolve) => (finish = resolve))));
  const calls = [first, guarded(look), inContext({ ...emptyContext, tenant: "bob" }, () => guarded(look))];
  finish();
  await Promise.all(calls);
  assert.deepEqual(tenants, [undefined, "bob"]);
});

test("a context that bounds a call already is not entered anew", async () => {
  const { options } = setUp();
  const { signal } = new AbortController();
  const seen: unknown[] = [];
  const outer = { ...emptyContext, tenant: "ada", deadlineMs: 50, signal };
  const look = () => void seen.push(currentContext() === outer);
  await inContext(outer, async () => {
    await pipeline(options, breaker(), bulkhead({ running: 1 }))(look);
    await pipeline(options, deadline(1_000), breaker())(look); // further away than the context's
    await pipeline(options, deadline(10))(look);
    await pipeline(options, retry())(look);
    await pipeline(options, breaker())(look, { signal: new AbortController().signal });
  });
  assert.deepEqual(seen, [true, true, false, false, false]);
});

test("an attempt that begins in the moment in which another's time is over does not hold up the limits of others", async () => {
  const { clock, options, ends } = setUp();
  const guarded = pipeline(options, retry({ attempts: 2, from: 0, jitter: "none" }), timeout(100));
  const call = () => guarded(never).catch((thrown: unknown) => thrown);
  const calls = [call()];
  await clock.advance(50);
  calls.push(call());
  await clock.advance(101);
  assert.deepEqual(ends, ["1 timed-out 100", "1 timed-out 100"]);
  await clock.advance(200);
  for (const outcome of await Promise.all(calls)) assert.ok(isExceeded(outcome));
});

test("limits that end at any moment end within a millisecond of it, by a few timers for all of them", async () => {
  const { clock } = setUp();
  let [open, most] = [0, 0];
  const counted = {
    ...clock,
    after: (ms: number, task: () => void) => {
      most = Math.max(most, ++open);
      return clock.after(ms, () => {
        open--;
        task();
      });
    },
  };
  const guarded = pipeline({ clock: counted }, retry({ attempts: 1 }));
  const random = seededRandom("moments");
  const lateBy: number[] = [];
  for (let i = 0; i < 1_000; i++) {
    const deadlineMs = clock.monotonicMs() + random.next() * 5_000;
    void guarded(never, { deadlineMs }).catch((thrown: unknown) => {
      assert.ok(isExceeded(thrown));
      lateBy.push(clock.monotonicMs() - deadlineMs);
    });
    await clock.advance(random.next());
  }
  assert.ok(most > 5 && most <= 13, `${most} timers for 1,000 moments within 5 s`);
  await clock.advance(10_000);
  assert.deepEqual([lateBy.length, open], [1_000, 0]);
  assert.ok(
    lateBy.every((ms) => ms > -2e-3 && ms < 1),
    `${Math.min(...lateBy)} to ${Math.max(...lateBy)} ms late`,
  );
});

test("limits of one length end each at its time", async () => {
  const { clock, options } = setUp();
  const guarded = pipeline(options, deadline(100));
  const random = seededRandom("limits");
  const lateBy: number[] = [];
  for (let i = 0; i < 500; i++) {
    const fromMs = clock.monotonicMs();
    const answerAfterMs = random.next() * 200;
    void guarded(() => new Promise((resolve) => clock.after(answerAfterMs, () => resolve(undefined)))).then(
      () => assert.ok(answerAfterMs <= 100),
      () => {
        assert.ok(answerAfterMs >= 100);
        lateBy.push(clock.monotonicMs() - fromMs - 100);
      },
    );
    await clock.advance(random.next() * 10);
  }
  await clock.advance(1_000);
  assert.ok(lateBy.length > 150);
  assert.ok(
    lateBy.every((ms) => Math.abs(ms) < 1e-3),
    String(Math.max(...lateBy)),
  );
});

test("an order that may not mean what it says is told, once, and done as written", async (t) => {
  const told: string[] = [];
  const listener = (warning: Error & { code?: string }) => void (warning.code === "TRESTLE_PIPELINE_ORDER" && told.push(warning.message));
  process.on("warning", listener);
  t.after(() => process.off("warning", listener));
  const { clock, options } = setUp();
  const places = bulkhead({ running: 1 });
  const guarded = pipeline({ ...options, name: "payments" }, timeout(100), places, retry({ attempts: 3, from: 30, jitter: "none" }));
  assert.deepEqual(
    guarded.warnings.map((warning) => warning.split(" ")[0]),
    ["timeout", "bulkhead"],
  );
  assert.match(pipeline({ clock }, retry(), retry()).warnings.join(), /two retries/);
  assert.match(pipeline({ clock }, retry(), deadline(1)).warnings.join(), /say timeout/);
  assert.match(pipeline({ clock }, breaker(), bulkhead({ running: 3 }), timeout(1)).warnings.join(), /^timeout is inside of bulkhead/);
  for (const none of [pipeline({ clock }, breaker(), timeout(1)), pipeline({ clock }, bulkhead({ running: 3 }), hedge({ after: 1 }), timeout(1))])
    assert.deepEqual(none.warnings, [], "no wait is bounded");
  assert.deepEqual(pipeline({ clock }, deadline("3s"), retry(), timeout("1s"), breaker(), bulkhead({ running: 3 })).warnings, []);
  await new Promise<void>(whenSettled);
  assert.ok(told.length >= 4 && told[0]?.startsWith("payments: timeout"), told.join("\n"));

  const at: number[] = [];
  const outcome = await after(
    clock,
    guarded(() => {
      at.push(clock.monotonicMs());
      assert.equal(places.inFlight, 1);
      throw new Error("down");
    }),
    1_000,
  );
  assert.deepEqual([at, (outcome as Error).message, places.inFlight], [[0, 30, 90], "down", 0]);
});

test("what is no policy, and a limit without time, are faults that say so", () => {
  assert.throws(
    () => pipeline(retry(), (() => 1) as unknown as Policy),
    (thrown: unknown) => Fault.is(thrown, "pipeline.not-a-policy") && thrown.message.includes("part 2"),
  );
  for (const given of [[retry()], null, 5])
    assert.throws(
      () => pipeline(given as unknown as Policy),
      (thrown: unknown) => Fault.is(thrown, "pipeline.not-a-policy") && thrown.message.includes("part 1"),
    );
  for (const within of [0, -1, Number.NaN, Infinity, "soon" as "1s"])
    for (const [name, make] of Object.entries({ deadline, timeout }))
      assert.throws(
        () => make(within),
        (thrown: unknown) => Fault.is(thrown) && thrown.message.includes(name),
        `${name} ${within}`,
      );
  for (const running of [0, -1, 1.5, Number.NaN])
    assert.throws(
      () => bulkhead({ running }),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range"),
    );
});

test("what `when`, `unwell` or `onAttempt` throw is the call's answer, and other calls' limits go on", async () => {
  const clock = virtualClock();
  const broken = new TypeError("of a rule");
  const throws = (): never => {
    throw broken;
  };
  const fails = () => Promise.reject(new Error("of the operation"));
  const hangs = () => new Promise<never>(() => undefined);
  const isBroken = (thrown: unknown) => thrown === broken;
  for (const guard of [
    pipeline({ clock }, retry({ when: throws })),
    pipeline({ clock, unwell: throws }, breaker({ clock })),
    pipeline({ clock, onAttempt: throws }, retry()),
  ])
    await assert.rejects(guard(fails), isBroken);
  const guard = pipeline({ clock }, retry({ when: throws }), timeout("1s"));
  const ended = [assert.rejects(guard(hangs), isBroken), assert.rejects(guard(hangs), isBroken)];
  await clock.advance(1_000);
  await Promise.all(ended);
  const later = assert.rejects(guard(hangs), isBroken);
  await clock.advance(1_000);
  await later;
});

test("that holds at the deadline and when the caller leaves too, and what a callback threw once keeps no later limit from ending", async () => {
  const clock = virtualClock();
  let isWell = false;
  const onAttempt = () => {
    if (!isWell) throw new TypeError("of a callback");
  };
  const guard = pipeline({ clock, onAttempt }, deadline("1s"));
  const leaver = new AbortController();
  const left = assert.rejects(guard(never, { signal: leaver.signal }), TypeError);
  leaver.abort(new Error("gone"));
  await left;
  for (const expected of [TypeError, isExceeded]) {
    const late = assert.rejects(guard(never), expected);
    await clock.advance(1_000);
    await late;
    isWell = true;
  }
});

test("what a callback throws of a call that gave way while it waited is that call's answer, and not the answer of the one it gave way to", async () => {
  const clock = virtualClock();
  const onAttempt = ({ outcome }: { readonly outcome: string }) => {
    if (outcome === "declined") throw new TypeError("of a callback");
  };
  const guard = pipeline({ clock, onAttempt }, bulkhead({ clock, running: 1, waiting: 1 }));
  let end = (): void => undefined;
  const first = guard(() => new Promise<void>((resolve) => void (end = resolve)));
  const gaveWay = assert.rejects(
    guard(() => 1, { priority: "low" }),
    TypeError,
  );
  const urgent = guard(() => 2, { priority: "high" });
  await gaveWay;
  end();
  assert.deepEqual([await first, await urgent], [undefined, 2]);
});

test("a gate that throws is the call's answer, and those before it have their places back, also when it is reached out of a line", async () => {
  const clock = virtualClock();
  const places = bulkhead({ clock, running: 1, waiting: 1 });
  const broken = breaker({
    clock,
    minimumCalls: 1,
    cooldown: "1s",
    onChange: (_from, to) => {
      if (to === "half-open") throw new TypeError("of a callback");
    },
  });
  const guard = pipeline({ clock }, places, broken);
  await assert.rejects(guard(() => down()));
  let end = (): void => undefined;
  const held = pipeline({ clock }, places)(() => new Promise<void>((resolve) => void (end = resolve)));
  const waits = assert.rejects(
    guard(() => 1),
    TypeError,
  );
  await clock.advance(1_000);
  end();
  await held;
  await waits;
  assert.equal(places.inFlight, 0);
});

test("what has a `then` and is no promise holds one place, and gives it back once", async () => {
  const clock = virtualClock();
  const places = bulkhead({ clock, running: 2 });
  const guard = pipeline({ clock }, places);
  const thenOf: readonly ((answer: (value: number) => void) => void)[] = [
    () => {
      throw new Error("boom");
    },
    (answer) => {
      answer(1);
      answer(2);
    },
  ];
  for (const then of thenOf) {
    // oxlint-disable-next-line unicorn/no-thenable -- that is what is tested
    await guard((() => Object.fromEntries([["then", then]])) as never).catch(() => undefined);
    assert.equal(places.inFlight, 0);
  }
});
