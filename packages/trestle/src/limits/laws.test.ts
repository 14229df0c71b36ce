/** The three laws, call by call, on a clock that is told what time it is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock, type Clock, type FaultCode } from "../kernel/index.ts";
import { rateLimit, slidingCounter, slidingLog, type RateLimit } from "./index.ts";

const bucket = (clock: Clock, rate = "10/s", burst = 3) => rateLimit({ rate: rate as "10/s", burst, clock, random: seededRandom("bucket") });

test("[RES-08] a bucket admits its burst at once, then one call each interval, and says how long to wait", async () => {
  const clock = virtualClock();
  const limit = bucket(clock);

  assert.deepEqual([limit.take("a"), limit.take("a"), limit.take("a")], [0, 0, 0]);
  const waitMs = limit.take("a");
  assert.ok(Math.abs(waitMs - 100) < 1e-6, `${waitMs}`);
  assert.equal(limit.take("b"), 0); // another key
  await clock.advance(99.9);
  assert.ok(limit.take("a") > 0);
  await clock.advance(0.1);
  assert.equal(limit.take("a"), 0);
  assert.ok(limit.take("a") > 0);
});

test("[RES-08] a refused call takes nothing: who waits as long as was said is admitted", async () => {
  const clock = virtualClock();
  for (const limit of [bucket(clock), slidingLog({ limit: 3, window: "1s", clock }), slidingCounter({ limit: 3, window: "1s", clock })]) {
    while (limit.take("a") === 0);
    for (let nth = 0; nth < 50; nth++) limit.take("a");
    for (let nth = 0; nth < 20; nth++) {
      const waitMs = limit.take("a");
      assert.ok(waitMs > 0);
      await clock.advance(waitMs);
      assert.equal(limit.take("a"), 0, `after ${waitMs} ms`);
      while (limit.take("a") === 0);
    }
  }
});

test("[RES-08] a wall clock that is moved by an hour, either way, changes nothing", async () => {
  const clock = virtualClock();
  for (const limit of [bucket(clock), slidingLog({ limit: 3, window: "1s", clock }), slidingCounter({ limit: 3, window: "1s", clock })]) {
    while (limit.take("a") === 0);
    const before = limit.look("a");
    clock.jumpWall(3_600_000);
    assert.deepEqual(limit.look("a"), before);
    clock.jumpWall(-7_200_000);
    assert.deepEqual(limit.look("a"), before);
  }
});

test("a decision says what is left, how long to wait, and when all is there again", async () => {
  const clock = virtualClock();
  const limit = bucket(clock);

  assert.deepEqual(limit.look("a"), { ok: true, left: 3, limit: 3, retryAfterMs: 0, resetMs: 0 });
  assert.deepEqual(limit.decide("a", 2), { ok: true, left: 1, limit: 3, retryAfterMs: 0, resetMs: 200 });
  assert.deepEqual(limit.decide("a", 2), { ok: false, left: 1, limit: 3, retryAfterMs: 100, resetMs: 200 });
  await clock.advance(50);
  assert.deepEqual(limit.look("a"), { ok: true, left: 1, limit: 3, retryAfterMs: 0, resetMs: 150 });
  const log = slidingLog({ limit: 3, window: "1s", clock });
  log.take("a");
  await clock.advance(400);
  assert.deepEqual(log.decide("a", 2), { ok: true, left: 0, limit: 3, retryAfterMs: 0, resetMs: 1_000 });
  assert.deepEqual(log.decide("a", 2), { ok: false, left: 0, limit: 3, retryAfterMs: 1_000, resetMs: 1_000 });
  assert.deepEqual(log.decide("a"), { ok: false, left: 0, limit: 3, retryAfterMs: 600, resetMs: 1_000 });
});

test("what was given back can be taken again, and no more than that", async () => {
  const clock = virtualClock();
  const log = slidingLog({ limit: 3, window: "1s", clock });
  const counter = slidingCounter({ limit: 3, window: "1s", clock });
  for (const limit of [bucket(clock), log, counter]) {
    limit.giveBack("a", 3); // nothing was taken
    limit.take("a", 3);
    limit.giveBack("a", 2);
    assert.equal(limit.look("a").left, 2);
    assert.equal(limit.take("a", 2), 0);
    assert.ok(limit.take("a") > 0);
    limit.giveBack("a", 3);
    limit.giveBack("a", 3);
    assert.equal(limit.look("a").left, 3);
  }
});

test("a time that goes back counts as the latest one, and none is counted twice", () => {
  const clock = virtualClock();
  const limit = bucket(clock);

  assert.equal(limit.take("a", 3, 1_000), 0);
  assert.ok(limit.take("a", 1, 0) > 0);
  assert.ok(limit.take("a", 1, -1e9) > 0);
  assert.equal(limit.take("a", 1, 1_100), 0);
});

test("bad input is a fault that names the option, the rule and the value", () => {
  const limit = rateLimit({ rate: "10/s", burst: 5 });
  const log = slidingLog({ limit: 5, window: "1s" });
  const wrong: readonly (readonly [RegExp, FaultCode, () => unknown])[] = [
    [/rateLimit: rate must be a rate above 0 such as "50\/s".* got undefined/, "quantity.not-a-rate", () => rateLimit({} as never)],
    [/rateLimit: rate must be .* got "NaN\/s"/, "quantity.not-a-rate", () => rateLimit({ rate: "NaN/s" as "1/s" })],
    [/rateLimit: rate must be .* got "-5\/s"/, "quantity.not-a-rate", () => rateLimit({ rate: "-5/s" })],
    [/rateLimit: rate must be .* got "0\/s"/, "quantity.not-a-rate", () => rateLimit({ rate: "0/s" })],
    [/rateLimit: rate must be .* got 5/, "quantity.not-a-rate", () => rateLimit({ rate: 5 as never })],
    [/rateLimit: rate, a second, must be a number from 1e-9 to 1000000000, got 10000000000/, "option.out-of-range", () => rateLimit({ rate: "10000000000/s" })],
    ...[NaN, Infinity, -1, 0, 0.5, 2e9, "5", null].map(
      (burst) =>
        [
          /rateLimit: burst must be a number from 1 to 1000000000, got/,
          "option.out-of-range",
          () => rateLimit({ rate: "1/s", burst: burst as number }),
        ] as const,
    ),
    ...[NaN, Infinity, -1, 0, 1.5, 1e9].map(
      (keys) => [/rateLimit: keys must be an integer from 1 to 16777216, got/, "option.out-of-range", () => rateLimit({ rate: "1/s", keys })] as const,
    ),
    ...[NaN, Infinity, -1, 0, 6, "1"].map(
      (cost) => [/a limit's cost must be a number from 0.000001 to 5, got/, "option.out-of-range", () => limit.take("a", cost as number)] as const,
    ),
    ...[NaN, Infinity, -Infinity, 1e300].map(
      (nowMs) => [/a limit's nowMs must be a number from .* got/, "option.out-of-range", () => limit.take("a", 1, nowMs)] as const,
    ),
    ...[undefined, null, 5, {}].map(
      (key) => [/a limit's key must be a text, got (undefined|null|number|object)/, "limits.key-not-a-text", () => limit.take(key as never)] as const,
    ),
    ...[NaN, 0, 1.5, -1, Infinity, undefined].map(
      (limited) =>
        [
          /slidingLog: limit must be an integer from 1 to 1000000, got/,
          "option.out-of-range",
          () => slidingLog({ limit: limited as number, window: "1s" }),
        ] as const,
    ),
    ...[undefined, null].flatMap(
      (nothing) =>
        [
          [/rateLimit: rate must be .* got undefined/, "quantity.not-a-rate", () => rateLimit(nothing as never)],
          [/slidingLog: limit must be .* got undefined/, "option.out-of-range", () => slidingLog(nothing as never)],
          [/slidingCounter: limit must be .* got undefined/, "option.out-of-range", () => slidingCounter(nothing as never)],
        ] as const,
    ),
    ...[5, {}].flatMap((clock) =>
      [() => rateLimit({ rate: "1/s", clock: clock as never }), () => slidingLog({ limit: 1, window: "1s", clock: clock as never })].map(
        (act) => [/typeof a limit's clock\.monotonicMs must be "function", got "undefined"/, "option.out-of-range", act] as const,
      ),
    ),
    [/slidingCounter: window must be milliseconds/, "quantity.not-a-duration", () => slidingCounter({ limit: 1 } as never)],
    [
      /slidingCounter: window, in milliseconds, must be a number from 1 to 31536000000, got 0/,
      "option.out-of-range",
      () => slidingCounter({ limit: 1, window: 0 }),
    ],
    [/a limit's cost must be an integer from 1 to 5, got 1.5/, "option.out-of-range", () => log.take("a", 1.5)],
    [
      /slidingLog: 1000000 keys with 1000 moments each take 16064 MB, and at most 1000 are allowed/,
      "limits.log-too-large",
      () => slidingLog({ limit: 1_000, window: "1s", keys: 1e6 }),
    ],
  ];

  for (const [message, code, act] of wrong) assert.throws(act, (thrown) => Fault.is(thrown, code) && message.test((thrown as Error).message), `${message}`);
});

test("every text is a key of its own: empty, long, of any script, with lone surrogates", () => {
  const limit: RateLimit = bucket(virtualClock());
  const keys = [
    "",
    "a",
    "aa",
    "a\0",
    "\0",
    "\0\0",
    "ä",
    "ш",
    "шш",
    "漢字",
    "\ud800",
    "x".repeat(100_000),
    `${"x".repeat(99_999)}y`,
    "abcd",
    "abcd\0",
    "ÿÿÿÿ",
    "\u0100\u0100",
  ];

  for (const key of keys) {
    assert.equal(limit.look(key).left, 3, JSON.stringify(key.slice(0, 10)));
    assert.equal(limit.take(key, 3), 0);
  }
  for (const key of keys) assert.equal(limit.look(key).left, 0);
});
