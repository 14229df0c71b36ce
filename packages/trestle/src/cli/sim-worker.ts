/** One process of `trestle sim`: its share of the seeds. Tells its parent over IPC, and ends when that is gone. */
import { pathToFileURL } from "node:url";
import { systemClock } from "../kernel/index.ts";
import { search, timeline, type Simulation } from "../simulation/index.ts";

export interface SimAsked {
  readonly path: string;
  readonly name: string;
  /** A number: 0x1 and on. */
  readonly seeds: number | readonly string[];
  /** Those that failed once, before all others. */
  readonly regressions: boolean;
  /** This process takes the seed at `first`, and then each `step`th. */
  readonly first: number;
  readonly step: number;
}
export type SimTold =
  | { readonly seeds: number; readonly events: number; readonly virtualMs: number; readonly sometimes: readonly (readonly [string, boolean])[] }
  | {
      readonly broken: {
        readonly code: string;
        readonly message: string;
        readonly remedy: string;
        readonly details: Readonly<Record<string, unknown>>;
        readonly page: string | undefined;
        readonly trace: string | undefined;
      };
    };

const tellEveryMs = 200;

if (process.argv[2] !== undefined && process.send) await work(JSON.parse(process.argv[2]) as SimAsked);

async function work({ path, name, seeds, regressions, first, step }: SimAsked): Promise<void> {
  const gone = new AbortController();
  process.on("disconnect", () => gone.abort());
  const { app, scenario } = ((await import(pathToFileURL(path).href)) as Readonly<Record<string, Simulation>>)[name] as Simulation;
  let sums = { seeds: 0, events: 0, virtualMs: 0, sometimes: new Map<string, boolean>() };
  let toldMs = systemClock.monotonicMs();
  // Disconnecting before a message has left would lose it.
  const tell = (message: SimTold): Promise<void> =>
    new Promise((resolve) => (process.connected && process.send ? process.send(message, () => resolve()) : resolve()));
  const tellSums = (): Promise<void> => {
    const told = tell({ ...sums, sometimes: [...sums.sometimes] });
    sums = { seeds: 0, events: 0, virtualMs: 0, sometimes: new Map() };
    toldMs = systemClock.monotonicMs();
    return told;
  };
  const { broken, result, trace } = await search(app, scenario, {
    signal: gone.signal,
    regressions,
    seeds: share(seeds, first, step),
    onSeed: ({ events, virtualMs, sometimes }) => {
      sums.seeds++;
      sums.events += events;
      sums.virtualMs += virtualMs;
      for (const [what, held] of sometimes) sums.sometimes.set(what, held || sums.sometimes.get(what) === true);
      if (systemClock.monotonicMs() - toldMs > tellEveryMs) void tellSums();
    },
  });
  await tellSums();
  if (broken) {
    const page = result && trace && timeline(app.name, result, trace);
    const lines = trace?.map((line) => JSON.stringify(line)).join("\n");
    await tell({ broken: { code: broken.code, message: broken.message, remedy: broken.remedy, details: broken.details, page, trace: lines } });
  }
  if (process.connected) process.disconnect();
}

function* share(seeds: SimAsked["seeds"], first: number, step: number): Generator<string> {
  const count = typeof seeds === "number" ? seeds : seeds.length;
  for (let at = first; at < count; at += step) yield typeof seeds === "number" ? `0x${(at + 1).toString(16)}` : (seeds[at] as string);
}
