/**
 * `npm run build`: the published form of every package, `packages/<name>/dist`: ESM and declarations by `tsc -b`, and beside
 * them what the sources read at run time (SQL, pages, styles). `tsc -b` never deletes, so dist is emptied first: a removed
 * source must not be published for ever.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { command, environment, root, setUp, SetupError } from "./setup.mjs";
import { filesBelow } from "./sources.mjs";

export const packageFolders = readdirSync(join(root, "packages")).filter((name) => existsSync(join(root, "packages", name, "package.json")));

export function build() {
  setUp();
  for (const name of packageFolders) rmSync(join(root, "packages", name, "dist"), { recursive: true, force: true });
  const tsc = spawnSync(join(root, "node_modules", ".bin", "tsc"), ["-b", "tsconfig.build.json"], { cwd: root, stdio: ["ignore", 2, 2], env: environment() });
  if (tsc.status !== 0) throw new SetupError("tsc -b failed; its messages are above.");
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

if (process.argv[1]?.endsWith("build.mjs")) await command(() => build());
