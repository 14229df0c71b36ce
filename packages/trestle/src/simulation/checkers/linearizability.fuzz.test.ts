/** Random histories, against a checker that tries every order, and against registers that are linearizable or broken. `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Random } from "../../kernel/index.ts";
import {
  checkLinearizable,
  checkSequential,
  counter,
  fifoQueue,
  lease,
  mutex,
  register,
  set,
  type Specification,
  type Operation,
  type RegisterCall,
} from "./index.ts";
import { below, chance, comesBeforeInRealTime, comesBeforeOnItsProcess, pick, randomTimes, someOrderExists, withSeeds } from "./testing/histories.ts";

const file = "linearizability.fuzz.test.ts";
type AnySpecification = Specification<unknown, unknown, unknown>;
type Guess = (random: Random, place: number) => { readonly call: unknown; readonly result?: unknown };

const small = (random: Random) => below(random, 3);
const registerCalls: Guess = (random) =>
  pick<Guess>(random, [
    () => ({ call: { kind: "write", value: small(random) } }),
    () => ({ call: { kind: "read" }, result: pick(random, [0, 1, 2, null]) }),
    () => ({ call: { kind: "cas", from: small(random), to: small(random) }, result: chance(random, 0.5) }),
  ])(random, 0);
const objects: Readonly<Record<string, readonly [AnySpecification, Guess]>> = {
  register: [register() as AnySpecification, registerCalls],
  "register with unique values": [
    register() as AnySpecification,
    (random, place) =>
      chance(random, 0.5) ? { call: { kind: "write", value: place } } : { call: { kind: "read" }, result: pick(random, [null, 0, 1, 2, 3, 4, 5]) },
  ],
  counter: [
    counter() as AnySpecification,
    (random) =>
      chance(random, 0.5)
        ? { call: { kind: "add", amount: small(random) - 1 }, ...(chance(random, 0.5) && { result: small(random) }) }
        : { call: { kind: "read" }, result: small(random) },
  ],
  set: [
    set() as AnySpecification,
    (random) =>
      chance(random, 0.2)
        ? { call: { kind: "members" }, result: pick(random, [[], [0], [1], [1, 0]]) }
        : { call: { kind: pick(random, ["add", "remove", "has"]), member: below(random, 2) }, result: chance(random, 0.5) },
  ],
  queue: [
    fifoQueue() as AnySpecification,
    (random) =>
      chance(random, 0.5) ? { call: { kind: "enqueue", value: small(random) } } : { call: { kind: "dequeue" }, result: pick(random, [null, 0, 1, 2]) },
  ],
  mutex: [mutex() as AnySpecification, (random) => ({ call: { kind: pick(random, ["acquire", "release"]) }, result: chance(random, 0.6) })],
  lease: [
    lease() as AnySpecification,
    (random) =>
      chance(random, 0.4)
        ? { call: { kind: "acquire" }, result: pick(random, [null, 1, 2, 3]) }
        : { call: { kind: pick(random, ["renew", "release", "use"]), fence: 1 + below(random, 2) }, result: chance(random, 0.6) },
  ],
};

/** One object answers one thing after the other, at moments inside the calls; a history that has the right answers, now and then not. */
function answered(random: Random, operations: readonly Operation<undefined>[], specification: AnySpecification, guess: Guess, wrong: number): Operation[] {
  const points = operations.map((operation, place) => ({
    place,
    point: operation.invokedAt + random.next() * ((operation.returnedAt ?? operation.invokedAt + 10) - operation.invokedAt),
  }));
  const history: Operation[] = operations.map((operation, place) => {
    const { call, result } = guess(random, place);
    return { ...operation, call, ...(operation.outcome === "ok" && result !== undefined && { result }) };
  });
  const states = new Map<unknown, unknown>();
  for (const { place } of points.sort((a, b) => a.point - b.point)) {
    const operation = history[place] as Operation;
    const state = states.has(operation.key) ? states.get(operation.key) : specification.initial;
    if (operation.outcome === "unknown" && chance(random, 0.5)) continue;
    // Of some answers, one that the object may give here.
    const answers = [operation.result, true, false, null, undefined, 0, 1, 2, 3, 4, 5, -1, [], [0], [1], [0, 1]];
    const fitting = answers.find((result) => specification.step(state, { ...operation, result }).length > 0);
    if (chance(random, wrong) || operation.outcome === "unknown") {
      const next = specification.step(state, operation)[0];
      if (next !== undefined) states.set(operation.key, next);
      continue;
    }
    const { result: _, ...rest } = operation;
    history[place] = fitting === undefined ? rest : { ...rest, result: fitting };
    const next = specification.step(state, history[place])[0];
    if (next !== undefined) states.set(operation.key, next);
  }
  return history;
}

