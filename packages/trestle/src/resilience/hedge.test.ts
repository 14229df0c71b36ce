import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, sleep, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { budget, bulkhead, deadline, hedge, pipeline, retry, type HedgeOptions, type Operation } from "./index.ts";

function setUp(options: HedgeOptions): {
  clock: VirtualClock;
  tries: string[];
  call: (takes: readonly number[], how?: { idempotent?: boolean; signal?: AbortSignal }) => Promise<string>;
} {
  const clock = virtualClock();
  const tries: string[] = [];
  const hedged = pipeline({ clock, random: seededRandom("hedge") }, hedge(options));
  const call = (takes: readonly number[], how = {}) =>
    hedged(async ({ hedge: n, signal }) => {
      tries.push(`${n} at ${clock.monotonicMs()}`);
      signal.addEventListener("abort", () => tries.push(`${n} aborted: ${(signal.reason as Fault).code}`));
      await sleep(clock, Math.abs(takes[n] as number), signal);
      if ((takes[n] as number) < 0) throw new Error(`try ${n}`);
      return `try ${n}`;
    }, how);
  return { clock, tries, call };
}

test("a try that takes long is joined by another, the first answer wins, and the loser's signal aborts", async () => {
  const { clock, tries, call } = setUp({ after: 50 });
  const answer = call([500, 20]);
  await clock.advance(1_000);
  assert.equal(await answer, "try 1");
  assert.deepEqual(tries, ["0 at 0", "1 at 50", "0 aborted: hedge.lost"]);

  const quick = call([49, 1]);
  await clock.advance(1_000);
  assert.equal(await quick, "try 0");
  assert.equal(tries.length, 4, "no second try");
});

test("one that fails waits for the other; when all fail the first failure is thrown", async () => {
  const { clock, tries, call } = setUp({ after: 50, tries: 3 });
  const answer = call([-60, 100, 500]);
  await clock.advance(1_000);
  assert.equal(await answer, "try 1");
  assert.deepEqual(tries.slice(0, 3), ["0 at 0", "1 at 50", "2 at 100"]);
  const failed = assert.rejects(call([-60, -100, -10]), /try 0/);
  await clock.advance(1_000);
  await failed;
  const early = assert.rejects(call([-10, 1, 1]), /try 0/); // a hedge is for what takes long, a retry for what failed
  await clock.advance(1_000);
  await early;
});

test("what may not be repeated is not hedged, and the caller's abort ends all tries", async () => {
  const { clock, tries, call } = setUp({ after: 50 });
  const once = call([500, 20], { idempotent: false });
  await clock.advance(1_000);
  assert.equal(await once, "try 0");
  assert.deepEqual(tries, ["0 at 0"]);
  const caller = new AbortController();
  const gone = assert.rejects(call([500, 500], { signal: caller.signal }), /gone/);
  await clock.advance(100);
  caller.abort(Object.assign(new Error("gone"), { code: "gone" }));
  await gone;
  await clock.advance(1_000);
  assert.deepEqual(
    tries.slice(1).map((text) => text.split(" at ")[0]),
    ["0", "1", "0 aborted: gone", "1 aborted: gone"],
  );
});

test("a percentile is of the latest answers: none is sent before it is known, then about its share is hedged", async () => {
  const { clock, tries, call } = setUp({ after: "p95", budget: budget({ share: "100%", burst: 1_000, clock: virtualClock() }) });
  const random = seededRandom("tail");
  for (let i = 0; i < 20; i++) {
    const answer = call([10 + random.next(), 1]);
    await clock.advance(100);
    await answer;
  }
  assert.ok(tries.every((text) => !text.startsWith("1 ")));
  tries.length = 0;
  const times: number[] = [];
  for (let i = 0; i < 1_000; i++) {
    const fromMs = clock.monotonicMs();
    const answer = call([random.next() < 0.03 ? 2_000 : 10 + random.next(), 10]).then(() => times.push(clock.monotonicMs() - fromMs));
    await clock.advance(2_500);
    await answer;
  }
  const hedges = tries.filter((text) => text.startsWith("1 at")).length;
  assert.ok(hedges >= 20 && hedges <= 120, `${hedges} hedges`);
  assert.ok((times.sort((a, b) => a - b)[990] as number) < 50, "p99 is that of the answers, not of the tail");
});

