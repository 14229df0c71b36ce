import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, sleep, virtualClock } from "../kernel/index.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";
import type { Caller } from "./gate.ts";
import { bulkhead, pipeline, timeout, type AdaptiveOptions, type BulkheadOptions, type JudgedWindow } from "./index.ts";
import { callerAt, gateOf } from "./testing/passes.ts";

/** A bulkhead and an other side of which the test says how long a call takes when so many are in flight. Always more callers than places, unless said otherwise. */
function setUp(running: AdaptiveOptions = {}, options: Partial<BulkheadOptions> = { waiting: 0 }) {
  const clock = virtualClock();
  const windows: JudgedWindow[] = [];
  const one = bulkhead({
    clock,
    random: seededRandom("adaptive"),
    ...options,
    running: { onWindow: (window) => windows.push(window), ...running },
  });
  const gate = gateOf(one);
  /** Rounds in which as many calls as may, at most `most`, begin at once and end after `tookMs`. */
  const rounds = async (count: number, tookMs: (inFlight: number) => number, { most = Infinity, answer = "well" as "well" | "unwell" } = {}) => {
    for (let round = 0; round < count; round++) {
      const running: Caller[] = [];
      while (running.length < most) {
        const next = callerAt(clock.monotonicMs());
        if (gate.enter(next, clock.monotonicMs()) < 0) break;
        running.push(next);
      }
      await clock.advance(tookMs(running.length));
      for (const ended of running) gate.answered?.(ended, 0, answer);
      for (const ended of running) gate.ended?.(ended, 0);
    }
  };
  return { clock, one, windows, rounds };
}

const how = (well: boolean) => (well ? "well" : "cut");

/** Up to `knee` calls at full speed, more of them slower. */
const kneeAt = (knee: number, ms: number) => (inFlight: number) => ms * Math.max(1, inFlight / knee);

test("[RES-11] a limit grows to what the other side works on, and not far beyond", async () => {
  const { one, rounds, windows } = setUp();
  await rounds(400, kneeAt(60, 50));
  const settled = windows.slice(-50).map(({ limit }) => limit);
  assert.ok(Math.min(...settled) >= 48 && Math.max(...settled) <= 78, `it was between ${Math.min(...settled)} and ${Math.max(...settled)}`);
  assert.ok(one.running >= 48);
});

test("[RES-11] a limit sinks below a knee that has halved and comes back when the knee does", async () => {
  const { one, rounds, windows } = setUp();
  await rounds(200, kneeAt(60, 50));
  const before = windows.length;
  await rounds(100, kneeAt(30, 50));
  const sunk = windows.findIndex(({ limit }, at) => at >= before && limit <= 39) - before;
  assert.ok(sunk >= 0 && sunk <= 15, `${sunk} windows`);
  await rounds(200, kneeAt(60, 50));
  assert.ok(one.running >= 48, String(one.running));
});

test("a limit that is not in use does not grow, and is at most five times what is in flight", async () => {
  const { one, rounds } = setUp();
  await rounds(400, () => 50, { most: 8 });
  assert.equal(one.running, 10);
  const wide = setUp({ first: 500 });
  await wide.rounds(400, () => 50, { most: 8 });
  assert.equal(wide.one.running, 40);
});

test("an other side that has become slow for all numbers of calls is not given fewer for long", async () => {
  const { one, rounds } = setUp();
  await rounds(200, kneeAt(60, 50));
  await rounds(200, kneeAt(60, 200));
  assert.ok(one.running >= 48, String(one.running));
});

test("calls that time out lower the limit to its floor, whatever their number; quick failures do not", async () => {
  const { one, rounds, windows } = setUp({ least: 3 });
  await rounds(100, kneeAt(60, 50));
  await rounds(100, () => 1_000, { answer: "unwell" });
  assert.equal(one.running, 3);
  assert.ok(windows.some(({ verdict }) => verdict === "late"));

  const quick = setUp();
  await quick.rounds(100, kneeAt(60, 50));
  const before = [quick.one.running, quick.windows.length];
  await quick.rounds(1_000, () => 1, { answer: "unwell" });
  assert.deepEqual([quick.one.running, quick.windows.length], before);
});

