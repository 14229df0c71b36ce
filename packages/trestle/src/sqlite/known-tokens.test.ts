import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { KnownTokens } from "./known-tokens.ts";
import { preparing, type Prepared } from "./statements.ts";

function withTable(body: (writer: DatabaseSync, sql: (text: string) => Prepared) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "trestle-known-"));
  const path = join(directory, "tokens.db");
  const writer = new DatabaseSync(path);
  writer.exec("pragma journal_mode = wal; create table tokens (id integer primary key, key text not null unique)");
  const reader = new DatabaseSync(path, { readOnly: true });
  body(writer, preparing(reader));
  reader.close();
  writer.close();
  rmSync(directory, { recursive: true });
}
const keyOf = (n: number) => `~request//shop.order/anonymous/${n.toString(16)}`;
function insert(writer: DatabaseSync, from: number, to: number): void {
  const statement = writer.prepare("insert into tokens (key) values (?)");
  writer.exec("begin");
  for (let n = from; n < to; n++) statement.run(keyOf(n));
  writer.exec("commit");
}

test("what has been written is never called absent, whoever wrote it and however much; of what has not, one in fifty at most may be there", () =>
  withTable((writer, sql) => {
    const known = new KnownTokens("tokens");
    insert(writer, 0, 10);
    assert.equal(known.catchUp(sql), true);
    for (let from = 10; from < 40_000; from += 1_250) {
      insert(writer, from, from + 1_250);
      assert.deepEqual([known.catchUp(sql), known.catchUp(sql), known.catchUp(sql)], [false, false, true]);
    }

    let inVain = 0;
    for (let n = 0; n < 40_000; n++) assert.ok(known.mayHave(keyOf(n)), keyOf(n));
    for (let n = 50_000; n < 60_000; n++) if (known.mayHave(keyOf(n))) inVain++;
    assert.ok(inVain < 200, `${inVain} of 10,000`);
  }));

test("of a table that is too far ahead nothing is known", () =>
  withTable((writer, sql) => {
    insert(writer, 0, 600);
    writer.prepare("insert into tokens (id, key) values (?, ?)").run(200_000, keyOf(1_000));
    const known = new KnownTokens("tokens");

    assert.equal(known.catchUp(sql), false);
    assert.equal(known.catchUp(sql), false);
  }));

test("a table that was made again under its name is another one", () =>
  withTable((writer, sql) => {
    insert(writer, 0, 10);
    const known = new KnownTokens("tokens");
    known.catchUp(sql);
    assert.equal(known.isStill(sql), true);

    writer.exec("drop table tokens; create table tokens (id integer primary key, key text not null unique)");
    insert(writer, 20, 40);

    assert.equal(known.isStill(sql), false);
  }));
