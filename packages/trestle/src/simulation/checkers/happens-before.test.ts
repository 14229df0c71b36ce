import assert from "node:assert/strict";
import { test } from "node:test";
import { compareVectors, hybridClock, lamportClock, vectorClock, type HybridStamp, type VectorStamp } from "../../coordination/index.ts";
import { virtualClock, type Random } from "../../kernel/index.ts";
import { checkClock, checkHybridClock, type ClockCall, type HybridReading, type Operation } from "./index.ts";
import { below, chance, withSeeds } from "./testing/histories.ts";

const file = "happens-before.test.ts";
type Event<Stamp> = Operation<ClockCall, Stamp>;
interface StampingClock<Stamp, Sent> {
  now(): Stamp;
  receive(sent: Sent): Stamp;
}

/** Processes that do something, send to each other and receive, in any order, some messages never. */
function execution<Stamp extends Sent, Sent = Stamp>(
  random: Random,
  clocks: readonly StampingClock<Stamp, Sent>[],
  steps: number,
  pass: () => void = () => {},
): Event<Stamp>[] {
  const events: Event<Stamp>[] = [];
  const underWay: { readonly message: number; readonly stamp: Stamp }[] = [];
  for (let moment = 0; moment < steps; moment++) {
    pass();
    const process = below(random, clocks.length);
    const clock = clocks[process] as StampingClock<Stamp, Sent>;
    const event = (call: ClockCall, result: Stamp) => void events.push({ process, call, invokedAt: moment, outcome: "ok", returnedAt: moment, result });
    if (underWay.length > 0 && chance(random, 0.4)) {
      const [{ message, stamp }] = underWay.splice(below(random, underWay.length), 1) as [(typeof underWay)[number]];
      event({ kind: "receive", message }, clock.receive(stamp));
    } else if (chance(random, 0.5)) {
      const stamp = clock.now();
      underWay.push({ message: moment, stamp });
      event({ kind: "send", message: moment }, stamp);
    } else event({ kind: "local" }, clock.now());
  }
  return events;
}

/** Which events happened before which, by trying every step. */
function truth(events: readonly Event<unknown>[]): boolean[][] {
  const pairs = events.map((other) =>
    events.map(
      (one) =>
        (one.process === other.process && one.invokedAt < other.invokedAt) ||
        (one.call.kind === "send" && other.call.kind === "receive" && one.call.message === other.call.message),
    ),
  );
  for (const [through] of events.entries())
    for (const row of pairs) if (row[through]) for (const [one] of events.entries()) row[one] ||= pairs[through]?.[one] as boolean;
  return pairs;
}

const byNumber = (one: number, other: number) => (one < other ? "before" : one > other ? "after" : "equal");

test("[COO-08] in 10,000 random executions what happened before has the smaller Lamport number, and a smaller number alone says nothing", () => {
  let concurrentAndSmaller = 0;
  withSeeds(file, 10_000, (random) => {
    const events = execution(random, [lamportClock(), lamportClock(), lamportClock()], 12);
    const pairs = truth(events);

    assert.equal(checkClock(events, { compare: byNumber }).verdict, "ok");
    for (const [i, one] of events.entries())
      for (const [j, other] of events.entries()) {
        if (pairs[j]?.[i]) assert.ok((one.result as number) < (other.result as number));
        else if (!pairs[i]?.[j] && (one.result as number) < (other.result as number)) concurrentAndSmaller++;
      }
  });
  assert.ok(concurrentAndSmaller > 0);
});

test("[COO-09] in random executions vector stamps say of every pair what is true, and grow by one number for each process", (t) => {
  withSeeds(file, 2_000, (random) => {
    const events = execution(
      random,
      ["a", "b", "c", "d"].map((name) => vectorClock(name)),
      16,
    );
    const pairs = truth(events);

    assert.equal(checkClock(events, { compare: compareVectors, characterises: true }).verdict, "ok");
    for (const [i, one] of events.entries())
      for (const [j, other] of events.entries()) {
        const expected = i === j ? "equal" : pairs[j]?.[i] ? "before" : pairs[i]?.[j] ? "after" : "concurrent";
        assert.equal(compareVectors(one.result as VectorStamp, other.result as VectorStamp), expected);
      }
  });

  const bytes = [10, 20, 40, 80].map((processes) => {
    let stamp: VectorStamp = {};
    for (let i = 0; i < processes; i++) stamp = vectorClock(`node-${10 + i}`).receive(stamp);
    return JSON.stringify(stamp).length;
  });
  t.diagnostic(`bytes of a stamp of 10, 20, 40, 80 processes: ${bytes.join(", ")}`);
  for (const [i, size] of bytes.entries()) assert.equal(size, 1 + 12 * 10 * 2 ** i);
});

