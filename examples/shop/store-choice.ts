/**
 * Which store the shop runs on: `--store <url>`, else TRESTLE_STORE, else a file in the data directory. `--store postgres`, with no
 * URL, starts a PostgreSQL of its own on a free port. Its data is temporary and goes with the shop, however that ends.
 */
import { Fault } from "trestle";

export interface StoreChoice extends AsyncDisposable {
  readonly url: string;
  /** For people: what is special about it. */
  readonly note: string | undefined;
}

export async function storeChoice(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  dataDirectory: string,
): Promise<StoreChoice> {
  const url = (args.length > 0 ? await asked(args) : undefined) ?? environment["TRESTLE_STORE"] ?? `sqlite:${dataDirectory}/shop.db`;
  if (url !== "postgres") return { url, note: undefined, [Symbol.asyncDispose]: () => Promise.resolve() };
  // Loaded when asked for: it is for trying things out, and the shop does without it everywhere else.
  const { postgres } = await import("@trestle/testing");
  const server = await postgres();
  return { url: server.url, note: `PostgreSQL at ${server.url}; its data is temporary and goes with this shop`, [Symbol.asyncDispose]: () => server.close() };
}

async function asked(args: readonly string[]): Promise<string | undefined> {
  const { parseArgs } = await import("node:util");
  try {
    return parseArgs({ args: [...args], options: { store: { type: "string" } } }).values.store;
  } catch (cause) {
    throw Fault.create(
      "shop.bad-argument",
      (cause as Error).message,
      "the only option is --store <url>: sqlite:<file>, memory:, postgres://…, or postgres for a temporary one",
      {
        cause,
      },
    );
  }
}
