/**
 * The mutation hunt: `npm run hunt`. Each patch of `--mutants` (default: the folder beside this file) puts one realistic fault into a copy of the package it
 * changes; the scenarios of this folder must find it within `--seeds` (2,000) seeds each. A patch is a unified diff whose paths begin at the repository's root; its
 * first lines, up to the first `diff`, say what is wrong in it. So a fault that somebody kept to himself can be run against this code: give the folder
 * that has it.
 *
 * What a simulation cannot show (the functions of PostgreSQL, their client) falls to tests: a patch with a line `Tests: packages/…test.ts packages/…` before its
 * `diff` is given to those files, one of which must fail; with `Named: pattern`, only the tests of such names. Each is run on the code as it is first, and has to
 * pass. They measure and kill, so one runs at a time.
 *
 * `--only a,b` takes the patches with one of these in their names, `--scenarios a,b` the files with these names; `--clean` runs the scenarios on the code as it
 * is, which must break nothing, `--from` one of them on; `--workers` at once; `--into file` keeps the result beside what is there of other patches; `--json` prints it. Exit code 1
 * when a mutant got away, or the code as it is broke a promise.
 */
import { execFile, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { systemClock } from "../../kernel/index.ts";
import type { HuntAsked, HuntTold } from "./hunting.ts";
import { scenarioFiles } from "./scenarios.ts";

const here = dirname(fileURLToPath(import.meta.url));
const source = resolve(here, "../..");
const root = resolve(source, "../../..");

const { values } = parseArgs({
  options: {
    mutants: { type: "string", default: join(here, "mutants") },
    seeds: { type: "string", default: "2000" },
    from: { type: "string", default: "0" },
    only: { type: "string" },
    scenarios: { type: "string" },
    clean: { type: "boolean" },
    workers: { type: "string", default: String(availableParallelism()) },
    into: { type: "string" },
    json: { type: "boolean" },
  },
});

interface Hunted {
  readonly mutant: string;
  readonly about: string;
  /** File and name of the scenario, or the path of the test; absent: it got away. */
  readonly caughtBy?: string;
  /** That was broken; or the name of the test that failed. */
  readonly promise?: string;
  /** The one of that scenario that caught it; of one that got away, how many each scenario has had. Tests have none. */
  readonly seed?: number;
  /** Seeds of all scenarios together that were run until then, or tests. */
  readonly ran: number;
}

const seeds = Number(values.seeds);
const workers = Math.max(1, Number(values.workers));
const only = values.only?.split(",");
const scenarios = values.scenarios?.split(",");
/** Of tests: how long a file may take; what each came to on the code as it is; the one that runs. */
const testFileMsMax = 300_000;
const controls = new Map<string, Tested>();
let before: Promise<unknown> = Promise.resolve();

if (values.clean) await cleanRun();
else await huntAll();

// ---- with a fault in it -------------------------------------------------------------------------------------------------

async function huntAll(): Promise<void> {
  const patches = readdirSync(values.mutants)
    .filter((name) => name.endsWith(".patch"))
    .sort();
  const chosen = patches.filter((name) => only === undefined || only.some((part) => name.includes(part)));
  if (chosen.length === 0) {
    process.stderr.write(`hunt: there is no patch${only === undefined ? "" : ` with ${only.join(" or ")} in its name`} in ${values.mutants}\n`);
    process.exit(64);
  }
  const hunted: Hunted[] = [];
  const queue = [...chosen];
  await Promise.all(
    Array.from({ length: Math.min(workers, queue.length) }, async () => {
      for (let patch = queue.shift(); patch !== undefined; patch = queue.shift()) {
        const one = await hunt(join(values.mutants, patch));
        hunted.push(one);
        process.stderr.write(`${one.caughtBy === undefined ? "AWAY  " : "caught"} ${one.mutant}: ${told(one)}\n`);
        if (values.into !== undefined) keep(values.into, hunted, patches);
      }
    }),
  );
  hunted.sort(byName);
  const caught = hunted.filter(({ caughtBy }) => caughtBy !== undefined).length;
  if (values.json) process.stdout.write(`${JSON.stringify({ ...headed("hunt"), hunted }, undefined, 1)}\n`);
  else process.stdout.write(`${caught} of ${hunted.length} caught\n`);
  process.exitCode = caught === hunted.length ? 0 : 1;
}

function told({ caughtBy, promise, seed, ran }: Hunted): string {
  if (seed === undefined) return caughtBy === undefined ? `${ran} tests passed` : `${caughtBy}: ${promise}`;
  return caughtBy === undefined ? `${seed} seeds of each scenario` : `${caughtBy}, seed ${seed}, ${ran} in all: ${promise}`;
}

/** What is there of other patches stays, as long as they are. */
function keep(file: string, hunted: readonly Hunted[], patches: readonly string[]): void {
  const before = existsSync(file) ? ((JSON.parse(readFileSync(file, "utf8")) as { readonly hunted?: readonly Hunted[] }).hunted ?? []) : [];
  const others = before.filter(({ mutant }) => patches.includes(`${mutant}.patch`) && !hunted.some((one) => one.mutant === mutant));
  writeFileSync(file, `${JSON.stringify({ ...headed("hunt"), hunted: [...others, ...hunted].sort(byName) }, undefined, 1)}\n`);
}

function byName(a: Hunted, b: Hunted): number {
  return a.mutant < b.mutant ? -1 : 1;
}

async function hunt(patch: string): Promise<Hunted> {
  const mutant = basename(patch, ".patch");
  const [, head = ""] = /^([\s\S]*?)^diff /m.exec(readFileSync(patch, "utf8")) ?? [];
  const about = head.replace(/^(Tests|Named):.*$/gm, "").trim();
  const tests = /^Tests: (.+)$/m.exec(head)?.[1]?.split(" ");
  const named = /^Named: (.+)$/m.exec(head)?.[1];
  const folder = mutated(patch, mutant, tests);
  try {
    if (tests) {
      const { ran, failed } = await oneAtATime(() => failing(folder, tests, named));
      return { mutant, about, ...(failed && { caughtBy: failed.file, promise: failed.test }), ran };
    }
    const { ran, broken } = await searched(join(folder, "packages/trestle/src"), { seeds, first: 0, step: 1, ...(scenarios && { scenarios }) });
    const [first] = broken;
    if (!first) return { mutant, about, seed: seeds, ran };
    return { mutant, about, caughtBy: first.scenario, promise: first.promise, seed: first.seed, ran };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A folder with the sources of the packages that the patch changes, with the fault in them. */
function mutated(patch: string, name: string, tests: readonly string[] | undefined): string {
  const folder = join(root, ".cache", "mutants", name);
  rmSync(folder, { recursive: true, force: true });
  for (const changed of new Set(readFileSync(patch, "utf8").match(/(?<=^\+\+\+ b\/)packages\/[^/]+(?=\/src\/)/gm))) {
    mkdirSync(join(folder, changed), { recursive: true });
    // Tests of what only tests can show run in the copy; where scenarios do, those of this package are not needed.
    const isNeeded = (path: string) => tests !== undefined || changed !== "packages/trestle" || !path.endsWith(".test.ts");
    cpSync(join(root, changed, "src"), join(folder, changed, "src"), { recursive: true, filter: isNeeded });
    cpSync(join(root, changed, "package.json"), join(folder, changed, "package.json"));
  }
  const applied = spawnSync("git", ["apply", `--directory=.cache/mutants/${name}`, "--whitespace=nowarn", resolve(patch)], { cwd: root, encoding: "utf8" });
  if (applied.status !== 0) throw new Error(`${patch} does not apply: ${applied.stderr}`);
  return folder;
}

// ---- by tests -----------------------------------------------------------------------------------------------------------

interface Tested {
  readonly ran: number;
  readonly failed?: { readonly file: string; readonly test: string };
}

function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const done = before.then(work);
  before = done.catch(() => undefined);
  return done;
}

async function failing(folder: string, files: readonly string[], named: string | undefined): Promise<Tested> {
  let ran = 0;
  for (const file of files) {
    const control = controls.get(`${file} ${named ?? ""}`) ?? (await tested(root, file, named));
    controls.set(`${file} ${named ?? ""}`, control);
    if (control.failed) throw new Error(`${file} fails on the code as it is ("${control.failed.test}"): it cannot tell a fault from none`);
    if (control.ran === 0) throw new Error(`${file} has no test that runs here: run the file alone, and it says what is missing`);
    const mutant = await tested(folder, file, named);
    ran += mutant.ran;
    if (mutant.failed?.test.startsWith("exit code"))
      throw new Error(`${file} does not run with the fault in it (${mutant.failed.test}): that is no test that fails`);
    if (mutant.failed) return { ran, failed: mutant.failed };
  }
  return { ran };
}

/** Runs one file to its end. Skipped tests do not count. */
function tested(folder: string, file: string, named: string | undefined): Promise<Tested> {
  return new Promise((settle, reject) => {
    const args = [
      "--disable-warning=ExperimentalWarning",
      "--test-reporter=tap",
      ...(named === undefined ? [] : [`--test-name-pattern=${named}`]),
      join(folder, file),
    ];
    // A process group of its own: whatever the file has started can be ended with it.
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "ignore"], detached: true });
    let tap = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (tap += text));
    let overdue = false;
    const alarm = systemClock.after(testFileMsMax, () => {
      overdue = true;
      process.kill(-(child.pid as number), "SIGKILL");
    });
    child.on("error", reject);
    child.on("exit", (code) => {
      alarm.cancel();
      const results = [...tap.matchAll(/^(ok|not ok) \d+ - (.*)$/gm)].filter(([, , name]) => !/ # SKIP/.test(name as string));
      const [, , name] = results.find(([, how]) => how === "not ok") ?? [];
      const test = name ?? (overdue ? `it does not end within ${testFileMsMax / 1_000} s` : code === 0 ? undefined : `exit code ${code}`);
      settle({ ran: results.length, ...(test !== undefined && { failed: { file, test } }) });
    });
  });
}

