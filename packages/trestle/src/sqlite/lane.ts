/**
 * The lane: applies batches of operations, each batch in one storage transaction, each commit of it all or nothing. It is
 * synchronous and knows no clock, thread or caller, so the same code runs in the writer thread, inline, and in a simulator.
 *
 * What happens to a batch (FINDINGS F5):
 *   open       BEGIN, housekeeping in small steps, due jobs join; then each operation in order.
 *   refused    A commit whose expectation, guard, claim or statement fails leaves nothing; the batch goes on. Where something may be
 *              refused after a write was made, the commit has a savepoint.
 *   lost       An error ended the storage transaction itself (a full disk, INSERT OR ROLLBACK, RAISE(ROLLBACK)), or came from a commit
 *              without a savepoint. Nothing was committed: what the lane knows is read again, and each operation gets a transaction of its own.
 *              So does a COMMIT that finds no room, or a deferred constraint that fails: both leave nothing.
 *   unknown    COMMIT failed on I/O. The connection is opened again, and the commit ids in the file decide: an id that is there was
 *              committed; for another the commit is applied again, and if that fails too, a refusal is written under its id
 *              before the caller hears "not committed" (FINDINGS F6). Where even that fails, the caller hears `commit.unknown`.
 *   committed  Results are handed out.
 * Over 400 lines because these states are one machine over one connection that any of them may replace.
 */
import type { DatabaseSync } from "node:sqlite";
import { Fault, mintedAtMs } from "../kernel/index.ts";
import {
  commitIdRetentionMs,
  rowsDigest,
  type ClaimRequest,
  type Commit,
  type CommitId,
  type CommitOutcome,
  type CommitRefused,
  type Expectation,
  type Fence,
  type SqlResult,
  type Statement,
  type Version,
  type Write,
} from "../store/index.ts";
import { jobsPart, stepRows, type JobsPart } from "./jobs-part.ts";
import { laneState, readHead, setMeta, type LaneState } from "./lane-state.ts";
import { appendEvents, streamTail, streamVersion, trimStream } from "./log-part.ts";
import { movedFault, movedTo, moveStep } from "./moving-part.ts";
import { toFailure, toFault, type BatchReply, type Failure, type Operation, type Result } from "./operation.ts";
import { changedSince, mergeRecord, putRecord, recordVersion, removeRecord, sweepRecords } from "./records-part.ts";
import { idBytes, keysText, msOfId } from "./statements.ts";
import { isTerm, patiently, Superseded } from "./term.ts";
import { dropWindows, ensureWindows, findToken, putToken, tokenWindows, type TokenWindow } from "./tokens-part.ts";
import { userSql, type UserSql } from "./user-sql.ts";

/** Where a batch begins and ends: the one place a simulator replaces, to make `durable` a savepoint it can take back (FINDINGS F14). */
export interface TransactionSeam {
  begin(): void;
  commit(): void;
  rollback(): void;
}

export interface LaneOptions {
  /** Opens the connection, with its schema in place; asked again after an I/O error. */
  readonly open: () => DatabaseSync;
  readonly seam?: (db: DatabaseSync) => TransactionSeam;
  /**
   * The term of whoever writes a file that others may write next (term.ts). Each transaction reads it again: in another term the lane
   * throws `Superseded`, and the batch was not applied. Absent: nobody else can write.
   */
  readonly term?: number;
  /** Claims that are there at open are kept, for those who hold them may be alive. Default: they are taken back. */
  readonly keepsClaims?: boolean;
}

export interface Lane {
  readonly db: DatabaseSync;
  /** The user's SQL on this connection: one authorizer for all that use it. */
  readonly user: UserSql;
  readonly epoch: number;
  readonly n: number;
  apply(operations: readonly Operation[], nowMs: number): BatchReply;
  /** An interactive transaction: between `begin` and `end` nothing else may be applied. */
  begin(nowMs: number): void;
  execute(statement: Statement): SqlResult;
  /** Commits, with what `commit` adds; a refusal of it rolls everything back, and so does an id that was applied before (`transaction.refused`). */
  end(commit: Commit): { readonly outcome: CommitOutcome; readonly queues: readonly string[]; readonly n: number };
  abandon(): void;
  /** Takes back the claims that `over` names, at most `stepRows` of them, and whether there may be more; answers the queues that have work again. */
  release(over: (holder: string, n: number) => boolean, nowMs: number): { readonly queues: readonly string[]; readonly more: boolean };
  /** Throws `Superseded` when the term is over. */
  check(): void;
  /**
   * Runs `work` while nobody can end the term. Throws `Superseded` without running it when that is over. For what lies beside the file and must be the
   * writer's own; an open transaction is rolled back.
   */
  inTerm(work: () => void): void;
  close(): void;
}

