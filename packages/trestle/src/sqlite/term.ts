/**
 * The term: who may write a store's file. Whoever becomes the writer raises the number in the file by one; each of its
 * transactions reads it again, under SQLite's own write lock, and does nothing in another's term (FINDINGS F18). So there are
 * never two writers, whatever sockets, locks and process ids say: those only decide when somebody tries.
 */
import { DatabaseSync } from "node:sqlite";
import { prepare, type Prepared } from "./statements.ts";

/** Another process writes now: the transaction was rolled back before anything was done in it. */
export class Superseded extends Error {
  constructor() {
    super("another process has become the writer of this file");
  }
}

const readers = new WeakMap<DatabaseSync, Prepared>();

export function readTerm(db: DatabaseSync): number {
  let reader = readers.get(db);
  if (!reader) readers.set(db, (reader = prepare(db, "select value from trestle_meta where name = 'term'")));
  return Number(reader.get()?.[0] ?? 0);
}

/** The term of a file, for whoever has it not open. */
export function termOf(path: string): number {
  const db = new DatabaseSync(path, { readOnly: true, timeout: settledWithinMs });
  try {
    return readTerm(db);
  } finally {
    db.close();
  }
}

export const isTerm = (db: DatabaseSync, term: number): boolean => readTerm(db) === term;

/**
 * Begins a new term; `undefined` when the one that was to be ended is over already. One of several that try at once succeeds.
 * Throws SQLITE_BUSY while somebody stays inside a transaction. `meanwhile` runs before anybody can begin the next one.
 */
export function raiseTerm(db: DatabaseSync, ended?: number, meanwhile: () => void = () => undefined): number | undefined {
  patiently(() => db.exec("begin immediate"), settledWithinMs);
  try {
    const term = readTerm(db);
    if (ended !== undefined && term !== ended) {
      db.exec("rollback");
      return undefined;
    }
    db.prepare("insert into trestle_meta (name, value) values ('term', ?) on conflict (name) do update set value = excluded.value").run(term + 1);
    meanwhile();
    db.exec("commit");
    return term + 1;
  } catch (error) {
    if (db.isTransaction) db.exec("rollback");
    throw error;
  }
}

/**
 * Others who want to write hold the write lock for a moment each, one after the other, while they find out who will. Who cannot have it for longer
 * than this has met a transaction.
 */
export const settledWithinMs = 250;
/** A writer waits longer: nobody but it should be inside a transaction. */
const busyMsMax = 1_000;
const never = new Int32Array(new SharedArrayBuffer(4));

/** Waits for the write lock where it is free again in a moment; for a thread that has nothing else to do. `look` is called while it is not. */
export function patiently(begin: () => void, waitMsMax = busyMsMax, look: () => void = () => undefined): void {
  for (let waitedMs = 0; ; waitedMs++) {
    try {
      return begin();
    } catch (error) {
      if (((error as { errcode?: number }).errcode ?? 0) % 256 !== 5 || waitedMs >= waitMsMax) throw error;
      look();
      Atomics.wait(never, 0, 0, 1);
    }
  }
}
