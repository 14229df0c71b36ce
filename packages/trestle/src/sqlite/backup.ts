/** Copies of a store, taken while it is used. */
import { existsSync } from "node:fs";
import { backup as copyDatabase, DatabaseSync } from "node:sqlite";
import { Fault } from "../kernel/index.ts";
import { openFault, openForReading } from "./connection.ts";

/**
 * A copy through a read transaction of its own, which holds one snapshot however long the copy takes: without it SQLite would
 * start over after each commit. The copy is marked, so that it opens with a new epoch.
 */
export async function backupFile(path: string, target: string): Promise<void> {
  const db = openForReading(path);
  try {
    db.exec("begin");
    db.prepare("select 1 from trestle_meta limit 1").get();
    await backupInto(db, target);
  } finally {
    db.close();
  }
}

export async function backupInto(db: DatabaseSync, target: string): Promise<void> {
  if (existsSync(target))
    throw Fault.create("store.backup-exists", `${target} exists`, "Name a new file; a backup never overwrites one.", { details: { target } });
  try {
    await copyDatabase(db, target, { rate: 512 });
    const copy = new DatabaseSync(target, { timeout: 0 });
    try {
      copy.exec("insert or replace into trestle_meta (name, value) values ('restored', 1)");
      copy.exec("pragma wal_checkpoint(truncate)");
    } finally {
      copy.close();
    }
  } catch (error) {
    throw openFault(target, error);
  }
}
