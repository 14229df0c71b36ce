/** Opens a store: in memory, or in a file that processes of one user may share (seat.ts); inline, in a file of one's own. */
import { closeSync, existsSync, openSync, readSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { Fault, systemClock, systemRandom, uuidv7Ids, type Clock, type Random } from "../kernel/index.ts";
import type { MoveSource, Store } from "../store/index.ts";
import { openForReading, type Durability } from "./connection.ts";
import { engineStore, type SqliteStore } from "./engine.ts";
import type { TransactionSeam } from "./lane.ts";
import { refuseNetworkFileSystem } from "./ownership.ts";
import { sqliteProfile } from "./profile.ts";
import { openReader } from "./reader.ts";
import { threadWriter } from "./thread-writer.ts";

export interface SqliteOptions {
  /** A file, made when it is not there; or `:memory:`. Its directory must exist. */
  readonly path: string;
  /** Default: the machine's. The store's clock is `clock.wallMs()` of the process that owns the file. */
  readonly clock?: Clock;
  /** For ids that the store mints itself. Default: the machine's. */
  readonly random?: Random;
  /** `full` (default): an acknowledged commit survives a power loss. `normal`: it survives a crash of the process only, and `commit.durable` is not among the guarantees. */
  readonly durability?: Durability;
  /** The lane on the caller's thread instead of one of its own: for one-shot commands. Default: in a thread, and inline for `:memory:`. */
  readonly inline?: boolean;
  /** For a simulator: where a batch begins and ends. Only inline. */
  readonly seam?: (db: DatabaseSync) => TransactionSeam;
}

/**
 * Faults: `store.in-use`, `store.writer-stopped`, `store.version-differs`, `store.not-writable`, `store.corrupt`, `store.newer-format`, `store.not-a-store`, `store.network-file-system`,
 * `store.disk-full`, `store.io-error`, `store.setting-refused`, `store.open-differs`.
 */
export async function openSqlite(options: SqliteOptions): Promise<Store> {
  return openSqliteStore(options);
}

/** The same, with what is this engine's own. */
export async function openSqliteStore(options: SqliteOptions): Promise<SqliteStore> {
  return options.path === ":memory:" ? (await import("./open-inline.ts")).openMemory(options) : openShared(options);
}

/** A file's store as what is left in a live move. What only a move needs is loaded when there is one. */
export async function moveSource(path: string, store: SqliteStore, clock: Clock): Promise<MoveSource> {
  return (await import("./move-source.ts")).moveSource(path, store, clock);
}

/** Disks for simulations. Loaded when there is one: the lane is no part of what an app's main thread needs. */
export async function memoryDisks(): Promise<typeof import("./memory-disk.ts")> {
  return import("./memory-disk.ts");
}

// ---- files ----------------------------------------------------------------------------------------------------------

interface Shared {
  readonly durability: Durability;
  readonly store: Promise<SqliteStore>;
  users: number;
  /** Set by the last one to leave; whoever comes next waits for it, and opens anew. */
  closing: Promise<void> | undefined;
}

/** Files this process has open, by their real path: opening one again shares its writer. */
const openFiles = new Map<string, Shared>();

async function openShared(options: SqliteOptions): Promise<SqliteStore> {
  const path = realPath(options.path);
  const durability = options.durability ?? "full";
  for (let left = openFiles.get(path); left?.closing; left = openFiles.get(path)) await left.closing;
  const known = openFiles.get(path);
  if (known && known.durability !== durability) {
    throw Fault.create(
      "store.open-differs",
      `${path} is open in this process with durability ${known.durability}, and was asked for with ${durability}`,
      "Open one file with one durability.",
      { details: { path } },
    );
  }
  const shared: Shared = known ?? { durability, store: openFile(path, durability, options), users: 0, closing: undefined };
  openFiles.set(path, shared);
  shared.users++;
  const leave = async (store: SqliteStore | undefined) => {
    if (--shared.users > 0) return;
    shared.closing = Promise.resolve(store?.close()).finally(() => void (openFiles.get(path) === shared && openFiles.delete(path)));
    await shared.closing;
  };
  let store: SqliteStore;
  try {
    store = await shared.store;
  } catch (error) {
    await leave(undefined);
    throw error;
  }
  let closed: Promise<void> | undefined;
  return { ...store, close: () => (closed ??= leave(store)) };
}

async function openFile(path: string, durability: Durability, options: SqliteOptions): Promise<SqliteStore> {
  const clock = options.clock ?? systemClock;
  refuseOtherFormats(path);
  refuseNetworkFileSystem(path);
  const inline = options.inline || options.seam !== undefined;
  const writer = inline ? (await import("./open-inline.ts")).writesAlone(path, durability, options, clock) : await threadWriter({ path, durability });
  let db: DatabaseSync;
  try {
    db = openForReading(path);
  } catch (error) {
    await writer.close();
    throw error;
  }
  return engineStore({
    engine: "sqlite",
    guarantees: new Set(sqliteProfile(path, durability, inline).guarantees),
    writer,
    reader: openReader({ db, clock, epoch: writer.epoch }),
    clock,
    ids: uuidv7Ids(clock, options.random ?? systemRandom),
    backup: async (target) => (await import("./backup.ts")).backupFile(path, target),
    beforeClose: () => db.close(),
  });
}

/** Two names of one file are one file. */
function realPath(path: string): string {
  const absolute = resolve(path);
  try {
    return existsSync(absolute) ? realpathSync(absolute) : join(realpathSync(dirname(absolute)), basename(absolute));
  } catch (error) {
    throw Fault.create(
      "store.not-writable",
      `${dirname(absolute)} cannot be opened: ${(error as Error).message}`,
      "Make the directory first, or name another path.",
      { cause: error, details: { path: absolute } },
    );
  }
}

/** Says what is wrong before a lock or a log is laid beside somebody else's file. */
function refuseOtherFormats(path: string): void {
  if (!existsSync(path)) return;
  const head = Buffer.alloc(16);
  let size: number;
  try {
    const file = openSync(path, "r");
    size = readSync(file, head);
    closeSync(file);
  } catch (error) {
    throw Fault.create("store.not-writable", `${path} cannot be read: ${(error as Error).message}`, "Check that this user may read and write the file.", {
      cause: error,
      details: { path },
    });
  }
  if (size > 0 && head.toString("latin1") !== "SQLite format 3\u0000")
    throw Fault.create("store.corrupt", `${path} is damaged, or is not a SQLite file`, "Keep a copy of it, and restore the last backup.", {
      details: { path },
    });
}
