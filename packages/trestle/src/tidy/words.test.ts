import assert from "node:assert/strict";
import { test } from "node:test";
import { allFiles, atLeast, lines, none, partsOf, read, sources } from "./repository.ts";

const text = allFiles.filter((path) => /\.(ts|mjs|js|json|md|sql|css|html|c|sh)$/.test(path) || path === ".ci/run" || path === "LICENSE");
const code = allFiles.filter((path) => /\.(ts|mjs|js)$/.test(path));
// This file has to name what it forbids.
const here = "packages/trestle/src/tidy/words.test.ts";

interface Ban {
  readonly pattern: RegExp;
  readonly instead: string;
}

const everywhere: readonly Ban[] = [
  { pattern: /(?<![\w.:/-])\/(work|home|root|Users)\/(?=[\w.-])/, instead: "a path relative to the repository, or a temporary folder of the test" },
  { pattern: /\b(TODO|FIXME|XXX)\b/, instead: "decide, or write a decision record" },
];
const inCode: readonly Ban[] = [
  { pattern: /@ts-(ignore|nocheck)/, instead: "a type that is right; @ts-expect-error with a reason where a mistake is the point" },
  { pattern: /oxlint-disable(?!-next-line [\w/-]+ -- \w)/, instead: "oxlint-disable-next-line <rule> -- <reason>" },
];
const inCodeOnly: readonly Ban[] = [
  { pattern: /\bas any\b/, instead: "a type" },
  { pattern: /\b(test|it|describe|suite)\s*\.\s*only\s*\(|\bonly:\s*true\b/, instead: "run one file: npm test -- <part of its path>" },
  { pattern: /\bdebugger\b/, instead: "nothing" },
];

function offences(path: string, content: string, bans: readonly Ban[]): string[] {
  return lines(content).flatMap(({ number, text: line }) =>
    bans.filter(({ pattern }) => pattern.test(line)).map(({ pattern, instead }) => `${path}:${number}: ${pattern.exec(line)?.[0]} (use ${instead})`),
  );
}

test("no file names a folder of somebody's machine or leaves work for later", () => {
  const inspected = text.filter((path) => path !== here && path !== "package-lock.json");

  atLeast(150, inspected.length, "files");
  none(
    inspected.flatMap((path) => offences(path, read(path), everywhere)),
    "forbidden:",
  );
});

test("no source silences the compiler or runs one test alone", () => {
  const inspected = code.filter((path) => path !== here);

  atLeast(130, inspected.length, "files of code");
  none(
    inspected.flatMap((path) => [...offences(path, read(path), inCode), ...offences(path, partsOf(path).code, inCodeOnly)]),
    "forbidden:",
  );
});

test("the bans catch what they are for", () => {
  const bad = ["see /home/ann/x", "cd /root/main", "// TODO later"];
  const good = ["https://example.org/home/x", "./work/x", "GET /home", "todos"];

  for (const line of bad) assert.equal(offences("x", line, everywhere).length, 1, line);
  for (const line of good) assert.equal(offences("x", line, everywhere).length, 0, line);
  assert.equal(offences("x", "test.only(", inCodeOnly).length, 1);
  assert.equal(offences("x", "const a = b as any;", inCodeOnly).length, 1);
});

test("a file over 400 lines says why in its header", () => {
  const inspected = code.filter((path) => !path.endsWith(".test.ts"));
  const long = inspected.map((path) => ({ path, content: read(path) })).filter(({ content }) => content.split("\n").length - 1 > 400);

  atLeast(90, inspected.length, "files of code");
  none(
    long
      .filter(({ content }) => !content.slice(0, 3_000).includes("Over 400 lines because"))
      .map(({ path, content }) => `${path}: ${content.split("\n").length - 1} lines`),
    'split it, or say "Over 400 lines because …" in the header:',
  );
});

test("no file is named after nothing in particular", () => {
  atLeast(80, sources.length, "sources");
  none(
    allFiles.filter((path) => /\/(utils?|helpers?|types|common|misc|shared|lib)\.(ts|mjs|js)$/.test(path)),
    "a file's name is the noun it answers for:",
  );
});
