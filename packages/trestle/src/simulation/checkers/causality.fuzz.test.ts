/** Random histories of registers, against the definitions of causal consistency, tried out. `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Random } from "../../kernel/index.ts";
import { checkCausal, register, type Operation, type RegisterCall } from "./index.ts";
import { below, chance, comesBeforeOnItsProcess, pick, randomTimes, someOrderExists, withSeeds } from "./testing/histories.ts";

const file = "causality.fuzz.test.ts";
type Step = Operation<RegisterCall, unknown>;

function registers(random: Random): Step[] {
  const times = randomTimes(random, { processes: 2 + below(random, 2), each: 3, span: 4 }).slice(0, 7);
  const keys = ["x", "y"].slice(0, 1 + below(random, 2));
  const asked = times.map((operation, place): Step => ({
    ...operation,
    key: pick(random, keys),
    call: chance(random, 0.5) ? { kind: "write", value: place } : { kind: "read" },
  }));
  return asked.map((operation) => {
    if (operation.call.kind !== "read" || operation.outcome !== "ok") return operation;
    const values = asked.flatMap(({ key, call }) => (key === operation.key && call.kind === "write" ? [call.value] : []));
    return { ...operation, result: pick(random, [null, ...values]) };
  });
}

/** Which pairs come one before the other: the order of processes and "was read from", followed on. */
function causalOrder(history: readonly Step[]): { readonly before: (one: Step, other: Step) => boolean; readonly circular: boolean } {
  const pairs = history.map((other) =>
    history.map(
      (one) =>
        comesBeforeOnItsProcess(one, other, history) ||
        (other.call.kind === "read" && other.outcome === "ok" && one.call.kind === "write" && one.key === other.key && one.call.value === other.result),
    ),
  );
  for (const [through] of history.entries())
    for (const row of pairs) if (row[through]) for (const [one] of history.entries()) row[one] ||= pairs[through]?.[one] as boolean;
  return { before: (one, other) => pairs[history.indexOf(other)]?.[history.indexOf(one)] as boolean, circular: pairs.some((row, place) => row[place]) };
}

/** Is there an order of these that keeps to `before` and in which all reads of `whose` are right? */
function explained(history: readonly Step[], before: (one: Step, other: Step) => boolean, whose: (read: Step) => boolean): boolean {
  const relevant = history.filter((operation) => operation.call.kind === "write" || whose(operation)).map((operation) => operation);
  return someOrderExists(relevant, register(), (one, other) => before(one as Step, other as Step));
}

function orders(items: readonly Step[]): Step[][] {
  return items.length === 0 ? [[]] : items.flatMap((first) => orders(items.filter((other) => other !== first)).map((rest) => [first, ...rest]));
}

test("thousands of tiny histories are causal, convergent or causal memory exactly when the definitions say so", (t) => {
  const seen = { causal: 0, convergent: 0, memory: 0, none: 0, memoryOnly: 0 };
  const runs = withSeeds(file, 6_000, (random) => {
    // What has an unknown outcome and was not read may as well not have been.
    const history = registers(random);
    const read = new Set(history.filter(({ call, outcome }) => call.kind === "read" && outcome === "ok").map(({ key, result }) => `${key} ${String(result)}`));
    const there = history
      .filter(({ key, call, outcome }) => outcome === "ok" || (call.kind === "write" && read.has(`${key} ${String(call.value)}`)))
      // From here on it is as sure as the others, and its end still comes before nothing.
      .map((operation): Step => (operation.outcome === "ok" ? operation : { ...operation, outcome: "ok", returnedAt: Infinity }));
    const { before, circular } = causalOrder(there);
    const past = (operation: Step) => there.filter((one) => one === operation || before(one, operation));
    const causal = !circular && there.every((operation) => operation.call.kind !== "read" || explained(past(operation), before, (one) => one === operation));
    // One order of all writes, the same for every read.
    const arbitrations = circular ? [] : orders(there.filter(({ call }) => call.kind === "write"));
    const convergent = arbitrations.some((order) => {
      const comes = (one: Step, other: Step) =>
        before(one, other) || (order.includes(one) && order.includes(other) && order.indexOf(one) < order.indexOf(other));
      if (order.some((one, i) => order.slice(0, i).some((other) => before(one, other)))) return false;
      return there.every((operation) => operation.call.kind !== "read" || explained(past(operation), comes, (one) => one === operation));
    });
    // For each process one order of all writes and its own reads.
    const memory =
      !circular && [...new Set(there.map(({ process }) => process))].every((process) => explained(there, before, (read) => read.process === process));
    const expected = { causal, convergent, memory };
    for (const [name, holds] of Object.entries(expected)) if (holds) seen[name as keyof typeof expected]++;
    if (!causal) seen.none++;
    if (memory && !convergent) seen.memoryOnly++;

    for (const consistency of ["causal", "convergent", "memory"] as const) {
      const { verdict, problems } = checkCausal(history, { consistency });
      assert.equal(
        verdict,
        expected[consistency] ? "ok" : "violation",
        `${consistency}: ${JSON.stringify(history, undefined, 1)}\n${problems.map(({ text }) => text).join("\n")}`,
      );
    }
  });
  t.diagnostic(`${runs} histories: ${JSON.stringify(seen)}`);
  if (runs > 1_000) for (const [what, count] of Object.entries(seen)) assert.ok(count >= 3, `${count} ${what}`);
});
