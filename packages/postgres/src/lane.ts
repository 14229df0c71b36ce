/**
 * The lane: how commits of this process become batches, and how each caller learns its one outcome.
 *
 * A commit's way: *waiting* (for the batch in flight) → *sent* (with all that waited, up to 512 or 4 MiB, and a flush behind them) → *visible* (the
 * function answered; the next batch leaves over another connection) → *durable* (the flush was answered; or nothing was written, on what was durable before) → its caller hears the outcome.
 *
 * From *sent*, by what came back instead of an answer:
 * - the server rolled the batch back: it is sent again in two halves under the same ids, and so on until only the commit at fault fails. Of n commits one costs
 *   2 log2 n sendings; n of them, each with its flush, would keep everybody else waiting;
 * - the connection was lost, or the flush failed: nobody knows. The ids are *in doubt*, and the same batch is sent again under them
 *   until the server is back. Being applied twice is impossible, an acceptance stands, and a refusal of an id in doubt is written down, so that
 *   the first sending cannot overturn it when it arrives late (FINDINGS F6). Only when the server stays away does the caller hear
 *   `commit.unknown`.
 */
import { emptyContext, Fault, inContext, PassingMap, type Clock } from "trestle/kernel";
import { checkCommit, checkId, commitIdRetentionMs, limits, type Commit, type CommitId, type CommitOutcome } from "trestle/store";
import type { FlushBarrier, Life } from "./barrier.ts";
import { batchCall, batchEncoder, encodeBatch, type BatchEncoder, type BatchRow, type EncodedBatch, type InternalCommit } from "./batch.ts";
import type { ClaimHints } from "./job-batch.ts";
import { wasRolledBack, type Pool, type Query } from "./sessions.ts";

export interface Lane {
  commit(commit: InternalCommit): Promise<CommitOutcome>;
  resolve(id: CommitId): Promise<CommitOutcome>;
  /** Does something else in the lane, behind the commits that were submitted before: `work` resolves when it is visible, and settles its own callers. */
  run(work: (ask: Ask) => Promise<void>): void;
  stats(): { readonly commits: number; readonly refused: number; readonly batches: number; readonly waiting: number };
  /** Resolves when nothing is on its way. */
  idle(): Promise<void>;
}

/**
 * A call in the lane, and the flush behind it: what it answered, which others see from then on, and when it is durable, in which life of the server. With
 * `flushes` the flush leaves when the answer is here, and only if that says that there is something to flush; nobody may wait for it otherwise.
 */
export type Ask = <Row extends object>(
  query: Query,
  flushes?: (rows: readonly Row[]) => boolean,
) => { readonly visible: Promise<readonly Row[]>; readonly durable: Promise<Life> };

export interface LaneOptions {
  readonly schema: string;
  /** Its batches follow each other: one is sent when the one before is visible, over another connection while that one flushes. */
  readonly lane: Pool;
  /** For `resolve`, which waits for the lane, and so for nothing that a batch needs. */
  readonly side: Pool;
  readonly barrier: FlushBarrier;
  readonly hints: ClaimHints;
  readonly clock: Clock;
  /** The store's clock, when it is not the server's. */
  readonly nowMs: () => number | null;
  /** A durable batch: its epoch, its newest number, and the commits of it that wrote, with their numbers. */
  readonly applied: (batch: Applied) => void;
  /** A commit with SQL of the user's, which never shares a batch. */
  readonly alone: (commit: Commit, inDoubt: boolean) => Promise<CommitOutcome>;
}
export interface Applied {
  readonly epoch: number;
  readonly head: number;
  readonly commits: readonly { readonly n: number; readonly keys: readonly string[] }[];
}