for (const [name, [specification, guess]] of Object.entries(objects)) {
  test(`thousands of tiny histories of a ${name} get the verdict of trying every order, in real time and in program order`, (t) => {
    const seen = { linearizable: 0, sequential: 0, neither: 0 };
    const runs = withSeeds(file, 2_000, (random) => {
      const unknown = chance(random, 0.3) ? 0.6 : 0.15;
      const times = randomTimes(random, { processes: 2 + below(random, 2), each: 3, span: 6, unknown }).slice(0, 7);
      const keyed = times.map((operation) => (chance(random, 0.5) ? operation : { ...operation, key: "k" }));
      const history = answered(random, keyed, specification, guess, 0.2);
      const [linearizable, sequential] = [
        someOrderExists(history, specification, comesBeforeInRealTime),
        someOrderExists(history, specification, comesBeforeOnItsProcess),
      ];
      seen[linearizable ? "linearizable" : sequential ? "sequential" : "neither"]++;

      const { decide: _, ...searched } = specification;
      const judge = (ok: boolean) => (ok ? "ok" : "violation");
      assert.equal(checkLinearizable(history, searched).verdict, judge(linearizable), JSON.stringify(history));
      assert.equal(checkLinearizable(history, specification).verdict, judge(linearizable), `fast path: ${JSON.stringify(history)}`);
      assert.equal(checkSequential(history, searched).verdict, judge(sequential), `program order: ${JSON.stringify(history)}`);
    });
    t.diagnostic(`${runs} histories: ${JSON.stringify(seen)}`);
    if (runs > 1_000) for (const [what, count] of Object.entries(seen)) assert.ok(count > 20, `${count} ${what}`);
  });
}

/** A register under load, by a real order of moments. `each` operations of each process, most of which overlap. */
function registerRun(
  random: Random,
  processes: number,
  each: number,
): { readonly history: Operation<RegisterCall, unknown>[]; readonly points: readonly number[] } {
  const times = randomTimes(random, { processes, each, span: 20 });
  const points = times.map((operation) => operation.invokedAt + random.next() * ((operation.returnedAt ?? operation.invokedAt + 40) - operation.invokedAt));
  const history: Operation<RegisterCall, unknown>[] = times.map((operation, place) => ({
    ...operation,
    call: chance(random, 0.5) ? { kind: "write", value: place } : { kind: "read" },
  }));
  let value: unknown = null;
  for (const place of [...history.keys()].sort((a, b) => (points[a] as number) - (points[b] as number))) {
    const operation = history[place] as (typeof history)[number];
    if (operation.call.kind === "write") value = operation.outcome === "unknown" && chance(random, 0.5) ? value : operation.call.value;
    else if (operation.outcome === "ok") history[place] = { ...operation, result: value };
  }
  return { history, points };
}

test("what a linearizable register did is ok; with one stale read or one lost write it is a violation, on both paths", (t) => {
  const { decide: _, ...searched } = register();
  const injected = { stale: 0, lost: 0 };
  const runs = withSeeds(file, 150, (random) => {
    const { history } = registerRun(random, 2 + below(random, 5), 30);
    const both = (changed: typeof history) => [checkLinearizable(changed, register()).verdict, checkLinearizable(changed, searched).verdict];
    assert.deepEqual(both(history), ["ok", "ok"]);

    // A read that answers with what had been overwritten before it began: certainly wrong.
    const writes = history.filter(({ call, outcome }) => call.kind === "write" && outcome === "ok");
    const ended = (one: Operation, other: Operation) => (one.returnedAt as number) < other.invokedAt;
    const stale = history.flatMap((read, place) => {
      if (read.call.kind !== "read" || read.outcome !== "ok") return [];
      const over = writes.filter((write) => ended(write, read));
      const old = over.find((one) => over.some((other) => ended(one, other)));
      return old ? [{ place, value: (old.call as { readonly value: unknown }).value }] : [];
    });
    if (stale.length > 0) {
      const { place, value } = pick(random, stale);
      injected.stale++;
      assert.deepEqual(both(history.with(place, { ...(history[place] as Operation<RegisterCall>), result: value })), ["violation", "violation"]);
    }
    // An acknowledged write that nobody sees: every read beside or after it that saw it sees an older value, one of them when it was over.
    const lost = writes.find((write) =>
      history.some((read) => read.call.kind === "read" && read.result === (write.call as { readonly value: unknown }).value && ended(write, read)),
    );
    const older = lost && writes.find((other) => ended(other, lost));
    if (lost && older) {
      const [gone, stays] = [lost, older].map(({ call }) => (call as { readonly value: unknown }).value);
      injected.lost++;
      assert.deepEqual(
        both(history.map((operation) => (operation.call.kind === "read" && operation.result === gone ? { ...operation, result: stays } : operation))),
        ["violation", "violation"],
      );
    }
  });
  t.diagnostic(`${runs} runs, ${injected.stale} with a stale read, ${injected.lost} with a lost write`);
  if (runs > 100) assert.ok(injected.stale > runs / 2 && injected.lost > runs / 10);
});