/** Housekeeping rides on a batch at most this often. */
const tendEveryMs = 1_000;

/** Ids are kept longer than they are accepted, so that one minted before the clock was set back by up to this is never accepted twice. */
const clockSlackMs = 3_600_000;

const insertCommit = "insert into trestle_commits (n, epoch, id, at, keys) values (?, ?, ?, ?, ?) on conflict (id) do nothing";
const findCommit = "select epoch, n from trestle_commits where id = ?";
const findNumber = "select n from trestle_commits where id = ?";
const findResolved = "select 1 from trestle_resolved where id = ?";

const resolved: CommitRefused = { ok: false, refused: "resolved" };

/** The storage transaction is gone: nothing of the batch may be believed. */
class BatchLost extends Error {
  readonly refusal: CommitRefused | undefined;
  constructor(cause: unknown, refusal: CommitRefused | undefined) {
    super("the batch is lost", { cause });
    this.refusal = refusal;
  }
}

export function openLane(options: LaneOptions): Lane {
  let db!: DatabaseSync;
  let seam!: TransactionSeam;
  let state!: LaneState;
  let jobs!: JobsPart;
  let user!: UserSql;
  let windows: readonly TokenWindow[] = [];
  let resolvedIds = 0;
  let deferredKeys = false;
  let tendedAtMs = -Infinity;
  let behindWithTrimming = false;
  let broken = false;
  /** Set by a move's last commit here: nothing is applied any more. */
  let moved: string | undefined;

  const idScratch = new Uint8Array(16);
  const sql = (text: string) => state.sql(text);

  function attach(): void {
    db = options.open();
    seam = options.seam?.(db) ?? { begin: run("begin immediate"), commit: run("commit"), rollback: run("rollback") };
    if (options.term !== undefined) seam = withinTerm(seam, options.term);
    // Reopened in the middle of a batch: it is still the same batch.
    const before = state as LaneState | undefined;
    state = laneState(db);
    state.nowMs = before?.nowMs ?? 0;
    for (const queue of before?.queues ?? []) state.queues.add(queue);
    jobs = jobsPart(state);
    user = userSql(db);
    reload();
    broken = false;
  }
  function check(): void {
    if (options.term !== undefined && !isTerm(db, options.term)) throw new Superseded();
  }
  function run(text: string): () => void {
    const statement = db.prepare(text);
    return () => void statement.run();
  }

  function withinTerm(inner: TransactionSeam, term: number): TransactionSeam {
    return {
      ...inner,
      begin() {
        // Nobody but a successor stays inside a transaction: whoever has nothing to do learns of one here at the latest.
        patiently(inner.begin, undefined, check);
        if (isTerm(db, term)) return;
        inner.rollback();
        throw new Superseded();
      },
    };
  }

  /** What is kept in memory, read from the file again. */
  function reload(): void {
    readHead(state);
    windows = tokenWindows(sql);
    resolvedIds = Number(sql("select count(*) from trestle_resolved").get()?.[0]);
    lookForDeferredKeys();
    moved = movedTo(state);
    jobs.reload();
  }
  function lookForDeferredKeys(): void {
    deferredKeys = sql("select 1 from sqlite_schema where sql like '%initially%deferred%' limit 1").get() !== undefined;
  }

  // ---- one commit ---------------------------------------------------------------------------------------------------

  /** `beside`: what stands beside it in the storage transaction counts on its row, also when it writes nothing itself. */
  function applyCommit(commit: Commit, beside = false): CommitOutcome {
    const id = idBytes(commit.id, idScratch);
    if (msOfId(id) < state.nowMs - commitIdRetentionMs) return resolved;
    if (resolvedIds > 0 && sql(findResolved).get(id)) return resolved;
    if (commit.writes.length === 0 && !beside) return judge(commit.expects, state.n + 1) ?? { ok: true, epoch: state.epoch, n: state.n };

    // The row comes first: when the id is there already, this is the same commit, whatever its expectations say now.
    const n = state.n + 1;
    if (sql(insertCommit).run(n, state.epoch, id, state.nowMs, keysOfWrites(commit.writes)) === 0) return outcomeOf(commit.id) ?? resolved;
    state.n = n;
    state.takenUs = undefined;
    const refused = judge(commit.expects, n);
    if (refused) return refused;
    for (const write of commit.writes) {
      const refusal = applyWrite(write);
      if (refusal) return refusal;
    }
    return { ok: true, epoch: state.epoch, n, ...(state.takenUs !== undefined && { takenUs: state.takenUs }) };
  }

  function outcomeOf(id: CommitId): CommitOutcome | undefined {
    const row = sql(findCommit).get(idBytes(id, idScratch));
    return row && { ok: true, epoch: row[0] as number, n: row[1] as number };
  }

  function judge(expects: readonly Expectation[], before: number): CommitRefused | undefined {
    let conflicts: string[] | undefined;
    for (const expectation of expects) {
      let holds: boolean;
      let name: string;
      switch (expectation.kind) {
        case "record":
          [holds, name] = [recordVersion(state, expectation.key) === numberOf(expectation.version), expectation.key];
          break;
        case "token":
          [holds, name] = [(findToken(sql, windows, expectation.key)?.version ?? 0) === numberOf(expectation.version), expectation.key];
          break;
        case "stream":
          [holds, name] = [streamHolds(expectation), expectation.stream];
          break;
        case "unchanged":
          [holds, name] = [!changedSince(state, expectation.prefix, expectation.since, before), expectation.prefix];
          break;
        case "rows":
          [holds, name] = [rowsDigest(user.run(expectation.statement).rows) === expectation.digest, expectation.statement.text];
          break;
        case "claim":
          if (!jobs.holds(expectation.job, expectation.fence)) return { ok: false, refused: "fenced", job: expectation.job };
          continue;
      }
      if (!holds) (conflicts ??= []).push(name);
    }
    return conflicts && { ok: false, refused: "conflict", keys: conflicts };
  }

  /** The number a version names; -1, which nothing has, when it names a commit that was refused or is not known. */
  function numberOf(version: Version): number {
    return typeof version === "number" ? version : Number(sql(findNumber).get(idBytes(version, idScratch))?.[0] ?? -1);
  }

  function streamHolds({ stream, version, after }: Expectation & { kind: "stream" }): boolean {
    if (after === undefined) return streamVersion(state, stream) === version;
    const tail = streamTail(state, stream);
    return tail.version === version && tail.n === numberOf(after);
  }

  function applyWrite(write: Write): CommitRefused | undefined {
    switch (write.kind) {
      case "put":
        return void putRecord(state, write.key, write.value, write.expiresAtMs, write.index);
      case "remove":
        return void removeRecord(state, write.key);
      case "merge":
        return mergeRecord(state, write.key, write.merge);
      case "token":
        return void putToken(state, windows, write.key, write.value, write.keepForMs);
      case "append":
        return void appendEvents(state, write.stream, write.events);
      case "trim":
        return void trimStream(state, write.stream, write.upTo);
      case "enqueue":
        return void jobs.enqueue(write.job);
      case "finish":
        return jobs.finish(write.job, write.fence, write.end);
      case "cancel":
        return void jobs.cancel(write.job);
      case "redrive":
        return void jobs.redrive(write.job, write.payload);
      case "pause":
        return void jobs.pause(write.queue, write.paused);
      case "sql":
        user.run(write.statement);
        if (/\b(create|alter|drop)\b/i.test(write.statement.text)) lookForDeferredKeys();
        return undefined;
    }
  }

  /** A commit on its own: afterwards all of it is there, or nothing, or the batch is lost. */
  function commitStep(commit: Commit): CommitOutcome | Failure {
    return refusesAtOnce(commit) ? stepAtOnce(commit) : stepInSavepoint(commit);
  }

  /**
   * Without a savepoint, for which SQLite would copy every page that the commit touches: what can be refused is refused before
   * anything but the commit's own row is written. An error loses the batch, as in a savepoint a full disk does.
   */
  function stepAtOnce(commit: Commit): CommitOutcome {
    const { n } = state;
    let outcome: CommitOutcome;
    try {
      outcome = applyCommit(commit);
      if (!outcome.ok && state.n !== n) sql("delete from trestle_commits where n = ?").run(state.n);
    } catch (error) {
      throw new BatchLost(error, undefined);
    }
    if (!outcome.ok) state.n = n;
    return outcome;
  }

  function stepInSavepoint(commit: Commit, beside = false): CommitOutcome | Failure {
    const { n, position } = state;
    const takeBack = () => {
      try {
        sql("rollback to one").run();
        sql("release one").run();
      } catch (error) {
        throw new BatchLost(error, undefined);
      }
      state.n = n;
      state.position = position;
      state.tails.clear();
    };
    sql("savepoint one").run();
    let outcome: CommitOutcome;
    try {
      outcome = applyCommit(commit, beside);
      if (outcome.ok) {
        sql("release one").run();
        return outcome;
      }
    } catch (error) {
      const refusal = statementRefusal(commit, error);
      if (!db.isTransaction) throw new BatchLost(error, refusal);
      takeBack();
      return refusal ?? toFailure(error);
    }
    takeBack();
    return outcome;
  }

  // ---- the other operations -------------------------------------------------------------------------------------------

  function step(operation: Exclude<Operation, { kind: "claim" }>): Result {
    switch (operation.kind) {
      case "commit":
        return commitStep(operation.commit);
      case "resolve":
        return resolve(operation.id);
      case "extend":
        return jobs.extend(operation.claims, operation.leaseMs);
      case "keep":
        return void jobs.keep(operation.holder, operation.leaseMs);
      case "release":
        return void jobs.release((holder, n) => holder === operation.holder && n <= operation.madeUpTo);
      case "migrate":
        return migrate(operation);
      case "tend":
        return tend(1_000);
      case "move":
        return moveStep(state, operation.step, operation.url);
    }
  }

  function resolve(id: CommitId): CommitOutcome {
    if ((mintedAtMs(id) ?? 0) < state.nowMs - commitIdRetentionMs) return resolved;
    const known = outcomeOf(id);
    if (known) return known;
    resolvedIds += sql("insert into trestle_resolved (id, at) values (?, ?) on conflict do nothing").run(idBytes(id, idScratch), state.nowMs);
    return resolved;
  }

  function migrate({ component, name, text, digest }: Operation & { kind: "migrate" }): undefined {
    const applied = sql("select digest from trestle_migrations where component = ? and name = ?").get(component, name)?.[0];
    if (applied === digest) return undefined;
    if (applied !== undefined)
      throw Fault.create(
        "sql.migration-changed",
        `migration ${name} of ${component} was applied before, and has another text now`,
        "Leave applied migrations as they are; put the change into a new file.",
        { details: { component, name } },
      );
    try {
      user.script(text);
    } catch (error) {
      if (Fault.is(error)) throw error;
      throw Fault.create(
        "sql.migration-failed",
        `migration ${name} of ${component} failed: ${(error as Error).message}; nothing of it was applied`,
        "Correct the file and start again.",
        { cause: error, details: { component, name } },
      );
    }
    sql("insert into trestle_migrations (component, name, digest, at) values (?, ?, ?, ?)").run(component, name, digest, state.nowMs);
    lookForDeferredKeys();
  }

  /** Removes at most `limit` of each kind of thing whose time is over. */
  function tend(limit: number): undefined {
    tendedAtMs = state.nowMs;
    const swept = sweepRecords(state, limit);
    const cutoff = state.nowMs - commitIdRetentionMs - clockSlackMs;
    const oldest = sql("select at from trestle_commits order by n limit 1").get();
    let trimmed = 0;
    if (oldest && (oldest[0] as number) < cutoff) {
      const last = sql("select max(n), count(*) from (select n, at from trestle_commits order by n limit ? + 0) where at < ?").get(limit, cutoff) as readonly [
        number,
        number,
      ];
      sql("delete from trestle_commits where n <= ?").run(last[0]);
      state.trimmedN = last[0];
      trimmed = last[1];
      setMeta(state, "trimmed_n", last[0]);
      setMeta(state, "head_n", state.n);
    }
    if (resolvedIds > 0)
      resolvedIds -= sql("delete from trestle_resolved where id in (select id from trestle_resolved where at < ? order by at, id limit ? + 0)").run(
        cutoff,
        limit,
      );
    if (dropWindows(state, windows)) windows = tokenWindows(sql);
    const forgotten = jobs.sweep(limit);
    behindWithTrimming = swept === limit || trimmed === limit || forgotten === limit;
  }

  // ---- batches --------------------------------------------------------------------------------------------------------

  const runsAlone = (operation: Operation): boolean =>
    operation.kind === "migrate" ||
    operation.kind === "move" ||
    (deferredKeys && operation.kind === "commit" && operation.commit.writes.some((write) => write.kind === "sql"));

  function together(operations: readonly Operation[], results: Result[], from: number, to: number, lastTry: boolean): void {
    const singly = () => {
      for (let i = from; i < to; i++) together(operations, results, i, i + 1, true);
    };
    const alone = to - from === 1;
    try {
      if (broken) reopen();
      seam.begin();
      openBatch(operations, from, to);
      let held: Fence | undefined;
      const fence = () => (held ??= claimNumber());
      for (let i = from; i < to; i++) {
        const operation = operations[i] as Operation;
        if (operation.kind !== "claim") results[i] = step(operation);
        else {
          const first = i;
          const claims = claimsFrom(operations, first, to);
          jobs.claim(claims, fence).forEach((claimed, at) => (results[first + at] = claimed));
          i += claims.length - 1;
        }
      }
    } catch (error) {
      if (error instanceof Superseded) throw error;
      forget();
      if (!alone) return singly();
      results[from] = (error instanceof BatchLost && error.refusal) || toFailure(error instanceof BatchLost ? error.cause : error);
      return;
    }
    try {
      seam.commit();
    } catch (error) {
      if (leavesNothing(error)) {
        forget();
        if (!alone) return singly();
        results[from] = isFull(error) ? toFailure(error) : { ok: false, refused: "statement", message: (error as Error).message };
        return;
      }
      afterFailedCommit(operations, results, from, to, lastTry, error);
    }
  }

  /** Before the first operation of a batch. Nothing here belongs to one commit. */
  function openBatch(operations: readonly Operation[], from: number, to: number): void {
    jobs.promote();
    if (behindWithTrimming || state.nowMs - tendedAtMs >= tendEveryMs || state.nowMs < tendedAtMs) tend(64 + 2 * (to - from));
    let keepForMs: number[] | undefined;
    for (let i = from; i < to; i++) {
      const operation = operations[i] as Operation;
      if (operation.kind === "commit") for (const write of operation.commit.writes) if (write.kind === "token") (keepForMs ??= []).push(write.keepForMs);
    }
    if (keepForMs && ensureWindows(state, windows, keepForMs)) windows = tokenWindows(sql);
  }

  function claimNumber(): Fence {
    state.n++;
    sql(insertCommit).run(state.n, state.epoch, null, state.nowMs, "");
    return { epoch: state.epoch, n: state.n };
  }

  /** The storage transaction did not come to its end: undo what may be left of it, and what was remembered from it. */
  function forget(): void {
    try {
      if (db.isTransaction) seam.rollback();
      reload();
    } catch {
      try {
        reopen();
      } catch {
        // It stays `broken`, and is opened before whatever comes next, which hears of it where that fails too.
      }
    }
  }

  function reopen(): void {
    try {
      db.close();
    } catch {
      // A connection that cannot even be closed is dropped.
    }
    broken = true;
    attach();
  }

  /** COMMIT itself failed: what the file says about each id is the truth, and what it does not say is made so (FINDINGS F5, F6). */
  function afterFailedCommit(operations: readonly Operation[], results: Result[], from: number, to: number, lastTry: boolean, error: unknown): void {
    try {
      if (db.isTransaction) seam.rollback();
      reopen();
    } catch (cause) {
      results.fill(unknownOutcome(cause), from, to);
      return;
    }
    for (let i = from; i < to; i++) {
      const operation = operations[i] as Operation;
      const known = operation.kind === "commit" ? outcomeOf(operation.commit.id) : undefined;
      if (known) results[i] = known;
      else if (!lastTry) together(operations, results, i, i + 1, true);
      else if (operation.kind !== "commit") results[i] = toFailure(error);
      else results[i] = refuseForGood(operation.commit.id, error);
    }
  }

  /** Of an id that the file does not know: it stays so, and its caller hears of the error. */
  function refuseForGood(id: CommitId, error: unknown): Failure {
    try {
      seam.begin();
      resolve(id);
      seam.commit();
      return toFailure(error);
    } catch (cause) {
      if (cause instanceof Superseded) throw cause;
      try {
        if (db.isTransaction) seam.rollback();
        reopen();
      } catch {
        broken = true;
      }
      return unknownOutcome(cause);
    }
  }

  function statementRefusal(commit: Commit, error: unknown): CommitRefused | undefined {
    const mayBeTheirs = commit.writes.some((write) => write.kind === "sql") || commit.expects.some((expectation) => expectation.kind === "rows");
    // A full disk, a failing disk or a damaged file is nobody's statement.
    const machine = [7, 10, 11, 13, 26].includes(((error as { errcode?: number }).errcode ?? 0) & 0xff);
    return mayBeTheirs && !machine ? { ok: false, refused: "statement", message: (error as Error).message } : undefined;
  }

  const ready = (nowMs: number): void => {
    if (broken) reopen();
    state.nowMs = nowMs;
    state.queues.clear();
  };

  attach();
  if (sql("select 1 from trestle_meta where name = 'restored'").get()) {
    seam.begin();
    setMeta(state, "epoch", state.epoch + 1);
    sql("delete from trestle_meta where name = 'restored'").run();
    seam.commit();
    readHead(state);
  }
  if (!options.keepsClaims && sql("select 1 from trestle_jobs where state = 2 limit 1").get()) {
    seam.begin();
    jobs.release(() => true);
    seam.commit();
  }

  return {
    get db() {
      return db;
    },
    get user() {
      return user;
    },
    get epoch() {
      return state.epoch;
    },
    get n() {
      return state.n;
    },

    apply(operations, nowMs) {
      const results = new Array<Result>(operations.length);
      try {
        ready(nowMs);
      } catch (error) {
        return { results: results.fill(toFailure(error)), queues: [], n: 0 };
      }
      for (let from = 0, to = 0; from < operations.length; from = to) {
        if (moved !== undefined && operations[from]?.kind !== "move") {
          results[from] = toFailure(movedFault(moved, state.epoch));
          to = from + 1;
          continue;
        }
        to = from + 1;
        if (!runsAlone(operations[from] as Operation)) while (to < operations.length && !runsAlone(operations[to] as Operation)) to++;
        together(operations, results, from, to, false);
        if (operations[from]?.kind === "move") moved = movedTo(state);
      }
      return { results, queues: [...state.queues], n: state.n };
    },

    begin(nowMs) {
      ready(nowMs);
      if (moved !== undefined) throw movedFault(moved, state.epoch);
      seam.begin();
      jobs.promote();
    },
    execute(statement) {
      if (!db.isTransaction)
        throw Fault.create(
          "transaction.lost",
          "an earlier statement ended this transaction; nothing of it was applied",
          "Do not use INSERT OR ROLLBACK or RAISE(ROLLBACK) inside a transaction.",
        );
      return user.run(statement);
    },
    end(commit) {
      if (!db.isTransaction)
        throw Fault.create(
          "transaction.lost",
          "a statement ended this transaction; nothing of it was applied",
          "Do not use INSERT OR ROLLBACK or RAISE(ROLLBACK) inside a transaction.",
        );
      const keepForMs = commit.writes.flatMap((write) => (write.kind === "token" ? [write.keepForMs] : []));
      if (keepForMs.length && ensureWindows(state, windows, keepForMs)) windows = tokenWindows(sql);
      // Its id stands for the statements before it too: whoever does not hear the answer asks by it what became of them (FINDINGS F6).
      const before = state.n;
      const outcome = stepInSavepoint(commit, true);
      if ("failure" in outcome) throw toFault(outcome);
      if (!outcome.ok) {
        this.abandon();
        return { outcome, queues: [], n: state.n };
      }
      if (outcome.n <= before) {
        this.abandon();
        throw Fault.create("transaction.refused", "this commit was applied before", "Give each transaction a commit of its own.");
      }
      try {
        seam.commit();
      } catch (error) {
        if (leavesNothing(error)) throw toFault(toFailure(error));
        let known: CommitOutcome | undefined;
        try {
          if (db.isTransaction) seam.rollback();
          reopen();
          known = outcomeOf(commit.id);
        } catch (cause) {
          throw toFault(unknownOutcome(cause));
        }
        if (known) return { outcome: known, queues: [...state.queues], n: state.n };
        throw toFault(refuseForGood(commit.id, error));
      }
      lookForDeferredKeys();
      return { outcome, queues: [...state.queues], n: state.n };
    },
    abandon: () => forget(),

    release(over, nowMs) {
      ready(nowMs);
      seam.begin();
      let released: number;
      try {
        released = jobs.release(over, stepRows);
        if (released === 0) seam.rollback();
        else seam.commit();
      } catch (error) {
        forget();
        throw error;
      }
      return { queues: [...state.queues], more: released === stepRows };
    },
    check,
    inTerm(work) {
      if (db.isTransaction) forget();
      seam.begin();
      try {
        work();
      } finally {
        seam.rollback();
      }
    },

    close() {
      db.close();
    },
  };
}

