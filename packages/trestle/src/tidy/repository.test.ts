import assert from "node:assert/strict";
import { test } from "node:test";
import { allFiles, importsOf, isTestCode, packages, sources, split } from "./repository.ts";

test("a word inside a comment, a string, a template or a regular expression is not code, and a call inside a template is", () => {
  const text = [
    "a(); // setTimeout",
    'b("setTimeout"); /* setTimeout',
    "setTimeout */ c('it\\'s setTimeout');",
    "d(`x ${later(`y ${now()} setTimeout`, { e: 1 })} setTimeout`);",
    "f(/setTimeout[/]x/, 4 / 2, 3 / 1);",
    "g();",
  ].join("\n");

  const { code, uncommented } = split(text);

  assert.ok(!code.includes("setTimeout"));
  for (const call of ["a()", "b(", "c(", "d(", "later(", "now()", "f(", "4 / 2, 3 / 1", "g()"]) assert.ok(code.includes(call), call);
  assert.equal(code.split("\n").length, text.split("\n").length);
  assert.ok(uncommented.includes('b("setTimeout")'));
  assert.ok(!uncommented.includes("// setTimeout"));
});

test("the walk sees the packages, their sources and their tests", () => {
  assert.ok(packages.length >= 3);
  assert.ok(sources.length >= 60);
  assert.ok(sources.some(isTestCode) && sources.some((path) => !isTestCode(path)));
  assert.ok(allFiles.includes("package.json"));
  assert.ok(allFiles.every((path) => !path.includes("node_modules/")));
});

test("imports are found in each of their forms", () => {
  const imports = importsOf("packages/trestle/src/tidy/repository.ts").map(({ specifier }) => specifier);
  const kernel = importsOf("packages/trestle/src/kernel/index.ts");

  assert.deepEqual(imports.sort(), ["node:assert/strict", "node:fs", "node:path", "node:url"]);
  assert.ok(kernel.some(({ specifier, typeOnly, file }) => specifier === "./clock.ts" && typeOnly && file === "packages/trestle/src/kernel/clock.ts"));
  assert.ok(kernel.some(({ specifier, typeOnly }) => specifier === "./clock.ts" && !typeOnly));
});
