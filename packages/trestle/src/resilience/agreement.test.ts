import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../kernel/index.ts";
import { agreement, failureOf, pipeline, retry } from "./index.ts";

const says = <T>(...values: readonly T[]) => values.map((value) => () => value);
const fails = () => Promise.reject(new Error("gone"));

test("[RES-01] what most replicas say is the answer, whoever says another thing or fails", async () => {
  assert.deepEqual(await agreement(says({ n: 1 }, { n: 2 }, { n: 1 })), { n: 1 });
  assert.equal(await agreement<number>([...says(1, 1), fails]), 1);
  assert.equal(await agreement(says(1)), 1);
  assert.equal(await agreement(says(1, 1.1), { same: (one, other) => Math.abs(one - other) < 0.5 }), 1);
});

test("[RES-01] where none is said by most, they contradict each other, which is a failure of its own kind; where too few answer, the failure is theirs", async () => {
  for (const replicas of [says(1, 2), says(1, 2, 3), [...says(1, 2), fails], says(1, 1, 2, 2)])
    await assert.rejects(agreement<number>(replicas), (thrown) => Fault.is(thrown, "response.contradicts") && failureOf(thrown).kind === "byzantine");
  await assert.rejects(agreement<number>([...says(1), fails]), /gone/);
  await assert.rejects(agreement([]), (thrown) => Fault.is(thrown, "option.out-of-range"));
});

test("[RES-01] one that hangs is waited for while it can decide; then it is let go", async () => {
  const asked: AbortSignal[] = [];
  const hangs = (signal: AbortSignal) => new Promise<never>(() => asked.push(signal));
  const late = async (signal: AbortSignal) => {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    return signal.aborted ? 0 : 1;
  };

  assert.equal(await agreement([...says(1, 1), hangs]), 1, "two of three say it");
  await assert.rejects(agreement([...says(1, 2), fails, hangs]), (thrown) => Fault.is(thrown, "response.contradicts") && thrown.details["failed"] === 1);
  await assert.rejects(agreement([fails, fails, hangs]), /gone/);
  assert.equal(await agreement<number>([...says(1, 2), late]), 1, "two of three can still say it");
  assert.deepEqual(
    asked.map(({ aborted }) => aborted),
    [true, true, true],
  );
  await assert.rejects(agreement([...says(1, 2), hangs], { same: () => assert.fail("cannot be compared") }), /cannot be compared/);
});

test("[RES-01] within a pipeline each attempt asks one more: a third decides", async () => {
  const kinds: string[] = [];
  const guard = pipeline({ onAttempt: ({ error }) => void (error === undefined || kinds.push(failureOf(error).kind)) }, retry({ from: 0 }));
  assert.equal(await guard(({ attempt }) => agreement(says(1, 2, 1).slice(0, attempt + 1))), 1);
  assert.deepEqual(kinds, ["byzantine"]);
});
