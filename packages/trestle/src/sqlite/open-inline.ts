/**
 * The lane on the caller's own thread: for `:memory:`, the simulator, and one-shot commands. A file of its own because a store in a file needs
 * none of it on the main thread: the writer's modules are 8 ms of a start.
 */
import type { DatabaseSync } from "node:sqlite";
import { systemClock, systemRandom, uuidv7Ids, type Clock } from "../kernel/index.ts";
import { backupInto } from "./backup.ts";
import { openForWriting, openingWith, type Durability } from "./connection.ts";
import { engineStore, type SqliteStore } from "./engine.ts";
import { openLane, type Lane, type LaneOptions } from "./lane.ts";
import type { SqliteOptions } from "./open.ts";
import { beginTerm, inUse, tryOwnership, type Ownership } from "./ownership.ts";
import { sqliteProfile } from "./profile.ts";
import { openReader } from "./reader.ts";
import type { UserSql } from "./user-sql.ts";
import { removeNote, writeNote } from "./writer-note.ts";
import { transactionLimit, type Writer } from "./writer.ts";

export function openMemory(options: SqliteOptions): SqliteStore {
  const clock = options.clock ?? systemClock;
  const writer = inlineWriter({ open: () => openForWriting(":memory:", "full"), ...(options.seam && { seam: options.seam }) }, clock);
  const { db, user } = writer.lane;
  const store: SqliteStore = engineStore({
    engine: "memory",
    guarantees: new Set(sqliteProfile(":memory:", "full").guarantees),
    writer,
    reader: openReader({ db, clock, epoch: writer.epoch, user: queryOnly(db, user), whenReadable: () => store.whenNoTransaction() }),
    clock,
    ids: uuidv7Ids(clock, options.random ?? systemRandom),
    backup: (path) => backupInto(db, path),
    beforeClose: () => undefined,
  });
  return store;
}

/** The user's SQL on the writing connection, for reads. */
export function queryOnly(db: DatabaseSync, user: UserSql): UserSql {
  return {
    ...user,
    run(statement) {
      db.exec("pragma query_only = 1");
      try {
        return user.run(statement);
      } finally {
        db.exec("pragma query_only = 0");
      }
    },
  };
}

/** The lane on this thread: it cannot serve others, so it takes nobody in. */
export function writesAlone(path: string, durability: Durability, options: Pick<SqliteOptions, "seam">, clock: Clock): Writer {
  const free = tryOwnership(path);
  if (!free) throw inUse(path);
  let first: DatabaseSync | undefined;
  let ownership: Ownership | undefined;
  try {
    first = openForWriting(path, durability);
    const begun = beginTerm(first, path) as NonNullable<ReturnType<typeof beginTerm>>;
    const { term } = begun;
    ownership = begun.ownership;
    const open = openingWith(first, () => openForWriting(path, durability));
    const writer = inlineWriter({ open, term, ...(options.seam && { seam: options.seam }) }, clock);
    writer.lane.inTerm(() => writeNote(path, { pid: process.pid, term, alone: "it was opened inline" }));
    return {
      ...writer,
      close() {
        try {
          writer.lane.inTerm(() => removeNote(path));
        } finally {
          writer.lane.close();
          begun.ownership.release();
        }
      },
    };
  } catch (error) {
    first?.close();
    ownership?.release();
    throw error;
  } finally {
    free.release();
  }
}

function inlineWriter(options: LaneOptions, clock: Clock): Writer & { readonly lane: Lane } {
  const lane = openLane(options);
  const limit = transactionLimit(lane, clock);
  return {
    lane,
    epoch: lane.epoch,
    batchesInFlightMax: 1,
    followersMin: () => Infinity,
    apply: (operations, nowMs) => lane.apply(operations, nowMs),
    ...limit,
    close: () => lane.close(),
  };
}
