import { test } from "node:test";
import { allFiles, atLeast, exists, importsOf, none, packages, read } from "./repository.ts";

const code = allFiles.filter((path) => /^(packages\/[^/]+\/src|examples|benchmarks|scripts)\/.*\.(ts|mjs|js)$/.test(path));

/** Every file that somebody outside can name: a subpath, a bin, a test, a file a command of the repository runs, an app. */
function doors(): string[] {
  const fromManifests = packages.flatMap(({ folder, manifest }) =>
    [...Object.values(manifest.exports ?? {}), ...Object.values(manifest.bin ?? {})].map((target) => `${folder}/${target.replace(/^\.\//, "")}`),
  );
  const tests = code.filter((path) => /\.(test|bench|types)\.ts$/.test(path));
  const commands = code.filter((path) => /^scripts\/|^benchmarks\/(peers\/)?[^/]+\/bench\.ts$/.test(path));
  // An example's files that are run by name, by its package.json, its README or the root's.
  const texts = ["package.json", "README.md", ...allFiles.filter((path) => /^examples\/[^/]+\/(package\.json|README\.md)$/.test(path))]
    .filter(exists)
    .map(read)
    .join("\n");
  const examples = code.filter((path) => path.startsWith("examples/") && (texts.includes(path) || /^examples\/(?!shop\/)[^/]+\/[^/]+\.ts$/.test(path)));
  return [...fromManifests, ...tests, ...commands, ...examples];
}

test("every source is reached from an export, a bin, a test, an example or a command", () => {
  const known = new Set(code);
  const reached = new Set<string>();
  const queue = doors();
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (reached.has(path) || !known.has(path)) continue;
    reached.add(path);
    for (const { file, specifier } of importsOf(path)) {
      if (file !== undefined) queue.push(file);
      else queue.push(...subpath(specifier));
    }
    // Processes and workers are named by path in a string: "./writer.ts", "payments/main.ts".
    for (const match of read(path).matchAll(/["'`/]([\w-]+(?:\/[\w-]+)*\.(?:ts|mjs|js))["'`]/g)) {
      for (const other of code) if (other.endsWith(`/${match[1]}`) && sameWorkspace(path, other)) queue.push(other);
    }
    // … or with a part that is filled in: `./${name}.ts`.
    for (const match of read(path).matchAll(/`\.\/([\w/-]*)\$\{[^}`]+\}([\w-]*\.(?:ts|mjs|js))`/g)) {
      const folder = path.slice(0, path.lastIndexOf("/") + 1);
      for (const other of code) if (other.startsWith(folder + match[1]) && other.endsWith(match[2] as string)) queue.push(other);
    }
    // … or by how they end, by who reads their folder.
    for (const match of read(path).matchAll(/readdirSync\((?:(?!readdirSync)[^;])*\.endsWith\("(\.[\w-]+\.ts)"\)/g)) {
      const folder = path.slice(0, path.lastIndexOf("/") + 1);
      for (const other of code) if (other.endsWith(match[1] as string) && other.slice(0, other.lastIndexOf("/") + 1) === folder) queue.push(other);
    }
  }

  atLeast(130, code.length, "files of code");
  none(
    code.filter((path) => !reached.has(path)),
    "nobody reaches:",
  );
});

function subpath(specifier: string): string[] {
  for (const { folder, manifest } of packages) {
    if (specifier !== manifest.name && !specifier.startsWith(`${manifest.name}/`)) continue;
    const target = manifest.exports?.[`.${specifier.slice(manifest.name.length)}`];
    if (target !== undefined) return [`${folder}/${target.replace(/^\.\//, "")}`];
  }
  return [];
}

function sameWorkspace(a: string, b: string): boolean {
  return a.split("/").slice(0, 2).join("/") === b.split("/").slice(0, 2).join("/");
}

test("every asset beside the sources is read by one of them", () => {
  const assets = allFiles.filter((path) => /^(packages\/[^/]+\/src|examples)\/.*\.(sql|css|html|js|svg|c)$/.test(path));
  const texts = code.map((path) => ({ path, text: read(path) }));
  const unread = assets.filter((asset) => {
    const name = asset.split("/").at(-1) as string;
    return (
      !texts.some(
        ({ path, text }) => path !== asset && sameWorkspace(path, asset) && (text.includes(name) || text.includes(`"${name.replace(/\.\w+$/, "")}"`)),
      ) && !allFiles.some((path) => path.endsWith(".html") && sameWorkspace(path, asset) && read(path).includes(name))
    );
  });

  atLeast(3, assets.length, "assets");
  none(unread, "nobody reads:");
});
