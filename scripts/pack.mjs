/**
 * `npm run pack [-- --out <folder>]`: builds every package and writes its tarball, one name per line on stdout.
 * In the repository `exports` lead to `src`, so that nothing needs a build; npm has no way to publish other ones, so each package is
 * packed from a staging folder with a package.json of its own: exports and bins lead to `dist`, and only what a user needs is left.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { build, packageFolders, published } from "./build.mjs";
import { command, environment, root, SetupError } from "./setup.mjs";

await command(async () => {
  const at = process.argv.indexOf("--out");
  const out = resolve(at === -1 ? join(root, "results", "packages") : (process.argv[at + 1] ?? "."));
  mkdirSync(out, { recursive: true });
  await build();
  for (const name of packageFolders) process.stdout.write(`${pack(name, out)}\n`);
});

function pack(name, out) {
  const folder = join(root, "packages", name);
  const stage = mkdtempSync(join(tmpdir(), "trestle-pack-"));
  try {
    writeFileSync(join(stage, "package.json"), `${JSON.stringify(published(JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))), null, 2)}\n`);
    cpSync(join(folder, "dist"), join(stage, "dist"), { recursive: true, filter: (path) => !path.endsWith(".tsbuildinfo") });
    for (const file of ["LICENSE", "CHANGELOG.md", "README.md"]) {
      const own = join(folder, file);
      cpSync(existsSync(own) ? own : join(root, file), join(stage, file));
    }
    for (const page of ["CHANGELOG.md", "README.md"]) writeFileSync(join(stage, page), withoutDeadLinks(readFileSync(join(stage, page), "utf8"), stage));
    const run = spawnSync("npm", ["pack", "--json", "--ignore-scripts", "--loglevel=error", "--pack-destination", out], {
      cwd: stage,
      encoding: "utf8",
      env: environment(),
    });
    if (run.status !== 0) throw new SetupError(`npm pack failed for ${name}: ${run.stderr}`);
    const answer = JSON.parse(run.stdout);
    return (Array.isArray(answer) ? answer[0] : Object.values(answer)[0]).filename;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** A page as it stands in the package `stage`: of a link to what only the repository has the words are left. Code is left as it is. */
function withoutDeadLinks(text, stage) {
  return text.replace(/^```.*\n[\s\S]*?^```|\[((?:[^[\]]|\[[^[\]]*\])*)\]\((?![a-z]+:|#)([^)\s#]+)[^)]*\)|`[^`\n]*`/gm, (whole, words, path) =>
    path === undefined || existsSync(join(stage, path)) ? whole : words,
  );
}
