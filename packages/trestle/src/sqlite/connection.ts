/** Connections to a store's file, with the settings its guarantees rest on, read back and compared at every open (FINDINGS F11). */
import { DatabaseSync } from "node:sqlite";
import { Fault } from "../kernel/index.ts";
import { prepareSchema } from "./schema.ts";
import { settledWithinMs } from "./term.ts";

export type Durability = "full" | "normal";

/**
 * Kibibytes. Larger is not quicker: a miss is a read from the operating system (2 µs), and wherever random keys split an index in its middle, SQLite
 * walks the whole hash table of its cache at COMMIT (it had numbered a page past the end; `pcache1TruncateUnsafe`): 190 µs with 64 MB, 60 with 16.
 */
const writerCacheKb = 8_192;
/** Frames after which COMMIT moves the log into the file: fewer, longer checkpoints than SQLite's 1,000 (record 0019 has what each costs). */
const checkpointPages = 4_000;

/** The one connection that writes. `pageBytes`: of a new store; default SQLite's own. */
export function openForWriting(path: string, durability: Durability, pageBytes?: number): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: settledWithinMs, enableForeignKeyConstraints: true, allowExtension: false });
  try {
    const memory = path === ":memory:";
    if (pageBytes !== undefined) db.exec(`pragma page_size = ${pageBytes}`);
    const settings: readonly (readonly [name: string, value: string | number, answer: string | number])[] = [
      ["journal_mode", memory ? "memory" : "wal", memory ? "memory" : "wal"],
      ["synchronous", durability === "full" ? 2 : 1, durability === "full" ? 2 : 1],
      // macOS: fsync alone leaves the data in the disk's cache.
      ["fullfsync", 1, 1],
      ["checkpoint_fullfsync", 1, 1],
      ["cache_size", -writerCacheKb, -writerCacheKb],
      ["foreign_keys", 1, 1],
      ["trusted_schema", 0, 0],
    ];
    for (const [name, value, answer] of settings) {
      db.exec(`pragma ${name} = ${value}`);
      const seen = Object.values(db.prepare(`pragma ${name}`).get() ?? {})[0];
      if (seen !== answer)
        throw Fault.create(
          "store.setting-refused",
          `SQLite answered ${name} = ${String(seen)} where the store needs ${answer}`,
          "Use a local file system that SQLite supports in WAL mode.",
          { details: { path, name, seen, answer } },
        );
    }
    db.exec(`pragma wal_autocheckpoint = ${checkpointPages}; pragma journal_size_limit = 67108864`);
    prepareSchema(db, path);
    forgetStatistics(db);
    // A file that may only be read opens, and begins transactions, without a word: it fails at its first write.
    db.exec("begin immediate; update trestle_meta set value = value where name = 'epoch'; rollback; pragma busy_timeout = 0");
  } catch (error) {
    db.close();
    throw openFault(path, error);
  }
  return db;
}

/** The connection that is there already at first, and a new one whenever it is asked again. */
export function openingWith(first: DatabaseSync, open: () => DatabaseSync): () => DatabaseSync {
  let left: DatabaseSync | undefined = first;
  return () => {
    const db = left ?? open();
    left = undefined;
    return db;
  };
}

/**
 * Each statement has one plan, made for tables of any size. Statistics that somebody's ANALYZE left (of a table that was empty
 * that day, say) would change it (FINDINGS F8); those of the user's own tables stay.
 */
function forgetStatistics(db: DatabaseSync): void {
  if (!db.prepare("select 1 from sqlite_schema where name = 'sqlite_stat1'").get()) return;
  db.exec("delete from sqlite_stat1 where tbl like 'trestle\\_%' escape '\\'; analyze sqlite_schema");
}

/** Readers wait for nobody, but for whoever repairs the index of the log after a writer was killed: a moment. */
const readerWaitsMs = 250;

/** A connection for reads only, beside the writer's. */
export function openForReading(path: string): DatabaseSync {
  try {
    const db = new DatabaseSync(path, { readOnly: true, timeout: readerWaitsMs, enableForeignKeyConstraints: true });
    db.exec("pragma query_only = 1; pragma trusted_schema = 0; pragma cache_size = -16384");
    return db;
  } catch (error) {
    throw openFault(path, error);
  }
}

/** What opening can fail with, by SQLite's primary result code. */
export function openFault(path: string, error: unknown): unknown {
  if (Fault.is(error)) return error;
  const { errcode, message } = error as { errcode?: number; message?: string };
  const fault = (code: `${string}.${string}`, what: string, remedy: string) =>
    Fault.create(code, `${path} ${what}: ${message}`, remedy, { cause: error, details: { path, errcode } });
  switch ((errcode ?? -1) & 0xff) {
    case 11:
    case 26:
      return fault("store.corrupt", "is damaged, or is not a SQLite file", "Keep a copy of it, and restore the last backup.");
    case 5:
    case 6:
      return fault("store.in-use", "is held by another connection", "Stop the other process first.");
    case 8:
    case 14:
      return fault("store.not-writable", "cannot be opened for writing", "Check that the directory exists and that this user may write to it and to the file.");
    case 13:
      return fault("store.disk-full", "cannot be opened: the disk is full", "Free space.");
    case 10:
      return fault("store.io-error", "cannot be read or written", "Check the disk and its file system.");
    default:
      return errcode === undefined ? error : fault("store.failed", "cannot be opened", "Read the cause.");
  }
}
