/** Opens a store: in memory, or in a file of which this process becomes the one owner. */
import { backup as copyDatabase, DatabaseSync } from "node:sqlite";
import { systemClock, type Clock } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";
import { openForWriting, type Durability } from "./connection.ts";
import { engineStore, type SqliteStore } from "./engine.ts";
import { openReader } from "./reader.ts";
import type { UserSql } from "./user-sql.ts";
import { inlineWriter } from "./writer.ts";
import type { TransactionSeam } from "./lane.ts";

export interface SqliteOptions {
  /** A file, made when it is not there; or `:memory:`. */
  readonly path: string;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** `full` (default): an acknowledged commit survives a power loss. `normal`: it survives a crash of the process only, and `commit.durable` is not among the guarantees. */
  readonly durability?: Durability;
  /** For a simulator: where a batch begins and ends. Only with `:memory:`. */
  readonly seam?: (db: DatabaseSync) => TransactionSeam;
}

const guaranteed = ["commit.atomic", "commit.serializable-over-keys", "commit.once-per-id", "log.gapless", "log.immutable", "queue.fifo-per-key", "queue.finishes-with-effect", "records.compare-and-set", "records.expire", "tokens.keep", "sql.same-commit"] as const;
const ofFiles = ["commit.survives-crash", "queue.redelivers-after-crash"] as const;

export async function openSqlite(options: SqliteOptions): Promise<Store> {
  return openMemory(options);
}

function openMemory(options: SqliteOptions): SqliteStore {
  const clock = options.clock ?? systemClock;
  const writer = inlineWriter({ open: () => openForWriting(":memory:", "full"), ...(options.seam && { seam: options.seam }) }, clock);
  const { db, user } = writer.lane;
  const queryOnly: UserSql = {
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
  const store: SqliteStore = engineStore({
    engine: "memory",
    guarantees: new Set<string>(guaranteed),
    writer,
    reader: openReader({ db, clock, epoch: writer.epoch, user: queryOnly, whenReadable: () => store.whenNoTransaction() }),
    clock,
    backup: async (path) => void (await copyDatabase(db, path)),
    afterClose: () => undefined,
  });
  return store;
}
export { guaranteed, ofFiles };
