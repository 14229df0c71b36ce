/**
 * Overload, live: `npm run bench -- overload [--rounds 3] [--json]`. Real processes and sockets; what the dependency can do is a matter of waiting (trouble.ts), so that this machine is not what
 * is measured. For each trouble the same load meets an adaptive limit, a sweep of fixed ones, and none, all at once, each with a dependency of its own. And a retry storm through three
 * layers of processes, with budgets and without. Callers come by chance, to each limit others: sums and averages of the rounds, the longest recovery. rehearsal.ts is the same in virtual time.
 *
 *   goodput    calls answered in their time, by what the best fixed limit of the sweep serves
 *   critical   the share of the critical calls that was served while it lasted; and after its first second, in which what had begun before it is in the way of whoever decides
 *   recovery   seconds after the trouble until 97 % of a second's calls are served, and from then on
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machine } from "../harness/machine.ts";
import type { Second } from "./caller.ts";
import { storm, type Storm } from "./storm.ts";
import { forMs, fromMs, knee, possible, troubles, untilMs, type Trouble } from "./trouble.ts";

const { values } = parseArgs({
  options: { json: { type: "boolean" }, only: { type: "string" }, check: { type: "boolean" }, rounds: { type: "string", default: "3" } },
});
const rounds = Number(values.rounds);
const fixed = [0.25, 0.5, 1, 1.5, 3].map((part) => String(Math.round(part * knee)));
const limits = ["adaptive", ...fixed, "none"];
/** Until all processes are there, and warm. */
const getReadyMs = 5_000;

function child(file: string, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, ["--disable-warning=ExperimentalWarning", fileURLToPath(new URL(file, import.meta.url)), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}
async function text(of: ChildProcess, lines = Infinity): Promise<string> {
  let all = "";
  for await (const chunk of of.stdout as AsyncIterable<Buffer>) {
    all += chunk.toString("utf8");
    if (all.split("\n").length > lines) break;
  }
  return all;
}

interface Run {
  readonly limit: string;
  readonly served: number;
  readonly ofPossible: number;
  readonly critical: number;
  readonly criticalLater: number;
  readonly recoverySeconds: number;
}

async function run(trouble: Trouble, limit: string, startMs: number): Promise<Run> {
  const dependency = child("./dependency.ts", [trouble, String(startMs)]);
  try {
    const port = ((await once(dependency.stdout as NodeJS.ReadableStream, "data")) as [Buffer])[0].toString("utf8").trim();
    const seconds = JSON.parse(await text(child("./caller.ts", [trouble, limit, `http://127.0.0.1:${port}/`, String(startMs)]))) as readonly Second[];
    const sum = (from: number, until: number, of: (second: Second) => number) =>
      seconds.slice(from / 1_000, until / 1_000).reduce((all, second) => all + of(second), 0);
    const served = sum(0, forMs, ({ critical, prefetch }) => critical.served + prefetch.served);
    let could = 0;
    for (let ms = 0; ms < forMs; ms += 1_000) could += possible(trouble, ms);
    const critical = (from: number) => sum(from, untilMs, (second) => second.critical.served) / sum(from, untilMs, (second) => second.critical.came);
    const isWell = ({ critical, prefetch }: Second) => critical.served + prefetch.served >= 0.97 * (critical.came + prefetch.came);
    const well = seconds.findIndex((_, at) => at >= untilMs / 1_000 && seconds.slice(at).every(isWell));
    return {
      limit,
      served,
      ofPossible: served / could,
      critical: critical(fromMs),
      criticalLater: critical(fromMs + 1_000),
      recoverySeconds: well < 0 ? Infinity : well - untilMs / 1_000,
    };
  } finally {
    dependency.stdin?.end();
  }
}

function together(runs: readonly Run[]): Run {
  const average = (of: (run: Run) => number) => runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  return {
    limit: (runs[0] as Run).limit,
    served: runs.reduce((sum, run) => sum + run.served, 0),
    ofPossible: average((run) => run.ofPossible),
    critical: average((run) => run.critical),
    criticalLater: average((run) => run.criticalLater),
    recoverySeconds: Math.max(...runs.map((run) => run.recoverySeconds)),
  };
}

interface Result {
  readonly trouble: Trouble;
  readonly runs: readonly Run[];
  readonly best: string;
  /** Of the adaptive limit. */
  readonly goodput: number;
  readonly critical: number;
  readonly criticalLater: number;
  readonly recoverySeconds: number;
}

const results: Result[] = [];
for (const trouble of troubles.filter((one) => values.only === undefined || values.only.split(",").includes(one))) {
  process.stderr.write(`${trouble}: ${limits.length} limits side by side, ${rounds} times ${(forMs + getReadyMs) / 1_000} s\n`);
  const all: Run[][] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = Date.now() + getReadyMs;
    all.push(await Promise.all(limits.map((limit) => run(trouble, limit, startMs))));
  }
  const runs = limits.map((_, at) => together(all.map((round) => round[at] as Run)));
  const best = runs.filter(({ limit }) => fixed.includes(limit)).reduce((a, b) => (b.served > a.served ? b : a));
  const adaptive = runs[0] as Run;
  results.push({
    trouble,
    runs,
    best: best.limit,
    goodput: adaptive.served / best.served,
    critical: adaptive.critical,
    criticalLater: adaptive.criticalLater,
    recoverySeconds: adaptive.recoverySeconds,
  });
}
const storms: Readonly<Record<string, Storm>> | undefined =
  values.only === undefined || values.only.includes("storm")
    ? await (process.stderr.write("storm: three layers, with budgets and without\n"), storm())
    : undefined;

const percent = (part: number) => `${(100 * part).toFixed(1)} %`;
if (values.json)
  process.stdout.write(`${JSON.stringify({ subject: "overload", machine: machine(tmpdir()), troubles: results, storm: storms }, undefined, 2)}\n`);
else {
  for (const { trouble, runs, best, goodput, critical, criticalLater, recoverySeconds } of results) {
    process.stdout.write(
      `\n${trouble}: ${percent(goodput)} of the best fixed limit (${best}), ${percent(critical)} of the critical calls (${percent(criticalLater)} after the first second), recovered after ${recoverySeconds} s\n`,
    );
    for (const one of runs)
      process.stdout.write(
        `  ${one.limit.padEnd(9)} ${String(one.served).padStart(6)} served, ${percent(one.ofPossible).padStart(7)} of what was possible, critical ${percent(one.critical).padStart(7)}, recovered after ${one.recoverySeconds} s\n`,
      );
  }
  for (const [name, { amplification, recoverySeconds }] of Object.entries(storms ?? {}))
    process.stdout.write(
      `\nstorm, ${name}: calls of one call, by layer ${amplification.map((times) => times.toFixed(2)).join(", ")}; recovered after ${recoverySeconds} s\n`,
    );
}
if (values.check && results.some(({ goodput, recoverySeconds }) => goodput < 0.95 || recoverySeconds >= 10)) process.exitCode = 1;
