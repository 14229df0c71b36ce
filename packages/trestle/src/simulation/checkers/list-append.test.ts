import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, systemClock } from "../../kernel/index.ts";
import { checkListAppend, type ListAppendOptions, type MicroOperation, type Transaction } from "./index.ts";

/**
 * A transaction as text: `ax1` appends 1 to x, `rx12` reads x as [1, 2], `rx` as []. One after the other, each by a process of its own, unless it begins with
 * `p:`. It ends with `?` when its outcome is not known, with `!` when it failed.
 */
function transactions(...texts: readonly string[]): Transaction[] {
  return texts.map((text, i) => {
    const [, process = String(i), body, end] = /^(?:(\w):)?([^?!]*)([?!]?)$/.exec(text) as unknown as [string, string | undefined, string, string];
    const micros = (body.match(/\S+/g) ?? []).map((word) => ({
      kind: word[0] === "a" ? "append" : "read",
      key: word[1] as string,
      values: Array.from(word.slice(2), Number),
    }));
    const call = micros.map(({ kind, key, values: [value = 0] }): MicroOperation => (kind === "append" ? { kind, key, value } : { kind: "read", key }));
    const asked = { process, call, invokedAt: 2 * i };
    if (end === "?") return { ...asked, outcome: "unknown" };
    if (end === "!") return { ...asked, outcome: "failed", returnedAt: 2 * i + 1 };
    return { ...asked, outcome: "ok", returnedAt: 2 * i + 1, result: micros.map(({ kind, values }) => (kind === "append" ? null : values)) };
  });
}
const kinds = (texts: readonly string[], options: ListAppendOptions = {}) => checkListAppend(transactions(...texts), options).problems.map(({ kind }) => kind);

test("transactions that ran one after the other are serializable", () => {
  const checked = checkListAppend(transactions("ax1", "rx1 ax2", "rx12 ay3", "ry3 rx12"), { order: "realtime" });

  assert.deepEqual([checked.verdict, checked.problems], ["ok", []]);
  assert.ok(checked.explored.states > 0);
});

test("writes that cross each other are G0", () => {
  assert.deepEqual(kinds(["ax1 ay1", "ax2 ay2", "rx12 ry21"]), ["G0"]);
  assert.deepEqual(kinds(["ax1 ay1", "ax2 ay2", "rx12 ry21"], { isolation: "read-committed" }), ["G0"]);
});

test("what a failed transaction appended is read: G1a, an aborted read", () => {
  assert.deepEqual(kinds(["ax1!", "rx1"]), ["G1a"]);
});

test("the middle of a transaction is read: G1b, an intermediate read", () => {
  assert.deepEqual(kinds(["ax1 ax2", "rx1", "rx12"], { isolation: "read-committed" }), ["G1b"]);
  assert.ok(kinds(["ax1 ax2", "rx1"]).includes("G1b"), "also when the end is never read");
});

test("each of two transactions reads what the other one wrote: G1c, circular information flow", () => {
  assert.deepEqual(kinds(["ax1 ry1", "ay1 rx1"]), ["G1c"]);
  assert.deepEqual(kinds(["ax1 ry1", "ay1 rx1"], { isolation: "read-committed" }), ["G1c"]);
});

test("a transaction sees one part of another one and not the other part: G-single, read skew", () => {
  assert.deepEqual(kinds(["ax1 ay1", "rx1 ry", "ry1"]), ["G-single"]);
  assert.deepEqual(kinds(["ax1 ay1", "rx1 ry", "ry1"], { isolation: "snapshot-isolation" }), ["G-single"]);
  assert.deepEqual(kinds(["ax1 ay1", "rx1 ry", "ry1"], { isolation: "read-committed" }), []);
});

