import { test } from "node:test";
import { allFiles, atLeast, coreFolder, exists, isTestCode, none, packages, partsOf, read, sources } from "./repository.ts";

test("every subpath and every bin of a package leads to a file of its own", () => {
  const wrong: string[] = [];
  let inspected = 0;
  for (const { folder, manifest } of packages) {
    const doors = [...Object.entries(manifest.exports ?? {}), ...Object.entries(manifest.bin ?? {})];
    for (const [door, target] of doors) {
      inspected++;
      if (typeof target !== "string") wrong.push(`${folder} ${door}: give one path to a source; the packer adds types and dist`);
      else if (!/^\.\/src\/.*\.ts$/.test(target)) wrong.push(`${folder} ${door}: ${target} is not below ./src`);
      else if (!exists(`${folder}/${target}`)) wrong.push(`${folder} ${door}: ${target} does not exist`);
    }
    if (manifest.exports?.["."] === undefined) wrong.push(`${folder} has no "." export`);
  }

  atLeast(8, inspected, "subpaths");
  none(wrong, "package.json exports:");
});

test("an index.ts names what it exports", () => {
  const indexes = sources.filter((path) => path.endsWith("/index.ts"));
  const wrong = indexes.filter((path) => /^\s*export\s+(type\s+)?\*(?!\s+as\b)/m.test(partsOf(path).code));

  atLeast(14, indexes.length, "index files");
  none(wrong, "export names, not stars:");
});

test("no module of a package has a default export", () => {
  const inspected = sources; // examples hold apps, benchmarks hold programs that are loaded by name
  const wrong = inspected.filter((path) => /^\s*export\s+default\b/m.test(partsOf(path).code) || /\bas\s+default\b/.test(partsOf(path).code));

  atLeast(90, inspected.length, "sources");
  none(wrong, "a default export is for an app or a program, outside packages/:");
});

test("every module folder of the core has an index.ts, and a README.md that says what the module does not promise and its limits", () => {
  const folders = [...new Set(sources.filter((path) => !isTestCode(path)).map(coreFolder))].filter(
    (folder) => folder !== undefined && folder !== "",
  ) as string[];
  const wrong = folders
    .flatMap((folder) => ["README.md", "index.ts"].map((file) => `packages/trestle/src/${folder}/${file}`))
    .flatMap((path) => {
      if (!exists(path)) return [`${path} is missing`];
      if (path.endsWith(".ts")) return [];
      return [/not promise/i, /limit/i].filter((topic) => !topic.test(read(path))).map((topic) => `${path} has nothing about ${topic.source}`);
    });

  atLeast(12, folders.length, "module folders");
  none(wrong, "every module says what it is:");
});

test("every package has a README.md, and the lists of examples and benchmarks name each of them", () => {
  const unnamed = (folder: string, least: number): string[] => {
    const names = [...new Set(allFiles.flatMap((path) => new RegExp(`^${folder}/([^/]+)/`).exec(path)?.[1] ?? []))];
    if (folder === "benchmarks") names.splice(0, names.length, ...names.filter((name) => exists(`benchmarks/${name}/bench.ts`))); // the rest is what they share
    const list = exists(`${folder}/README.md`) ? read(`${folder}/README.md`) : "";
    atLeast(least, names.length, folder);
    return names
      .filter((name) => !list.includes(name) && !exists(`${folder}/${name}/README.md`))
      .map((name) => `${folder}/README.md does not name ${name}, and it has no README.md of its own`);
  };
  const bare = packages.map(({ folder }) => `${folder}/README.md`).filter((path) => !exists(path));

  none([...bare, ...unnamed("examples", 6), ...unnamed("benchmarks", 4)], "missing:");
});
