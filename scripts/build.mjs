/**
 * `npm run build`: the published form of every package, `packages/<name>/dist`: declarations by `tsc -b`, ESM by esbuild, and beside them what the sources read at run time (SQL, pages,
 * styles). What is published is a few files and not one for each module, because Node takes some half a millisecond for each file, and an app that starts loads 240 of ours
 * (docs/decisions/0023-published-in-chunks.md). Nothing is renamed and nothing is made smaller: stack traces keep their names.
 * dist is emptied first: a removed source must not be published for ever.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, join, posix, relative } from "node:path";
import { command, environment, root, setUp, SetupError } from "./setup.mjs";
import { filesBelow } from "./sources.mjs";

export const packageFolders = readdirSync(join(root, "packages")).filter((name) => existsSync(join(root, "packages", name, "package.json")));

export async function build() {
  setUp();
  for (const name of packageFolders) rmSync(join(root, "packages", name, "dist"), { recursive: true, force: true });
  const tsc = spawnSync(join(root, "node_modules", ".bin", "tsc"), ["-b", "tsconfig.build.json"], { cwd: root, stdio: ["ignore", 2, 2], env: environment() });
  if (tsc.status !== 0) throw new SetupError("tsc -b failed; its messages are above.");
  // Installed by setUp, so not there when this module is loaded.
  const { build: esbuild, stop } = await import("esbuild-wasm");
  try {
    for (const name of packageFolders) await compile(esbuild, join(root, "packages", name));
  } finally {
    await stop();
  }
  for (const name of packageFolders) {
    const source = `packages/${name}/src`;
    for (const path of filesBelow(source)) {
      if (/\.(ts|md)$/.test(path) || /\/src\/(.*\/)?(testing|tidy)\//.test(path)) continue;
      const target = join(root, "packages", name, "dist", path.slice(source.length + 1));
      mkdirSync(dirname(target), { recursive: true });
      copyFileSync(join(root, path), target);
    }
  }
}

/** Doors, commands, and what the sources start by its URL (threads, processes) keep their place below dist; what they share is in dist/chunks. */
async function compile(esbuild, folder) {
  const { exports = {}, bin = {} } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const sources = filesBelow(relative(root, join(folder, "src")))
    .map((path) => relative(folder, join(root, path)))
    .filter((path) => path.endsWith(".ts") && !/\.(test|bench|types)\.ts$|(^|\/)(testing|tidy)(\/|\.ts$)/.test(path));
  const started = sources.flatMap((path) =>
    urlsIn(readFileSync(join(folder, path), "utf8")).flatMap(({ literal }) => (literal.endsWith(".ts") ? [posix.join(posix.dirname(path), literal)] : [])),
  );
  const entries = new Set(
    [...Object.values(exports).filter((path) => !path.includes("/testing")), ...Object.values(bin), ...started].map((path) => posix.normalize(path)),
  );
  const { outputFiles } = await esbuild({
    absWorkingDir: folder,
    entryPoints: Object.fromEntries([...entries].map((path) => [path.replace(/^src\//, "").replace(/\.ts$/, ""), path])),
    outdir: "dist",
    chunkNames: "chunks/[name]-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    packages: "external",
    write: false,
    plugins: [
      {
        name: "beside",
        setup: (made) =>
          made.onLoad({ filter: /\.ts$/ }, ({ path }) => ({
            contents: fromDist(readFileSync(path, "utf8"), posix.dirname(relative(join(folder, "src"), path))),
            loader: "ts",
          })),
      },
    ],
  });
  for (const { path, text } of outputFiles) {
    mkdirSync(dirname(path), { recursive: true });
    await writeFile(path, besideOutput(text, dirname(relative(join(folder, "dist"), path))));
  }
}

const url = /new URL\(([^()]*(?:\([^()]*\)[^()]*)*),\s*import\.meta\.url\)/g;
const beside = /(["'`])((?:\.{1,2}\/)+)([^"'`]*)\1/g;

function urlsIn(text) {
  return [...text.matchAll(url)].flatMap(([, of]) => [...of.matchAll(beside)].map(([, , up, rest]) => ({ literal: up + rest })));
}

/** What lies beside a module is named by its place in dist, since a chunk has another one than the module. */
function fromDist(text, folder) {
  return text.replace(url, (all) => all.replace(beside, (_, quote, up, rest) => `${quote}@dist:${posix.join(folder, up)}@${rest}${quote}`));
}
function besideOutput(text, folder) {
  return text.replace(/@dist:([^@]*)@/g, (_, place) => {
    const path = posix.relative(folder, place);
    return path === "" ? "./" : `${path.startsWith(".") ? "" : "./"}${path}/`;
  });
}

/** The manifest as users get it. Doors into `src/testing` are for this repository only. */
export function published(manifest) {
  const { scripts: _scripts, devDependencies: _devDependencies, private: _private, exports = {}, bin, ...rest } = manifest;
  const compiled = (path) => path.replace(/^\.\/src\//, "./dist/").replace(/\.ts$/, ".js");
  const doors = Object.entries(exports).filter(([, target]) => !target.includes("/testing"));
  return {
    ...rest,
    exports: {
      ...Object.fromEntries(doors.map(([door, target]) => [door, { types: compiled(target).replace(/\.js$/, ".d.ts"), default: compiled(target) }])),
      "./package.json": "./package.json",
    },
    ...(bin && { bin: Object.fromEntries(Object.entries(bin).map(([command, target]) => [command, compiled(target)])) }),
    files: ["dist", "CHANGELOG.md"],
    sideEffects: false,
  };
}

if (process.argv[1]?.endsWith("build.mjs")) await command(() => build());
