/**
 * `trestle sim`: the scenarios of a file, seed after seed, on all cores. Progress goes to stderr; a seed that breaks a promise is made smaller, and leaves its
 * trace and a page to read.
 */
import { fork, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Fault, integerWithin, systemClock } from "../kernel/index.ts";
import { textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import type { SimAsked, SimTold } from "./sim-worker.ts";
import type { Regression, Simulation } from "../simulation/index.ts";

export const simCommand: CommandSpec = {
  name: "sim",
  summary: "Runs the scenarios that a file exports in virtual time, under faults drawn from seeds. Reaches nothing outside.",
  arguments: ["<file.ts>"],
  options: {
    seeds: { type: "string", value: "number", help: "how many, from 0x1 on; default 1000" },
    seed: { type: "string", value: "0x…", help: "this one only" },
    only: { type: "string", value: "name", help: "the export with this name; default: each" },
    workers: { type: "string", value: "number", help: "processes; default: one for each core" },
    out: { type: "string", value: "folder", help: "where trace and page of a broken promise go; default .trestle/simulation" },
    keep: { type: "boolean", help: "adds a seed that breaks a promise to the scenario's `regressions`, which are run first from then on" },
    json: { type: "boolean", help: "{version, scenarios: [{name, seeds, events, virtualMs, seconds, sometimes, broken}]}" },
  },
  examples: ["trestle sim shop.simulation.ts --seeds 10000", "trestle sim shop.simulation.ts --seed 0x2a --keep"],
};

interface Tally {
  seeds: number;
  events: number;
  virtualMs: number;
  readonly sometimes: Map<string, boolean>;
}

export async function runSim(given: Given): Promise<ExitCode> {
  const path = resolve(given.positionals[0] as string);
  if (!existsSync(path))
    throw Fault.create("cli.no-such-file", `<file.ts> must be a file, and there is none at ${path}`, "Name the file that exports your scenarios.");
  const { isSimulation, keepRegression } = await import("../simulation/index.ts");
  const kept = (simulation: Simulation | undefined, { details }: Broken): { readonly kept: string } => {
    const file = simulation?.scenario.regressions as URL;
    keepRegression(file, details as unknown as Regression);
    return { kept: fileURLToPath(file) };
  };
  const exported = Object.entries((await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>).filter(([, value]) => isSimulation(value));
  const only = textOption(given, "only");
  const names = exported.map(([name]) => name).filter((name) => only === undefined || name === only);
  if (names.length === 0)
    throw Fault.create(
      "cli.no-scenario",
      `${given.positionals[0]} exports ${exported.length === 0 ? "no scenario" : `no scenario ${JSON.stringify(only)}; it has ${exported.map(([name]) => name).join(", ")}`}`,
      "Write `export const busy = scenario(app, { … })`, with `scenario` from trestle/simulation.",
    );
  const one = textOption(given, "seed");
  if (one !== undefined && !/^0x[0-9a-f]+$/i.test(one))
    throw Fault.create("cli.bad-option", `--seed must look like 0x2a, got ${JSON.stringify(one)}`, "Take it from the report of the run that failed.");
  const seeds = integerWithin(Number(textOption(given, "seeds") ?? 1_000), "--seeds", { least: 1, most: 100_000_000 });
  const workers = one === undefined ? integerWithin(Number(textOption(given, "workers") ?? availableParallelism()), "--workers", { least: 1, most: 256 }) : 1;
  const simulations = new Map(exported as readonly (readonly [string, Simulation])[]);
  const withoutFile = names.find((name) => simulations.get(name)?.scenario.regressions === undefined);
  if (given.values["keep"] && withoutFile !== undefined)
    throw Fault.create(
      "cli.bad-option",
      `--keep needs a file to keep seeds in, and ${withoutFile} names none`,
      "Give the scenario `regressions`, the URL of a file beside it; it need not exist yet.",
    );
  const out = resolve(textOption(given, "out") ?? join(".trestle", "simulation"));
  const scenarios: object[] = [];
  let failed = false;
  for (const name of names) {
    const startedMs = systemClock.monotonicMs();
    const tally: Tally = { seeds: 0, events: 0, virtualMs: 0, sometimes: new Map() };
    const stop = showing(name, tally, one === undefined ? seeds : 1, startedMs);
    const broken = await searched({ path, name, seeds: one === undefined ? seeds : [one], workers }, tally);
    stop();
    const seconds = (systemClock.monotonicMs() - startedMs) / 1_000;
    failed ||= broken !== undefined;
    const files = broken?.page === undefined ? undefined : { ...written(out, name, broken), ...(given.values["keep"] && kept(simulations.get(name), broken)) };
    scenarios.push({
      name,
      ...tally,
      seconds,
      sometimes: Object.fromEntries(tally.sometimes),
      broken: broken && { code: broken.code, message: broken.message, ...broken.details, ...files },
    });
    if (!given.values["json"]) process.stdout.write(told(name, tally, seconds, broken, files));
  }
  if (given.values["json"]) process.stdout.write(`${JSON.stringify({ version: 1, scenarios }, undefined, 2)}\n`);
  return failed ? exitCodes.problem : exitCodes.ok;
}

type Broken = Extract<SimTold, { readonly broken: unknown }>["broken"];

/** Every worker takes each so-manieth seed; the first broken promise stops them all. */
function searched(
  { path, name, seeds, workers }: { readonly path: string; readonly name: string; readonly seeds: number | readonly string[]; readonly workers: number },
  tally: Tally,
): Promise<Broken | undefined> {
  return new Promise((resolvePromise, reject) => {
    const running = new Set<ChildProcess>();
    let broken: Broken | undefined;
    for (let worker = 0; worker < workers; worker++) {
      const asked: SimAsked = { path, name, seeds, regressions: worker === 0 && typeof seeds === "number", first: worker, step: workers };
      const child = fork(
        fileURLToPath(new URL(import.meta.url.endsWith(".js") ? "./sim-worker.js" : "./sim-worker.ts", import.meta.url)),
        [JSON.stringify(asked)],
        {
          stdio: ["ignore", "inherit", "inherit", "ipc"],
          execArgv: [...process.execArgv, "--disable-warning=ExperimentalWarning"],
        },
      );
      running.add(child);
      child.on("message", (message: SimTold) => {
        if ("broken" in message) {
          broken ??= message.broken;
          for (const other of running) if (other !== child) other.disconnect();
          return;
        }
        tally.seeds += message.seeds;
        tally.events += message.events;
        tally.virtualMs += message.virtualMs;
        for (const [what, held] of message.sometimes) tally.sometimes.set(what, held || tally.sometimes.get(what) === true);
      });
      child.on("exit", (code, signal) => {
        running.delete(child);
        if (code !== 0 && !broken)
          reject(
            Fault.create("cli.worker-ended", `a worker of the simulation ended with ${signal ?? code}`, "Its own words are above; run it with --workers 1."),
          );
        else if (running.size === 0) resolvePromise(broken);
      });
    }
  });
}

/** A line that is written over on a terminal, and one every ten seconds where nobody looks. */
function showing(name: string, tally: Tally, of: number, startedMs: number): () => void {
  const terminal = process.stderr.isTTY;
  const line = () => {
    const seconds = Math.max(0.001, (systemClock.monotonicMs() - startedMs) / 1_000);
    return `${name}: ${tally.seeds} of ${of} seeds, ${Math.round(tally.seeds / seconds)}/s, ${(tally.virtualMs / 3_600_000).toFixed(1)} hours of the world, ${tally.events} events`;
  };
  let over = false;
  const again = () => {
    if (over) return;
    process.stderr.write(terminal ? `\r${line()}\u001b[K` : `${line()}\n`);
    systemClock.after(terminal ? 250 : 10_000, again);
  };
  systemClock.after(terminal ? 250 : 10_000, again);
  return () => {
    over = true;
    if (terminal) process.stderr.write("\r\u001b[K");
  };
}

interface Files {
  readonly page: string;
  readonly trace: string;
  readonly kept?: string;
}

function written(out: string, name: string, { page, trace, details }: Broken): Files {
  mkdirSync(out, { recursive: true });
  const base = join(out, `${name}-${String(details["seed"])}`);
  writeFileSync(`${base}.html`, page as string);
  writeFileSync(`${base}.jsonl`, trace as string);
  return { page: `${base}.html`, trace: `${base}.jsonl` };
}

function told(name: string, tally: Tally, seconds: number, broken: Broken | undefined, files: Files | undefined): string {
  const never = [...tally.sometimes].filter(([, held]) => !held).map(([what]) => what);
  return [
    `${name}: ${tally.seeds} seeds in ${seconds.toFixed(1)} s (${Math.round(tally.seeds / seconds)}/s), ${(tally.virtualMs / 3_600_000).toFixed(1)} hours of the world, ${tally.events} events`,
    ...(tally.sometimes.size > 0
      ? [`  sometimes: ${tally.sometimes.size - never.length} of ${tally.sometimes.size} seen${never.length > 0 ? `; never: ${never.join(", ")}` : ""}`]
      : []),
    broken ? `  BROKEN ${broken.message}\n  ${broken.remedy}` : "  every promise held",
    ...(files ? [`  page:  ${files.page}`, `  trace: ${files.trace}`] : []),
    ...(files?.kept === undefined ? [] : [`  kept:  ${files.kept}`]),
    "",
  ].join("\n");
}