test("[RES-11] where nothing at all was answered, the limit is back at once when something is, and what the first answers say of latency is not believed", async () => {
  const before = new AdaptiveLimit({ most: 50 });
  const back: JudgedWindow[] = [];
  const one = new AdaptiveLimit({ most: 50, onWindow: (window) => back.push(window) });
  let nowMs = 0;
  const answer = (limit: AdaptiveLimit, well: boolean, tookMs: number) => {
    limit.began(limit.limit);
    limit.wanted();
    return limit.answered(tookMs, how(well), limit.limit, (nowMs += tookMs / limit.limit));
  };
  while (one.limit < 50) answer(one, true, 100);
  // What it had only just grown to may be what it hangs of.
  for (const until = back.length + 4; back.length < until;) answer(one, true, 100);
  const [was, { baseMs }] = [one.limit, back.at(-1) as JudgedWindow];
  const hangsMs = nowMs;
  while (nowMs < hangsMs + 10_000) answer(one, false, 400);
  const sunk = one.limit;
  const { length } = back;
  // The shortest are answered first, beside calls that began while it hung.
  for (let n = 0; n < 4; n++) {
    one.answered(40, "well", sunk, (nowMs += 1));
    one.answered(400, "cut", sunk, nowMs);
  }
  assert.deepEqual(
    [back.slice(length).map(({ verdict }) => verdict), one.limit, back.at(-1)?.baseMs],
    [["back"], was, (back[length - 1] as JudgedWindow).baseMs],
  );
  assert.ok(sunk < was / 2 && Math.abs((back.at(-1)?.baseMs ?? 0) - baseMs) < 0.5 * baseMs, `${was}, ${sunk}`);

  // Some are answered while most are late: that is load, and it grows from half of what it was.
  nowMs = 0;
  while (before.limit < 50 || nowMs < 20_000) answer(before, true, 100);
  const overloaded = before.limit;
  for (let n = 0; n < 2_000 && before.limit > 1; n++) answer(before, n % 5 === 0, 400);
  for (let n = 0; n < 4; n++) before.answered(40, "well", 1, (nowMs += 500));
  assert.ok(before.limit >= 0.4 * overloaded && before.limit <= 0.5 * overloaded, `${overloaded}, ${before.limit}`);
});

test("a dozen calls that time out are enough to give fewer: what hangs is not waited for until fifty do", async () => {
  const { one, rounds } = setUp({ first: 10 });
  await rounds(3, () => 1_000, { most: 5, answer: "unwell" });
  assert.equal(one.running, 5);
});

test("[RES-11] a batch that is lost is not followed by one as large while it is found out: half of its places are not taken again; what only fails now and then gives up none", () => {
  const windows: JudgedWindow[] = [];
  const one = new AdaptiveLimit({ first: 40, most: 40, onWindow: (window) => windows.push(window) });
  let nowMs = 0;
  const answer = (well: boolean, tookMs: number, afterMs: number) => one.answered(tookMs, how(well), 40, (nowMs += afterMs));
  one.wanted();
  one.began(40);
  while (windows.length < 1) answer(true, 80, 2);
  assert.equal(one.limit, 40);
  const { length } = windows;
  for (let n = 0; n < 45; n++) assert.equal(answer(false, 400, 0.1), n % 2 === 0 && n < 40, `answer ${n} tells of a change`);
  assert.deepEqual([one.limit, windows.length], [20, length]);
  for (let n = 0; n < 50; n++) answer(false, 400, 20);
  assert.ok(one.limit <= 20 && windows.length > length);

  const now = new AdaptiveLimit({ first: 40, most: 40 });
  for (let n = 0; n < 2_000; n++) {
    now.began(40);
    now.wanted();
    now.answered(n % 4 === 3 ? 400 : 80, how(n % 4 !== 3), 40, (nowMs += 2));
    assert.ok(now.limit >= 39, `${now.limit} after ${n}`);
  }
});

