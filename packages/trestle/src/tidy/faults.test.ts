import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { atLeast, exists, isTestCode, none, partsOf, read, root, sources } from "./repository.ts";

const page = "docs/reference/faults.md";
const code = "[a-z][a-z0-9]*(?:-[a-z0-9]+)*\\.[a-z][a-z0-9]*(?:-[a-z0-9]+)*";
// Where a code stands in the sources: given to something called fault, asked for by Fault.is, or a code in plain data.
const places = [
  new RegExp(`[fF]ault\\w*(?:\\.create)?\\(\\s*"(${code})"`, "g"),
  new RegExp(`Fault\\.is\\([^"()]*"(${code})"`, "g"),
  new RegExp(`\\bcode:\\s*"(${code})"`, "g"),
  new RegExp(`^\\s*\\|\\s*"(${code})"`, "gm"),
];

const published = sources.filter((path) => !isTestCode(path));

function codesIn(text: string): string[] {
  return places.flatMap((place) => [...text.matchAll(place)].map((match) => match[1] as string));
}

function documented(): string[] {
  return exists(page) ? [...read(page).matchAll(/^## (.+)$/gm)].map((match) => match[1] as string) : [];
}

test("every fault code in the sources is in docs/reference/faults.md", () => {
  const known = new Set(documented());
  const used = published.flatMap((path) => codesIn(partsOf(path).uncommented).map((found) => ({ path, found })));

  atLeast(80, used.length, "uses of fault codes");
  none(
    [...new Set(used.filter(({ found }) => !known.has(found)).map(({ path, found }) => `${found} (${path})`))],
    "write these into docs/reference/faults.d/<area>.md and run npm run docs:",
  );
});

test("every documented fault code is in the sources", () => {
  const texts = sources
    .filter((path) => !path.endsWith(".test.ts"))
    .map((path) => partsOf(path).uncommented)
    .join("\n");
  const known = documented();

  atLeast(60, known.length, "documented codes");
  none(
    known.filter((one) => !texts.includes(`"${one}"`)),
    "nothing creates these any more:",
  );
});

test("docs/reference/faults.md is what npm run docs makes of its parts", () => {
  const run = spawnSync(process.execPath, ["scripts/docs.mjs", "--check"], { cwd: root, encoding: "utf8" });

  assert.equal(run.status, 0, run.stderr);
});

test("a code is found in each place a fault can be named", () => {
  const text =
    'throw Fault.create("a.b-c", "…"); reject(storeFault("a.d")); Fault.is(error, "a.e"); return { code: "a.f" };\n  | "a.g"\n const name = "not.this";';

  assert.deepEqual(codesIn(text), ["a.b-c", "a.d", "a.e", "a.f", "a.g"]);
});
