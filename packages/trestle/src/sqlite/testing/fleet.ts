/** Several processes on one store, as a test drives them. */
import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sleep, systemClock } from "../../kernel/index.ts";
import type { JobRow, Store } from "../../store/index.ts";
import { openSqlite } from "../open.ts";
import { readNote } from "../writer-note.ts";
import type { Request } from "./member.ts";

export interface MemberProcess {
  readonly pid: number;
  readonly child: ChildProcess;
  /** Rejects with an error whose `code` is the fault's. */
  ask<T = unknown>(request: Request): Promise<T>;
  signal(name: NodeJS.Signals): void;
  /** Resolves when the process has ended. */
  readonly gone: Promise<void>;
}

export interface Fleet {
  readonly path: string;
  readonly members: readonly MemberProcess[];
  /** What members under load were told, by name. */
  readonly told: ReadonlyMap<string, string>;
  /** Somebody outside of a load was told that this was applied. */
  note(name: string): void;
  onTold(listener: (name: string, answer: string) => void): void;
  start(): Promise<MemberProcess>;
  /** Of those that live. */
  writer(): MemberProcess;
  others(): readonly MemberProcess[];
}

export async function withFleet(size: number, work: (fleet: Fleet) => Promise<void>): Promise<void> {
  const fleet = await startedFleet(size);
  try {
    await work(fleet);
  } finally {
    await fleet.end();
  }
}

export async function startedFleet(size: number): Promise<Fleet & { end(): Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-fleet-"));
  const path = join(directory, "store.db");
  const living = new Set<MemberProcess>();
  const told = new Map<string, string>();
  let listen: (name: string, answer: string) => void = () => undefined;
  const start = async () => {
    const member = await startMember(path, (name, answer) => {
      told.set(name, answer);
      listen(name, answer);
    });
    living.add(member);
    void member.gone.then(() => living.delete(member));
    return member;
  };
  const writer = () => {
    const pid = readNote(path)?.pid;
    const found = [...living].find((member) => member.pid === pid);
    if (!found) throw new Error(`the note names process ${pid}, which is none of the fleet`);
    return found;
  };
  const fleet = {
    path,
    get members() {
      return [...living];
    },
    told,
    note: (name: string) => void told.set(name, "applied"),
    onTold: (listener: typeof listen) => void (listen = listener),
    start,
    writer,
    others: () => [...living].filter((member) => member !== writer()),
    async end() {
      const left = [...living];
      for (const member of left) member.signal("SIGKILL");
      await Promise.all(left.map(({ gone }) => gone));
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    for (let i = 0; i < size; i++) await start();
    return fleet;
  } catch (error) {
    await fleet.end();
    throw error;
  }
}

/** `through`: a command that starts it, by the rest of its arguments. */
export async function startMember(
  path: string,
  onTold: (name: string, answer: string) => void = () => undefined,
  { through: [starter = process.execPath, ...starts] = [], env = {} }: { readonly through?: readonly string[]; readonly env?: Record<string, string> } = {},
): Promise<MemberProcess> {
  const child = fork(fileURLToPath(new URL("./member.ts", import.meta.url)), [path], {
    execPath: starter,
    execArgv: starter === process.execPath ? [] : [...starts, process.execPath],
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const waiting = new Map<number, { readonly resolve: (answer: never) => void; readonly reject: (error: Error) => void }>();
  let asked = 0;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  void gone.then(() => {
    for (const { reject } of waiting.values()) reject(Object.assign(new Error("the process ended"), { code: "gone" }));
    waiting.clear();
  });
  const opened = new Promise<void>((resolve, reject) => {
    child.on("message", (message: Record<string, unknown>) => {
      if ("told" in message) return onTold(message["told"] as string, message["answer"] as string);
      if ("open" in message) return resolve();
      if ("refused" in message) return reject(Object.assign(new Error(message["message"] as string), { code: message["refused"] }));
      if ("inside" in message) return void child.emit("inside", message["inside"]);
      const { resolve: answer, reject: refuse } = waiting.get(message["id"] as number) ?? {};
      waiting.delete(message["id"] as number);
      if ("fault" in message)
        refuse?.(Object.assign(new Error(`${message["fault"]}: ${message["message"]}`), { code: message["fault"], details: message["details"] }));
      else answer?.(message["answer"] as never);
    });
    void gone.then(() => reject(new Error("the process ended before it had opened the store")));
  });
  await opened;
  return {
    pid: child.pid as number,
    child,
    gone,
    signal: (name) => void child.kill(name),
    ask(request) {
      return new Promise((resolve, reject) => {
        const id = asked++;
        waiting.set(id, { resolve: resolve as (answer: never) => void, reject });
        if (child.connected) child.send({ id, request });
      });
    },
  };
}

/** Resolves when the member is inside its transaction. */
export function inside(member: MemberProcess, name: string): Promise<void> {
  return new Promise((resolve) => {
    const listener = (which: string) => {
      if (which !== name) return;
      member.child.off("inside", listener);
      resolve();
    };
    member.child.on("inside", listener);
  });
}

/**
 * Every commit that somebody was told of is there once, in each of its three places; what nobody was told of is there once or not at all.
 * Answers how many were applied.
 */
export async function checkLedger(store: Store, told: ReadonlyMap<string, string>): Promise<{ readonly applied: number; readonly untold: number }> {
  const events = new Map<string, number>();
  for (let after = { epoch: store.epoch, position: 0 }, atEnd = false; !atEnd;) {
    const page = await store.read.log({ after, components: ["s"], limit: 1_000 });
    for (const { stream } of page.events) events.set(stream.slice("s//".length), (events.get(stream.slice("s//".length)) ?? 0) + 1);
    after = page.next;
    atEnd = page.atEnd;
  }
  const jobs = new Map<string, number>();
  for (let after: string | undefined, page: readonly JobRow[] = []; ; after = page.at(-1)?.id) {
    page = await store.read.jobs({ queue: "ledger", limit: 1_000, ...(after !== undefined && { after }) });
    for (const { payload } of page) jobs.set(new TextDecoder().decode(payload), (jobs.get(new TextDecoder().decode(payload)) ?? 0) + 1);
    if (page.length < 1_000) break;
  }
  const names = [...events.keys()];
  const records = new Set<string>();
  for (let from = 0; from < names.length; from += 1_000)
    for (const row of await store.read.records(names.slice(from, from + 1_000).map((name) => `r//${name}`))) if (row) records.add(row.key.slice("r//".length));
  const lost = [...told].filter(([name, answer]) => answer === "applied" && !events.has(name)).map(([name]) => name);
  const doubled = [...events, ...jobs].filter(([, count]) => count > 1).map(([name]) => name);
  const torn = names.filter((name) => !jobs.has(name) || !records.has(name));
  assert.deepEqual({ lost, doubled, torn, strayJobs: jobs.size - events.size }, { lost: [], doubled: [], torn: [], strayJobs: 0 });
  return { applied: events.size, untold: names.filter((name) => !told.has(name)).length };
}

/** Looks every 5 ms; fails when it does not come to hold. */
export async function eventually(what: string, holds: () => Promise<boolean> | boolean, withinMs = 5_000): Promise<void> {
  for (const until = performance.now() + withinMs; performance.now() < until; await sleep(systemClock, 5)) if (await holds()) return;
  assert.fail(`${what}: not within ${withinMs} ms`);
}

/** The store as one more process sees it, once no member needs to be asked. */
export async function withStore<T>(fleet: Fleet, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openSqlite({ path: fleet.path });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
