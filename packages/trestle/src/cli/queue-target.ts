/**
 * Where `trestle queue` works: on a running node over HTTP, which is found by the file it leaves beside the store (`<store>.node.json`), so that what
 * is done shows in that node's log; else on the store, which it opens beside whoever else has it open.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { isPostgres, openStoreAt, queueAdmin, withoutPassword, type Acted, type JobFacts, type Which } from "../app/index.ts";
import { Fault, systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import { parseStoreUrl } from "../sqlite/index.ts";
import { limits, type GroupDepth, type JobId, type JobState, type QueueDepth } from "../store/index.ts";
import type { OptionSpec } from "./command-line.ts";

/** Options of commands that reach an app: by its store, or by a node of it that runs. */
export const targetOptions: Readonly<Record<string, OptionSpec>> = {
  store: { type: "string", value: "url", help: "sqlite:<path>; default TRESTLE_STORE, else the only store in TRESTLE_DATA or .trestle" },
  url: { type: "string", value: "url", help: "a running node instead, such as http://localhost:3000; TRESTLE_TOKEN is sent when set" },
  json: { type: "boolean", help: "data for programs" },
};

export interface QueueTarget {
  /** For people: what was asked. */
  readonly where: string;
  depths(): Promise<readonly QueueDepth[]>;
  jobs(query: { readonly queue: string; readonly state?: JobState; readonly limit: number }): Promise<readonly JobFacts[]>;
  groups(queue: string): Promise<readonly GroupDepth[]>;
  redrive(queue: string, which: Which): Promise<Acted>;
  cancel(queue: string, which: Which): Promise<Acted>;
  pause(queue: string, paused: boolean): Promise<void>;
  edit(queue: string, job: JobId, message: unknown): Promise<void>;
  close(): Promise<void>;
}

const answersWithinMs = 30_000;
const looksWithinMs = 2_000;

/** Faults: `cli.node-unreachable`, `cli.node-refused`, `cli.which-store`, and those of opening a store. */
export async function queueTarget(options: Given, say: (text: string) => void): Promise<QueueTarget> {
  const place = await placeOf(options, say);
  return place.kind === "node" ? nodeAt(place.url) : storeAt(place.url, place.where);
}

interface Given {
  readonly url: string | undefined;
  readonly store: string | undefined;
}
/** A node that runs, or the store itself. */
export type Place = { readonly kind: "node"; readonly url: string } | { readonly kind: "store"; readonly url: string; readonly where: string };

/** Faults: `cli.which-store`, `store.not-found`. */
export async function placeOf(options: Given, say: (text: string) => void): Promise<Place> {
  if (options.url !== undefined) return { kind: "node", url: options.url };
  const url = options.store ?? process.env["TRESTLE_STORE"] ?? theOnlyStore();
  if (isPostgres(url)) return { kind: "store", url, where: withoutPassword(url) };
  const { path } = parseStoreUrl(url);
  if (path === ":memory:")
    throw Fault.create(
      "cli.which-store",
      "--store must be a store in a file: one in memory lives in its node only",
      "Name the node with --url, or a store such as sqlite:.trestle/app.db.",
    );
  const file = resolve(path);
  if (!existsSync(file))
    throw Fault.create("store.not-found", `--store must be a store, and there is no file ${file}`, "Check the path; start the app once to make its store.");
  const node = await runningNode(file);
  if (node !== undefined) {
    say(`the store is held by a node at ${node}`);
    return { kind: "node", url: node };
  }
  return { kind: "store", url, where: file };
}

function theOnlyStore(): string {
  const folder = process.env["TRESTLE_DATA"] ?? ".trestle";
  const found = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".db")) : [];
  if (found.length === 1) return `sqlite:${join(folder, found[0] as string)}`;
  throw Fault.create(
    "cli.which-store",
    found.length === 0 ? `there is no store in ${resolve(folder)}` : `there are ${found.length} stores in ${resolve(folder)}: ${found.join(", ")}`,
    "Say which one with --store sqlite:<path>, or name a running node with --url.",
  );
}

