import assert from "node:assert/strict";
import { test } from "node:test";
import { deadlineExceeded, Fault } from "../kernel/index.ts";
import { failureOf } from "./index.ts";

const coded = (code: string) => Object.assign(new Error("x"), { code });
const status = (code: number) => Object.assign(new Error("x"), { status: code });

test("[RES-01] every failure is of one kind, and says whether the other side may have acted", () => {
  for (const [thrown, kind, mayHaveActed] of [
    [coded("ECONNREFUSED"), "crash", false],
    [new TypeError("fetch failed", { cause: coded("ENOTFOUND") }), "crash", false],
    [new TypeError("fetch failed", { cause: coded("UND_ERR_SOCKET") }), "crash", true],
    [coded("ECONNRESET"), "crash", true],
    [status(502), "crash", true],
    [deadlineExceeded(5, "attempt"), "omission", true],
    [new DOMException("x", "TimeoutError"), "omission", true],
    [coded("UND_ERR_CONNECT_TIMEOUT"), "omission", false],
    [status(504), "omission", true],
    [status(429), "timing", false],
    [status(503), "timing", true],
    [Object.assign(status(503), { retryAfterMs: 10 }), "timing", true],
    [Fault.create("breaker.open", "m", "r"), "timing", false],
    [Fault.create("external.refused", "m", "r", { details: { retryAfterMs: 10 } }), "timing", false],
    [Object.assign(status(500), { retryAfterMs: 10 }), "response", true],
    [Object.assign(new Error("x"), { retryAfterMs: 10 }), "timing", false],
    [coded("53300"), "timing", false],
    [coded("429"), "timing", false],
    [status(500), "response", true],
    [new SyntaxError("Unexpected token"), "response", true],
    [Fault.create("external.answer-invalid", "m", "r"), "response", true],
    [Fault.create("response.contradicts", "m", "r"), "byzantine", true],
    [status(404), "refusal", false],
    [Fault.create("external.refused", "m", "r"), "refusal", false],
    [coded("UND_ERR_INVALID_ARG"), "refusal", false],
    [Fault.create("external.refused", "m", "r", { details: { status: 429 } }), "timing", false],
    [Fault.create("external.outcome-unknown", "m", "r", { details: { status: 500 } }), "response", true],
    [Fault.create("external.outcome-unknown", "m", "r", { cause: coded("ECONNRESET") }), "crash", true],
    [Fault.create("external.outcome-unknown", "m", "r"), "omission", true],
    [Fault.create("option.out-of-range", "m", "r"), "refusal", false],
    [Fault.create("external.outcome-unknown", "m", "r", { cause: new SyntaxError("Unexpected token") }), "response", true],
    ...["23505", "23503", "22P02", "42601", "42501", "44000", "0A000", "P0001"].map((state) => [coded(state), "refusal", false] as const),
    ...["08006", "25P02", "40001", "40P01", "55P03", "58030", "XX000"].map((state) => [coded(state), "response", true] as const),
    [coded("57014"), "omission", true],
    [new Error("WRONGTYPE Operation against a key holding the wrong kind of value"), "refusal", false],
    [new Error("ERR value is not an integer or out of range"), "refusal", false],
    [new Error("ERR max number of clients reached"), "response", true],
    [new Error("LOADING Redis is loading the dataset in memory"), "response", true],
    [Object.assign(new Error("x"), { response: { status: 404 } }), "refusal", false],
    [Object.assign(new Error("x"), { response: { statusCode: 503 } }), "timing", true],
    [coded("EPERM"), "response", true],
    [new Error("who knows"), "response", true],
    [undefined, "response", true],
    ["a string", "response", true],
  ] as const)
    assert.deepEqual(failureOf(thrown), { kind, mayHaveActed }, String(thrown));
});

test("[RES-01] what is not known may have been done, whatever declined the attempt after it", () => {
  const open = (cause: unknown, details = {}) => Fault.create("external.outcome-unknown", "m", "r", { cause, details });
  for (const [thrown, kind] of [
    [open(Fault.create("external.unreachable", "m", "r", { cause: coded("ECONNREFUSED") })), "crash"],
    [open(Fault.create("breaker.open", "m", "r")), "timing"],
    [open(undefined, { retryAfterMs: 10 }), "timing"],
    [open(undefined, { status: 429 }), "timing"],
    [open(undefined, { status: 404 }), "refusal"],
    [open(Fault.create("external.refused", "m", "r")), "refusal"],
    [new Error("not done", { cause: open(coded("ECONNREFUSED")) }), "crash"],
  ] as const)
    assert.deepEqual(failureOf(thrown), { kind, mayHaveActed: true }, JSON.stringify(thrown));
});

test("causes are followed, also round in a circle", () => {
  const circle: Error & { cause?: unknown } = new Error("a");
  circle.cause = new Error("b", { cause: circle });
  assert.equal(failureOf(circle).kind, "response");
});
