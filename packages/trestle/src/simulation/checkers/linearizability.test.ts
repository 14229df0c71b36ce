import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { Fault, virtualClock } from "../../kernel/index.ts";
import {
  checkLinearizable,
  checkSequential,
  counter,
  fifoQueue,
  lease,
  mutex,
  register,
  set,
  type Checked,
  type History,
  type Specification,
  type QueueCall,
} from "./index.ts";
import { drawn } from "./testing/histories.ts";

const { decide: _, ...searched } = register();
const either = (checked: (specification: typeof searched) => Checked) => {
  const [decided, found] = [checked(register()), checked(searched)];
  assert.equal(decided.verdict, found.verdict, "the fast path and the search agree");
  return found.verdict;
};
const verdictOf = (...lines: readonly string[]) => either((specification) => checkLinearizable(drawn(...lines), specification));

test("a read beside a write may see the old value or the new one", () => {
  assert.equal(verdictOf("[w1]  [w2      ]", "         [r1]    "), "ok");
  assert.equal(verdictOf("[w1]  [w2      ]", "         [r2]    "), "ok");
});

test("a value that was overwritten before a read began is not read", () => {
  assert.equal(verdictOf("[w1]  [w2]", "               [r1]"), "violation");
  assert.equal(verdictOf("[r-]  [w1]", "               [r-]"), "violation");
});

test("once somebody has read the new value, nobody who begins later reads the old one", () => {
  assert.equal(verdictOf("[w1]   [w2                      ]", "          [r2]               ", "               [r1]          "), "violation");
  assert.equal(verdictOf("[w1]   [w2                      ]", "          [r2      ]          ", "               [r1]          "), "ok");
});

test("a write of unknown outcome may take effect at any time after it was asked for, once, or never", () => {
  assert.equal(verdictOf("[w1]", "     [w2?", "           [r1]  [r2]"), "ok");
  assert.equal(verdictOf("[w1]", "     [w2?", "           [r1]  [r1]"), "ok");
  assert.equal(verdictOf("[w1]", "     [w2?", "           [r2]  [r1]"), "violation");
  assert.equal(verdictOf("[w1]", "                 [w2?", "           [r2]     "), "violation");
});

test("what certainly failed was not there", () => {
  assert.equal(verdictOf("[w1]  [w2!", "             [r1]"), "ok");
  assert.equal(verdictOf("[w1]  [w2!", "             [r2]"), "violation");
});

test("what ends at the moment at which another one begins may come after it", () => {
  const history = (beginsAt: number) => [
    { process: 1, call: { kind: "write", value: 1 }, invokedAt: 0, outcome: "ok", returnedAt: 5 } as const,
    { process: 2, call: { kind: "read" }, invokedAt: beginsAt, outcome: "ok", returnedAt: 9, result: null } as const,
  ];

  assert.equal(
    either((specification) => checkLinearizable(history(5), specification)),
    "ok",
  );
  assert.equal(
    either((specification) => checkLinearizable(history(6), specification)),
    "violation",
  );
});

test("keys are registers of their own, judged one by one", () => {
  const checked = checkLinearizable(drawn("[x:w1] [y:w1]", "               [y:r1] [x:r-]"), register());

  assert.equal(checked.verdict, "violation");
  assert.deepEqual(
    checked.problems.map(({ kind, operations }) => [kind, operations]),
    [["not-linearizable", [0, 3]]],
  );
});

// The compare-and-set histories that Knossos and Jepsen's first posts argue with: a set that was done needs its value, one that was refused needs another.
test("a compare-and-set was done where the register held its value and refused where it did not", () => {
  assert.equal(verdictOf("[w1]  [c12]  [r2]"), "ok");
  assert.equal(verdictOf("[w1]  [c12]  [r1]"), "violation");
  assert.equal(verdictOf("[w1]  [x12]"), "violation");
  assert.equal(verdictOf("[w1]  [x32]  [r1]"), "ok");
  assert.equal(verdictOf("[w1]  [c32]"), "violation");
});

test("of two compare-and-sets from one value only one is done, also when the other one's outcome is not known", () => {
  assert.equal(verdictOf("[w1]  [c12  ]", "      [c13  ]"), "violation");
  assert.equal(verdictOf("[w1]  [c12  ]", "      [x13  ]"), "ok");
  assert.equal(verdictOf("[w1]  [c12?", "      [c13  ]", "              [r3]"), "ok");
  assert.equal(verdictOf("[w1]  [c12?", "      [c13  ]", "              [r2]"), "violation");
  assert.equal(verdictOf("[w1]  [c12?", "      [c23  ]", "              [r3]"), "ok");
});

