import assert from "node:assert/strict";
import { test } from "node:test";
import { allOf, checkConservation, checkConvergence, type Operation } from "./index.ts";

const saw = (result: unknown, i = 0, process: string | number = i): Operation => ({
  process,
  call: { kind: "read" },
  invokedAt: 10 * i,
  returnedAt: 10 * i + 5,
  outcome: "ok",
  result,
});
const wrote = (i: number): Operation => ({ process: i, call: { kind: "write" }, invokedAt: 10 * i, returnedAt: 10 * i + 5, outcome: "ok" });

test("whoever looks at all accounts at once finds the same sum, and none below its least", () => {
  assert.equal(checkConservation([saw({ a: 70, b: 30 }), saw({ a: 100, b: 0 })], { least: 0 }).verdict, "ok");
  assert.deepEqual(
    checkConservation([saw({ a: 70, b: 30 }), saw({ a: 70, b: 20 })]).problems.map(({ kind, operations }) => [kind, operations]),
    [["not-conserved", [1]]],
  );
  assert.deepEqual(
    checkConservation([saw({ a: 110, b: -10 })], { least: 0, total: 100 }).problems.map(({ kind }) => kind),
    ["below-least"],
  );
  assert.equal(checkConservation([saw({ a: 1 })], { total: 100 }).verdict, "violation");
});

test("a sum that nobody looked at is unknown", () => {
  assert.equal(checkConservation([wrote(0)]).verdict, "unknown");
  assert.equal(checkConservation([{ ...saw({ a: 1 }), outcome: "failed" }]).verdict, "unknown");
});

test("when it is quiet all who look see the same; before that they may differ", () => {
  assert.equal(checkConvergence([saw("old", 0), wrote(1), saw("new", 2), saw("new", 3)]).verdict, "ok");
  assert.deepEqual(
    checkConvergence([wrote(1), saw("new", 2, "replica 1"), saw("old", 3, "replica 2")]).problems.map(({ kind, operations }) => [kind, operations]),
    [["diverged", [1, 2]]],
  );
  assert.equal(checkConvergence([wrote(1), saw("old", 2), saw("new", 3), saw("new", 4)], { quietFrom: 30 }).verdict, "ok", "later, when it had the time");
});

test("a quiet in which too few looked proves nothing", () => {
  assert.equal(checkConvergence([wrote(1), saw("new", 2)]).verdict, "unknown");
  assert.equal(checkConvergence([wrote(1), saw("new", 2)], { least: 1 }).verdict, "ok");
});

test("several checks as one have the worst verdict and all problems", () => {
  const [ok, unknown, violation] = [checkConservation([saw({ a: 1 })]), checkConservation([]), checkConservation([saw({ a: 1 })], { total: 2 })];

  assert.equal(allOf(ok, ok).verdict, "ok");
  assert.equal(allOf(ok, unknown).verdict, "unknown");
  assert.deepEqual([allOf(ok, unknown, violation).verdict, allOf(ok, unknown, violation).problems.length], ["violation", 2]);
  assert.deepEqual(allOf(ok, violation).explored, { operations: 2, states: 0 });
});

test("of more than a hundred problems the rest is counted", () => {
  const { problems } = checkConservation(
    Array.from({ length: 130 }, (_, i) => saw({ a: i }, i)),
    { total: -1 },
  );

  assert.equal(problems.length, 101);
  assert.match(problems.at(-1)?.text ?? "", /and 30 more/);
});
