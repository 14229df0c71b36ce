/**
 * simulate: the whole app, several nodes of it, in virtual time, under faults drawn from a seed; then the promises are checked.
 *
 * A seed that fails is made smaller before it is reported: faults are left out as long as it still fails (delta debugging: Zeller and Hildebrandt,
 * "Simplifying and Isolating Failure-Inducing Input", 2002), then clients and what they do. The first seed, and each that fails, is run twice: two runs of
 * one seed that differ mean that something in the app is decided by what the seed does not decide.
 */
import type { App } from "../app/index.ts";
import type { Component, Uses } from "../component/index.ts";
import { durationMs, Fault, integerWithin } from "../kernel/index.ts";
import { memoryDisks } from "../sqlite/index.ts";
import { diskShelf } from "./disk-shelf.ts";
import { describeFault, faultKinds, losingFaultKinds, postgresFaultKinds, type FaultKind, type FaultPlan } from "./fault-plan.ts";
import { nameOfModel } from "./outside.ts";
import { regressionsIn, type Regression } from "./regressions.ts";
import { isSimulation, type Scenario, type Simulation } from "./scenario.ts";
import { runSeed, type Scene, type SeedOptions, type SeedResult, type TraceLine } from "./seed-run.ts";
import { virtualGlobals } from "./virtual-globals.ts";
import { currentLife } from "./world.ts";

/**
 * Runs the scenario for each of its seeds and resolves when every promise held in all of them. Faults: `simulation.promise-broken` with the seed, the smallest plan
 * of faults that still breaks it and how to run it again; `simulation.nondeterministic` with the first event that differed;
 * `simulation.no-model`, `option.out-of-range`. Guarantees and limits: docs/concepts/simulation.md.
 */
export async function simulate<const K extends Uses>(app: App, scenario: Scenario<K>): Promise<void>;
export async function simulate(simulation: Simulation): Promise<void>;
export async function simulate(given: App | Simulation, scenario?: Scenario<Uses>): Promise<void> {
  const found = isSimulation(given) ? await search(given.app, given.scenario) : await search(given, scenario as Scenario<Uses>);
  if (found.broken) throw found.broken;
}

export interface SearchOptions {
  /** Told after each seed. */
  readonly onSeed?: (result: SeedResult) => void;
  /** Told of each event of each seed; costs time. */
  readonly onEvent?: (line: TraceLine) => void;
  /** In place of the scenario's. */
  readonly seeds?: Iterable<string>;
  /** The seeds that failed once are run first; default true. */
  readonly regressions?: boolean;
  /** No seed is begun after it aborts. */
  readonly signal?: AbortSignal;
}
export interface Search {
  readonly seeds: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly broken: Fault | undefined;
  /** Of the seed that broke a promise, when it was made as small as it gets; and what happened in it. */
  readonly result: SeedResult | undefined;
  readonly trace: readonly TraceLine[] | undefined;
}

/** The same, for tools: answers instead of throwing. */
export async function search<const K extends Uses>(
  app: App,
  scenario: Scenario<K>,
  { onSeed, onEvent, signal, seeds: given, regressions = true }: SearchOptions = {},
): Promise<Search> {
  const first = regressions ? regressionsIn(scenario.regressions) : [];
  const scene = await sceneOf(app, scenario);
  const restore = virtualGlobals(() => currentLife());
  const done = { seeds: 0, events: 0, virtualMs: 0 };
  try {
    // What a module loads at its first use is loaded in a run that nobody judges.
    await runSeed(scene, "warm", { clients: 1, times: 1, plan: [] });
    for (const { seed, ...asked } of runsOf(first, given ?? seedsOf(scenario.seeds))) {
      if (signal?.aborted) break;
      const result = await runSeed(scene, seed, { ...asked, ...(onEvent && { onEvent }) });
      done.seeds++;
      done.events += result.events;
      done.virtualMs += result.virtualMs;
      onSeed?.(result);
      if (done.seeds > 1 && !result.failure) continue;
      const differs = await difference(scene, seed, result, asked);
      if (differs) return { ...done, broken: differs, result, trace: undefined };
      if (!result.failure) continue;
      const { smallest, clients, times } = await shrink(scene, seed, result, asked);
      const trace = await traced(scene, seed, { plan: smallest.plan, clients, times });
      return { ...done, broken: report(app, smallest, clients, times), result: smallest, trace };
    }
  } finally {
    restore();
    scene.disks.close();
  }
  return { ...done, broken: undefined, result: undefined, trace: undefined };
}

