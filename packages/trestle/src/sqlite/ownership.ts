/**
 * The lock of a store's writer: the kernel drops it when the process dies, however it dies, so the next one can follow at once. It is a tiny
 * SQLite database beside the store, kept in BEGIN EXCLUSIVE. It says only that somebody lives; who may write is the term's to say (term.ts).
 * Each term has a lock file of its own, which takes the name when the term begins: so whoever has the newest term has the lock that is
 * found by name, whatever those before still hold.
 */
import { renameSync, rmSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Fault } from "../kernel/index.ts";
import { openFault } from "./connection.ts";
import { raiseTerm } from "./term.ts";
import { readNote } from "./writer-note.ts";

export interface Ownership {
  release(): void;
}

const lockOf = (path: string): string => `${path}-lock`;

/** The right to try to begin a term. `undefined`: a living process has it. */
export function tryOwnership(path: string): Ownership | undefined {
  return locked(lockOf(path));
}

/** Begins a term (see `raiseTerm`), with its lock. */
export function beginTerm(db: DatabaseSync, path: string, ended?: number): { readonly term: number; readonly ownership: Ownership } | undefined {
  let ownership: Ownership | undefined;
  try {
    const term = raiseTerm(db, ended, () => (ownership = newLock(path)));
    return term === undefined ? undefined : { term, ownership: ownership as unknown as Ownership };
  } catch (error) {
    (ownership as Ownership | undefined)?.release();
    throw error;
  }
}

function newLock(path: string): Ownership {
  const own = `${lockOf(path)}.${process.pid}`;
  rmSync(own, { force: true });
  const ownership = locked(own);
  if (!ownership) throw inUse(path);
  try {
    renameSync(own, lockOf(path));
  } catch (error) {
    ownership.release();
    throw error;
  }
  return ownership;
}

export function inUse(path: string): Fault {
  const note = readNote(path);
  return Fault.create(
    "store.in-use",
    `${path} is open in another process${note === undefined ? "" : ` (pid ${note.pid})`}${note?.alone === undefined ? "" : `, which takes nobody in: ${note.alone}`}`,
    "Stop that process, or give this one a store of its own.",
    { details: { path, pid: note?.pid, ...(note?.alone !== undefined && { alone: true }) } },
  );
}

function locked(file: string): Ownership | undefined {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(file, { timeout: 0 });
    db.exec("pragma journal_mode = memory; begin exclusive");
  } catch (error) {
    db?.close();
    const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
    if (code !== 5 && code !== 6) throw openFault(file, error);
    return undefined;
  }
  const owned = db;
  return { release: () => owned.close() };
}

/** Linux `statfs` magic numbers of file systems that other machines share: SQLite's locks and shared memory do not hold there. */
const networkFileSystems: ReadonlyMap<number, string> = new Map([
  [0x6969, "NFS"],
  [0x517b, "SMB"],
  [0xff53_4d42, "CIFS"],
  [0xfe53_4d42, "SMB2"],
  [0x0102_1997, "9P"],
  [0x5346_414f, "AFS"],
  [0x7375_7245, "Coda"],
  [0x00c3_6400, "Ceph"],
  [0x0bd0_0bd0, "Lustre"],
  [0x4750_4653, "GPFS"],
  [0x7461_636f, "OCFS2"],
  [0x0116_1970, "GFS2"],
]);

/** The name of a network file system by its `statfs` type; `undefined` for any other. Types are Linux's. */
export function networkFileSystem(type: number): string | undefined {
  return networkFileSystems.get(type >>> 0);
}

export function refuseNetworkFileSystem(path: string, typeOf: (directory: string) => number | undefined = statfsType): void {
  const type = typeOf(dirname(path));
  const name = type === undefined ? undefined : networkFileSystem(type);
  if (name)
    throw Fault.create(
      "store.network-file-system",
      `${path} is on a network file system (${name}), where SQLite's locks do not hold`,
      "Put the store on a local disk, or use PostgreSQL.",
      { details: { path, name } },
    );
}

function statfsType(directory: string): number | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    return statfsSync(directory).type;
  } catch (error) {
    throw Fault.create("store.not-writable", `${directory} cannot be read: ${(error as Error).message}`, "Make the directory first, or name another path.", {
      cause: error,
      details: { directory },
    });
  }
}
