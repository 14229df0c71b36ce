import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../../kernel/index.ts";
import { checkLinearizable, historyFromJsonLines, historyToJsonLines, recordHistory, register, type RegisterCall } from "./index.ts";

test("a recorded history has each operation in the order of invocation, with its outcome and moments", () => {
  const recorder = recordHistory<RegisterCall>();
  const write = recorder.invoke("a", { kind: "write", value: 1 }, "x");
  const read = recorder.invoke("b", { kind: "read" }, "x");
  recorder.invoke("c", { kind: "write", value: 2 });
  const refused = recorder.invoke("d", { kind: "write", value: 3 });
  read.ok(1);
  write.ok();
  refused.failed();

  assert.deepEqual(recorder.history(), [
    { process: "a", key: "x", call: { kind: "write", value: 1 }, invokedAt: 1, outcome: "ok", returnedAt: 6 },
    { process: "b", key: "x", call: { kind: "read" }, invokedAt: 2, outcome: "ok", returnedAt: 5, result: 1 },
    { process: "c", call: { kind: "write", value: 2 }, invokedAt: 3, outcome: "unknown" },
    { process: "d", call: { kind: "write", value: 3 }, invokedAt: 4, outcome: "failed", returnedAt: 7 },
  ]);
});

test("an operation is answered once, and a history that was taken does not change afterwards", () => {
  const recorder = recordHistory();
  const asked = recorder.invoke("a", "ping");
  const before = recorder.history();
  asked.ok(1);
  asked.ok(2);
  asked.failed();

  assert.equal(before[0]?.outcome, "unknown");
  assert.deepEqual([recorder.history()[0]?.outcome, recorder.history()[0]?.result], ["ok", 1]);
});

test("a history that was written down and read again has the same verdict", () => {
  const recorder = recordHistory<RegisterCall>({ now: () => 7 });
  recorder.invoke("a", { kind: "write", value: { nested: [1, null] } }).ok();
  recorder.invoke("b", { kind: "read" }).ok({ nested: [1, null] });
  recorder.invoke("c", { kind: "write", value: 2 });

  const text = historyToJsonLines(recorder.history());

  assert.equal(text.split("\n").length, 4);
  assert.deepEqual(historyFromJsonLines(`${text}\n`), recorder.history());
  assert.equal(checkLinearizable(historyFromJsonLines<RegisterCall>(text), register()).verdict, "ok");
});

test("a line that is no JSON, or no operation, is refused with its number", () => {
  const [line = ""] = historyToJsonLines([{ process: 1, call: 1, invokedAt: 1, outcome: "unknown" }]).split("\n");

  assert.throws(
    () => historyFromJsonLines(`${line}\n{"process":`),
    (error) => Fault.is(error, "history.bad-line") && /line 2/.test(error.message),
  );
  assert.throws(
    () => historyFromJsonLines(`${line}\nnull`),
    (error) => Fault.is(error, "history.bad-operation") && /operation 1/.test(error.message),
  );
});
