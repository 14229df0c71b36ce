/** Where things live. Every value is a URL; what is left out comes from `TRESTLE_STORE`, and else from the embedded default. */
import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Fault } from "../kernel/index.ts";

export interface Engines {
  /**
   * Truth: log, queue, records, commit. Default `sqlite:<TRESTLE_DATA or ./.trestle>/<app>.db`. `?synchronous=normal` gives up
   * `commit.durable`: a power loss may then take back the last commits.
   */
  readonly store?: StoreUrl;
}
export type StoreUrl = "memory:" | `sqlite:${string}`;

/** The store's URL, and the file behind it where there is one; its directory is made. */
export function storeUrl(app: string, engines: Engines, environment: Readonly<Record<string, string | undefined>>): { readonly url: string; readonly file: string | undefined } {
  const given = engines.store ?? environment["TRESTLE_STORE"];
  const url = given ?? `sqlite:${join(environment["TRESTLE_DATA"] ?? ".trestle", `${app}.db`)}`;
  if (url === "memory:") return { url, file: undefined };
  if (!url.startsWith("sqlite:")) {
    throw Fault.create("store.unknown-engine", `store must be "memory:" or "sqlite:<path>", got ${JSON.stringify(url)}`, "Give a URL of an engine that this version has.");
  }
  const file = resolve(url.slice("sqlite:".length).replace(/\?.*$/s, ""));
  try {
    mkdirSync(dirname(file), { recursive: true });
  } catch (cause) {
    throw Fault.create("store.not-writable", `the directory of the store cannot be made: ${dirname(file)} (${(cause as Error).message})`, "Name a directory that this user may write to, with TRESTLE_DATA or the store's URL.", { cause });
  }
  return { url, file };
}
