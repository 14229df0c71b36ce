/** Where things live. Every value is a URL; what is left out comes from `TRESTLE_STORE`, and else from the embedded default. */
import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Fault, type Clock } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import type { Store } from "../store/index.ts";

export interface Engines {
  /**
   * Truth: log, queue, records, commit. Default `sqlite:<TRESTLE_DATA or ./.trestle>/<app>.db`. `?synchronous=normal` gives up
   * `commit.durable`: a power loss may then take back the last commits.
   */
  readonly store?: StoreUrl;
}
export type StoreUrl = "memory:" | `sqlite:${string}`;

/** The store's URL as given, in the environment, or the default; and the file behind it, whose directory is made. */
export function storeUrl(app: string, engines: Engines, environment: Readonly<Record<string, string | undefined>>): StoreAddress {
  const url = engines.store ?? environment["TRESTLE_STORE"] ?? `sqlite:${join(environment["TRESTLE_DATA"] ?? ".trestle", `${app}.db`)}`;
  if (url === "memory:") return { file: undefined, durability: "full" };
  const match = /^sqlite:([^?]+)(?:\?synchronous=(full|normal))?$/.exec(url);
  if (!match) {
    throw Fault.create("store.bad-url", `store must be "memory:", "sqlite:<path>" or "sqlite:<path>?synchronous=normal", got ${JSON.stringify(url)}`, "Give a URL of an engine that this version has.");
  }
  const file = resolve(match[1] as string);
  try {
    mkdirSync(dirname(file), { recursive: true });
  } catch (cause) {
    throw Fault.create("store.not-writable", `the directory of the store cannot be made: ${dirname(file)} (${(cause as Error).message})`, "Name a directory that this user may write to, with TRESTLE_DATA or the store's URL.", { cause });
  }
  return { file, durability: match[2] === "normal" ? "normal" : "full" };
}

export interface StoreAddress {
  /** `undefined` in memory. */
  readonly file: string | undefined;
  readonly durability: "full" | "normal";
}

export function openStore(address: StoreAddress, clock: Clock): Promise<Store> {
  return openSqlite({ path: address.file ?? ":memory:", durability: address.durability, clock });
}
