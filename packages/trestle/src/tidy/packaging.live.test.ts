/** What users get: every package is built, packed, installed into an empty project and used there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { atLeast, none, packages, read, root, type Manifest } from "./repository.ts";

let folder = "";
let project = "";
let tarballs: string[] = [];
let contents: { readonly tarball: string; readonly files: readonly string[] }[] = [];

before(
  () => {
    folder = mkdtempSync(join(tmpdir(), "trestle-packaging-"));
    project = join(folder, "project");
    mkdirSync(project);
    tarballs = run(process.execPath, ["scripts/pack.mjs", "--out", folder], root).trim().split("\n");
    contents = tarballs.map((tarball) => ({
      tarball,
      files: run("tar", ["-tzf", join(folder, tarball)], folder)
        .trim()
        .split("\n"),
    }));
    install();
  },
  { timeout: 240_000 },
);

after(() => rmSync(folder, { recursive: true, force: true }));

interface LockEntry {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/**
 * Installs the tarballs with the versions this repository is locked to: npm then takes everything from the cache that installing
 * the repository has filled, and a registry that is slow or away does not matter. zod and Node's types are for the README's example.
 */
function install(): void {
  const ours = Object.fromEntries(
    tarballs.map((tarball) => {
      const { name, version, dependencies, peerDependencies, optionalDependencies, bin, engines } = JSON.parse(
        run("tar", ["-xzOf", tarball, "package/package.json"], folder),
      ) as Manifest & LockEntry & { engines: object };
      const entry = {
        version,
        resolved: `file:../${tarball}`,
        ...(dependencies && { dependencies }),
        ...(peerDependencies && { peerDependencies }),
        ...(optionalDependencies && { optionalDependencies }),
        ...(bin && { bin }),
        engines,
      };
      return [name, entry];
    }),
  );
  const locked = (JSON.parse(read("package-lock.json")) as { packages: Record<string, LockEntry & { version: string }> }).packages;
  const beside = ["zod", "@types/node"];
  const entries: Record<string, LockEntry> = {};
  const queue = [...Object.keys(ours), ...beside];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (entries[`node_modules/${name}`]) continue;
    const entry: LockEntry | undefined = ours[name] ?? locked[`node_modules/${name}`];
    assert.ok(entry, `package-lock.json does not know ${name}`);
    entries[`node_modules/${name}`] = entry;
    const others = Object.keys({ ...entry.peerDependencies, ...entry.optionalDependencies }).filter((other) => locked[`node_modules/${other}`]);
    queue.push(...Object.keys(entry.dependencies ?? {}), ...others);
  }
  const dependencies = {
    ...Object.fromEntries(Object.entries(ours).map(([name, { resolved }]) => [name, resolved])),
    ...Object.fromEntries(beside.map((name) => [name, locked[`node_modules/${name}`]?.version])),
  };
  const empty = { name: "empty", version: "1.0.0", private: true, type: "module", dependencies };
  writeFileSync(join(project, "package.json"), JSON.stringify(empty));
  writeFileSync(
    join(project, "package-lock.json"),
    JSON.stringify({ name: "empty", version: "1.0.0", lockfileVersion: 3, requires: true, packages: { "": empty, ...entries } }),
  );
  const npm = (where: string) =>
    spawnSync("npm", ["ci", where, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: project, encoding: "utf8" });
  let answer = npm("--offline");
  if (answer.status !== 0) answer = npm("--prefer-offline");
  assert.equal(answer.status, 0, answer.stderr);
}