test("[RES-11] what fails as quickly as others are answered is no answer: the limit sinks, however few calls go on longer", () => {
  for (const [share, afterMs] of [
    [0.95, 60],
    [0.7, 60],
    [0.95, 110],
  ] as const) {
    const random = seededRandom(`fails ${share} ${afterMs}`);
    const one = new AdaptiveLimit();
    let nowMs = 0;
    const load = (untilMs: number, failing: number) => {
      while (nowMs < untilMs) {
        nowMs += 80 / one.limit;
        one.wanted();
        one.began(one.limit);
        const fails = random.next() < failing;
        one.answered(fails ? afterMs : 40 + 80 * random.next(), fails ? "failed" : "well", one.limit, nowMs);
      }
    };
    load(10_000, 0);
    const before = one.limit;
    load(40_000, share);
    assert.ok(before > 20 && one.limit <= 2, `${share} fail after ${afterMs} ms: ${before}, then ${one.limit}`);
  }
});

test("[RES-11] calls that never end hold no more than their own places: the limit does not sink to as many as are stuck, or nothing would ever be answered again", async () => {
  for (const stuck of [1, 5]) {
    const clock = virtualClock();
    const random = seededRandom(`stuck ${stuck}`);
    const places = bulkhead({ clock, random, running: "adaptive" });
    const ask = pipeline({ clock }, timeout(400), places);
    let [left, served] = [stuck, 0];
    const call = () =>
      ask(async ({ signal }) => {
        const hangs = clock.monotonicMs() > 10_000 && clock.monotonicMs() < 40_000;
        if (hangs && left-- > 0) await new Promise(() => undefined);
        await sleep(clock, hangs ? 100_000 : 40 + 80 * random.next(), signal);
      }).then(
        () => served++,
        () => undefined,
      );
    const load = async (untilMs: number) => {
      while (clock.monotonicMs() < untilMs) {
        void call();
        await clock.advance(10);
      }
    };
    await load(45_000);
    served = 0;
    await load(55_000);
    assert.ok(served >= 900, `${stuck} stuck: ${served} of 1,000 served, ${places.inFlight} of ${places.running} in flight`);
  }
});

test("a window in which the process itself stood still is thrown away, at most three in a row", async () => {
  let delayMsMax = 0;
  const { one, rounds, windows } = setUp({ loop: () => ({ delayMsMax, utilization: 0.2 }) });
  await rounds(200, kneeAt(60, 50));
  const before = one.running;
  delayMsMax = 1_000;
  const seen = windows.length;
  await rounds(12, () => 1_000);
  assert.deepEqual(
    windows.slice(seen, seen + 3).map(({ verdict, limit }) => [verdict, limit]),
    new Array(3).fill(["stood-still", before]),
  );
  assert.notEqual(windows[seen + 3]?.verdict, "stood-still");
  const blind = setUp();
  await blind.rounds(200, kneeAt(60, 50));
  const well = blind.one.running;
  await blind.rounds(3, () => 1_000);
  assert.notEqual(blind.one.running, well, "the control knows nothing of the loop, and takes it for the other side");
});

/** As many calls as may, always: each takes what `takesMs` says, and is cut off when its caller's time is over, before or while it waits. */
function overload(
  adaptive: AdaptiveLimit,
  options: { readonly takesMs: (inFlight: number, atMs: number) => number; readonly leftMs: () => number; readonly forMs: number },
) {
  const running: { readonly beganMs: number; readonly endsMs: number; readonly well: boolean }[] = [];
  const verdicts: { readonly atMs: number; readonly limit: number }[] = [];
  let nowMs = 0;
  while (nowMs < options.forMs) {
    while (running.length < adaptive.limit) {
      adaptive.wanted();
      adaptive.began(running.length + 1, true);
      const [takesMs, leftMs] = [options.takesMs(running.length + 1, nowMs), options.leftMs()];
      running.push({ beganMs: nowMs, endsMs: nowMs + Math.min(takesMs, leftMs), well: takesMs <= leftMs });
    }
    running.sort((a, b) => b.endsMs - a.endsMs);
    const ended = running.pop() as (typeof running)[number];
    nowMs = ended.endsMs;
    if (adaptive.answered(nowMs - ended.beganMs, how(ended.well), running.length + 1, nowMs)) verdicts.push({ atMs: nowMs, limit: adaptive.limit });
  }
  return verdicts;
}