// Knossos' example of a timed-out write that comes to light much later, and the etcd shape: reads of a follower that lags.
test("a late write explains a read long after its caller had given up; a lagging follower is explained by nothing", () => {
  assert.equal(verdictOf("[w0]", "     [w4?", "            [r0]  [w1]  [r1]  [r4]  [x12]"), "ok");
  assert.equal(verdictOf("[w0]  [w1]  [w2]       [w3]  ", "                [r2]        [r2]", "                                  [r3] [r2]"), "violation");
});

const queueOf = (...operations: readonly [process: string, call: string, from: number, to: number][]): History<QueueCall, unknown> =>
  operations.map(([process, call, invokedAt, returnedAt]) => {
    const [, kind, value] = /^(enqueue|dequeue) (\w+)$/.exec(call) as unknown as [string, QueueCall["kind"], string];
    return kind === "enqueue"
      ? { process, call: { kind, value }, invokedAt, outcome: "ok", returnedAt }
      : { process, call: { kind }, invokedAt, outcome: "ok", returnedAt, result: value === "null" ? null : value };
  });

test("the queue histories of Herlihy and Wing's figure 1 have the verdicts of the paper", () => {
  const h1 = queueOf(["A", "enqueue x", 0, 3], ["B", "enqueue y", 1, 4], ["B", "dequeue x", 5, 7], ["A", "dequeue y", 6, 9], ["A", "enqueue z", 10, 11]);
  const h2 = queueOf(["A", "enqueue x", 0, 1], ["B", "enqueue y", 2, 4], ["A", "dequeue y", 3, 5]);
  const h3 = queueOf(["A", "enqueue x", 0, 5], ["B", "dequeue x", 1, 3]);
  const h4 = queueOf(["A", "enqueue x", 0, 3], ["B", "enqueue y", 1, 4], ["A", "dequeue y", 5, 7], ["C", "dequeue y", 6, 8]);

  assert.deepEqual(
    [h1, h2, h3, h4].map((history) => checkLinearizable(history, fifoQueue()).verdict),
    ["ok", "violation", "ok", "violation"],
  );
});

test("two queues that are each sequentially consistent need not be so together, as Herlihy and Wing show", () => {
  // A: p.enq(x) q.enq(x) p.deq(y); B: q.enq(y) p.enq(y) q.deq(x).
  const on = (key: string, history: History<QueueCall, unknown>) => history.map((operation) => ({ ...operation, key }));
  const p = on("p", queueOf(["A", "enqueue x", 0, 1], ["B", "enqueue y", 4, 5], ["A", "dequeue y", 6, 7]));
  const q = on("q", queueOf(["A", "enqueue x", 2, 3], ["B", "enqueue y", 2, 3], ["B", "dequeue x", 8, 9]));

  assert.equal(checkSequential(p, fifoQueue()).verdict, "ok");
  assert.equal(checkSequential(q, fifoQueue()).verdict, "ok");
  assert.equal(
    checkSequential(
      [...p, ...q].sort((a, b) => a.invokedAt - b.invokedAt),
      fifoQueue(),
    ).verdict,
    "violation",
  );
  assert.equal(checkLinearizable(p, fifoQueue()).verdict, "violation");
});

test("a stale read is sequentially consistent and not linearizable; a read of one's own past is neither", () => {
  const stale = drawn("[w1]  [w2]", "               [r1]");
  const own = drawn("[w1]  [w2]  [r1]");

  assert.deepEqual([checkLinearizable(stale, searched).verdict, checkSequential(stale, searched).verdict], ["violation", "ok"]);
  assert.deepEqual([checkLinearizable(own, searched).verdict, checkSequential(own, searched).verdict], ["violation", "violation"]);
});

test("processes that see two writes in different orders are not sequentially consistent", () => {
  const checked = checkSequential(drawn("[w1]", "[w2]", "     [r1]  [r2]", "     [r2]  [r1]"), searched);

  assert.equal(checked.verdict, "violation");
  assert.match(checked.problems[0]?.text ?? "", /at most 5 of 6 operations can be ordered.*then none of these can follow: process [23]: read\(\) = [12]/);
});

test("a mutex is held by one at a time", () => {
  const locks = (...spans: readonly [process: string, kind: "acquire" | "release", from: number, to: number, did: boolean][]) =>
    checkLinearizable(
      spans.map(([process, kind, invokedAt, returnedAt, result]) => ({ process, call: { kind }, invokedAt, returnedAt, outcome: "ok", result })),
      mutex(),
    ).verdict;

  assert.equal(locks(["a", "acquire", 0, 1, true], ["b", "acquire", 2, 3, false], ["a", "release", 4, 5, true], ["b", "acquire", 6, 7, true]), "ok");
  assert.equal(locks(["a", "acquire", 0, 1, true], ["b", "acquire", 2, 3, true]), "violation");
  assert.equal(locks(["a", "acquire", 0, 1, true], ["b", "release", 2, 3, true]), "violation");
});

