/** Where things live. Every value is a URL; what is left out comes from `TRESTLE_STORE`, and else from the embedded default. */
import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Fault } from "../kernel/index.ts";
import { parseStoreUrl } from "../sqlite/index.ts";

export interface Engines {
  /**
   * Truth: log, queue, records, commit. Default `sqlite:<TRESTLE_DATA or ./.trestle>/<app>.db`. `?synchronous=normal` gives up
   * `commit.durable`: a power loss may then take back the last commits.
   */
  readonly store?: StoreUrl;
}
export type StoreUrl = "memory:" | `sqlite:${string}`;

/** The store's URL as given, in the environment, or the default; and the file behind it, whose directory is made. */
export function storeUrl(
  app: string,
  engines: Engines,
  environment: Readonly<Record<string, string | undefined>>,
): { readonly url: string; readonly file: string | undefined } {
  const url = engines.store ?? environment["TRESTLE_STORE"] ?? `sqlite:${join(environment["TRESTLE_DATA"] ?? ".trestle", `${app}.db`)}`;
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
