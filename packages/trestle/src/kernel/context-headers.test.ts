import assert from "node:assert/strict";
import { test } from "node:test";
import { contextHeaders, contextOfHeaders, emptyContext } from "./index.ts";

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const of = (headers: Readonly<Record<string, string>>, trusted = false) => contextOfHeaders(new Headers(headers), { nowMs: 1_000, trusted });

test("what is written of a context is what is read of it", () => {
  const context = { ...emptyContext, priority: "low", correlation: "order:7", traceparent, tracestate: "a=b" } as const;
  const headers = contextHeaders(context, { remainingMs: 250.9, attempt: 3 });
  assert.deepEqual(of(headers), {
    priority: "low",
    correlation: "order:7",
    traceparent: of(headers)?.traceparent,
    tracestate: "a=b",
    deadlineMs: 1_250,
    repeated: true,
  });
  assert.equal(of(headers)?.traceparent?.slice(0, 35), traceparent.slice(0, 35));
  assert.deepEqual(contextHeaders(emptyContext, { remainingMs: Infinity }), {});
  assert.equal(of({}), undefined);
  assert.equal(contextHeaders(emptyContext, { remainingMs: -5 })["trestle-deadline-ms"], "0");
  assert.equal(contextHeaders({ ...emptyContext, repeated: true }, { remainingMs: Infinity })["trestle-attempt"], "2", "who repeats is further out");
});

test("a caller can lower its priority, and raise it where it is trusted", () => {
  assert.deepEqual(of({ "trestle-priority": "low" }), { priority: "low" });
  assert.deepEqual(of({ "trestle-priority": "high" }), {});
  assert.deepEqual(of({ "trestle-priority": "high" }, true), { priority: "high" });
});

test("whatever is not as it should be is left out", () => {
  for (const [name, value] of [
    ["trestle-deadline-ms", "-1"],
    ["trestle-deadline-ms", "soon"],
    ["trestle-deadline-ms", "1e9"],
    ["trestle-deadline-ms", "99999999999"],
    ["trestle-correlation-id", "a b"],
    ["trestle-correlation-id", "x".repeat(129)],
    ["trestle-priority", "urgent"],
    ["trestle-attempt", "1"],
    ["trestle-attempt", "0"],
    ["trestle-attempt", "99999"],
    ["traceparent", "not one"],
  ] as const)
    assert.deepEqual(of({ [name]: value }, true), {}, `${name}: ${value}`);
});