test("where more hang than a percentile leaves, what is usual stays what answers take", async () => {
  const clock = virtualClock();
  const random = seededRandom("hangs");
  const guarded = pipeline({ clock, random }, hedge({ after: "p95", budget: budget({ share: "100%", burst: 1_000, clock }) }));
  const times: number[] = [];
  for (let i = 0; i < 500; i++) {
    const fromMs = clock.monotonicMs();
    const hangs = i > 50 && random.next() < 0.1;
    const answer = guarded(({ hedge: n, signal }) => sleep(clock, hangs && n === 0 ? 5_000 : 10, signal)).then(() => times.push(clock.monotonicMs() - fromMs));
    await clock.advance(5_000);
    await answer;
  }

  assert.ok(Math.max(...times) < 50, `${Math.max(...times)} ms`);
});

test("a call whose first try fails while there was no place for another is told by what failed, and is tried again", async () => {
  const clock = virtualClock();
  const ends: unknown[] = [];
  const guarded = pipeline(
    { clock, random: seededRandom("shut") },
    retry({ attempts: 2, when: (thrown) => (ends.push((thrown as Error).message), true) }),
    hedge({ after: 50 }),
    bulkhead({ running: 1 }),
  );
  const answer = assert.rejects(
    guarded(() => sleep(clock, 100).then(() => Promise.reject(new Error("broken")))),
    /broken/,
  );
  await clock.advance(10_000);
  await answer;

  assert.deepEqual(ends, ["broken"]);
});

test("hedges are held to a budget, of its own or shared with retries: an overloaded service gets no second load", async () => {
  for (const shared of [undefined, budget({ share: "10%", floor: false, burst: 5, clock: virtualClock() })]) {
    const clock = virtualClock();
    let made = 0;
    const guarded = pipeline(
      { clock, random: seededRandom("budget") },
      ...(shared ? [retry({ attempts: 2, budget: shared })] : []),
      hedge({ after: 10, ...(shared && { budget: shared }) }),
    );
    for (let i = 0; i < 1_000; i++) {
      void guarded(() => (made++, sleep(clock, 1_000)));
      await clock.advance(20);
    }
    assert.ok(made >= 1_050 && made <= 1_000 + 5 + 100 + 1, `${made} tries of 1,000 calls`);
  }
});

test("each try passes the gates behind the hedge by itself, and has no more time than the call", async () => {
  const clock = virtualClock();
  const places = bulkhead({ running: 2 });
  const guarded = pipeline({ clock, random: seededRandom("gates") }, deadline(200), hedge({ after: 50 }), places);
  const left: number[] = [];
  const hangs: Operation<never> = ({ remainingMs }) => {
    left.push(remainingMs);
    return new Promise<never>(() => undefined);
  };
  const outcome = guarded(hangs).catch((thrown: unknown) => thrown);
  await clock.advance(1_000);
  assert.ok(Fault.is(await outcome, "deadline.exceeded"));
  assert.deepEqual([left, places.inFlight], [[200, 150], 2]);
  const full = await guarded.attempt(() => 1);
  assert.ok(!full.ok && full.refused === "bulkhead.full");
});

test("a try that waits for a place is not joined by another, which would only wait behind it; what it waited is no time of its answer", async () => {
  const clock = virtualClock();
  const places = bulkhead({ clock, running: 1, waiting: 30 });
  const guarded = pipeline({ clock, random: seededRandom("line") }, hedge({ after: "p50" }), places);
  const takes = (ms: number) => guarded(({ signal }) => sleep(clock, ms, signal));
  const known = Promise.all(Array.from({ length: 5 }, () => Promise.all([takes(20), takes(20), takes(20), takes(20)])));
  await clock.advance(2_000);
  await known;

  const both = Promise.all([takes(300), takes(300)]);
  await clock.advance(15);
  assert.equal(places.waiting, 1);
  await clock.advance(15);
  assert.equal(places.waiting, 2, "the first, which has its place, is joined after what is usual, 20 ms");
  await clock.advance(250);
  assert.equal(places.waiting, 2, "the second is not");
  await clock.advance(2_000);
  await both;
});

test("options outside their range are faults that name them", () => {
  for (const [name, options] of [
    ["hedge.after", undefined as never],
    ["hedge.after", { after: "soon" as "1s" }],
    ["hedge.after", { after: -1 }],
    ["hedge.tries", { after: 1, tries: 1 }],
    ["hedge.tries", { after: 1, tries: Number.NaN }],
  ] as const)
    assert.throws(
      () => hedge(options),
      (thrown: unknown) => Fault.is(thrown) && thrown.message.includes(name),
    );
});
