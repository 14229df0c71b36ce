/**
 * One process owns a store's file. Ownership is an exclusive lock that the kernel drops when the process dies, however it
 * dies: a tiny SQLite database beside the store, kept in BEGIN EXCLUSIVE. A text file says who it is, for people only.
 */
import { readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Fault } from "../kernel/index.ts";
import { openFault } from "./connection.ts";

export interface Ownership {
  release(): void;
}

export function takeOwnership(path: string): Ownership {
  refuseNetworkFileSystem(path);
  const [lock, holder] = [`${path}-lock`, `${path}-pid`];
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(lock, { timeout: 0 });
    db.exec("pragma journal_mode = memory; begin exclusive");
  } catch (error) {
    db?.close();
    const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
    if (code !== 5 && code !== 6) throw openFault(lock, error);
    const pid = readPid(holder);
    throw Fault.create(
      "store.in-use",
      `${path} is open in another process${pid === undefined ? "" : ` (pid ${pid})`}`,
      "Stop that process, or give this one a store of its own.",
      { cause: error, details: { path, pid } },
    );
  }
  const owned = db;
  try {
    writeFileSync(holder, `${process.pid}\n`);
  } catch (error) {
    owned.close();
    throw Fault.create("store.not-writable", `${holder} cannot be written: ${(error as Error).message}`, "Check that this user may write to the directory.", {
      cause: error,
      details: { path },
    });
  }
  return {
    release() {
      rmSync(holder, { force: true });
      owned.close();
    },
  };
}

function readPid(file: string): number | undefined {
  try {
    return Number.parseInt(readFileSync(file, "utf8"), 10) || undefined;
  } catch {
    return undefined;
  }
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
