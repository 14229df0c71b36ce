/**
 * The floors of the core package. Imports point down or stay on their floor; a folder reaches another only through its
 * `index.ts`; two folders never need one another. The table is the architecture: whoever adds a folder puts it on a floor.
 */
import { test } from "node:test";
import assert from "node:assert/strict";
import { atLeast, coreFolder, importsOf, isTestCode, none, packages, sources } from "./repository.ts";

const floors: Readonly<Record<string, number>> = {
  kernel: 0,
  store: 1,
  sqlite: 1,
  conformance: 1,
  component: 2,
  resilience: 2,
  coordination: 2,
  limits: 2,
  degradation: 2,
  adapters: 3,
  records: 3,
  events: 3,
  messaging: 3,
  external: 3,
  service: 3,
  sql: 3,
  setting: 3,
  implement: 3,
  kind: 3,
  app: 4,
  move: 5,
  simulation: 5,
  console: 5,
  cli: 5,
};

const core = "packages/trestle/src/";
const published = sources.filter((path) => !isTestCode(path));
const edges = published
  .filter((path) => path.startsWith(core))
  .flatMap((path) =>
    importsOf(path).map((edge) => ({ path, from: coreFolder(path) as string, to: edge.file === undefined ? undefined : coreFolder(edge.file), ...edge })),
  );

test("every folder of the core stands on a floor", () => {
  const folders = new Set(published.map(coreFolder).filter((folder) => folder !== undefined && folder !== ""));

  atLeast(12, folders.size, "folders of the core");
  none(
    [...folders].filter((folder) => !((folder as string) in floors)).map((folder) => `${core}${folder}`),
    "a folder of the core needs a floor in this test's table:",
  );
});

test("imports point down, or to a sibling's index.ts", () => {
  const wrong: string[] = [];
  let inspected = 0;
  for (const { path, from, to, file, specifier } of edges) {
    if (file === undefined || from === to || !file.endsWith(".ts")) continue; // a page or an SQL file is not code
    inspected++;
    if (to === undefined) wrong.push(`${path} leaves the package: ${specifier}`);
    else if (to === "") wrong.push(`${path} imports the package's own entry: ${specifier}`);
    else if (!file.endsWith("/index.ts")) wrong.push(`${path} reaches into ${to}: ${specifier}`);
    else if (from !== "" && (floors[to] ?? 99) > (floors[from] ?? -1)) wrong.push(`${path} (floor ${floors[from]}) imports ${to} (floor ${floors[to]})`);
  }

  atLeast(60, inspected, "imports between folders");
  none(wrong, "imports point down only, and through index.ts:");
});

test("two folders never need one another", () => {
  const needs = new Map<string, Set<string>>();
  for (const { from, to } of edges) {
    if (to === undefined || to === from || from === "" || to === "") continue;
    needs.set(from, (needs.get(from) ?? new Set()).add(to));
  }
  const cycles: string[] = [];
  const visit = (folder: string, trail: readonly string[]): void => {
    if (trail.includes(folder)) return void cycles.push([...trail.slice(trail.indexOf(folder)), folder].join(" → "));
    for (const next of needs.get(folder) ?? []) visit(next, [...trail, folder]);
  };
  for (const folder of needs.keys()) visit(folder, []);

  atLeast(10, needs.size, "folders that import others");
  none([...new Set(cycles.map((cycle) => cycle.split(" → ").slice(1).sort().join(" ↔ ")))], "folders that import each other in a circle:");
});

test("the kernel, the store and the engines in the core need nothing but Node", () => {
  const low = edges.filter(({ from }) => (floors[from] ?? 99) <= 1);
  const foreign = low.filter(({ file, specifier, typeOnly }) => file === undefined && !specifier.startsWith("node:") && !typeOnly);

  atLeast(40, low.length, "imports on the two lowest floors");
  none(
    foreign.map(({ path, specifier }) => `${path} imports ${specifier}`),
    "the two lowest floors import only node: modules:",
  );
});

test("no package imports what it does not declare, and the core never imports an adapter", () => {
  const wrong: string[] = [];
  let inspected = 0;
  for (const { folder, manifest } of packages) {
    const declared = new Set(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies, ...manifest.optionalDependencies }));
    for (const path of published.filter((source) => source.startsWith(`${folder}/`))) {
      for (const { specifier, file } of importsOf(path)) {
        if (file !== undefined || specifier.startsWith("node:")) continue;
        inspected++;
        const name = specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/");
        if (name === manifest.name) wrong.push(`${path} imports its own package: ${specifier}`);
        else if (!declared.has(name)) wrong.push(`${path} imports ${specifier}, which ${folder}/package.json does not declare`);
        else if (manifest.name === "trestle" && packages.some((other) => other.manifest.name === name)) wrong.push(`${path} imports the adapter ${name}`);
      }
    }
  }

  atLeast(10, inspected, "imports of other packages");
  none(wrong, "a package imports only its declared dependencies:");
});

test("only the writer and the readers of the sqlite folder open a database", () => {
  const openers = published.filter(
    (path) => path.startsWith("packages/") && importsOf(path).some(({ specifier, typeOnly }) => specifier === "node:sqlite" && !typeOnly),
  );

  assert.ok(openers.length > 0);
  none(
    openers.filter((path) => coreFolder(path) !== "sqlite"),
    "node:sqlite is imported by the sqlite folder only:",
  );
});
