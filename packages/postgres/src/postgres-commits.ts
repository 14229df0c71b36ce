/**
 * The `commit` part of the store port on PostgreSQL: commits, their resolution and the reads that show what they did. It is a proof
 * that the port fits two engines, not an engine: there are no claims, no user tables and no change notices here.
 *
 * A commit's way: *queued* (waits for the batch in flight) → *sent* (with all that waited, up to 512 or 4 MiB) → *visible* (the
 * function answered; the next batch leaves) → *durable* (a flush barrier passed) → its caller hears the outcome.
 * From *sent*: an error that the server rolled back → the batch is sent again one by one under the same ids, so that only the
 * commit at fault fails. A lost connection, or a barrier that failed → `commit.unknown`, and the id is remembered as in doubt.
 *
 * Guarantees: `commit.atomic`, `commit.durable`, `commit.serializable-over-keys`, `commit.once-per-id`, `log.gapless`.
 */
import { readFile } from "node:fs/promises";
import { Fault, systemClock, type Clock } from "trestle/kernel";
import { checkCommit, checkId, commitIdRetentionMs, limits, type Commit, type CommitId, type CommitOutcome, type Store } from "trestle/store";
import { flushBarrier } from "./barrier.ts";
import { batchStatement, encodeBatch, type BatchRow } from "./batch.ts";
import { connection, wasRolledBack, type Connection } from "./connection.ts";
import { commitReader, type CommitReader } from "./reads.ts";

export interface PostgresCommits extends Pick<Store, "engine" | "dialect" | "guarantees" | "epoch" | "commit" | "resolve" | "stats" | "close"> {
  readonly read: CommitReader;
}

export interface PostgresCommitsOptions {
  /** `postgres://user:password@host:port/database` */
  readonly url: string;
  /** Holds the tables and functions; made when it is missing. `[a-z_][a-z0-9_]*`, default `trestle`. */
  readonly schema?: string;
  readonly clock?: Clock;
}