interface Waiting {
  readonly commit: InternalCommit;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Commits that will leave together, written out as they come. */
interface Forming {
  readonly commits: Waiting[];
  readonly encoder: BatchEncoder;
  bytes: number;
}

/** Ids in doubt that are remembered; beyond it the oldest are forgotten. Nobody re-submits a commit ten thousand doubts later. */
const doubtsMax = 10_000;
/** Sendings of one batch before its callers are told that nobody knows. Between two of them a connection is opened, with back-off. */
const sendingsMax = 5;

export function openLane(options: LaneOptions): Lane {
  const { schema, lane, side, barrier, hints, clock, nowMs } = options;
  const call = batchCall(schema);
  const flush = `select "${schema}".flush_v1() as life`;
  let forming: Forming[] = [];
  let waiting = 0;
  // Work beside commits, and how many commits were submitted before it; `gone` have left `waiting`.
  let beside: { readonly after: number; readonly work: (ask: Ask) => Promise<void> }[] = [];
  let submitted = 0;
  let gone = 0;
  let scheduled = false;
  let busy = false;
  let idle: (() => void) | undefined;
  const pending = new PassingMap<CommitId, Promise<CommitOutcome>>();
  const inDoubt = new Set<CommitId>();
  const counts = { commits: 0, refused: 0, batches: 0 };

  const encode = (batch: readonly Waiting[]): EncodedBatch =>
    encodeBatch(
      batch.map((one) => one.commit),
      { nowMs: nowMs(), inDoubt: (id) => inDoubt.has(id), hints },
    );

  async function send(batch: readonly Waiting[], sending = 1, encoded = encode(batch)): Promise<void> {
    if (sending === 1) counts.batches++;
    const { visible, durable } = ask<BatchRow>({ name: "commit", text: call, values: encoded.parameters });
    let row: BatchRow;
    try {
      row = (await visible)[0] as BatchRow;
    } catch (error) {
      return rejected(batch, error, sending);
    }
    // Not awaited: the next batch leaves while this one reaches the disk.
    void release(batch, encoded, row, durable, sending);
  }

  /**
   * The call, and its flush right behind it on one connection: a transaction each, so the lane is free before the flush begins, and the server goes on without
   * being asked again. A pooler may hand the second one to the server on another connection, too early.
   */
  const ask: Ask = <Row extends object>(query: Query, flushes?: (rows: readonly Row[]) => boolean) => {
    const visible = Promise.withResolvers<readonly Row[]>();
    const durable = Promise.withResolvers<Life>();
    durable.promise.catch(() => undefined); // nobody asks when nothing became visible
    const lost = (error: unknown) => (visible.reject(error), durable.reject(error));
    void lane
      .use(async (session) => {
        const applied = session.query<Row>(query);
        const flushing = async () => (await session.query<{ life: Life }>({ name: "flush", text: flush })).rows[0]?.life ?? null;
        const flushed = session.pooled || flushes ? applied.then(({ rows }) => (flushes?.(rows) === false ? null : flushing())) : flushing();
        applied.then(({ rows }) => visible.resolve(rows), lost);
        await flushed.then(durable.resolve, lost);
      })
      .catch(lost);
    return { visible: visible.promise, durable: durable.promise };
  };

  async function rejected(batch: readonly Waiting[], error: unknown, sending: number): Promise<void> {
    if (Fault.is(error)) {
      // No connection: nothing was sent, this time. Who waits behind would only wait as long again.
      const behind = forming.flatMap(({ commits }) => commits);
      forming = [];
      waiting = 0;
      gone = submitted;
      for (const one of [...batch, ...behind]) one.reject(inDoubt.has(one.commit.id) ? unknownOutcome(one.commit.id, error) : error);
    } else if (!wasRolledBack(error)) {
      for (const one of batch) doubt(one.commit.id);
      if (sending < sendingsMax) return send(batch, sending + 1);
      for (const one of batch) one.reject(unknownOutcome(one.commit.id, error));
    } else if (isPassing(error.code) && sending < sendingsMax) {
      return send(batch, sending + 1);
    } else if (batch.length > 1 && error.code !== "55P03") {
      const half = Math.ceil(batch.length / 2);
      await send(batch.slice(0, half));
      await send(batch.slice(half));
    } else if (batch.length === 1 && error.code.startsWith("22")) {
      // Data exceptions: the bytes of a merge were not what it needs. Its own fault, and nothing of it was applied.
      batch[0]?.resolve({ ok: false, refused: "statement", message: error.message });
    } else {
      for (const one of batch) one.reject(commitFault(error));
    }
  }

  async function release(batch: readonly Waiting[], encoded: EncodedBatch, row: BatchRow, durable: Promise<Life>, sending: number): Promise<void> {
    const head = Number(row.head);
    const sight = { epoch: row.now_epoch, n: head, life: row.life };
    try {
      // Up to the head, not to the newest of these: a refusal ("there is a version 7") may rest on a commit that a crash still takes back. Only when the
      // head is known to be durable there is nothing to wait for: this batch then wrote nothing, since what it writes is the head; and what it
      // read, the versions, streams, claims and ids by which it was refused or known, was written by commits up to there. What has no number tells
      // nobody's outcome (leases that were kept, rows that were swept), but for one: an id that was resolved as not committed.
      if (!encoded.restsOnCommits(row) || !barrier.knows(sight)) await barrier.follow(sight, durable);
    } catch (error) {
      // It was visible, and may be gone with the server.
      for (const one of batch) doubt(one.commit.id);
      if (sending < sendingsMax) return send(batch, sending + 1);
      for (const one of batch) one.reject(unknownOutcome(one.commit.id, error));
      return;
    }
    const outcomes = encoded.outcomes(row);
    options.applied({ epoch: row.now_epoch, head, commits: encoded.applied(row) });
    batch.forEach((one, at) => {
      const outcome = outcomes[at] as CommitOutcome;
      inDoubt.delete(one.commit.id);
      one.resolve(outcome);
    });
  }

  function doubt(id: CommitId): void {
    inDoubt.add(id);
    for (const oldest of inDoubt) {
      if (inDoubt.size <= doubtsMax) break;
      inDoubt.delete(oldest);
    }
  }

  async function pump(): Promise<void> {
    scheduled = false;
    if (busy) return;
    busy = true;
    while (forming.length > 0 || beside.length > 0) {
      if (beside[0] && beside[0].after <= gone) {
        const ready = beside;
        beside = ready.filter(({ after }) => after > gone);
        for (const { after, work } of ready) if (after <= gone) await work(ask);
        continue;
      }
      const { commits, encoder } = forming.shift() as Forming;
      waiting -= commits.length;
      gone += commits.length;
      await send(commits, 1, encoder.end({ nowMs: nowMs() }));
    }
    busy = false;
  }

  function enqueue(commit: InternalCommit, bytes: number): Promise<CommitOutcome> {
    if (waiting >= limits.waitingCommitsMax)
      throw Fault.create("store.overloaded", `${limits.waitingCommitsMax} commits wait for the lane already.`, "Try again later; send fewer at once.");
    let last = forming.at(-1);
    if (last === undefined || last.commits.length >= limits.batchCommitsMax || last.bytes + bytes > limits.batchBytesMax) {
      last = { commits: [], encoder: batchEncoder(hints), bytes: 0 };
      forming.push(last);
    }
    const { commits, encoder } = last;
    encoder.add(commit, inDoubt.has(commit.id));
    last.bytes += bytes;
    waiting++;
    submitted++;
    wake();
    return new Promise<CommitOutcome>((resolve, reject) => commits.push({ commit, resolve, reject }));
  }

  function wake(): void {
    if (busy || scheduled) return;
    scheduled = true;
    // In nobody's context: one caller's deadline may not bound the wait of a whole batch.
    clock.soon(() => void inContext(emptyContext, pump));
  }

  /** The same rules for a commit of its own transaction: sent again while nobody knows. */
  async function alone(commit: Commit): Promise<CommitOutcome> {
    for (let sending = 1; ; sending++) {
      counts.batches++;
      try {
        const outcome = await options.alone(commit, inDoubt.has(commit.id));
        inDoubt.delete(commit.id);
        return outcome;
      } catch (error) {
        if (Fault.is(error)) throw inDoubt.has(commit.id) ? unknownOutcome(commit.id, error) : error;
        if (wasRolledBack(error)) {
          if (isPassing(error.code) && sending < sendingsMax) continue;
          throw commitFault(error);
        }
        doubt(commit.id);
        if (sending >= sendingsMax) throw unknownOutcome(commit.id, error);
      }
    }
  }

  return {
    async commit(commit) {
      const known = pending.get(commit.id);
      if (known) return known;
      const bytes = checkCommit(commit as Commit);
      const outcome =
        commit.writes.some(({ kind }) => kind === "sql") || commit.expects.some(({ kind }) => kind === "rows")
          ? alone(commit as Commit)
          : enqueue(commit, bytes);
      pending.set(commit.id, outcome);
      try {
        const answer = await outcome;
        counts[answer.ok ? "commits" : "refused"]++;
        return answer;
      } finally {
        pending.delete(commit.id);
        if (pending.size === 0) idle?.();
      }
    },

    async resolve(id) {
      checkId(id, "id");
      for (let sending = 1; ; sending++) {
        try {
          const [row] = await side.query<{ epoch: number; n: string | null; life: string }>({
            name: "resolve",
            text: `select * from "${schema}".resolve_commit_v1($1, $2, $3)`,
            values: [nowMs(), commitIdRetentionMs, id],
          });
          // What was written under the id has no number of its own.
          await barrier.all(row?.life ?? null);
          inDoubt.delete(id);
          return row?.n ? { ok: true, epoch: row.epoch, n: Number(row.n) } : { ok: false, refused: "resolved" };
        } catch (error) {
          if (Fault.is(error)) throw error;
          if (wasRolledBack(error) && !isPassing(error.code)) throw commitFault(error);
          if (sending >= sendingsMax) throw unknownOutcome(id, error);
        }
      }
    },

    run(work) {
      beside.push({ after: submitted, work });
      wake();
    },

    stats: () => ({ ...counts, waiting }),
    idle: () => (pending.size === 0 ? Promise.resolve() : new Promise<void>((resolve) => (idle = resolve))),
  };
}

/** Rolled back by chance of the moment: a deadlock with somebody else's statements, a serialization failure. */
export function isPassing(code: string): boolean {
  return code === "40P01" || code === "40001";
}

export function unknownOutcome(id: CommitId, cause: unknown): Fault {
  return Fault.create(
    "commit.unknown",
    `The connection was lost before the outcome of commit ${id} arrived, and the server did not come back: ${(cause as Error).message}`,
    "Ask resolve(id), or submit the same commit again.",
    { cause, details: { id } },
  );
}

/** What PostgreSQL would not do, told by what has to change. Nothing of the commit was applied. */
export function commitFault(error: Error & { readonly code: string }): Fault {
  if (error.code === "55P03")
    return Fault.create(
      "store.overloaded",
      "The lane was held by somebody else for too long; nothing was applied.",
      "Look for a session that holds the store's advisory lock.",
      { cause: error },
    );
  if (error.code === "TR005")
    return Fault.create(
      "store.receiving",
      "another store is being moved here, and this one is not open yet",
      "Wait until the move is over, or abandon it (`trestle move --abandon`).",
      { cause: error },
    );
  if (error.code === "TR001")
    return Fault.create(
      "postgres.isolation",
      error.message,
      "Remove default_transaction_isolation from the role or database: behind a pooler it cannot be changed for a session.",
      { cause: error },
    );
  if (error.code === "25006")
    return Fault.create("store.unreachable", `The server takes no writes: ${error.message}`, "Point the URL at the primary, or promote the standby.", {
      cause: error,
    });
  return Fault.create(
    "postgres.commit-failed",
    `PostgreSQL could not apply this commit (${error.code}): ${error.message}`,
    "Read the cause; nothing of the commit was applied.",
    { cause: error },
  );
}
