/**
 * `npm run rows [-- --json]`: which row ids of the mission have passing tests, and where, from the last results of `npm test`.
 * An id stands in brackets in a test's name: `[MSG-12] …`. A row whose tests did not all pass is not listed as passing.
 * Exit code 1 when there are no results, 0 otherwise; results older than the sources are said so on stderr.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";
import { sourceFiles, testFiles } from "./sources.mjs";

const file = process.env.TRESTLE_TEST_RESULTS ?? join(root, ".cache", "test-results.json");
const asJson = process.argv.includes("--json");

/** `[RES-03]` and `[MSG-12]`, not `[F6]`: findings are named the same way but are not rows. */
const idPattern = /\[([A-Z]{3}-\d{2})\]/g;

if (!existsSync(file)) {
  process.stderr.write("There are no results yet: npm test\n");
  process.exitCode = 1;
} else {
  const { files } = JSON.parse(readFileSync(file, "utf8"));
  const rows = {};
  const broken = {};
  for (const [path, { tests }] of Object.entries(files)) {
    for (const { name, status } of tests) {
      for (const [, id] of name.matchAll(idPattern)) {
        const list = status === "passed" ? rows : status === "failed" ? broken : undefined;
        if (list) (list[id] ??= []).push(`${path} › ${name}`);
      }
    }
  }
  for (const id of Object.keys(broken)) delete rows[id];
  const sorted = Object.fromEntries(Object.entries(rows).sort(([a], [b]) => (a < b ? -1 : 1)));

  const stale = staleness(files);
  if (stale) process.stderr.write(`${stale}\n`);
  for (const [id, tests] of Object.entries(broken)) process.stderr.write(`${id} has failing tests and is not counted: ${tests.join("; ")}\n`);
  if (asJson) process.stdout.write(`${JSON.stringify({ rows: sorted, stale: stale !== undefined }, null, 2)}\n`);
  else {
    for (const [id, tests] of Object.entries(sorted)) process.stdout.write(`${id}\n${tests.map((test) => `  ${test}\n`).join("")}`);
    process.stdout.write(`${Object.keys(sorted).length} rows have passing tests\n`);
  }
}

/** Why these results may not be true any more, or `undefined`. */
function staleness(files) {
  const missing = testFiles().filter((path) => files[path] === undefined);
  if (missing.length > 0) return `${missing.length} test files have no result (${missing.slice(0, 3).join(", ")}${missing.length > 3 ? ", …" : ""}): npm test`;
  const oldest = Math.min(...Object.values(files).map(({ ranAt }) => ranAt));
  const changed = sourceFiles().filter((path) => statSync(join(root, path)).mtimeMs > oldest);
  if (changed.length > 0)
    return `${changed.length} sources changed since the tests ran (${changed.slice(0, 3).join(", ")}${changed.length > 3 ? ", …" : ""}): npm test`;
  return undefined;
}
