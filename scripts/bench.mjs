/**
 * `npm run bench -- <subject> [arguments]`: runs `benchmarks/<subject>/bench.ts` with the pinned Node. `<subject>-peers` is
 * `benchmarks/peers/<subject>/bench.ts`, and so is `<subject>` where there is no other: the libraries it measures beside are installed there first, from a lockfile of their own.
 * `--help` as an argument prints what the subject's file says of itself.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { become, command, environment, root, setUp, SetupError } from "./setup.mjs";

const folder = join(root, "benchmarks");
const peers = join(folder, "peers");
// benchmarks/harness is what the subjects share.
const below = (path) => (existsSync(path) ? readdirSync(path).filter((name) => existsSync(join(path, name, "bench.ts"))) : []);
const subjects = new Map([
  ...below(peers).flatMap((name) => [
    [`${name}-peers`, join(peers, name)],
    [name, join(peers, name)],
  ]),
  ...below(folder).map((name) => [name, join(folder, name)]),
]);
const [subject, ...args] = process.argv.slice(2);

await command(() => {
  const path = subjects.get(subject);
  if (path === undefined) {
    process.stderr.write(
      `npm run bench -- <subject>: the subject must be one of ${[...subjects.keys()].join(", ") || "(there are none yet)"}, got ${JSON.stringify(subject)}.\n`,
    );
    process.exitCode = 64;
    return;
  }
  if (args.includes("--help")) {
    const [, header = ""] = /^\/\*\*\n([^]*?)\n? \*\//.exec(readFileSync(join(path, "bench.ts"), "utf8")) ?? [];
    process.stdout.write(`${header.replaceAll(/^ \* ?/gm, "")}\n`);
    return;
  }
  setUp();
  if (path.startsWith(peers)) installPeers();
  become(join(path, "bench.ts"), args);
});

function installPeers() {
  const lock = (path) => existsSync(path) && JSON.parse(readFileSync(path, "utf8")).packages;
  const wanted = lock(join(peers, "package-lock.json"));
  const there = lock(join(peers, "node_modules", ".package-lock.json")) || {};
  if (Object.entries(wanted).every(([path, { version, optional }]) => path === "" || optional || there[path]?.version === version)) return;
  process.stderr.write("Installing what is measured beside: npm ci --ignore-scripts in benchmarks/peers\n");
  const { status } = spawnSync("npm", ["ci", "--ignore-scripts", "--no-workspaces", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: peers,
    stdio: ["ignore", 2, 2],
    env: environment(),
  });
  if (status !== 0) throw new SetupError(`npm ci in benchmarks/peers failed with exit code ${status}; its message is above.`);
}