/** The claims that stand next to each other from here on. */
function claimsFrom(operations: readonly Operation[], from: number, to: number): ClaimRequest[] {
  const requests: ClaimRequest[] = [];
  for (let i = from; i < to; i++) {
    const operation = operations[i] as Operation;
    if (operation.kind !== "claim") break;
    requests.push(operation.request);
  }
  return requests;
}

/** Of an error at COMMIT: a deferred constraint, or a full disk. SQLite writes the frame that makes a transaction count last, so without room there is none. */
const leavesNothing = (error: unknown): boolean => isFull(error) || (error as { errcode?: number }).errcode === 787;
const isFull = (error: unknown): boolean => (error as { errcode?: number }).errcode === 13;

function unknownOutcome(cause: unknown): Failure {
  return {
    failure: true,
    code: "commit.unknown",
    message: `the store could not find out whether this was committed: ${(cause as Error).message}`,
    remedy: "Ask again with `resolve`, or submit the same commit again.",
    details: {},
  };
}

/** Whether nothing of it can be refused once its first write was made. The user's statements can fail at any time, and half-way. */
function refusesAtOnce({ expects, writes }: Commit): boolean {
  for (const expectation of expects) if (expectation.kind === "rows") return false;
  for (let at = 0; at < writes.length; at++) {
    const { kind } = writes[at] as Write;
    if (kind === "sql" || (at > 0 && (kind === "merge" || kind === "finish"))) return false;
  }
  return true;
}

/** What a commit's row says it touched; see statements.ts for the letters. */
function keysOfWrites(writes: readonly Write[]): string {
  if (writes.length === 1) return keyOfWrite(writes[0] as Write) ?? "";
  const keys: string[] = [];
  for (const write of writes) {
    const key = keyOfWrite(write);
    if (key !== undefined) keys.push(key);
  }
  return keysText(keys);
}

function keyOfWrite(write: Write): string | undefined {
  switch (write.kind) {
    case "put":
    case "remove":
    case "merge":
      return `r${write.key}`;
    case "token":
      return `t${write.key}`;
    case "append":
    case "trim":
      return `s${write.stream}`;
    case "enqueue":
      return `j${write.job.id}`;
    case "finish":
    case "cancel":
    case "redrive":
      return `j${write.job}`;
    case "pause":
      return `q${write.queue}`;
    case "sql":
      return undefined;
  }
}