test("[COO-10] with clocks 200 ms apart, hybrid stamps rise along what happened and stay within the bound; the clocks alone do not", () => {
  let wrongByWallClock = 0;
  withSeeds(file, 1_000, (random) => {
    const wall = virtualClock();
    let nowMs = wall.wallMs();
    const machines = [-200, 0, 200].map((skewMs) => ({ wallMs: () => nowMs + skewMs }));
    const clocks = machines.map((clock) => {
      const hybrid = hybridClock({ clock, aheadMaxMs: 400 });
      const read = (stamp: HybridStamp): HybridReading => ({ stamp, wallMs: clock.wallMs() });
      return { now: () => read(hybrid.now()), receive: (sent: HybridReading) => read(hybrid.receive(sent.stamp)) };
    });
    const events = execution(random, clocks, 40, () => void (nowMs += below(random, 60)));

    assert.equal(checkHybridClock(events, { aheadMaxMs: 400 }).verdict, "ok");
    if (checkClock(events, { compare: (one, other) => byNumber(one.wallMs, other.wallMs) }).verdict === "violation") wrongByWallClock++;
  });
  assert.ok(wrongByWallClock > 0);
});

test("a clock that does not rise over a message is found, with the two events", () => {
  const stamped = (process: string, invokedAt: number, call: ClockCall, result: number) => ({
    process,
    call,
    invokedAt,
    returnedAt: invokedAt,
    outcome: "ok" as const,
    result,
  });
  const events = [stamped("a", 0, { kind: "local" }, 1), stamped("a", 1, { kind: "send", message: 1 }, 2), stamped("b", 2, { kind: "receive", message: 1 }, 2)];

  const { verdict, problems } = checkClock(events, { compare: byNumber });

  assert.equal(verdict, "violation");
  assert.deepEqual(
    problems.map(({ kind, operations }) => [kind, operations]),
    [["clock-inconsistent", [1, 2]]],
  );
  assert.match(problems[0]?.text ?? "", /happened before .* and its stamp is equal to that one's/);
});

test("of a hybrid clock a stamp that does not rise over a message, one behind its machine's clock, and one too far ahead of it are each found", () => {
  const event = (process: string, at: number, call: ClockCall, [stampMs, counter]: readonly [number, number], wallMs: number) => ({
    process,
    call,
    invokedAt: at,
    returnedAt: at,
    outcome: "ok" as const,
    result: { stamp: { wallMs: stampMs, counter }, wallMs },
  });
  const sent = event("a", 0, { kind: "send", message: 1 }, [1_000, 3], 1_000);
  const kindsOf = (...more: readonly ReturnType<typeof event>[]) =>
    checkHybridClock([sent, ...more], { aheadMaxMs: 100 }).problems.map(({ kind, operations }) => [kind, operations]);
  const receive = { kind: "receive", message: 1 } as const;

  assert.deepEqual(kindsOf(event("b", 1, receive, [1_000, 4], 900.5)), []);
  assert.deepEqual(kindsOf(event("b", 1, receive, [1_000, 3], 1_000)), [["clock-inconsistent", [0, 1]]]);
  assert.deepEqual(kindsOf(event("b", 1, receive, [1_001, 0], 1_002)), [["stamp-behind", [1]]]);
  assert.deepEqual(kindsOf(event("b", 1, receive, [1_101, 0], 1_000)), [["stamp-too-far-ahead", [1]]]);
});

test("a clock that orders what was concurrent is too strong for one that characterises; too many pairs are unknown", () => {
  const events = ["a", "b"].map((process, i) => ({
    process,
    call: { kind: "local" } as const,
    invokedAt: i,
    returnedAt: i,
    outcome: "ok" as const,
    result: i,
  }));

  assert.equal(checkClock(events, { compare: byNumber }).verdict, "ok");
  assert.deepEqual(
    checkClock(events, { compare: byNumber, characterises: true }).problems.map(({ kind }) => kind),
    ["clock-too-strong"],
  );
  assert.equal(checkClock(events, { compare: byNumber, characterises: true, pairsMax: 0 }).verdict, "unknown");
});

test("a message that nobody sent, and one that was received before it was sent, are no execution", () => {
  const at = (invokedAt: number, call: ClockCall, result: number) => ({ process: "a", call, invokedAt, returnedAt: invokedAt, outcome: "ok" as const, result });

  assert.deepEqual(
    checkClock([at(0, { kind: "receive", message: 9 }, 1)], { compare: byNumber }).problems.map(({ kind }) => kind),
    ["received-unsent"],
  );
  assert.equal(
    checkClock([at(0, { kind: "receive", message: 1 }, 1), at(1, { kind: "send", message: 1 }, 2)], { compare: byNumber }).problems[0]?.kind,
    "clock-circle",
  );
});
