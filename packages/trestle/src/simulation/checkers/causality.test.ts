import assert from "node:assert/strict";
import { test } from "node:test";
import { checkCausal, type CausalOptions } from "./index.ts";
import { drawn } from "./testing/histories.ts";

const verdicts = (...lines: readonly string[]) =>
  (["causal", "convergent", "memory"] as const).map((consistency) => checkCausal(drawn(...lines), { consistency }).verdict === "ok");
const kind = (lines: readonly string[], options: CausalOptions = {}) => checkCausal(drawn(...lines), options).problems[0]?.kind;

test("an answer is not seen without the question that it answers", () => {
  assert.deepEqual(verdicts("[x:w1]", "     [x:r1] [y:w2]", "                 [y:r2] [x:r1]"), [true, true, true]);
  assert.deepEqual(verdicts("[x:w1]", "     [x:r1] [y:w2]", "                 [y:r2] [x:r-]"), [false, false, false]);
  assert.equal(kind(["[x:w1]", "     [x:r1] [y:w2]", "                 [y:r2] [x:r-]"]), "stale-read");
});

test("what has nothing to do with each other may be seen in different orders, which is not sequential", () => {
  assert.deepEqual(verdicts("[x:w1]", "[y:w2]", "     [x:r1] [y:r-]", "     [y:r2] [x:r-]"), [true, true, true]);
});

// The figures of Bouajjani et al.: (a) causal memory without convergence, (b) convergence without causal memory.
test("two processes that each believe the other's write came first converge on nothing", () => {
  assert.deepEqual(verdicts("[x:w1] [x:r2]", "[x:w2] [x:r1]"), [true, false, true]);
  assert.equal(kind(["[x:w1] [x:r2]", "[x:w2] [x:r1]"], { consistency: "convergent" }), "not-convergent");
});

test("a process whose own reads fit no order of the writes has no causal memory, though all may converge", () => {
  const lines = ["[z:w1] [x:w1] [y:w1]", "[x:w2] [z:r0]        [y:r1] [x:r2]"] as const;

  assert.deepEqual(
    (["causal", "convergent", "memory"] as const).map((consistency) => checkCausal(drawn(...lines), { consistency, initial: 0 }).verdict),
    ["ok", "ok", "violation"],
  );
});

test("a read of what nobody wrote, or of what its own process writes later, has no cause", () => {
  assert.equal(kind(["[x:r1]"]), "thin-air");
  assert.equal(kind(["[x:w1!", "       [x:r1]"]), "thin-air");
  assert.equal(kind(["[x:r1] [x:w1]"]), "causal-cycle");
});

test("a write of unknown outcome counts once it was read, and its process may go on without it", () => {
  assert.deepEqual(verdicts("[x:w1? [x:r-]", "               [x:r1]"), [true, true, true]);
  assert.deepEqual(verdicts("[x:w1] [x:w2?", "               [x:r2] [x:r1]"), [false, false, false]);
  assert.deepEqual(verdicts("[x:w1] [x:w2?", "               [x:r1] [x:r1]"), [true, true, true]);
});

test("where reads do not say what they read, the verdict is unknown", () => {
  assert.equal(checkCausal(drawn("[x:w1] [x:w1]")).verdict, "unknown");
  assert.equal(checkCausal(drawn("[x:w1] [x:c12]")).verdict, "unknown");
  assert.equal(checkCausal(drawn("[x:w1] [y:w1]")).verdict, "ok");
});

test("too few rounds for causal memory make the verdict unknown", () => {
  const lines = ["[x:w1] [x:r2]", "[x:w2]       "] as const;

  assert.equal(checkCausal(drawn(...lines), { consistency: "memory" }).verdict, "ok");
  assert.equal(checkCausal(drawn(...lines), { consistency: "memory", roundsMax: 1 }).verdict, "unknown");
});

test("a circle is told step by step", () => {
  const [problem] = checkCausal(drawn("[x:w1] [x:r2]", "[x:w2] [x:r1]"), { consistency: "convergent" }).problems;

  assert.match(problem?.text ?? "", /write\(1\).* must come before .*write\(2\).*, whose value was still there after it: .*read\(\) = 2.*a circle$/);
});
