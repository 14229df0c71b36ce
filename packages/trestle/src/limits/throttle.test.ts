/** throttle, as a gate by itself under random schedules, and in a pipeline. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, sleep, virtualClock, type Clock } from "../kernel/index.ts";
import { bulkhead, declined, pipeline, waits, type Caller } from "../resilience/index.ts";
import { callerAt, gateOf } from "../resilience/testing/passes.ts";
import { throttle, type ThrottleOptions } from "./index.ts";

/** How many timers are set. */
function counting(clock: Clock): Clock & { readonly timers: number } {
  let timers = 0;
  return {
    wallMs: () => clock.wallMs(),
    monotonicMs: () => clock.monotonicMs(),
    soon: (task) => clock.soon(task),
    after: (delayMs, task, options) => {
      timers++;
      let isSet = true;
      const over = () => {
        if (isSet) timers--;
        isSet = false;
      };
      const timer = clock.after(
        delayMs,
        () => {
          over();
          task();
        },
        options,
      );
      return {
        cancel: () => {
          over();
          timer.cancel();
        },
      };
    },
    get timers() {
      return timers;
    },
  };
}

test("whatever comes, no window has more than burst + rate * t; each waits in its order, no longer than was said, and is answered once; two timers for all", async () => {
  const base = Number(process.env["SEED"] ?? 1);
  let [waited, gone, refused, neverPays] = [0, 0, 0, 0];
  for (let seed = base; seed < base + (process.env["SEED"] ? 1 : 60); seed++) {
    const said = `SEED=${seed} npm test -- limits/throttle`;
    const random = seededRandom(`throttle ${seed}`);
    const integer = (least: number, most: number) => least + Math.floor(random.next() * (most - least + 1));
    const virtual = virtualClock();
    const clock = counting(virtual);
    const [perMs, burst, waitMs] = [integer(50, 1_000) / 1_000, 1 + integer(0, 9), 20 + integer(0, 400)];
    const one = throttle({ rate: `${perMs * 1_000}/s`, burst, wait: waitMs, waiting: 50, clock, random });
    const gate = gateOf(one);
    const admitted: { readonly atMs: number; readonly cost: number }[] = [];
    const orders = { high: -1, normal: -1, low: -1 };
    const waiting = new Set<Caller>();
    const wrongCosts = [0, -1, NaN, Infinity];
    let answers = 0;
    let callers = 0;
    const pass = (cost: number) => void admitted.push({ atMs: clock.monotonicMs(), cost });
    for (let step = 0; step < 300; step++) {
      for (let each = integer(0, 3); each > 0; each--) {
        const nth = callers++;
        const nowMs = clock.monotonicMs();
        const priority = (["high", "normal", "low"] as const)[integer(0, 2)] as "high" | "normal" | "low";
        const cost = random.next() < 0.7 ? 1 : (wrongCosts[integer(0, 39)] ?? 0.5 + random.next() * 12);
        const untilMs = random.next() < 0.3 ? nowMs + random.next() * 300 : Infinity;
        const caller: Caller = callerAt(nowMs, {
          priority,
          cost,
          untilMs,
          admitted: (token) => {
            answers++;
            waiting.delete(caller);
            assert.equal(token, 0);
            assert.ok(clock.monotonicMs() - nowMs <= waitMs + 1e-6 && clock.monotonicMs() <= untilMs, said);
            assert.ok(nth > orders[priority], `${said}: ${nth} after ${orders[priority]}`);
            orders[priority] = nth;
            pass(cost);
          },
          declined: () => {
            answers++;
            refused++;
            waiting.delete(caller);
          },
        });
        const token = gate.enter(caller, nowMs);
        if (token === waits) {
          waited++;
          waiting.add(caller);
        } else {
          answers++;
          if (token === 0) pass(cost);
          else {
            assert.equal(token, declined);
            const { code, details } = gate.fault(caller, nowMs);
            assert.equal(code, cost > 0 && cost <= burst ? "limiter.exceeded" : "option.out-of-range", said);
            if (code === "limiter.exceeded") assert.ok((details as { readonly retryAfterMs: number }).retryAfterMs >= 1, said);
            else neverPays++;
          }
        }
      }
      // Those whose deadline is over are taken out by the pipeline; others are aborted.
      for (const caller of waiting)
        if (caller.untilMs <= clock.monotonicMs() || random.next() < 0.01) {
          gone++;
          answers++;
          waiting.delete(caller);
          gate.leave?.(caller, clock.monotonicMs());
        }
      assert.equal(one.waitingCalls, waiting.size, said);
      assert.ok(clock.timers <= 2, `${said}: ${clock.timers} timers`);
      await virtual.advance(random.next() * 10);
    }
    await virtual.advance(1_000);
    for (const caller of waiting) {
      assert.ok(caller.untilMs <= clock.monotonicMs(), said);
      gate.leave?.(caller, clock.monotonicMs());
      answers++;
    }
    assert.deepEqual([answers, one.waitingCalls, clock.timers], [callers, 0, 0], said);

    let [level, atMs] = [0, 0];
    for (const each of admitted) {
      level = Math.max(0, level - (each.atMs - atMs) * perMs) + each.cost;
      atMs = each.atMs;
      assert.ok(level <= burst + 1e-5, `${said}: ${level} of ${burst} at ${atMs}`);
    }
  }
  if (!process.env["SEED"])
    assert.ok(
      waited > 1_000 && gone > 100 && refused > 20 && neverPays > 1_000,
      `${waited} waited, ${gone} left, ${refused} waited too long, ${neverPays} cost too much`,
    );
});

