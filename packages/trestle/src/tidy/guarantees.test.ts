import { test } from "node:test";
import { allFiles, atLeast, exists, isTestCode, lines, none, partsOf, read, sources } from "./repository.ts";

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

const scenarioFolder = "packages/trestle/src/simulation/testing/";
/** Of the tables of scenarios: what is promised, and the code that shows it. */
const shownByScenarios = read(`${scenarioFolder}README.md`)
  .split("\n")
  .filter((line) => line.startsWith("| ") && !/^\| (guarantee|promise) \|/.test(line))
  .map((line) => {
    const [promise = "", scenarios = "", tests = ""] = line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
    return {
      promise,
      isOfAll: scenarios.startsWith("all"),
      scenarios: [...scenarios.matchAll(/`([a-z-]+)`/g)].map((match) => match[1] as string),
      tests: [...tests.matchAll(/`([^`]+\.ts)`/g)].map((match) => match[1] as string),
    };
  });

test("every guarantee that may fail has a scenario in virtual time, or a test on the real thing", () => {
  const topics = literals(["packages/trestle/src/messaging/topic.ts"], /"topic\.[a-z-]+": \[/).map(({ id }) => id);
  const ids = [...documented, ...topics.filter((id) => id.startsWith("topic."))];
  const named = new Set(shownByScenarios.map(({ promise }) => promise.replaceAll("`", "")));

  atLeast(25, ids.length, "guarantees");
  none(
    ids.filter((id) => !named.has(id)),
    "not in the table of scenarios:",
  );
  none(
    shownByScenarios.filter(({ scenarios, isOfAll, tests }) => scenarios.length === 0 && !isOfAll && tests.length === 0).map(({ promise }) => promise),
    "shown by nothing:",
  );
});

test("the table of scenarios names what is there, and all of it", () => {
  const files = allFiles.filter((path) => path.startsWith(scenarioFolder) && path.endsWith(".simulation.ts"));
  const names = files.map((path) => path.slice(scenarioFolder.length, -".simulation.ts".length));
  const used = new Set(shownByScenarios.flatMap(({ scenarios }) => scenarios));

  atLeast(20, names.length, "scenarios");
  none(
    names.filter((name) => !used.has(name)),
    "scenarios that show nothing of the table:",
  );
  none(
    [...used].filter((name) => !names.includes(name)),
    "no such scenario:",
  );
  none(
    shownByScenarios.flatMap(({ tests }) => tests).filter((path) => !exists(path)),
    "no such test:",
  );
});