/** Seeds that failed once, as they did; then the others. */
function* runsOf(first: readonly Regression[], seeds: Iterable<string>): Iterable<SeedOptions & { readonly seed: string }> {
  for (const { seed, plan, clients, times } of first) yield { seed, plan, clients, times };
  for (const seed of seeds) yield { seed };
}

function mayGoWrong(kind: FaultKind, named: Scenario<Uses>["faults"]): boolean {
  const leavesOut = named === undefined || (Object.keys(named).length > 0 && Object.values(named).every((one) => one === false));
  return leavesOut ? named?.[kind] !== false && !losingFaultKinds.has(kind) : named[kind] === true;
}

function seedsOf(seeds: number | readonly `0x${string}`[] | undefined): readonly string[] {
  if (typeof seeds === "object") return seeds;
  return Array.from({ length: integerWithin(seeds ?? 100, "simulate: seeds", { least: 1, most: 100_000_000 }) }, (_, at) => `0x${(at + 1).toString(16)}`);
}

async function sceneOf<K extends Uses>(app: App, scenario: Scenario<K>): Promise<Scene> {
  const { uses, nodes = 3, faults, clients, always = {}, eventually = {}, outside = [], settings = {}, degradation, store = "sqlite" } = scenario;
  const externals = app.components.filter(({ kind }) => kind === "external").map(({ name }) => name);
  const lacking = externals.filter((name) => !outside.some((one) => nameOfModel(one) === name));
  if (lacking.length > 0)
    throw Fault.create(
      "simulation.no-model",
      `the simulation has no model of external ${lacking.map((name) => JSON.stringify(name)).join(", ")}`,
      "Add `model(…)` of it to `outside`.",
    );
  return {
    app,
    uses: uses as unknown as Readonly<Record<string, Component>>,
    nodes: integerWithin(nodes, "simulate: nodes", { least: 1, most: 100 }),
    forMs: durationMs(scenario.for ?? "30s", "simulate: for"),
    outside,
    faults: faultKinds.filter((kind) => (store === "postgres" || !postgresFaultKinds.has(kind)) && mayGoWrong(kind, faults)),
    clients: integerWithin(clients.count, "simulate: clients.count", { least: 1, most: 10_000 }),
    times: integerWithin(clients.times ?? 5, "simulate: clients.times", { least: 1, most: 1_000_000 }),
    evenly: clients.evenly ?? false,
    each: clients.each as Scene["each"],
    always: Object.entries(always) as Scene["always"],
    eventually: Object.entries(eventually) as Scene["eventually"],
    settings,
    degradation,
    store,
    disks: await diskShelf(app, settings, await memoryDisks()),
  };
}

// ---- the same seed twice ------------------------------------------------------------------------------------------------

async function difference(scene: Scene, seed: string, before: SeedResult, asked: SeedOptions): Promise<Fault | undefined> {
  const again = await runSeed(scene, seed, asked);
  if (again.hash === before.hash && again.events === before.events) return undefined;
  const [first, second] = [await traced(scene, seed, asked), await traced(scene, seed, asked)];
  const at = first.findIndex((line, n) => !same(line, second[n]));
  const show = (line: TraceLine | undefined): string => (line ? `${line.atMs} ms ${line.life} ${line.what}` : "nothing");
  const where = at < 0 ? "in what happened between events" : `at event ${at + 1}: ${show(first[at])}; then ${show(second[at])}`;
  return Fault.create(
    "simulation.nondeterministic",
    `two runs of seed ${seed} differ ${where}${at > 0 ? `; before it: ${show(first[at - 1])}` : ""}`,
    "Look for a clock or chance that was kept before the simulation began (`const { now } = Date`), state of a module that outlives a node, or work that waits for something outside.",
    { details: { seed, event: at + 1 } },
  );
}

