/**
 * A ledger that is durable before anyone is told. Entries asked for in one turn of the event loop share one transaction,
 * so sixty-four callers pay for one flush. Entries are only ever added, and numbered in order.
 */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

export interface DurableLedger {
  readonly database: DatabaseSync;
  /** Runs `work` inside the next transaction; resolves when that is on disk. A throw of `work` undoes everybody's, so check first. */
  write<T>(work: () => T): Promise<T>;
  close(): void;
}

export function openDurableLedger(file: string, schema: string): DurableLedger {
  mkdirSync(dirname(file), { recursive: true });
  const database = new DatabaseSync(file);
  database.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA fullfsync=1; PRAGMA busy_timeout=0");
  database.exec(schema);

  let waiting: Write[] = [];

  function flush(): void {
    const batch = waiting;
    waiting = [];
    try {
      database.exec("BEGIN IMMEDIATE");
      const results = batch.map(({ work }) => work());
      database.exec("COMMIT");
      batch.forEach(({ resolve }, index) => resolve(results[index]));
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      for (const { reject } of batch) reject(error);
    }
  }

  return {
    database,
    write: <T>(work: () => T) =>
      new Promise<T>((resolve, reject) => {
        if (waiting.length === 0) setImmediate(flush);
        waiting.push({ work, resolve: resolve as (result: unknown) => void, reject });
      }),
    close: () => database.close(),
  };
}

interface Write {
  readonly work: () => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}
