/**
 * The mutation hunt: `npm run hunt`. Each patch of `--mutants` (default: the folder beside this file) puts one realistic fault into a copy of this package;
 * the scenarios of this folder must find it within `--seeds` (2,000) seeds each. A patch is a unified diff whose paths begin at the repository's root; its
 * first lines, up to the first `diff`, say what is wrong in it. So a fault that somebody kept to himself can be run against this code: give the folder
 * that has it.
 *
 * `--only name` runs one; `--clean` runs the scenarios on the code as it is, which must break nothing; `--workers` at once; `--into file` keeps the result;
 * `--json` prints it. Exit code 1 when a mutant got away, or the code as it is broke a promise.
 */
import { execFile, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const source = resolve(here, "../..");
const root = resolve(source, "../../..");

const { values } = parseArgs({
  options: {
    mutants: { type: "string", default: join(here, "mutants") },
    seeds: { type: "string", default: "2000" },
    only: { type: "string" },
    clean: { type: "boolean" },
    workers: { type: "string", default: String(availableParallelism()) },
    into: { type: "string" },
    json: { type: "boolean" },
  },
});

interface Hunted {
  readonly mutant: string;
  readonly about: string;
  /** `undefined`: it got away. */
  readonly caughtBy: string | undefined;
  readonly promise: string | undefined;
  /** Of that scenario, up to the one that broke. */
  readonly seeds: number;
}
interface SimAnswer {
  readonly scenarios: readonly {
    readonly name: string;
    readonly seeds: number;
    readonly broken?: { readonly code: string; readonly message: string; readonly promise?: string; readonly seed?: string };
  }[];
}

const scenarios = readdirSync(here).filter((name) => name.endsWith(".simulation.ts"));
const seeds = Number(values.seeds);
/** Most are found at once: every scenario gets a few seeds before any gets all of them. */
const rounds = [...new Set([10, 60, 400, seeds].map((round) => Math.min(round, seeds)))];

const patches = values.clean
  ? []
  : readdirSync(values.mutants)
      .filter((name) => name.endsWith(".patch") && (values.only === undefined || name.includes(values.only)))
      .sort()
      .map((name) => join(values.mutants, name));
if (!values.clean && patches.length === 0) {
  process.stderr.write(`hunt: there is no patch${values.only === undefined ? "" : ` with ${JSON.stringify(values.only)} in its name`} in ${values.mutants}\n`);
  process.exit(64);
}

const hunted: Hunted[] = [];
const queue = values.clean ? [undefined] : [...patches];
const workers = values.clean ? 1 : Math.min(Number(values.workers), queue.length);
await Promise.all(
  Array.from({ length: workers }, async () => {
    for (let patch = queue.shift(), first = true; patch !== undefined || (values.clean && first); patch = queue.shift(), first = false) {
      const one = await hunt(patch);
      hunted.push(one);
      process.stderr.write(
        `${one.caughtBy === undefined ? (values.clean ? "clean " : "AWAY  ") : "caught"} ${one.mutant}: ${one.caughtBy === undefined ? `${one.seeds} seeds of each scenario` : `${one.caughtBy}, seed ${one.seeds}: ${one.promise}`}\n`,
      );
    }
  }),
);
hunted.sort((a, b) => (a.mutant < b.mutant ? -1 : 1));
const result = { subject: values.clean ? "hunt-clean" : "hunt", seeds, scenarios: scenarios.map((name) => basename(name, ".simulation.ts")), hunted };
if (values.into !== undefined) writeFileSync(values.into, `${JSON.stringify(result, undefined, 1)}\n`);
if (values.json) process.stdout.write(`${JSON.stringify(result, undefined, 1)}\n`);
else process.stdout.write(`${hunted.filter(({ caughtBy }) => caughtBy !== undefined).length} of ${hunted.length} caught\n`);
process.exitCode = values.clean
  ? hunted.some(({ caughtBy }) => caughtBy !== undefined)
    ? 1
    : 0
  : hunted.some(({ caughtBy }) => caughtBy === undefined)
    ? 1
    : 0;

async function hunt(patch: string | undefined): Promise<Hunted> {
  const mutant = patch === undefined ? "(the code as it is)" : basename(patch, ".patch");
  const about = patch === undefined ? "" : (/^([\s\S]*?)^diff /m.exec(readFileSync(patch, "utf8"))?.[1] ?? "").trim();
  const copy = patch === undefined ? source : mutated(patch, mutant);
  try {
    for (const round of patch === undefined ? [seeds] : rounds) {
      for (const scenario of scenarios) {
        const broken = await simulated(copy, scenario, round, patch === undefined ? Number(values.workers) : 1);
        if (broken) return { mutant, about, caughtBy: basename(scenario, ".simulation.ts"), promise: broken.promise, seeds: broken.seed };
      }
    }
    return { mutant, about, caughtBy: undefined, promise: undefined, seeds };
  } finally {
    if (patch !== undefined) rmSync(dirname(copy), { recursive: true, force: true });
  }
}

/** The package's sources with the fault in them. */
function mutated(patch: string, name: string): string {
  const folder = join(root, ".cache", "mutants", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(source, join(folder, "src"), { recursive: true, filter: (path) => !path.endsWith(".test.ts") });
  cpSync(join(source, "../package.json"), join(folder, "package.json"));
  // The paths of a patch begin at the repository's root: a/packages/trestle/src/…
  const applied = spawnSync("git", ["apply", "-p3", `--directory=.cache/mutants/${name}`, "--whitespace=nowarn", resolve(patch)], {
    cwd: root,
    encoding: "utf8",
  });
  if (applied.status !== 0) throw new Error(`${patch} does not apply: ${applied.stderr}`);
  return join(folder, "src");
}

/** The first promise that breaks, and in which seed. A program that does not even run is caught too. */
function simulated(copy: string, scenario: string, count: number, processes: number): Promise<{ readonly promise: string; readonly seed: number } | undefined> {
  const args = [
    "--disable-warning=ExperimentalWarning",
    join(copy, "cli/trestle.ts"),
    "sim",
    join(copy, "simulation/testing", scenario),
    "--seeds",
    String(count),
    "--workers",
    String(processes),
    "--json",
    "--out",
    join(root, ".cache", "simulation"),
  ];
  return new Promise((settle, reject) => {
    execFile(process.execPath, args, { cwd: root, maxBuffer: 1 << 28, env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" } }, (error, stdout, stderr) => {
      if (stdout === "")
        return error && !/worker-ended/.test(stderr)
          ? reject(new Error(`${scenario}: ${stderr}`))
          : settle({ promise: stderr.trim().split("\n").at(-1) ?? "", seed: 1 });
      const broken = (JSON.parse(stdout) as SimAnswer).scenarios.find((one) => one.broken)?.broken;
      settle(broken && { promise: broken.promise ?? broken.message, seed: Number(broken.seed ?? 1) });
    });
  });
}