async function traced(scene: Scene, seed: string, options: SeedOptions = {}): Promise<readonly TraceLine[]> {
  const lines: TraceLine[] = [];
  await runSeed(scene, seed, { ...options, onEvent: (line) => void lines.push(line) });
  return lines;
}

const same = (a: TraceLine, b: TraceLine | undefined): boolean => b !== undefined && a.atMs === b.atMs && a.life === b.life && a.what === b.what;

// ---- smaller ------------------------------------------------------------------------------------------------------------

/** At most so many runs are spent on it. */
const shrinkRunsMax = 200;

async function shrink(
  scene: Scene,
  seed: string,
  failed: SeedResult,
  asked: SeedOptions,
): Promise<{ readonly smallest: SeedResult; readonly clients: number; readonly times: number }> {
  let runs = 0;
  let best = failed;
  let [clients, times] = [asked.clients ?? scene.clients, asked.times ?? scene.times];
  const fails = async (options: SeedOptions): Promise<boolean> => {
    if (runs++ >= shrinkRunsMax) return false;
    const result = await runSeed(scene, seed, { plan: best.plan, clients, times, ...options });
    if (result.failure?.kind !== failed.failure?.kind || result.failure?.what !== failed.failure?.what) return false;
    best = result;
    return true;
  };
  for (let parts = 2; best.plan.length > 0 && parts <= Math.max(2, best.plan.length);) {
    const size = Math.ceil(best.plan.length / parts);
    let smaller = false;
    for (let from = 0; from < best.plan.length; from += size) {
      const plan: FaultPlan = [...best.plan.slice(0, from), ...best.plan.slice(from + size)];
      if (await fails({ plan })) {
        smaller = true;
        break;
      }
    }
    if (smaller) parts = Math.max(2, Math.min(parts - 1, best.plan.length));
    else if (size === 1) break;
    else parts = Math.min(best.plan.length, parts * 2);
  }
  for (let next = Math.floor(clients / 2); next >= 1 && (await fails({ clients: next })); next = Math.floor(next / 2)) clients = next;
  for (let next = Math.floor(times / 2); next >= 1 && (await fails({ times: next })); next = Math.floor(next / 2)) times = next;
  return { smallest: best, clients, times };
}

/** What a promise threw while it was judged, in a line. */
function thrown(error: unknown): string {
  if (error === undefined) return "";
  return `, for it threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`;
}

function report(app: App, { seed, failure, plan }: SeedResult, clients: number, times: number): Fault {
  const { kind, what, atMs, error, details, blocked = [] } = failure as NonNullable<SeedResult["failure"]>;
  const said = { always: "does not always hold", eventually: "does not hold in the end", client: "", node: "", uncaught: "was thrown and nobody caught it" }[
    kind
  ];
  const needed = plan.length === 0 ? "without any fault" : `with ${plan.map(describeFault).join("; ")}`;
  return Fault.create(
    "simulation.promise-broken",
    `${app.name}: ${JSON.stringify(what)} ${said}`.trimEnd() +
      (kind === "always" || kind === "eventually" ? thrown(error) : "") +
      (details === undefined ? "" : ` (${JSON.stringify(details)})`) +
      `\n  seed ${seed}, after ${Math.round(atMs) / 1_000} s of its time, ${needed}, ${clients} ${clients === 1 ? "client" : "clients"} with ${times} calls each` +
      blocked.map((line) => `\n  ${line}`).join(""),
    `Run it again with seeds: ["${seed}"].`,
    { details: { seed, kind, promise: what, atMs, plan, clients, times, blocked }, ...(error !== undefined && { cause: error }) },
  );
}