// ---- without ------------------------------------------------------------------------------------------------------------

async function cleanRun(): Promise<void> {
  const told = await Promise.all(
    Array.from({ length: workers }, (_, first) =>
      searched(source, { from: Number(values.from), seeds, first, step: workers, all: true, ...(scenarios && { scenarios }) }),
    ),
  );
  const result = {
    ...headed("hunt-clean"),
    ran: told.reduce((sum, { ran }) => sum + ran, 0),
    events: told.reduce((sum, { events }) => sum + events, 0),
    from: Number(values.from),
    broken: told.flatMap(({ broken }) => broken),
  };
  if (values.into !== undefined) writeFileSync(values.into, `${JSON.stringify(result, undefined, 1)}\n`);
  const text = JSON.stringify(result, undefined, 1);
  process.stdout.write(values.json ? `${text}\n` : `${result.ran} seeds, ${result.broken.length === 0 ? "every promise held" : text}\n`);
  process.exitCode = result.broken.length === 0 ? 0 : 1;
}

// ---- both ---------------------------------------------------------------------------------------------------------------

function headed(subject: string) {
  const commit = spawnSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).stdout.trim();
  return {
    subject,
    commit,
    node: process.version,
    sqlite: process.versions["sqlite"],
    cpu: `${cpus()[0]?.model} x ${availableParallelism()}`,
    seeds,
    scenarios: scenarioFiles.map((name) => basename(name, ".simulation.ts")),
  };
}

function searched(copy: string, asked: HuntAsked): Promise<HuntTold> {
  const args = ["--disable-warning=ExperimentalWarning", join(copy, "simulation/testing/hunting.ts"), JSON.stringify(asked)];
  return new Promise((settle, reject) => {
    const child = execFile(
      process.execPath,
      args,
      { cwd: root, maxBuffer: 1 << 28, env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" } },
      (error, stdout, stderr) => {
        if (stdout.trim() === "") reject(new Error(`${copy} did not run: ${error?.message} ${stderr.slice(-2_000)}`));
        else settle(JSON.parse(stdout.trim().split("\n").at(-1) as string) as HuntTold);
      },
    );
    if (asked.all) child.stderr?.pipe(process.stderr); // how far it is: it takes long
  });
}