function setUp(options: Omit<ThrottleOptions, "clock">) {
  const clock = virtualClock();
  const one = throttle({ clock, name: "payments", ...options });
  const calls = pipeline({ clock }, one);
  const passed: string[] = [];
  const call = (name: string, how: Parameters<typeof calls>[1] = {}): Promise<string> =>
    calls(() => {
      passed.push(`${name} ${Math.round(clock.monotonicMs())}`);
      return name;
    }, how).catch((thrown: unknown) =>
      Fault.is(thrown) ? `${thrown.code} ${String((thrown.details as { readonly retryAfterMs?: number } | undefined)?.retryAfterMs)}` : String(thrown),
    );
  return { clock, one, call, passed };
}

test("without `wait` a call that finds no token is declined, told when to come, and admitted then", async () => {
  const { clock, call } = setUp({ rate: "10/s", burst: 2 });

  assert.deepEqual([await call("a"), await call("b"), await call("c")], ["a", "b", "limiter.exceeded 100"]);
  await clock.advance(100);
  assert.deepEqual([await call("d"), await call("e", { cost: 2 })], ["d", "limiter.exceeded 200"]);
});

test("a cost that no bucket holds is a named fault, whoever waits, and nobody waits for it; gates before it hear of it", async () => {
  const { clock, one, call, passed } = setUp({ rate: "10/s", burst: 2, wait: "5s" });
  const wrong = (name: string) => [0, -1, NaN, 2.1, Infinity].map((cost) => call(name, { cost }));
  const declined = Array.from({ length: 5 }, () => "option.out-of-range undefined");

  assert.deepEqual(await Promise.all(wrong("nobody waits")), declined);
  const asked = [call("a", { cost: 2 }), call("b")];
  assert.deepEqual(await Promise.all(wrong("b waits")), declined);
  asked.push(call("c"));
  await clock.advance(1_000);
  assert.deepEqual(await Promise.all(asked), ["a", "b", "c"]);
  assert.deepEqual([...passed, one.waitingCalls], ["a 0", "b 100", "c 200", 0]);

  const [first, places] = [throttle({ rate: "10/s", burst: 2, wait: "5s", clock }), bulkhead({ running: 1, clock })];
  const small = throttle({ rate: "10/s", burst: 1, clock, name: "small" });
  const behind = pipeline({ clock }, first, places, small);
  await behind(() => "takes a place");
  const both = [behind(() => "too much", { cost: 2 }), behind(() => "in time")].map((said) => said.catch((fault: Fault) => fault.message));
  await clock.advance(1_000);
  assert.deepEqual(await Promise.all(both), ["small: cost must be a number from 0.000001 to 1, got 2", "in time"]);
});

