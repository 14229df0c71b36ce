/**
 * One copy of the package, searched by the scenarios beside this file; started by hunt.ts, told what to do by its first argument. Every scenario gets a few
 * seeds before any gets all of them, because most faults are found at once. Prints what it has found, as JSON, again and again; the last line is the result. It ends with the first
 * promise that broke, or with `all` goes on with the other scenarios.
 */
import { search, type SeedResult, type Simulation } from "../index.ts";
import { scenarioFiles, scenariosOf } from "./scenarios.ts";

/** Its seeds: of each scenario those at `first`, `first + step`, … from `from` on and below `seeds`. */
export interface HuntAsked {
  readonly from?: number;
  readonly seeds: number;
  readonly first: number;
  readonly step: number;
  /** Of files, without their ending; default: all. */
  readonly scenarios?: readonly string[];
  readonly all?: boolean;
}
export interface HuntTold {
  /** Seeds that were run, of all scenarios together. */
  readonly ran: number;
  readonly events: number;
  readonly broken: readonly { readonly scenario: string; readonly promise: string; readonly seed: number }[];
}

const firstRounds = [10, 60, 400];
const ending = ".simulation.ts";

// Whoever started it is gone, and nobody reads what it would say.
process.stdin.on("close", () => process.exit(1)).resume();
process.stdin.unref();

const { from: begin = 0, seeds, first, step, scenarios, all = false } = JSON.parse(process.argv[2] as string) as HuntAsked;
const found: { readonly name: string; readonly simulation: Simulation }[] = [];
for (const file of scenarioFiles) {
  const of = file.slice(0, -ending.length);
  if (scenarios && !scenarios.includes(of)) continue;
  for (const [name, simulation] of await scenariosOf(file)) found.push({ name: `${of} ${name}`, simulation });
}

let [ran, events] = [0, 0];
const broken: HuntTold["broken"][number][] = [];
for (let round = 0, from = begin; from < seeds; round++) {
  const to = Math.max(from, Math.min(seeds, firstRounds[round] ?? seeds));
  for (const { name, simulation } of found) {
    const mine = Array.from({ length: to - from }, (_, at) => from + at).filter((at) => at % step === first);
    if (mine.length === 0 || broken.some(({ scenario }) => scenario === name)) continue;
    const over = new AbortController();
    const onSeed = (result: SeedResult): void => {
      ran++;
      events += result.events;
      // Whether it is the same twice, and how small it can be made, is not asked.
      if (!result.failure) return;
      broken.push({ scenario: name, promise: result.failure.what, seed: Number(result.seed) });
      if (!all) end();
      over.abort();
    };
    // Seeds that failed once are for `npm test`: here it counts how soon a fault is found.
    const drawn = mine.map((at) => `0x${(at + 1).toString(16)}`);
    const ended = await search(simulation.app, simulation.scenario, { seeds: drawn, onSeed, signal: over.signal, regressions: false });
    if (ended.broken && !broken.some(({ scenario }) => scenario === name)) broken.push({ scenario: name, promise: ended.broken.message, seed: 0 });
    if (broken.length > 0 && !all) end();
    tell();
  }
  process.stderr.write(`${to} of ${seeds} seeds of ${found.length} scenarios\n`);
  from = to;
}
tell();

function end(): never {
  tell();
  process.exit(0);
}

function tell(): void {
  process.stdout.write(`${JSON.stringify({ ran, events, broken } satisfies HuntTold)}\n`);
}
