/**
 * Set-up that needs nothing but Node 20 and npm: dependencies, the pinned Node, a browser. Every command in `scripts/` goes
 * through here. When there is nothing to do it costs a few file stats (`node scripts/setup.mjs --time`).
 *
 * The pinned Node comes from npm's platform packages (docs/decisions/0003-node-floor-and-pinning.md): no install script,
 * one integrity hash in the lockfile, and `node` inside npm scripts is it.
 */
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, "node_modules");
const leastNode = [24, 10];

/** A set-up that cannot go on: the message is for a person and says what to do. */
export class SetupError extends Error {}

/** Path of the Node that everything here runs with. Throws `SetupError` when this machine has none. */
export function pinnedNode() {
  for (const prefix of ["node-", "node-bin-"]) {
    const path = join(modules, `${prefix}${process.platform}-${process.arch}`, "bin", "node");
    if (existsSync(path)) return path;
  }
  if (newEnough(process.versions.node)) return process.execPath;
  throw new SetupError(
    `Trestle needs Node ${leastNode.join(".")} or newer; no pinned Node for ${process.platform}-${process.arch} is among the optionalDependencies of package.json, and this one is ${process.version}. Install Node 24 and run the command again.`,
  );
}

function newEnough(version) {
  const [major, minor] = version.split(".").map(Number);
  return major > leastNode[0] || (major === leastNode[0] && minor >= leastNode[1]);
}

/** Do the installed packages match the lockfile? */
export function isSetUp() {
  const lock = join(root, "package-lock.json");
  const installed = join(modules, ".package-lock.json");
  const lockStat = statSync(lock, { throwIfNoEntry: false });
  const installedStat = statSync(installed, { throwIfNoEntry: false });
  if (!lockStat || !installedStat) return false;
  return (
    installedStat.mtimeMs >= lockStat.mtimeMs || matches(JSON.parse(readFileSync(lock, "utf8")).packages, JSON.parse(readFileSync(installed, "utf8")).packages)
  );
}

// A lockfile that is merely newer (a checkout touched it) is no reason to install: what counts is that both say the same.
function matches(wanted, installed) {
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.startsWith("node_modules/")) continue;
    const there = installed[path];
    if (there ? there.version !== entry.version || there.integrity !== entry.integrity : !entry.optional) return false;
  }
  return Object.keys(installed).every((path) => path in wanted);
}

/** Installs the dependencies if they are missing or differ from the lockfile. Progress goes to stderr; silent when nothing is to do. */
export function setUp() {
  if (isSetUp()) return;
  process.stderr.write(`${existsSync(modules) ? "The installed packages differ from package-lock.json" : "First run"}: npm ci --ignore-scripts\n`);
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
  const npm = process.env.npm_execpath;
  const viaNpm = npm !== undefined && basename(npm).startsWith("npm-cli") && existsSync(npm);
  const run = viaNpm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ["ignore", 2, 2] })
    : spawnSync("npm", args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (run.error) throw new SetupError(`npm could not be started (${run.error.message}). Install npm and run the command again.`);
  if (run.status !== 0)
    throw new SetupError(`npm ci failed with exit code ${run.status}; its message is above. The registry must be reachable the first time.`);
}

/** The environment for whatever runs with the pinned Node: it is first in PATH, and compiled code is kept between runs. */
export function environment(more = {}) {
  const path = [dirname(pinnedNode()), join(modules, ".bin"), process.env.PATH ?? ""].join(delimiter);
  return { ...process.env, PATH: path, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(root, ".cache", "compiled"), ...more };
}

const browsers = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** Path of a Chromium: `CHROMIUM`, else where systems put it, else installed by apt-get when that is allowed; `undefined` when there is none. */
export function chromium({ install = false } = {}) {
  const found = [process.env.CHROMIUM ?? "", ...browsers].find(isExecutable);
  if (found || !install || process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) return found;
  process.stderr.write("No Chromium yet: apt-get install chromium\n");
  const options = { stdio: ["ignore", "ignore", 2], env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }, timeout: 300_000 };
  for (const args of [
    ["update", "-qq"],
    ["install", "-y", "-qq", "--no-install-recommends", "chromium"],
  ]) {
    if (spawnSync("apt-get", args, options).status !== 0) process.stderr.write(`apt-get ${args[0]} failed: browser tests will be skipped.\n`);
  }
  return browsers.find(isExecutable);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return path !== "";
  } catch {
    return false;
  }
}

/**
 * Runs a file with the pinned Node in place of this process: same terminal, signals passed on, same exit code.
 * Ctrl-C in a terminal reaches the child by itself, so it is passed on only where there is no terminal.
 */
export function become(file, args) {
  const child = spawn(pinnedNode(), ["--disable-warning=ExperimentalWarning", file, ...args], { stdio: "inherit", env: environment() });
  for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  // npm starts us through a shell that dies of a signal without passing it on. Then nobody is left who could end us.
  if (process.env.npm_lifecycle_event) {
    const parent = process.ppid;
    setInterval(() => process.ppid === parent || child.kill("SIGTERM"), 200).unref();
  }
  child.on("error", (error) => {
    process.stderr.write(`${pinnedNode()} could not be started: ${error.message}. On a system without glibc, install Node 24 and remove node_modules.\n`);
    process.exit(70);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

/** Runs `main` and turns a `SetupError` into its message and exit code 69 (a service is unavailable, sysexits). */
export async function command(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 69;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const from = performance.now();
  await command(() => setUp());
  if (process.argv.includes("--time")) process.stdout.write(`${(performance.now() - from).toFixed(1)} ms\n`);
}
