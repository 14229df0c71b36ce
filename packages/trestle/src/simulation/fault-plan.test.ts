import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../kernel/index.ts";
import { chanceOf } from "./chance.ts";
import { describeFault, drawFaultPlan, faultKinds, type FaultPlan } from "./fault-plan.ts";

const nodes = ["node-1", "node-2"];
const withinMs = 30_000;
const draw = (seed: string, kinds: Parameters<typeof drawFaultPlan>[1]["kinds"] = faultKinds): FaultPlan =>
  drawFaultPlan(chanceOf(seededRandom(seed)), { kinds, nodes, clients: ["client-1"], withinMs });

test("every kind of fault is drawn in some seed and left out in some, within the time that clients go on, on hosts that are there", () => {
  const plans = Array.from({ length: 200 }, (_, at) => draw(`0x${at}`));

  const hosts = new Set([...nodes, "store", "client-1", "*"]);
  for (const kind of faultKinds) {
    const drawn = plans.filter((plan) => plan.some((fault) => fault.kind === kind)).length;
    assert.ok(drawn > 20 && drawn < 180, `${kind} is in ${drawn} of 200 plans`);
  }
  for (const fault of plans.flat()) {
    assert.ok(fault.atMs >= 0 && fault.forMs >= 1 && fault.atMs + fault.forMs <= withinMs, JSON.stringify(fault));
    const { host, from, to } = fault as { readonly host?: string; readonly from?: string; readonly to?: string };
    for (const name of [host, from, to]) if (name !== undefined) assert.ok(hosts.has(name), JSON.stringify(fault));
  }
});

test("one seed is one plan, and what is not allowed is not in it", () => {
  assert.deepEqual(draw("0x7"), draw("0x7"));
  assert.notDeepEqual(draw("0x7"), draw("0x8"));
  assert.deepEqual(draw("0x7", []), []);
  for (const kind of faultKinds) assert.deepEqual([...new Set(draw("0x9", [kind]).map((fault) => fault.kind))], [kind]);
});

test("each fault is said in words of its own, with when, whom and for how long", () => {
  const said = new Set<string>();
  for (const kind of faultKinds) {
    const [fault] = draw("words", [kind]);
    assert.ok(fault);
    const words = describeFault({ ...fault, atMs: 1_500, forMs: 250 });
    assert.match(words, /^1\.5s \S+.*: /);
    if (kind !== "clock-skew") assert.match(words, /(for|after) 0\.25s$/);
    said.add(words.replace(/^.*?: /, "").replace(/[\d.]+/g, "n"));
  }
  assert.equal(said.size, faultKinds.length);
});
