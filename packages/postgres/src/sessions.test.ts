import assert from "node:assert/strict";
import { test } from "node:test";
import { wasRolledBack } from "./sessions.ts";

test("whether a statement was rolled back is told by its code, whatever language the server speaks; what ends a session is not", () => {
  const said = (code: string | undefined, severity: string | undefined) => wasRolledBack(Object.assign(new Error("x"), { code, severity }));
  for (const severity of ["ERROR", "FEHLER", "ОШИБКА"])
    for (const code of ["23505", "TR001", "42P01", "22P02", "40P01", "57014"]) assert.equal(said(code, severity), true, code);
  for (const severity of ["FATAL", "SCHWERWIEGEND"])
    for (const code of ["57P01", "57P02", "57P03", "08006", "25P03", "25P04"]) assert.equal(said(code, severity), false, code);
  assert.deepEqual([said("XX000", "ERROR"), said("XX000", "PANIK"), said("58030", "PANIC")], [true, false, false]);
  for (const code of ["ECONNRESET", "EPIPE", undefined]) assert.equal(said(code, undefined), false, "not the server's word");
});
