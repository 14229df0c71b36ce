import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "./index.ts";

test("a fault carries its code, remedy, cause and details", () => {
  const cause = new Error("below");
  const fault = Fault.create("queue.full", "queue.capacity is 5, got a sixth", "Raise queue.capacity.", { cause, details: { capacity: 5 } });

  assert.ok(fault instanceof Error);
  assert.deepEqual(
    [fault.name, fault.code, fault.remedy, fault.message, fault.cause, fault.details],
    ["Fault", "queue.full", "Raise queue.capacity.", "queue.capacity is 5, got a sixth", cause, { capacity: 5 }],
  );
  assert.equal(Object.hasOwn(Fault.create("a.b", "c", "d"), "cause"), false);
});

test("a fault is told by its code, and nothing else is a fault", () => {
  const fault = Fault.create("breaker.open", "m", "r");
  assert.deepEqual([Fault.is(fault), Fault.is(fault, "breaker.open"), Fault.is(fault, "queue.full")], [true, true, false]);
  for (const other of [new Error("x"), { code: "breaker.open" }, null, undefined, "breaker.open", 5]) assert.equal(Fault.is(other), false);
});

test("two copies of the package recognise each other's faults", async () => {
  const path = "./fault.ts?second-copy";
  const second = (await import(path)) as { readonly Fault: typeof Fault };
  assert.notEqual(second.Fault, Fault);
  assert.ok(Fault.is(second.Fault.create("queue.full", "m", "r"), "queue.full"));
  assert.ok(second.Fault.is(Fault.create("queue.full", "m", "r"), "queue.full"));
});

test("the first line of a fault's stack is whoever ran into it", () => {
  function whoeverRanIntoIt() {
    return Fault.create("a.b", "message", "remedy");
  }
  assert.match(whoeverRanIntoIt().stack?.split("\n")[1] ?? "", /whoeverRanIntoIt/);
});