test("[RES-11] what has become three times as slow, and could do as much as before, gets what it needs within three seconds; what slows down under more calls does not", () => {
  const own: number[] = [];
  for (let seed = 0; seed < 20; seed++) {
    const random = seededRandom(`slow ${seed}`);
    const around = (ms: number) => ms * (0.5 + random.next());
    const before = (inFlight: number) => around(80 * Math.max(1, inFlight / 16));
    const slow = new AdaptiveLimit();
    overload(slow, { takesMs: (inFlight, atMs) => (atMs < 5_000 ? before(inFlight) : around(240)), leftMs: () => Infinity, forMs: 8_000 });
    own.push(slow.limit);

    const browned = new AdaptiveLimit();
    const takesMs = (inFlight: number, atMs: number) => (atMs < 5_000 ? before(inFlight) : around(80 * Math.max(1, inFlight / 8) ** 1.5));
    const limits = overload(browned, { takesMs, leftMs: () => Infinity, forMs: 15_000 });
    const most = Math.max(...limits.filter(({ atMs }) => atMs > 5_000).map(({ limit }) => limit));
    assert.ok(browned.limit <= 16 && most <= 60, `seed ${seed}: ${browned.limit} of what does half, ${most} at the most`);
  }
  own.sort((a, b) => a - b);
  assert.ok((own[5] as number) >= 24 && (own[10] as number) >= 40, `limits of what is only slow: ${own.join(", ")}`);
});

test("[RES-11] where it is never known whether fewer would be quicker, as of latency that grows with the root of the calls, a limit asks for four times what it was at most, and goes back", () => {
  let mostAsked = 0;
  for (let seed = 0; seed < 20; seed++) {
    const random = seededRandom(`asks ${seed}`);
    const around = (ms: number) => ms * (0.5 + random.next());
    let from = 0;
    let asked = 0;
    const onWindow = ({ verdict, before, limit }: JudgedWindow) => {
      if (verdict !== "ask") return void (from = 0);
      from ||= before;
      asked = Math.max(asked, limit / (from + 1));
    };
    const one = new AdaptiveLimit({ onWindow });
    const takesMs = (inFlight: number, atMs: number) => {
      const over = Math.max(1, inFlight / 16);
      return around(atMs < 5_000 ? 80 * over : 160 * Math.sqrt(over));
    };
    overload(one, { takesMs, leftMs: () => Infinity, forMs: 12_000 });
    mostAsked = Math.max(mostAsked, asked);
    assert.ok(asked <= 4 && one.limit <= 100, `seed ${seed}: it asked for ${asked.toFixed(1)} times what it was, and is ${one.limit}`);
  }
  assert.ok(mostAsked > 3, `nothing went as far as the bound: ${mostAsked.toFixed(1)}`);
});

test("[RES-11] callers with little time left when their turn comes do not lower the limit: what takes longer than they can wait is not late", () => {
  for (const seed of ["a", "b", "c", "d", "e"]) {
    const random = seededRandom(`little time ${seed}`);
    const windows: JudgedWindow[] = [];
    const one = new AdaptiveLimit({ first: 20, most: 20, onWindow: (window) => windows.push(window) });
    const took = { cut: 0, all: 0 };
    const takesMs = () => 80 * (0.5 + random.next());
    const leftMs = () => {
      const left = 20 + 200 * random.next() ** 3;
      took.all++;
      if (left < 80) took.cut++;
      return left;
    };
    overload(one, { takesMs, leftMs, forMs: 10_000 });
    assert.ok(took.cut > 0.6 * took.all, `seed ${seed}: ${took.cut} of ${took.all} cannot wait for an average call`);
    assert.deepEqual([one.limit, windows.filter(({ verdict }) => verdict === "late").length], [20, 0], `seed ${seed}`);
  }
});

