/**
 * What `trestle sim` has left in this folder: of each seed that broke a promise a page and a trace (simulation/timeline.ts), so that the console of an app
 * that is being worked on can open them. Where nobody simulates there is no such folder, and nothing to show.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

export interface SimulatedSeed {
  /** The scenario's. */
  readonly name: string;
  readonly seed: string;
  /** When it was written. */
  readonly atMs: number;
  /** Names below `/_trestle/simulations/`. */
  readonly page: string;
  readonly trace: string | undefined;
}

/** Beside the app: where `trestle sim` writes unless it is told otherwise. */
export const simulatedFolder = ".trestle/simulation";
const shownMax = 50;
const types = { html: "text/html; charset=utf-8", jsonl: "application/x-ndjson" } as const;
const named = /^([\w.$-]+)-(0x[0-9a-f]+)\.(html|jsonl)$/;

/** The newest first. */
export async function simulatedSeeds(folder: string): Promise<readonly SimulatedSeed[]> {
  const files = new Set(await readdir(folder).catch(() => [] as string[]));
  const found = [...files].flatMap((page) => {
    const [, name, seed, kind] = named.exec(page) ?? [];
    return name === undefined || seed === undefined || kind !== "html" ? [] : [{ name, seed, page }];
  });
  const seeds = await Promise.all(
    found.map(async ({ name, seed, page }) => {
      const trace = `${name}-${seed}.jsonl`;
      const written = await stat(join(folder, page)).catch(() => undefined); // it may be gone by now
      return written && { name, seed, atMs: Math.floor(written.mtimeMs), page, trace: files.has(trace) ? trace : undefined };
    }),
  );
  return seeds
    .filter((one) => one !== undefined)
    .sort((a, b) => b.atMs - a.atMs || (a.page < b.page ? -1 : 1))
    .slice(0, shownMax);
}

/** One of its files; `undefined` when there is none of this name. The page holds no script and loads nothing, and may not. */
export async function simulatedFile(folder: string, name: string): Promise<Response | undefined> {
  const kind = named.exec(name)?.[3] as keyof typeof types | undefined;
  if (kind === undefined) return undefined;
  const bytes = await readFile(join(folder, name)).catch(() => undefined);
  return (
    bytes &&
    new Response(new Uint8Array(bytes), {
      headers: {
        "content-type": types[kind],
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox",
      },
    })
  );
}
