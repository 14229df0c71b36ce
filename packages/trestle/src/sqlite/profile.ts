/** What this engine gives and costs, by where the store is: in memory, in a file, flushed or not. */
import type { EngineProfile } from "../store/index.ts";
import type { Durability } from "./connection.ts";

/** What every store of this engine holds, and what one in a file holds beyond. */
const always = [
  "commit.atomic",
  "commit.serializable-over-keys",
  "commit.once-per-id",
  "log.gapless",
  "log.keeps-head",
  "log.immutable",
  "queue.fifo-per-key",
  "queue.finishes-with-effect",
  "queue.pauses",
  "queue.fair-share",
  "queue.limits-exact",
  "queue.deadlines",
  "queue.replaces-waiting",
  "queue.keeps-ended",
  "records.compare-and-set",
  "records.expire",
  "tokens.keep",
  "sql.same-commit",
] as const;
const inFiles = ["commit.survives-crash", "queue.redelivers-after-crash"] as const;
/** What rests on the writer having a thread of its own. */
const inThreads = ["queue.outlives-blocked-loop"] as const;

export function sqliteProfile(path: string, durability: Durability, inline = false): EngineProfile {
  const file = path !== ":memory:";
  return {
    engine: file ? "sqlite" : "memory",
    guarantees: [...always, ...(file ? [...inFiles, ...(inline ? [] : inThreads), ...(durability === "full" ? ["commit.durable"] : [])] : [])],
    costs: {
      commit: file
        ? durability === "full"
          ? "one flush of the local disk, shared by all that commit at that moment"
          : "no flush: a power loss takes the last commits back"
        : "no disk",
      "read by key": "in the process, no network",
      job: "claims and ends travel in the batches of commits, no network",
      processes: file ? "those of one user on one machine; one of them writes for all" : "one",
      "change notices": file ? "at once, to every process" : "at once",
      transaction: "alone in the store for as long as it lasts, 250 ms by default",
      backup: file ? "a copy of the file while it runs (`store.backup`)" : "none",
      clock: "the machine's",
    },
  };
}
