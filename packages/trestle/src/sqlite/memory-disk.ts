/**
 * A disk in memory that can lose its power, for simulations (FINDINGS F14). A flush makes what was written durable; until then a power loss may take it
 * back. SQLite has no such disk, so `durable` is a savepoint around everything: a batch is a savepoint inside it and inside the batches before it, a flush
 * releases the outermost and begins the next, and a power loss rolls back to one of them.
 *
 * States of what is written: *written* (its batch has ended), *durable* (flushed). Where the power goes, the disk has got a prefix of the log's frames that
 * were not flushed. Each frame of SQLite's log has a checksum over all before it, and a batch counts when its last frame does: a torn
 * batch is lost, and so is everything behind it. So what is left is whole batches, from the first on.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { Fault, type Clock, type Ids } from "../kernel/index.ts";
import { openForWriting } from "./connection.ts";
import { engineStore, type SqliteStore } from "./engine.ts";
import { openLane, type TransactionSeam } from "./lane.ts";
import { queryOnly } from "./open-inline.ts";
import type { BatchReply } from "./operation.ts";
import { sqliteProfile } from "./profile.ts";
import { openReader } from "./reader.ts";
import type { Row } from "./statements.ts";
import { transactionLimit, type Writer } from "./writer.ts";

/** A savepoint keeps a copy of each page that is written in it, and here every batch is one: small pages make a sixth less of a world's statements. */
const pageBytes = 1_024;
/** SQLite's code for a full disk. */
const diskFull = 13;

export class MemoryDisk {
  readonly db: DatabaseSync;
  /** While it is, no batch ends: `store.disk-full`. */
  full = false;
  #inBatch = false;
  /** Rows that were ever changed, when it was flushed last; and when its last batch ended, while none is open. */
  #flushedChanges = 0;
  #endedChanges: number | undefined;
  #standbyLags = false;
  /** Is there a savepoint for what the standby has? Without one it has all that is durable. */
  #standbyPoint = false;
  #unflushed = 0;
  readonly #fromImage: boolean;
  #isWhole = true;
  readonly #statements: Readonly<Record<"begin" | "release" | "batch" | "commit" | "changes", StatementSync>>;

  /** `image`: a store as `image()` made it; left out, a new one. */
  constructor(image?: Uint8Array) {
    this.#fromImage = image !== undefined;
    if (image === undefined) this.db = openForWriting(":memory:", "full", pageBytes);
    else {
      this.db = new DatabaseSync(":memory:", { enableForeignKeyConstraints: true });
      this.db.deserialize(image);
      this.db.exec("pragma journal_mode = memory; pragma trusted_schema = 0");
    }
    this.#statements = {
      begin: this.db.prepare("savepoint durable"),
      release: this.db.prepare("release durable"),
      batch: this.db.prepare("savepoint batch"),
      commit: this.db.prepare("release batch"),
      changes: this.db.prepare("select total_changes()"),
    };
    this.#statements.changes.setReturnArrays(true);
    if (this.#fromImage) this.db.exec("savepoint image");
    this.#statements.begin.run();
  }

  /** As it was made from its image, its statements still prepared. False: it cannot be, take a new one. */
  rewind(): boolean {
    // `on conflict rollback` in a user's statement has ended every savepoint.
    if (!this.#fromImage || !this.#isWhole || !this.db.isTransaction) return false;
    this.#inBatch = false;
    this.#standbyLags = false;
    this.#standbyPoint = false;
    this.#unflushed = 0;
    this.full = false;
    this.db.exec("rollback to image");
    this.#begin();
    return true;
  }

  /** Batches that are written and not flushed. */
  get unflushed(): number {
    return this.#unflushed;
  }

  /** Everything that is written, as bytes. */
  image(): Uint8Array {
    this.db.exec("release durable");
    this.#unflushed = 0;
    try {
      return this.db.serialize();
    } finally {
      this.db.exec("savepoint durable");
    }
  }

  /** Rows were changed since it was flushed. */
  get isBehind(): boolean {
    return this.#changes() !== this.#flushedChanges;
  }
  #changes(): number {
    return this.#endedChanges ?? Number((this.#statements.changes.get() as unknown as Row)[0]);
  }