/** The URL of the node that holds this store, if one answers there. */
async function runningNode(file: string): Promise<string | undefined> {
  const note = `${file}.node.json`;
  if (!existsSync(note)) return undefined;
  try {
    const { url, pid } = JSON.parse(readFileSync(note, "utf8")) as { readonly url: string; readonly pid: number };
    process.kill(pid, 0);
    const answer = await within(looksWithinMs, (signal) => fetch(`${url}/_trestle/health/live`, { signal }));
    return answer.ok ? url : undefined;
  } catch {
    return undefined; // left behind by a node that is gone
  }
}

/** Asks a node under `/_trestle`. Faults: `cli.bad-option`, and of each question `cli.node-unreachable`, `cli.node-refused`. */
export function asking(given: string): { readonly origin: string; ask<T>(path: string, body?: object): Promise<T> } {
  if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol))
    throw Fault.create("cli.bad-option", `--url must be an http or https URL, got ${JSON.stringify(given)}`, "Write it like http://localhost:3000.");
  const { origin } = new URL(given);
  const token = process.env["TRESTLE_TOKEN"];
  const headers = { accept: "application/json", "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : { origin }) };

  async function ask<T>(path: string, body?: object): Promise<T> {
    let answer: Response;
    try {
      answer = await within(answersWithinMs, (signal) =>
        fetch(`${origin}/_trestle/${path}`, { headers, signal, ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }) }),
      );
    } catch (cause) {
      throw Fault.create("cli.node-unreachable", `no node answers at ${origin} (${reasonOf(cause)})`, "Check --url, and that the app is running.", { cause });
    }
    const text = await answer.text();
    const told = parsed(text) as { readonly detail?: string; readonly remedy?: string } | undefined;
    if (answer.ok && told !== undefined) return told as T;
    throw Fault.create(
      "cli.node-refused",
      `the node at ${origin} answered ${answer.status}: ${told?.detail ?? (text.slice(0, 200) || "nothing")}`,
      told?.remedy ?? (answer.status === 401 || answer.status === 403 ? "Set TRESTLE_TOKEN to the token of that node." : "Check that --url is a Trestle node."),
    );
  }

  return { origin, ask };
}

function nodeAt(given: string): QueueTarget {
  const { origin, ask } = asking(given);
  return {
    where: origin,
    depths: async () => (await ask<{ queues: readonly QueueDepth[] }>("status.json")).queues,
    jobs: async ({ queue, state, limit }) =>
      (await ask<{ jobs: readonly JobFacts[] }>(`queues/${encodeURIComponent(queue)}/jobs?limit=${limit}${state === undefined ? "" : `&state=${state}`}`)).jobs,
    groups: async (queue) => (await ask<{ groups: readonly GroupDepth[] }>(`queues/${encodeURIComponent(queue)}/groups`)).groups,
    redrive: (queue, which) => ask(`queues/${encodeURIComponent(queue)}/redrive`, which),
    cancel: (queue, which) => ask(`queues/${encodeURIComponent(queue)}/cancel`, which),
    pause: async (queue, paused) => void (await ask(`queues/${encodeURIComponent(queue)}/${paused ? "pause" : "resume"}`, {})),
    edit: async (queue, job, message) => void (await ask(`queues/${encodeURIComponent(queue)}/edit`, { ids: [job], message })),
    close: () => Promise.resolve(),
  };
}

async function storeAt(url: string, where: string): Promise<QueueTarget> {
  const store = await openStoreAt(url, { clock: systemClock, random: systemRandom });
  const admin = queueAdmin(store, uuidv7Ids(systemClock, systemRandom));
  return {
    where,
    depths: () => admin.depths(),
    jobs: (query) => admin.jobs(query),
    groups: (queue) => admin.groups(queue, limits.pageRowsMax),
    redrive: (queue, which) => admin.redrive(queue, which),
    cancel: (queue, which) => admin.cancel(queue, which),
    pause: (queue, paused) => admin.pause(queue, paused),
    edit: (queue, job, message) => admin.edit(queue, job, message),
    close: () => store.close(),
  };
}

async function within<T>(ms: number, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const timer = systemClock.after(ms, () => controller.abort(new Error(`no answer within ${ms} ms`)));
  try {
    return await ask(controller.signal);
  } finally {
    timer.cancel();
  }
}

function reasonOf(thrown: unknown): string {
  const { message, cause } = thrown as { readonly message?: string; readonly cause?: { readonly code?: string; readonly message?: string } };
  return cause?.code ?? cause?.message ?? message ?? String(thrown);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
