/** Stores by URL: `memory:`, `sqlite:./orders.db`, `sqlite:///var/lib/shop/orders.db?synchronous=normal`. */
import { Fault, type Clock, type Random } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";
import type { Durability } from "./connection.ts";
import { openSqlite, type SqliteOptions } from "./open.ts";

/** What a URL asks for. A path is relative to the working directory unless it starts with a slash. */
export function parseStoreUrl(url: string): Pick<SqliteOptions, "path"> & { readonly durability: Durability } {
  if (url === "memory:" || url === "sqlite::memory:") return { path: ":memory:", durability: "full" };
  const match = /^sqlite:(?:\/\/)?([^?#]+)(?:\?(.*))?$/.exec(url);
  if (!match) throw notAUrl(url, "it must be memory: or sqlite:<path>");
  const path = match[1] as string;
  let durability: Durability = "full";
  for (const [name, value] of new URLSearchParams(match[2] ?? "")) {
    if (name !== "synchronous") throw notAUrl(url, `there is no option ${name}`);
    if (value !== "full" && value !== "normal") throw notAUrl(url, `synchronous must be full or normal, got ${value}`);
    durability = value;
  }
  return { path, durability };
}

export async function openStore(url: string, options: { readonly clock?: Clock; readonly random?: Random } = {}): Promise<Store> {
  return openSqlite({ ...parseStoreUrl(url), ...options });
}

function notAUrl(url: string, why: string): Fault {
  return Fault.create("store.url-unknown", `store ${JSON.stringify(url)}: ${why}`, "Use memory:, sqlite:./path.db or sqlite:./path.db?synchronous=normal.", {
    details: { url },
  });
}
