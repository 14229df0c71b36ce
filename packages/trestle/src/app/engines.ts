/**
 * Where things live. Every value is a URL; what is left out comes from `TRESTLE_STORE`, and else from the embedded default. The scheme
 * says which engine: those outside this package are loaded when their URL is named, so that nobody installs a client they do not use.
 */
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { LimitPlace, LimitPlacePackage } from "../component/index.ts";
import { Fault, uuidv7Ids, type Clock, type Random } from "../kernel/index.ts";
import { openStore, parseStoreUrl } from "../sqlite/index.ts";
import type { Store } from "../store/index.ts";

export interface Engines {
  /**
   * Truth: log, queue, records, commit. Default `sqlite:<TRESTLE_DATA or ./.trestle>/<app>.db`. `?synchronous=normal` gives up
   * `commit.durable`: a power loss may then take back the last commits. `postgres://…` needs the package `@trestle/postgres`; its
   * `?schema=` names the schema, default `trestle`.
   */
  readonly store?: StoreUrl;
  /**
   * Where limits of the fleet are counted. Default `TRESTLE_COUNTERS`, and else the store. `redis://host:6379/0`, `rediss://…`, with `?cluster=true`
   * for a cluster; needs the package `@trestle/redis`.
   */
  readonly counters?: CountersUrl;
}
export type CountersUrl = `redis://${string}` | `rediss://${string}`;
export type StoreUrl = "memory:" | `sqlite:${string}` | `postgres://${string}` | `postgresql://${string}`;

/** What an engine outside this package exports. */
interface PostgresEngine {
  openPostgres(options: { readonly url: string; readonly clock: Clock; readonly random: Random }): Promise<Store>;
}

/** The store's URL as given, in the environment, or the default; and the file behind it, whose directory is made. */
export function storeUrl(
  app: string,
  engines: Engines,
  environment: Readonly<Record<string, string | undefined>>,
): { readonly url: string; readonly file: string | undefined } {
  const url = engines.store ?? environment["TRESTLE_STORE"] ?? `sqlite:${join(environment["TRESTLE_DATA"] ?? ".trestle", `${app}.db`)}`;
  if (isPostgres(url)) return { url, file: undefined };
  const { path } = parseStoreUrl(url);
  if (path === ":memory:") return { url, file: undefined };
  const file = resolve(path);
  try {
    mkdirSync(dirname(file), { recursive: true });
  } catch (cause) {
    throw Fault.create(
      "store.not-writable",
      `the directory of the store cannot be made: ${dirname(file)} (${(cause as Error).message})`,
      "Name a directory that this user may write to, with TRESTLE_DATA or the store's URL.",
      { cause },
    );
  }
  return { url, file };
}

/** Opens the store of a URL, whichever engine it names. Faults: `store.engine-missing`, and those of the engine. */
export async function openStoreAt(url: string, { clock, random }: { readonly clock: Clock; readonly random: Random }): Promise<Store> {
  if (!isPostgres(url)) return openStore(url, { clock, random });
  return (await enginePackage<PostgresEngine>("@trestle/postgres", url)).openPostgres({ url, clock, random });
}

/** The place of limits that `counters` names; `undefined`: the store. Faults: `store.engine-missing`, `limits.url-unknown`. */
export async function openCountersAt(
  engines: Engines,
  environment: Readonly<Record<string, string | undefined>>,
  { app, clock, random }: { readonly app: string; readonly clock: Clock; readonly random: Random },
): Promise<LimitPlace | undefined> {
  const url = engines.counters ?? environment["TRESTLE_COUNTERS"];
  if (url === undefined) return undefined;
  const { openLimits } = await enginePackage<LimitPlacePackage>("@trestle/redis", url);
  return openLimits({ url, app, clock, id: uuidv7Ids(clock, random).next() });
}

export function isPostgres(url: string): boolean {
  return /^postgres(ql)?:\/\//.test(url);
}

/** A URL for people: without its password. */
export function withoutPassword(url: string): string {
  return url.replace(/^([a-z]+:\/\/[^:@/]*):[^@/]*@/, "$1:***@");
}

/** Beside this package, or else beside the app: a strict installer hides from a package what only the app depends on. */
export async function enginePackage<Engine>(name: string, url: string): Promise<Engine> {
  try {
    return (await import(name)) as Engine;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND" || !(cause as Error).message.includes(name)) throw cause;
  }
  let found: string;
  try {
    found = createRequire(join(process.cwd(), "package.json")).resolve(name);
  } catch (cause) {
    throw Fault.create("store.engine-missing", `${withoutPassword(url)} needs the package ${name}, which is not installed`, `Run: npm install ${name}`, {
      cause,
      details: { package: name },
    });
  }
  return (await import(pathToFileURL(found).href)) as Engine;
}