test("two that read the same and both append to it: a lost update, whether or not somebody reads it afterwards", () => {
  assert.deepEqual(kinds(["rx ax1", "rx ax2", "rx12"]), ["lost-update"]);
  assert.deepEqual(kinds(["rx ax1", "rx ax2"]), ["lost-update"]);
  assert.deepEqual(kinds(["rx ax1", "rx ax2"], { isolation: "snapshot-isolation" }), ["lost-update"]);
  assert.deepEqual(kinds(["rx ax1", "rx ax2"], { isolation: "read-committed" }), []);
  assert.deepEqual(kinds(["rx ax1", "rx1 ax2"]), []);
});

test("two that each read what the other one then changes: G2-item, write skew on two keys, which snapshot isolation allows", () => {
  const [problem] = checkListAppend(transactions("rx ry ax1", "rx ry ay1")).problems;

  assert.equal(problem?.kind, "G2-item");
  assert.match(problem?.text ?? "", /^G2-item \(write skew\), each reads what another one then changes: /);
  assert.deepEqual(problem?.operations.toSorted(), [0, 1]);
  assert.deepEqual(kinds(["rx ry ax1", "rx ry ay1", "rx1 ry1"]), ["G2-item"]);
  assert.deepEqual(kinds(["rx ry ax1", "rx ry ay1"], { isolation: "snapshot-isolation" }), []);
});

test("two that see two others in different orders (a long fork): G2-item, and with snapshot isolation G-nonadjacent", () => {
  assert.deepEqual(kinds(["ax1", "ay1", "rx1 ry", "rx ry1"]), ["G2-item"]);
  assert.deepEqual(kinds(["ax1", "ay1", "rx1 ry", "rx ry1"], { isolation: "snapshot-isolation" }), ["G-nonadjacent"]);
  assert.deepEqual(kinds(["ax1", "ay1 az1", "rx1 ry", "rx rz1"], { isolation: "snapshot-isolation" }), ["G-nonadjacent"], "also where nobody ever read y");
});

test("a transaction that does not find its own appends, or what it had read, is internally inconsistent", () => {
  assert.deepEqual(kinds(["rx ax1 rx"]), ["internal"]);
  assert.deepEqual(kinds(["ax1 rx"]), ["internal"]);
  assert.ok(kinds(["ax1", "rx rx1"]).includes("internal"));
  assert.deepEqual(kinds(["rx ax1 rx1 ax2 rx12"]), []);
});

test("with read committed a transaction may find more each time, and never less of its own", () => {
  const options = { isolation: "read-committed" } as const;

  assert.deepEqual(kinds(["ax1", "rx rx1"], options), []);
  assert.deepEqual(kinds(["ax1 rx1", "ax2 rx12", "rx rx1 rx12"], options), []);
  assert.deepEqual(kinds(["ax1 rx"], options), ["internal"]);
});

test("reads of which neither begins with the other, values twice in a list and values from nowhere are told by name", () => {
  assert.ok(kinds(["ax1", "ax2", "rx1", "rx2"]).includes("incompatible-order"));
  assert.ok(kinds(["ax1", "ax2", "rx12", "rx21"]).includes("incompatible-order"));
  assert.deepEqual(kinds(["ax1", "rx11"]), ["duplicate"]);
  assert.deepEqual(kinds(["rx7"]), ["phantom"]);
});

test("a stale read is serializable; in real time it is not, nor is it on one process", () => {
  assert.deepEqual(kinds(["ax1", "rx"]), []);
  assert.deepEqual(kinds(["ax1", "rx"], { order: "realtime" }), ["G-single-realtime"]);
  assert.deepEqual(kinds(["ax1", "rx"], { order: "process" }), []);
  assert.deepEqual(kinds(["p:ax1", "p:rx"], { order: "process" }), ["G-single-process"]);
});

test("an acknowledged append that nobody finds any more is a violation in real time", () => {
  const [problem] = checkListAppend(transactions("ax1", "ax2", "rx1"), { order: "realtime" }).problems;

  assert.equal(problem?.kind, "G-single-realtime");
  assert.match(problem?.text ?? "", /T2 .* read x as \[1\], without 2, which T1 .* appended; T1 .* had returned at 3 before T2 .* was invoked at 4/);
});

