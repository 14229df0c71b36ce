/** What a store was made of once is not changed under it: tables have formats, functions a version, and neither changes unnoticed. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { formats, functions, functionsVersion } from "./schema.ts";

const folder = new URL("./sql/", import.meta.url);

/** What PostgreSQL makes of it: comments and line breaks are no new version. No string in these files has two hyphens. */
function digestOf(names: readonly string[]): string {
  const text = names.map((name) => readFileSync(new URL(`${name}.sql`, folder), "utf8").replaceAll(/--[^\n]*/g, "")).join("\n");
  return createHash("sha256").update(text.replaceAll(/\s+/g, " ").trim()).digest("hex").slice(0, 16);
}

/** Of each format. They never change: what a format adds stands in files of its own. */
const tablesWere = ["da20b56247df18d3", "e3b0c44298fc1c14"];
/** Of each version of the functions, the newest last. */
const functionsWere: ReadonlyMap<number, string> = new Map([
  [1, "75aaf4771c9e9f71"],
  [2, "76d5654e599acc47"],
  [3, "7e7675bcb81cf38d"],
  [4, "9f371df6beb60580"],
  [5, "ebee1786cd802ed5"],
  [6, "d1a849381b9ae77a"],
]);

test("a table is never changed in the file that made it: a store that was made by it would not have the change", () => {
  assert.deepEqual(formats.map(digestOf), tablesWere, "put the change into a file of its own, and that file into a new format");
});

test("functions that change have a new version: a store that has them would keep the old ones", () => {
  assert.equal(
    digestOf(functions),
    functionsWere.get(functionsVersion),
    "raise functionsVersion and add its digest below; an older process still calls every name, so what a name takes, answers and means stays",
  );
  assert.equal(Math.max(...functionsWere.keys()), functionsVersion);
});

test("every file of sql/ is one of tables or of functions", () => {
  const files = readdirSync(folder);
  assert.deepEqual([...formats.flat(), ...functions].map((name) => `${name}.sql`).sort(), files.sort());
  assert.ok(files.length >= 14);
});
