import { test } from "node:test";
import { allFiles, atLeast, lines, none, partsOf } from "./repository.ts";

const tests = allFiles.filter((path) => path.endsWith(".test.ts"));
// A name that is put together at run time is judged by the test command, not here.
const literal = /^\s*(?:await )?(?:test|it)\(\s*(["'])((?:\\.|(?!\1).)*)\1/;

test("no file has two tests of one name: a result must belong to one test", () => {
  const wrong: string[] = [];
  let inspected = 0;
  for (const path of tests) {
    const seen = new Map<string, number>();
    for (const { number, text } of lines(partsOf(path).uncommented)) {
      const name = literal.exec(text)?.[2];
      if (name === undefined) continue;
      inspected++;
      if (seen.has(name)) wrong.push(`${path}:${number} and :${seen.get(name)}: ${name}`);
      seen.set(name, number);
    }
  }

  atLeast(100, inspected, "test names");
  none(wrong, "two tests of one name:");
});

test("a test's name is a promise, not a number or a function's name", () => {
  const wrong: string[] = [];
  for (const path of tests) {
    for (const { number, text } of lines(partsOf(path).uncommented)) {
      const name = literal.exec(text)?.[2]?.replace(/^(\[[A-Z]+-?\d+[a-z]?\]\s*)+/, "");
      if (name !== undefined && name.trim().split(/\s+/).length < 3) wrong.push(`${path}:${number}: ${name}`);
    }
  }

  atLeast(15, tests.length, "test files");
  none(wrong, "a name of fewer than three words promises nothing:");
});

test("ids of rows and findings stand in brackets in test names, so that they can be counted", () => {
  const wrong: string[] = [];
  for (const path of tests) {
    for (const { number, text } of lines(partsOf(path).uncommented)) {
      const name = literal.exec(text)?.[2] ?? "";
      if (/(?<!\[)\b[A-Z]{3}-\d\d\b(?!\])/.test(name)) wrong.push(`${path}:${number}: ${name}`);
    }
  }

  atLeast(15, tests.length, "test files");
  none(wrong, "write ids in brackets:");
});