test("a lease's fences rise, and nothing is done under one after something was done under a later one", () => {
  type Call = Parameters<ReturnType<typeof lease>["step"]>[1]["call"];
  const held = (fencedBy: "resource" | "issuer", ...steps: readonly (readonly [process: string, call: Call, result: number | null | boolean])[]) =>
    checkLinearizable(
      steps.map(([process, call, result], i) => ({ process, call, invokedAt: 2 * i, returnedAt: 2 * i + 1, outcome: "ok" as const, result })),
      lease({ fencedBy }),
    ).verdict;
  const acquire = { kind: "acquire" } as const;
  const use = (fence: number) => ({ kind: "use", fence }) as const;

  // a pauses, its term ends, b goes on; then a wakes up.
  const steps = [
    ["a", acquire, 1],
    ["b", acquire, null],
    ["b", acquire, 2],
    ["a", use(1), true],
  ] as const;
  assert.equal(held("resource", ...steps), "ok");
  assert.equal(held("issuer", ...steps), "violation");
  assert.equal(held("resource", ...steps.slice(0, 3), ["b", use(2), true], ["a", use(1), true]), "violation");
  assert.equal(held("resource", ...steps.slice(0, 3), ["b", use(2), true], ["a", use(1), false]), "ok");
  assert.equal(held("resource", ["a", acquire, 2], ["b", acquire, 2]), "violation");
  assert.equal(held("resource", ...steps.slice(0, 3), ["a", { kind: "renew", fence: 1 }, true]), "violation");
  assert.equal(held("resource", ["a", acquire, 1], ["a", { kind: "release", fence: 1 }, true], ["b", acquire, null]), "violation");
});

test("a set whose members are keys of their own is judged member by member", () => {
  const specification = set();
  const byMember = { ...specification, key: ({ call }) => ("member" in call ? call.member : "all") } satisfies Specification<
    unknown,
    { readonly kind: string; readonly member?: string | number },
    unknown
  >;
  const history = [
    { process: 1, call: { kind: "add", member: 1 }, invokedAt: 0, returnedAt: 1, outcome: "ok", result: true },
    { process: 2, call: { kind: "has", member: 1 }, invokedAt: 2, returnedAt: 3, outcome: "ok", result: false },
    { process: 3, call: { kind: "remove", member: 2 }, invokedAt: 2, returnedAt: 3, outcome: "ok", result: false },
  ] as const;

  assert.equal(checkLinearizable(history.slice(0, 1), specification).verdict, "ok");
  assert.equal(checkLinearizable(history, specification).verdict, "violation");
  assert.deepEqual(
    checkLinearizable(history, byMember as unknown as typeof specification).problems.map(({ operations }) => operations),
    [[1]],
  );
});

test("a violation names the operation that has no place, what it met and what ran beside it", () => {
  const [problem] = checkLinearizable(drawn("[w1]  [w2  ]", "      [w3  ]      [r1]"), searched).problems;

  assert.equal(problem?.kind, "not-linearizable");
  assert.deepEqual(problem?.operations, [3]);
  assert.match(
    problem?.text ?? "",
    /^register: no order has a place for process 1: read\(\) = 1 \[18 to 21\]\. The 3 operations that ended before it can be ordered.*it meets (2 or 3|3 or 2)\. Nothing ran beside it\.$/,
  );
});

test("a violation of a register with unique values names the reads and writes that contradict each other", () => {
  const [problem] = checkLinearizable(drawn("[w1]  [w2]", "               [r1]"), register()).problems;

  assert.deepEqual(problem?.operations.toSorted(), [0, 1, 2]);
  assert.match(problem?.text ?? "", /two values would each have to come before the other: 1 by .*write\(1\).* before 2 by .*write\(2\)/);
});

test("a bound that is reached makes the verdict unknown and says which one: configurations, memory or time", () => {
  const many = Array.from(
    { length: 30 },
    (_, process) => ({ process, call: { kind: "write", value: process % 7 }, invokedAt: process, outcome: "ok", returnedAt: 100 + process }) as const,
  );
  const never = [...many, { process: "reader", call: { kind: "read" }, invokedAt: 200, outcome: "ok", returnedAt: 201, result: "nothing" } as const];
  const clock = virtualClock();
  let read = 0;
  const ticking = { ...clock, monotonicMs: () => read++ };

  for (const [options, why] of [
    [{ statesMax: 1_000 }, /within 1000 configurations/],
    [{ memoryBytesMax: 100_000 }, /within 100000 bytes/],
    [{ timeMsMax: 2, clock: ticking }, /within 2 ms/],
  ] as const) {
    const { verdict, problems } = checkLinearizable(never, searched, options);
    assert.equal(verdict, "unknown");
    assert.equal(problems[0]?.kind, "gave-up");
    assert.match(problems[0]?.text ?? "", why);
  }
});