test("who is let pass and throws is not the others' affair", async () => {
  const clock = virtualClock();
  const one = throttle({ rate: "10/s", burst: 1, wait: "5s", clock });
  const gate = gateOf(one);
  let passed = 0;
  const enter = (admitted: () => void) => gate.enter(callerAt(clock.monotonicMs(), { admitted }), clock.monotonicMs());
  assert.equal(
    enter(() => undefined),
    0,
  );
  enter(() => assert.fail("broken"));
  enter(() => passed++);
  enter(() => passed++);

  await assert.rejects(clock.advance(100), /broken/);
  await clock.advance(1_000);
  assert.deepEqual([passed, one.waitingCalls], [2, 0]);
});

test("calls that wait go out at the rate, the urgent first; who leaves makes room, and who would wait in vain is told at once", async () => {
  const { clock, one, call, passed } = setUp({ rate: "10/s", burst: 1, wait: "400ms" });
  const leaving = new AbortController();

  const asked = [call("a"), call("b"), call("c", { signal: leaving.signal }), call("d"), call("urgent", { priority: "high" })];
  const inVain = [call("late", { deadlineMs: 250 }), call("behind", { priority: "low" })];
  assert.deepEqual(await Promise.all(inVain), ["limiter.exceeded 500", "limiter.exceeded 500"]);
  assert.equal(one.waitingCalls, 4);
  await clock.advance(150);
  leaving.abort("enough");
  await clock.advance(1_000);

  assert.deepEqual(await Promise.all(asked), ["a", "b", "enough", "d", "urgent"]);
  assert.deepEqual(passed, ["a 0", "b 100", "urgent 200", "d 300"]);
  assert.equal(one.waitingCalls, 0);
});

test("whose deadline comes while urgent ones pass before it is answered then, and the next one goes on", async () => {
  const { clock, call, passed } = setUp({ rate: "10/s", burst: 1, wait: "10s" });

  const asked = [call("a"), call("b"), call("c", { deadlineMs: 250 }), call("d")];
  const urgent = ["x", "y"].map((name) => call(name, { priority: "high" }));
  await clock.advance(2_000);

  assert.deepEqual(await Promise.all([...asked, ...urgent]), ["a", "b", "deadline.exceeded undefined", "d", "x", "y"]);
  assert.deepEqual(passed, ["a 0", "b 100", "x 200", "y 300", "d 400"]);
});

test("`per` key: each has its own bucket and line", async () => {
  const { clock, call, passed } = setUp({ rate: "10/s", burst: 1, wait: "1s", per: "key" });

  const asked = ["a", "a", "b", "b", "b"].map((key) => call(key, { key }));
  await clock.advance(1_000);
  await Promise.all(asked);

  assert.deepEqual(passed, ["a 0", "b 0", "a 100", "b 100", "b 200"]);
});

test("a limit of operations that take long is not held by them, and one that fails has used its token", async () => {
  const clock = virtualClock();
  const paced = pipeline({ clock }, throttle({ rate: "10/s", burst: 1, wait: "1s", clock }));
  const begun: number[] = [];
  const slow = () =>
    paced(async () => {
      begun.push(clock.monotonicMs());
      await sleep(clock, 500);
      throw new Error("failed");
    }).catch(() => undefined);

  const all = [slow(), slow(), slow()];
  await clock.advance(2_000);
  await Promise.all(all);

  assert.deepEqual(begun.map(Math.round), [0, 100, 200]);
});

test("what is wrong with a throttle is said where it is made", () => {
  assert.throws(() => throttle({ rate: "0/s", name: "mails" }), /mails: rate must be a rate above 0/);
  for (const nothing of [undefined, null]) assert.throws(() => throttle(nothing as never), /throttle: rate must be a rate above 0 .* got undefined/);
  assert.throws(() => throttle({ rate: "1/s", clock: {} as never }), /typeof a limit's clock\.monotonicMs must be "function", got "undefined"/);
  assert.throws(() => throttle({ rate: "1/s", burst: 0 }), /throttle: burst must be a number from 1/);
  assert.throws(() => throttle({ rate: "1/s", wait: 0 }), /throttle: wait, in milliseconds, must be a number from 1 to 86400000/);
  assert.throws(() => throttle({ rate: "1/s", waiting: 0.5 }), /throttle: waiting must be/);
  assert.throws(() => throttle({ rate: "1/s", per: "tenant" as "key" }), /throttle: per must be "key", got "tenant"/);
});
