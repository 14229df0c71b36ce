import assert from "node:assert/strict";
import { test } from "node:test";
import { array, literal, parameter, type ArrayType } from "./arguments.ts";

/** Reads the binary form back: the type, and the bytes of each element. */
function read(bytes: Buffer): { readonly type: number; readonly elements: readonly (Buffer | null)[] } {
  assert.deepEqual([bytes.readInt32BE(0), bytes.readInt32BE(16)], [1, 1], "one dimension, counted from 1");
  const elements: (Buffer | null)[] = [];
  let at = 20;
  for (let i = 0; i < bytes.readInt32BE(12); i++) {
    const size = bytes.readInt32BE(at);
    elements.push(size < 0 ? null : bytes.subarray(at + 4, at + 4 + size));
    at += 4 + Math.max(0, size);
  }
  assert.equal(at, bytes.length);
  assert.equal(bytes.readInt32BE(4), elements.includes(null) ? 1 : 0, "whether there are nulls");
  return { type: bytes.readInt32BE(8), elements };
}
const sent = (type: ArrayType, values: readonly (boolean | number | string | null)[]) => read(parameter(array(type, values)) as Buffer);

test("arrays travel in PostgreSQL's binary form: each type with its id, its size and its bytes", () => {
  const numbers = [0, 1, -1, 4_294_967_295, 4_294_967_296, -4_294_967_297, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  assert.deepEqual(
    sent("int8", numbers).elements.map((bytes) => Number(bytes?.readBigInt64BE())),
    numbers,
  );
  assert.deepEqual(
    sent("int4", [0, -1, 2_147_483_647, null]).elements.map((bytes) => bytes?.readInt32BE()),
    [0, -1, 2_147_483_647, undefined],
  );
  assert.deepEqual(
    sent("text", ["", "a", "grün 🌱", null, `"\\`]).elements.map((bytes) => bytes?.toString()),
    ["", "a", "grün 🌱", undefined, `"\\`],
  );
  assert.equal(sent("uuid", ["01a2186e-d4d8-7000-8079-79b48fa8c211"]).elements[0]?.toString("hex"), "01a2186ed4d870008079" + "79b48fa8c211");
  assert.equal(sent("tid", ["(4294967295,65535)", "(1,2)"]).elements[1]?.toString("hex"), "000000010002");
  assert.deepEqual(
    sent("bool", [true, false]).elements.map((bytes) => bytes?.[0]),
    [1, 0],
  );
  assert.deepEqual(
    (["bool", "int4", "int8", "text", "uuid", "tid"] as const).map((type) => sent(type, [null]).type),
    [16, 23, 20, 25, 2950, 27],
  );
});

test("an empty array is null, bytes are what they are, and a text of SQL says the same in literals", () => {
  const bytes = Buffer.from("x");

  assert.deepEqual([parameter(array("int4", [])), parameter(null), parameter(7)], [null, null, 7]);
  assert.equal(parameter(bytes), bytes);
  assert.deepEqual([literal(array("text", [])), literal(null), literal(true), literal(bytes)], ["null", "null", "true", "'\\x78'::bytea"]);
  assert.equal(literal(array("text", ["a", `it's "q"`, null])), ` E'{"a","it''s \\\\"q\\\\"",null}'`);
});
