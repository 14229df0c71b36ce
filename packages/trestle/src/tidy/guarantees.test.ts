import { test } from "node:test";
import { atLeast, isTestCode, lines, none, partsOf, read, sources } from "./repository.ts";

const rows = [...read("docs/reference/guarantees.md").matchAll(/^\| `([^`]+)` \|.*\| (cases|live) \|$/gm)].map((match) => ({
  id: match[1] as string,
  shownBy: match[2] as string,
}));
const documented = new Set(rows.map(({ id }) => id));
const published = sources.filter((path) => !isTestCode(path));
const conformance = published.filter((path) => path.includes("/conformance/"));
const engines = published.filter((path) => /\/(sqlite|postgres)\//.test(path));

function literals(paths: readonly string[], line: RegExp): { id: string; path: string }[] {
  return paths.flatMap((path) =>
    lines(partsOf(path).uncommented)
      .filter(({ text }) => line.test(text))
      .flatMap(({ text }) => [...text.matchAll(/"([a-z]+\.[a-z-]+)"/g)].map((match) => ({ id: match[1] as string, path }))),
  );
}

test("every guarantee that an engine gives or a case shows is in docs/reference/guarantees.md", () => {
  const used = [...literals(conformance, /\bguarantee\b/), ...literals(engines, /\bguarantees\b|^const (always|inFiles) =/)];

  atLeast(40, used.length, "uses of guarantees");
  none([...new Set(used.filter(({ id }) => !documented.has(id)).map(({ id, path }) => `${id} (${path})`))], "undocumented:");
});

test("every documented guarantee is given by an engine and shown by a case, unless only a live test can show it", () => {
  const given = new Set(literals(engines, /./).map(({ id }) => id));
  const shown = new Set(literals(conformance, /./).map(({ id }) => id));

  atLeast(12, rows.length, "guarantees");
  none(
    rows.filter(({ id }) => !given.has(id)).map(({ id }) => id),
    "no engine gives:",
  );
  none(
    rows.filter(({ id, shownBy }) => shownBy === "cases" && !shown.has(id)).map(({ id }) => id),
    "no conformance case shows:",
  );
});