test("a transaction of unknown outcome counts where it was seen, with everything it appended, and nowhere else", () => {
  assert.deepEqual(kinds(["ax1?", "rx"], { order: "realtime" }), []);
  assert.deepEqual(kinds(["ax1?", "rx1", "rx"], { order: "realtime" }), ["G-single-realtime"]);
  // Its append to y was seen, so it had happened; then its append to x was there, too, which T1 does not know of.
  assert.deepEqual(kinds(["rx ax1 ay1", "ay2 ax3?", "ry21"]), ["G-single"]);
});

test("a cycle is explained edge by edge, and is as short as there is one", () => {
  // From the writer of x to a reader that lacks it there are a way of two steps, over y and z, and one of four.
  const [problem, ...others] = checkListAppend(transactions("ax1 ay1 aa1", "ry1 az1", "ra1 ab1", "rb1 ac1", "rc1 ad1", "rz1 rd1 rx")).problems;

  assert.deepEqual(others, []);
  assert.equal(problem?.kind, "G-single");
  assert.deepEqual(problem?.operations.toSorted(), [0, 1, 5]);
  assert.match(problem?.text ?? "", /T5 of process 5 read x as \[\], without 1, which T0 of process 0 appended/);
  assert.match(problem?.text ?? "", /T1 of process 1 read y as \[1\], the last of which T0 of process 0 appended/);
  assert.match(problem?.text ?? "", /T5 of process 5 read z as \[1\], the last of which T1 of process 1 appended/);
});

test("a value that is appended twice is refused, because reads do not say whose it is", () => {
  assert.throws(
    () => checkListAppend(transactions("ax1", "ax1!")),
    (error) => Fault.is(error, "history.appended-twice") && /list x by operation 0 and by operation 1/.test(error.message),
  );
});

test("ten thousand knots beside each other are looked at one by one, without the whole for each", () => {
  // Pairs of transactions, of which each misses what the other one appended, or only the first does.
  const pairs = (crossed: boolean) =>
    Array.from({ length: 10_000 }, (_, i) => [`x${i}`, `y${i}`] as const).flatMap(([x, y], i): Transaction[] =>
      [[x, y, []] as const, [y, x, crossed ? [] : [1]] as const].map(([read, append, found], process) => ({
        process,
        call: [
          { kind: "read", key: read },
          { kind: "append", key: append, value: 1 },
        ],
        invokedAt: i,
        outcome: "ok",
        returnedAt: i,
        result: [found, null],
      })),
    );
  const timed = (history: readonly Transaction[]) => {
    const startMs = systemClock.monotonicMs();
    return { ...checkListAppend(history), ms: systemClock.monotonicMs() - startMs };
  };

  const [apart, crossed] = [timed(pairs(false)), timed(pairs(true))];

  assert.deepEqual([apart.verdict, crossed.verdict, crossed.problems.length], ["ok", "violation", 101]);
  assert.match(crossed.problems.at(-1)?.text ?? "", /and 9900 more/);
  assert.ok(crossed.ms < 60 * apart.ms, `${crossed.ms} ms with knots, ${apart.ms} without`);
});

test("a hundred thousand transactions in a row do not overflow a stack", () => {
  const history = Array.from({ length: 100_000 }, (_, i): Transaction => {
    const key = i % 1_000;
    const list = Array.from({ length: Math.floor(i / 1_000) }, (_, n) => n);
    return {
      process: i % 10,
      call: [
        { kind: "read", key },
        { kind: "append", key, value: list.length },
      ],
      invokedAt: i,
      outcome: "ok",
      returnedAt: i,
      result: [list, null],
    };
  });

  assert.equal(checkListAppend(history, { order: "realtime" }).verdict, "ok");
  const wrong = history.with(50_000, { ...(history[50_000] as Transaction), result: [[], null] });
  assert.equal(checkListAppend(wrong, { order: "realtime" }).verdict, "violation");
});