test("forty adds of unknown outcome that do the same are tried one after the other, not in every choice", () => {
  const adds = Array.from({ length: 40 }, (_, process) => ({ process, call: { kind: "add", amount: 1 }, invokedAt: 0, outcome: "unknown" }) as const);
  const reads = Array.from(
    { length: 21 },
    (_, i) => ({ process: "reader", call: { kind: "read" }, invokedAt: 10 * i + 1, returnedAt: 10 * i + 2, outcome: "ok", result: 2 * i }) as const,
  );

  const right = checkLinearizable([...adds, ...reads], counter());
  const wrong = checkLinearizable([...adds, ...reads, { ...(reads[0] as (typeof reads)[number]), invokedAt: 500, returnedAt: 501, result: 41 }], counter());

  assert.deepEqual([right.verdict, wrong.verdict], ["ok", "violation"]);
  assert.ok(wrong.explored.states < 1_000, `${wrong.explored.states} configurations`);
});

test("of operations of unknown outcome that led to the same state, those that were not needed are still there", () => {
  const adds = [1, 2, 3].map((amount, process) => ({ process, call: { kind: "add", amount }, invokedAt: 0, outcome: "unknown" }) as const);
  const reads = (...results: readonly number[]) =>
    results.map((result, i) => ({ process: "reader", call: { kind: "read" }, invokedAt: 10 * i + 1, returnedAt: 10 * i + 2, outcome: "ok", result }) as const);

  // 3 is 1 + 2, with 3 left, or 3, with 1 and 2 left.
  for (const results of [
    [3, 4, 6],
    [3, 5, 6],
    [3, 6],
    [1, 3, 6],
    [1, 4, 6],
  ])
    assert.equal(checkLinearizable([...adds, ...reads(...results)], counter()).verdict, "ok", `${results}`);
  for (const results of [
    [3, 7],
    [1, 3, 5],
    [4, 5],
  ])
    assert.equal(checkLinearizable([...adds, ...reads(...results)], counter()).verdict, "violation", `${results}`);
});

test("a violation on one key stands beside another key that was given up", () => {
  const many = Array.from(
    { length: 30 },
    (_, process) =>
      ({ process, key: "big", call: { kind: "write", value: process % 7 }, invokedAt: process, outcome: "ok", returnedAt: 100 + process }) as const,
  );
  const never = { process: "reader", key: "big", call: { kind: "read" }, invokedAt: 200, outcome: "ok", returnedAt: 201, result: "nothing" } as const;
  const wrong = { ...never, key: "small" };

  const { verdict, problems } = checkLinearizable([...many, never, wrong], searched, { statesMax: 1_000 });

  assert.equal(verdict, "violation");
  assert.deepEqual(problems.map(({ verdict }) => verdict).sort(), ["unknown", "violation"]);
});

test("2,000 operations of 20 callers on one queue end as unknown within their bounds, in a process with a small heap", () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["--max-old-space-size=400", "--disable-warning=ExperimentalWarning", fileURLToPath(new URL("./testing/hard-history.ts", import.meta.url))],
    { encoding: "utf8" },
  );

  assert.equal(status, 0, stderr);
  const { verdict, maxRssMb, states } = JSON.parse(stdout) as { readonly verdict: string; readonly maxRssMb: number; readonly states: number };
  assert.equal(verdict, "unknown");
  assert.ok(states > 10_000 && maxRssMb < 800, stdout);
});

test("a history that is malformed, or options out of range, are refused by name", () => {
  const good = { process: 1, call: { kind: "read" }, invokedAt: 1, outcome: "ok", returnedAt: 2, result: 1 } as const;

  for (const bad of [{ ...good, returnedAt: 0 }, { ...good, outcome: "lost" }, { ...good, outcome: "unknown" }, { ...good, process: undefined }, undefined])
    assert.throws(
      () => checkLinearizable([good, bad as unknown as typeof good], register()),
      (error) => Fault.is(error, "history.bad-operation") && /operation 1 of the history/.test(error.message),
    );
  assert.throws(
    () => checkLinearizable([good], register(), { statesMax: 0 }),
    (error) => Fault.is(error, "option.out-of-range"),
  );
  assert.throws(
    () => checkSequential([good, { ...good, invokedAt: 1.5, returnedAt: 3 }], register()),
    (error) => Fault.is(error, "history.process-overlaps"),
  );
});
