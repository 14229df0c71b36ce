import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "trestle/kernel";
import { checkUserText } from "./statement-text.ts";

const denied = (text: string) => {
  try {
    checkUserText(text, "trestle");
    return false;
  } catch (error) {
    return Fault.is(error, "sql.denied");
  }
};

test("transaction control, settings and temporary tables are found as a statement's first words, behind comments, in any statement of a text", () => {
  for (const text of [
    "COMMIT",
    "/* a /* nested */ comment */ rollback",
    "-- first\n  begin",
    "insert into t values (1); savepoint x",
    "select 1;\nset search_path = trestle",
    "create temp table t (a int)",
    "create global temporary table t (a int)",
    "create or replace temp view v as select 1",
    "$a$ quoted; $a$; commit",
  ])
    assert.equal(denied(text), true, text);
});

test("Trestle's names are found quoted or not, and not inside strings, comments or longer names", () => {
  for (const text of ["select * from trestle.record", 'select * from "trestle" . record', "delete from TRESTLE_events", "alter table x rename to trestle_x"])
    assert.equal(denied(text), true, text);
  for (const text of [
    "select 'commit; trestle.record'",
    "select E'it\\'s; commit'",
    "select $$ commit; begin $$",
    "select $x$ $$ commit; $x$",
    'select "commit" from t; select "trestle"',
    "select a$b$c from t; select 1 -- commit",
    "select trestle from my_trestle.record",
    "insert into t values ('a'';commit');",
    "select $1, $2",
    "",
  ])
    assert.equal(denied(text), false, text);
});
