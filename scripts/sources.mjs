/** Which files of this repository are tests, and which are sources. One walk, used by the test command, `rows` and the packer. */
import { existsSync, readdirSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { root } from "./setup.mjs";

const folders = ["packages", "examples", "benchmarks", "scripts"];

/** Every file below `folder`, as sorted paths with `/` relative to the repository; build output and installed packages are left out. */
export function filesBelow(folder) {
  const found = [];
  const walk = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.name.startsWith(".") || entry.name === "node_modules" || entry.name === "dist" || entry.name === "results") continue;
      if (entry.isDirectory()) walk(join(path, entry.name));
      else if (entry.isFile()) found.push(relative(root, join(path, entry.name)).split(sep).join("/"));
    }
  };
  if (existsSync(join(root, folder))) walk(join(root, folder));
  return found.sort();
}

/** Files whose change makes an old test result worthless. */
export function sourceFiles() {
  return folders.flatMap((folder) => filesBelow(folder));
}

/** `*.test.ts`, `*.fuzz.test.ts` and `*.live.test.ts`. */
export function testFiles() {
  return sourceFiles().filter((path) => path.endsWith(".test.ts"));
}

export function isLive(path) {
  return path.endsWith(".live.test.ts");
}