  flush(): void {
    // `on conflict rollback` in a user's statement ends every savepoint.
    if (this.db.isTransaction) this.#statements.release.run();
    this.#unflushed = 0;
    if (this.#standbyPoint && !this.#standbyLags) this.#catchUp();
    if (this.#standbyLags && !this.#standbyPoint) this.#fallBehind();
    this.#begin();
  }

  /**
   * There may be a standby, which has all that is durable. While it lags it gets nothing: what is flushed from now on, or from the flush on that is under way, is
   * lost when it takes over.
   */
  set standbyLags(lags: boolean) {
    this.#standbyLags = lags;
    if (!this.isBehind && !this.#inBatch) this.flush();
  }

  #catchUp(): void {
    if (this.db.isTransaction) this.db.exec("release standby");
    this.#standbyPoint = false;
  }
  #fallBehind(): void {
    this.db.exec("savepoint standby");
    this.#standbyPoint = true;
  }

  /** The standby takes over with what it has, and opens an epoch. Of what nobody was told it may have anything: lose the power first. */
  failOver(): void {
    if (this.#standbyLags && this.#standbyPoint) this.db.exec("rollback to standby");
    else if (this.db.isTransaction) this.#statements.release.run();
    if (this.#standbyPoint) this.#catchUp();
    this.#standbyLags = false;
    this.db.exec("update trestle_meta set value = value + 1 where name = 'epoch'");
    this.#endedChanges = undefined;
    this.#begin();
  }

  /** Of the batches that are written and not flushed so many are kept, from the first on. An open one is lost in any case. */
  losePower(kept: number): void {
    this.#rollback();
    if (this.db.isTransaction) {
      for (; this.#unflushed > kept; this.#unflushed--) this.db.exec("rollback to batch; release batch");
      this.db.exec("release durable");
    }
    this.#unflushed = 0;
    this.#begin();
  }

  readonly seam = (): TransactionSeam => ({
    begin: () => {
      if (!this.db.isTransaction) this.#begin();
      this.#statements.batch.run();
      this.#inBatch = true;
      this.#endedChanges = undefined;
    },
    commit: () => {
      if (this.full) throw Object.assign(new Error("database or disk is full"), { errcode: diskFull });
      if (!this.db.isTransaction) throw new Error("the batch was rolled back");
      this.#inBatch = false;
      this.#endedChanges = this.#changes();
      // Its savepoint stays, so that a power loss can take it back; what wrote nothing is not flushed, and leaves none.
      if (this.#unflushed > 0 || this.isBehind) this.#unflushed++;
      else this.#statements.commit.run();
    },
    rollback: () => this.#rollback(),
  });

  #begin(): void {
    if (!this.db.isTransaction) {
      this.#isWhole = false;
      this.#standbyPoint = false;
      this.#unflushed = 0;
    }
    this.#statements.begin.run();
    this.#flushedChanges = this.#changes();
  }

  #rollback(): void {
    if (!this.#inBatch) return;
    this.#inBatch = false;
    if (this.db.isTransaction) this.db.exec("rollback to batch; release batch");
  }

  close(): void {
    this.db.close();
  }
}

/** When things happen on a disk. Both resolve when it has come to that. */
export interface DiskTiming {
  /** The next batch may be written. */
  write(): Promise<void>;
  /** What was written is flushed. */
  flush(): Promise<void>;
}

/**
 * The store on such a disk, as one process has it open. After a power loss, or the end of that process, it is opened again. Claims are kept: those
 * who hold them may be alive.
 */
export function openOnMemoryDisk(
  disk: MemoryDisk,
  { clock, ids, timing }: { readonly clock: Clock; readonly ids: Ids; readonly timing: DiskTiming },
): SqliteStore {
  const lane = openLane({ open: () => disk.db, seam: disk.seam, keepsClaims: true });
  const limit = transactionLimit(lane, clock);
  let flushing: Promise<void> | undefined;
  const flushed = (): Promise<void> =>
    (flushing = timing.flush().then(() => {
      disk.flush();
      flushing = undefined;
    }));
  const writer: Writer = {
    epoch: lane.epoch,
    batchesInFlightMax: 1,
    followersMin: () => Infinity,
    async apply(operations, nowMs): Promise<BatchReply> {
      await timing.write();
      const reply = lane.apply(operations, nowMs);
      // Claims that found no job have nothing to wait for. (What changes tables is not among what SQLite counts.)
      if (!operations.every(({ kind }) => kind === "claim" || kind === "tend") || disk.isBehind) await flushed();
      return reply;
    },
    ...limit,
    async end(commit) {
      const end = limit.end(commit);
      await flushed();
      return end;
    },
    close: () => undefined,
  };
  const store: SqliteStore = engineStore({
    engine: "memory",
    guarantees: new Set(sqliteProfile("a disk", "full", true).guarantees),
    writer,
    // Inline, what was written and not flushed is seen by its own connection only: nobody else may see it yet.
    reader: openReader({
      db: lane.db,
      clock,
      epoch: lane.epoch,
      user: queryOnly(lane.db, lane.user),
      whenReadable: () => flushing ?? store.whenNoTransaction(),
    }),
    clock,
    ids,
    backup: () => Promise.reject(Fault.create("store.no-backup", "a simulated store has no file to copy", "Run backups against a real store.")),
    beforeClose: () => undefined,
  });
  return store;
}
