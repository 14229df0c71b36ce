/** What a simulation is told: the scenario of an app. */
import type { App, DegradationGiven, Live } from "../app/index.ts";
import type { Usable, Uses } from "../component/index.ts";
import type { Duration } from "../kernel/index.ts";
import type { Chance } from "./chance.ts";
import type { Checked } from "./checkers/index.ts";
import type { FaultKind } from "./fault-plan.ts";
import type { Model } from "./outside.ts";
import type { SeedHistory } from "./seed-history.ts";
import type { StoreKind } from "./store-host.ts";

export interface Scenario<K extends Uses> {
  /** What clients and invariants reach for. */
  readonly uses: K;
  /** How many, or which; default 100. Each is a world of its own. */
  readonly seeds?: number | readonly `0x${string}`[];
  /** Processes of the app, each with every role; default 3. */
  readonly nodes?: number;
  /** How long clients keep going, in virtual time; default 30s. Then the world heals, and `eventually` must hold within ten minutes. */
  readonly for?: Duration;
  /** How the systems behave that are not the app's: one `model` for each `external`. */
  readonly outside?: readonly Model[];
  /** How the store behaves: as SQLite (default), or with what PostgreSQL shows and SQLite does not. The user's SQL is SQLite's in both. */
  readonly store?: StoreKind;
  /**
   * What may go wrong; default: everything, but `lagging-standby`, which takes back what was answered. `{ crash: true }`: only that;
   * `{ "clock-skew": false }`: all but that; `{}`: nothing. Each seed draws what of it does, and when.
   */
  readonly faults?: { readonly [F in FaultKind]?: boolean };
  readonly clients: {
    readonly count: number;
    /** How often each client does it, spread over `for`; default 5. */
    readonly times?: number;
    /** At any moment alike, as load is. Default: two of three times just before something begins to go wrong, or ends. */
    readonly evenly?: boolean;
    /** What is written into the history is what the checkers are given in the end; each client is a process of it. */
    readonly each: (world: LiveUses<K>, chance: Chance, history: SeedHistory) => Promise<void>;
  };
  /** Checked after everything that became durable. */
  readonly always?: Promises<K>;
  /** Checked after the world has healed and come to rest. */
  readonly eventually?: Promises<K>;
  /** A file of seeds that failed once (`new URL("./shop.seeds.json", import.meta.url)`), which are run first. `trestle sim --keep` adds to it. */
  readonly regressions?: URL;
  /** What `start` would be given. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly degradation?: DegradationGiven;
}

export type LiveUses<K extends Uses> = { readonly [N in keyof K]: K[N] extends Usable ? Live<K[N]> : never };
/**
 * Whether it holds, or what a checker said of the history. Of what a checker said only `violation` breaks the promise; a run whose checks were all `unknown` has
 * never seen the promise hold, and `trestle sim` says so as of a `sometimes`.
 */
export type Promises<K extends Uses> = {
  readonly [promise: string]: (world: LiveUses<K>, history: SeedHistory) => boolean | Checked | Promise<boolean | Checked>;
};

/** An app with its scenario: what `trestle sim` looks for among a file's exports. */
export interface Simulation {
  readonly "~simulation": true;
  readonly app: App;
  readonly scenario: Scenario<Uses>;
}

/** For `export const rushHour = scenario(shop, { … })`, which a test runs with `simulate` and a shell with `trestle sim`. */
export function scenario<const K extends Uses>(app: App, spec: Scenario<K>): Simulation {
  return { "~simulation": true, app, scenario: spec as unknown as Scenario<Uses> };
}

export function isSimulation(value: unknown): value is Simulation {
  return typeof value === "object" && value !== null && (value as Partial<Simulation>)["~simulation"] === true;
}