test("a full event loop is given no more, and less when it stands", async () => {
  const load = { delayMsMax: 10, utilization: 1 };
  const { one, rounds, windows } = setUp({ first: 20, loop: () => load });
  await rounds(100, () => 50);
  assert.equal(one.running, 20, "without the guard it would have grown");
  assert.ok(windows.every(({ verdict }) => verdict === "loop"));
  load.delayMsMax = 150;
  await rounds(600, () => 50);
  assert.equal(one.running, 1);
});

test("the line of an adaptive bulkhead follows its limit: from two to three times as many wait, and at most three and a half times as many when it sinks", async () => {
  const follows = bulkhead({ clock: virtualClock(), random: seededRandom("follows"), running: { first: 10, most: 10 } });
  for (let i = 0; i < 30; i++) gateOf(follows).enter(callerAt(0), 0);
  assert.deepEqual([follows.inFlight, follows.waiting], [10, 20]);
  for (let i = 0; i < 500; i++) gateOf(follows).enter(callerAt(0), 0);
  assert.equal(follows.waiting, 30);
  assert.ok(follows.counts.declined.early > 0);
  assert.throws(
    () => follows.resize(4),
    (thrown: unknown) => Fault.is(thrown, "bulkhead.adaptive"),
  );

  const sinks = setUp({ first: 10 }, {});
  const held = Array.from({ length: 40 }, () => callerAt(0)).filter((caller) => gateOf(sinks.one).enter(caller, 0) === 0);
  const waited = sinks.one.waiting;
  await sinks.clock.advance(1_000);
  for (const caller of held) gateOf(sinks.one).answered?.(caller, 0, "unwell");
  assert.deepEqual([waited > 25, sinks.one.running, sinks.one.waiting], [true, 5, 17], "who is too many when it sinks hears so at once");

  const lower = setUp({ first: 10 }, {});
  await lower.rounds(3, () => 1_000, { most: 5, answer: "unwell" });
  for (let i = 0; i < 500; i++) gateOf(lower.one).enter(callerAt(lower.clock.monotonicMs()), lower.clock.monotonicMs());
  assert.deepEqual([lower.one.running, lower.one.waiting], [5, 15]);
});

test("bounds of an adaptive limit outside their range are faults that name them", () => {
  for (const [name, running] of [
    ["running.least", { least: 0 }],
    ["running.most", { least: 5, most: 4 }],
    ["running.first", { first: 2_000 }],
  ] as const)
    assert.throws(
      () => bulkhead({ running }),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && thrown.message.startsWith(`${name} `),
    );
});

test("[RES-11] with few calls too a limit that sank while nothing was answered is back within seconds", () => {
  const adaptive = new AdaptiveLimit({ most: 10 });
  let nowMs = 0;
  /** Calls of 100 ms, as many at once as may be, each of which somebody waited for. */
  const answered = (well: boolean, tookMs: number) => {
    nowMs += tookMs / adaptive.limit;
    adaptive.began(adaptive.limit);
    adaptive.wanted();
    adaptive.answered(tookMs, how(well), adaptive.limit, nowMs);
  };
  while (nowMs < 2_000) answered(true, 100);
  const fromMs = nowMs;
  while (adaptive.limit > 5) answered(false, 400);
  assert.ok(nowMs - fromMs < 2_000, `${nowMs - fromMs} ms until it is half`);
  while (adaptive.limit > 1) answered(false, 400);
  assert.ok(nowMs - fromMs < 30_000, `${nowMs - fromMs} ms until it is 1`);
  const wellMs = nowMs;
  while (adaptive.limit < 8) answered(true, 100);
  assert.ok(nowMs - wellMs < 1_000, `${nowMs - wellMs} ms until it is 8 again`);
});
