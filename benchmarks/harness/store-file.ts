/** A store's file with history in it: 500,000 records under random keys, made once and copied for each measurement (FINDINGS F12). */
import { closeSync, copyFileSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";

export const historyRows = 500_000;
const cache = new URL("../../.cache/bench/", import.meta.url).pathname;

/** 128 random bits, as clients send them. */
export const randomKey = (): string => `shop//${randomBytes(16).toString("base64url")}`;

/** Call it before anything is measured. */
export async function prepareHistory(): Promise<void> {
  mkdirSync(cache, { recursive: true });
  const empty = join(cache, `empty-${process.pid}.db`);
  await (await openSqlite({ path: empty })).close();
  const db = new DatabaseSync(empty);
  const version = (db.prepare("select group_concat(sql) as text from sqlite_schema").get() as { text: string }).text;
  const path = historyPath(version);
  if (!existsSync(path)) {
    process.stderr.write(`making ${historyRows} records of history, once …\n`);
    const insert = db.prepare("insert into trestle_records (key, home, n, created, expires, indexed, value) values (?, 'shop//', 1, 1, null, 0, ?)");
    const value = Buffer.alloc(200, "x");
    db.exec("begin");
    for (let row = 0; row < historyRows; row++) insert.run(randomKey(), value);
    db.exec("commit; pragma wal_checkpoint(truncate)");
    db.close();
    renameSync(empty, path);
  } else db.close();
  for (const suffix of ["", "-wal", "-shm", "-lock"]) rmSync(empty + suffix, { force: true });
  process.env["BENCH_HISTORY"] = path;
}

function historyPath(schema: string): string {
  let hash = 2_166_136_261;
  for (let i = 0; i < schema.length; i++) hash = Math.imul(hash ^ schema.charCodeAt(i), 16_777_619);
  return join(cache, `history-${historyRows}-${(hash >>> 0).toString(16)}.db`);
}

/** A copy of its own for this measurement, on disk before it starts. */
export function copyOfHistory(scratch: string): string {
  const path = join(scratch, "store.db");
  copyFileSync(process.env["BENCH_HISTORY"] as string, path);
  const file = openSync(path, "r+");
  fsyncSync(file);
  closeSync(file);
  return path;
}