interface Waiting {
  readonly commit: Commit;
  readonly bytes: number;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Ids in doubt that are remembered; beyond it the oldest are forgotten. Nobody re-submits a commit ten thousand doubts later. */
const doubtsMax = 10_000;

/** Opens the store, making its schema when it is not there. Faults with `postgres.schema-name`, `store.unreachable`. */
export async function postgresCommits(options: PostgresCommitsOptions): Promise<PostgresCommits> {
  const { url, schema = "trestle", clock = systemClock } = options;
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema))
    throw Fault.create(
      "postgres.schema-name",
      `schema must match [a-z_][a-z0-9_]* and have at most 63 letters, got ${JSON.stringify(schema)}`,
      "Choose a plain lower-case name.",
    );

  const lane = connection({ url, schema, name: "trestle lane" });
  const flusher = connection({ url, schema, name: "trestle flush" });
  const reading = connection({ url, schema, name: "trestle read" });
  // Its own, because it waits for the lane, and reads do not.
  const resolving = connection({ url, schema, name: "trestle resolve" });
  const epoch = await prepare(lane, schema);
  // Transactional, so that it is a commit, and waits for the flush (and the synchronous standbys) as any commit would.
  const barrier = flushBarrier(() => flusher.query({ name: "flush", text: "select pg_logical_emit_message(true, 'trestle', '')" }));

  let waiting: Waiting[] = [];
  let scheduled = false;
  let busy = false;
  let closing: Promise<void> | undefined;
  let settled: (() => void) | undefined;
  const pending = new Map<CommitId, Promise<CommitOutcome>>();
  const inDoubt = new Set<CommitId>();
  const counts = { commits: 0, refused: 0, batches: 0 };

  async function send(batch: readonly Waiting[]): Promise<void> {
    counts.batches++;
    const encoded = encodeBatch(
      batch.map((one) => one.commit),
      (id) => inDoubt.has(id),
    );
    let row: BatchRow;
    try {
      row = (await lane.query<BatchRow>({ name: "commit", text: batchStatement, values: encoded.parameters }))[0] as BatchRow;
    } catch (error) {
      return rejected(batch, error);
    }
    // Not awaited: the next batch leaves while this one reaches the disk.
    void release(batch, encoded.outcomes(row), Number(row.head));
  }

  async function rejected(batch: readonly Waiting[], error: unknown): Promise<void> {
    if (Fault.is(error)) {
      for (const one of batch) one.reject(error); // The connection could not be opened: nothing was sent.
    } else if (!wasRolledBack(error)) {
      for (const one of batch) one.reject(doubt(one.commit.id, error));
    } else if (error.code === "55P03") {
      const fault = Fault.create(
        "store.overloaded",
        "The lane was held by somebody else for too long; nothing was applied.",
        "Look for a session that holds the store's advisory lock.",
        { cause: error },
      );
      for (const one of batch) one.reject(fault);
    } else if (batch.length > 1) {
      for (const one of batch) await send([one]);
    } else if (error.code.startsWith("22")) {
      // Data exceptions: the bytes of a merge were not what it needs. Its own fault, and nothing of it was applied.
      batch[0]?.resolve({ ok: false, refused: "statement", message: error.message });
    } else {
      batch[0]?.reject(
        Fault.create(
          "postgres.commit-failed",
          `PostgreSQL could not apply this commit (${error.code}): ${error.message}`,
          "Read the cause; nothing of the commit was applied.",
          { cause: error },
        ),
      );
    }
  }

  async function release(batch: readonly Waiting[], outcomes: readonly CommitOutcome[], head: number): Promise<void> {
    try {
      // Up to the head, not to the newest of these: a refusal too may rest on a commit that is not durable yet.
      await barrier.pass(head);
    } catch (error) {
      for (const one of batch) one.reject(doubt(one.commit.id, error));
      return;
    }
    batch.forEach((one, at) => {
      const outcome = outcomes[at] as CommitOutcome;
      if (outcome.ok) counts.commits++;
      else counts.refused++;
      inDoubt.delete(one.commit.id);
      one.resolve(outcome);
    });
  }

  function doubt(id: CommitId, cause: unknown): Fault {
    inDoubt.add(id);
    for (const oldest of inDoubt) {
      if (inDoubt.size <= doubtsMax) break;
      inDoubt.delete(oldest);
    }
    return Fault.create(
      "commit.unknown",
      `The connection was lost before the outcome of commit ${id} arrived: ${(cause as Error).message}`,
      "Ask resolve(id), or submit the same commit again.",
      { cause, details: { id } },
    );
  }

  async function pump(): Promise<void> {
    scheduled = false;
    if (busy) return;
    busy = true;
    while (waiting.length > 0) {
      let count = 0;
      for (let bytes = 0; count < waiting.length && count < limits.batchCommitsMax; count++) {
        bytes += (waiting[count] as Waiting).bytes;
        if (bytes > limits.batchBytesMax && count > 0) break;
      }
      const batch = waiting.slice(0, count);
      waiting = waiting.slice(count);
      await send(batch);
    }
    busy = false;
  }

  const store: PostgresCommits = {
    engine: "postgres",
    dialect: "postgres",
    guarantees: new Set(["commit.atomic", "commit.durable", "commit.serializable-over-keys", "commit.once-per-id", "log.gapless"]),
    epoch,
    read: commitReader(reading, barrier),

    async commit(commit) {
      if (closing) throw Fault.create("store.closed", "The store is closed.", "Do not use it after close().");
      const known = pending.get(commit.id);
      if (known) return known;
      const bytes = checkCommit(commit);
      checkWithinProof(commit);
      if (waiting.length >= limits.waitingCommitsMax) {
        throw Fault.create("store.overloaded", `${limits.waitingCommitsMax} commits wait for the lane already.`, "Try again later; send fewer at once.");
      }
      const outcome = new Promise<CommitOutcome>((resolve, reject) => waiting.push({ commit, bytes, resolve, reject }));
      pending.set(commit.id, outcome);
      if (!busy && !scheduled) {
        scheduled = true;
        clock.soon(() => void pump());
      }
      try {
        return await outcome;
      } finally {
        pending.delete(commit.id);
        if (pending.size === 0) settled?.();
      }
    },

    async resolve(id) {
      checkId(id, "id");
      let row: { readonly epoch: number; readonly n: string | null } | undefined;
      try {
        [row] = await resolving.query<{ epoch: number; n: string | null }>({
          name: "resolve",
          text: "select * from resolve_commit_v1($1, $2)",
          values: [commitIdRetentionMs, id],
        });
        await barrier.all();
      } catch (error) {
        if (Fault.is(error)) throw error;
        throw doubt(id, error);
      }
      inDoubt.delete(id);
      return row?.n ? { ok: true, epoch: row.epoch, n: Number(row.n) } : { ok: false, refused: "resolved" };
    },

    stats: () => ({ ...counts, waiting: waiting.length }),

    close() {
      return (closing ??= (async () => {
        if (pending.size > 0) await new Promise<void>((resolve) => (settled = resolve));
        await Promise.all([lane.close(), flusher.close(), reading.close(), resolving.close()]);
      })());
    },
  };
  return store;
}

/** What needs a queue with claims, or user tables, is a fault instead of half a commit. */
function checkWithinProof(commit: Commit): void {
  const beyond = [...commit.expects, ...commit.writes].find(({ kind }) => ["claim", "rows", "finish", "cancel", "redrive", "sql"].includes(kind));
  if (beyond)
    throw Fault.create(
      "postgres.beyond-the-proof",
      `this package applies commits over log, records, tokens and new jobs; "${beyond.kind}" needs a whole engine`,
      "Use the SQLite engine.",
      { details: { kind: beyond.kind } },
    );
}

/** Makes the schema when it, or this version of the functions, is missing. Answers the epoch. */
async function prepare(lane: Connection, schema: string): Promise<number> {
  const text = async (name: string) => readFile(new URL(`./sql/${name}.sql`, import.meta.url), "utf8");
  const [present] = await lane.query<{ present: boolean }>({ text: `select to_regproc('${schema}.resolve_commit_v1') is not null as present` });
  if (!present?.present) {
    // One text is one transaction. The lock keeps two processes that start together from making the same things.
    await lane.query({
      text: `select pg_advisory_xact_lock(1953657701); create schema if not exists ${schema}; set local search_path = ${schema};\n${(await Promise.all(["schema", "parts", "commit-batch"].map(text))).join("\n")}`,
    });
  }
  const [row] = await lane.query<{ epoch: number }>({ text: "select epoch from store" });
  return row?.epoch as number;
}