function run(program: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" },
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} failed (${error?.message ?? `exit code ${status}`}):\n${stdout}\n${stderr}`);
  return stdout;
}

function installed(): { name: string; at: string; doors: [string, { types: string; default: string }][] }[] {
  return packages.map(({ manifest: { name } }) => {
    const at = join(project, "node_modules", name);
    const { exports } = JSON.parse(readFileSync(join(at, "package.json"), "utf8")) as { exports: Record<string, { types: string; default: string }> };
    return { name, at, doors: Object.entries(exports).filter(([door]) => door !== "./package.json") };
  });
}

test("a package holds its compiled code, its licence and nothing that is for tests", () => {
  const files = contents.flatMap(({ tarball, files: names }) => names.map((name) => ({ tarball, name })));
  const wrong = files.filter(({ name }) => /\.(test|bench|types)\.|\/(testing|tidy|src|node_modules)\/|\/\.|(?<!\.d)\.ts$|tsbuildinfo/.test(name));

  assert.equal(tarballs.length, packages.length);
  atLeast(150, files.length, "packed files");
  none(
    wrong.map(({ tarball, name }) => `${tarball}: ${name}`),
    "these do not belong into a package:",
  );
  for (const { tarball, files: names } of contents)
    for (const file of ["LICENSE", "README.md", "CHANGELOG.md", "package.json", "dist/index.js", "dist/index.d.ts"])
      assert.ok(names.includes(`package/${file}`), `${tarball} lacks ${file}`);
});

test("the pages of a package link to nothing that is not in it", () => {
  const dead: string[] = [];
  let links = 0;
  for (const { name, at } of installed())
    for (const page of ["README.md", "CHANGELOG.md"]) {
      const text = readFileSync(join(at, page), "utf8").replace(/^```.*\n[\s\S]*?^```/gm, "");
      for (const [, target = ""] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        links++;
        if (!/^(https?:|#)/.test(target) && !existsSync(join(at, target.replace(/#.*/, "")))) dead.push(`${name}/${page}: ${target}`);
      }
    }

  atLeast(5, links, "links");
  none(dead, "not in the package:");
});

test("every subpath can be imported from an empty project and exports what its source does", () => {
  const doors = installed().flatMap(({ name, doors: each }) => each.map(([door]) => name + door.slice(1)));
  const script = `const out = {}; for (const name of ${JSON.stringify(doors)}) out[name] = Object.keys(await import(name)).sort(); console.log(JSON.stringify(out)); process.exit(0);`;
  const here = run(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script], root);
  const there = run(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script], project);

  atLeast(6, doors.length, "subpaths");
  assert.deepEqual(JSON.parse(there), JSON.parse(here));
});

test("the declarations of every subpath compile in a strict project", () => {
  const doors = installed().flatMap(({ name, doors: each }) => each.map(([door]) => name + door.slice(1)));
  writeFileSync(
    join(project, "all.ts"),
    doors
      .map((door, index) => `import * as m${index} from ${JSON.stringify(door)};\nexport const k${index}: number = Object.keys(m${index}).length;\n`)
      .join(""),
  );
  const options = {
    strict: true,
    target: "es2024",
    lib: ["es2024", "esnext.disposable"],
    module: "nodenext",
    types: ["node"],
    noEmit: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
  };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["all.ts"] }));

  run(join(root, "node_modules", ".bin", "tsc"), ["-p", "tsconfig.json"], project);
});

test("every worker and every file that the compiled code looks for beside itself is there", () => {
  const missing: string[] = [];
  let inspected = 0;
  for (const { name, at } of installed()) {
    for (const file of readdirSync(join(at, "dist"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".js"))) {
      const text = readFileSync(join(at, "dist", file), "utf8");
      for (const match of text.matchAll(/new URL\(([^()]*(?:\([^()]*\)[^()]*)*),\s*import\.meta\.url\)/g)) {
        for (const literal of (match[1] as string).matchAll(/"(\.{1,2}\/[^"]+)"/g)) {
          const target = literal[1] as string;
          if (target.endsWith(".ts")) continue; // the other arm, for the sources
          inspected++;
          if (!existsSync(join(at, "dist", dirname(file), target))) missing.push(`${name}/dist/${file}: ${target}`);
        }
      }
    }
  }

  atLeast(1, inspected, "files named by URL");
  none(missing, "not in the package:");
});

test("the example of the README runs on the installed packages, in memory and on a file with its writer thread", () => {
  const example = /^```ts run\s*\n([\s\S]*?)^```/m.exec(read("README.md"))?.[1];
  assert.ok(example !== undefined, "README.md has no block marked ```ts run");
  assert.ok(example.includes('store: "memory:"'));
  writeFileSync(join(project, "example.ts"), example);
  writeFileSync(join(project, "on-file.ts"), example.replace('store: "memory:"', 'store: "sqlite:./example.db"'));

  run(process.execPath, ["--disable-warning=ExperimentalWarning", "example.ts"], project);
  run(process.execPath, ["--disable-warning=ExperimentalWarning", "on-file.ts"], project);
  assert.ok(existsSync(join(project, "example.db")));
});

test("the command trestle is installed and answers", () => {
  assert.match(run(join(project, "node_modules", ".bin", "trestle"), ["--help"], project), /trestle/);
});
