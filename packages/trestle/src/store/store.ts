/**
 * The store: one lane of commits over log, queue, records and tokens. This file is the whole port; an engine implements it,
 * `conformance/` holds it to what is written here.
 *
 * A position has three moments: *assigned* (in the lane), *visible* (others can read it), *durable* (no crash takes it back).
 * Outcomes, change notices and reads show only the durable. On SQLite the three coincide; elsewhere they do not.
 *
 * `epoch` changes when the history may have been cut (restore, promotion, move). A position carries it; asking with another
 * epoch faults with `log.diverged` instead of skipping silently.
 */
import type { Commit, CommitId, CommitOutcome, Fence, IndexEntry, JobId, SqlValue, Statement } from "./commit.ts";
import type { StoreKey } from "./key.ts";

export interface Store {
  /** `sqlite`, `memory`, `postgres`: for people and logs; nothing may branch on it. */
  readonly engine: string;
  readonly dialect: "sqlite" | "postgres";
  /** Ids of the guarantees it provides (docs/reference/guarantees.md). */
  readonly guarantees: ReadonlySet<string>;
  readonly epoch: number;

  /**
   * Applies the commit, and answers when that is durable. Never half: a refusal leaves nothing behind.
   * Faults: `store.overloaded`, `store.closed`, `commit.too-large`, `commit.read-set-full`, and `commit.unknown` when a crash or
   * I/O error hides the outcome: then `resolve`, or submit the same commit again.
   */
  commit(commit: Commit): Promise<CommitOutcome>;
  /** What became of this id: decided by *writing* a refusal under it unless an outcome exists (FINDINGS F6). */
  resolve(id: CommitId): Promise<CommitOutcome>;

  /** Takes due jobs, best first; a batch operation beside commits, coalesced with them. Durable like a commit. */
  claim(request: ClaimRequest): Promise<Claims>;
  /** Extends these claims to `leaseMs` from now by the store's clock. `false`: the claim is over, or its job was cancelled; stop acting as its holder. */
  extend(claims: readonly Claim[], leaseMs: number): Promise<readonly boolean[]>;

  /**
   * Keeps what this holder has claimed while its event loop is blocked, from a thread of the store's own: its claims are extended to `leaseMs` as long as
   * its last beat is between a third of `leaseMs` and `blockedMsMax` old. Once it is older they are taken back: their jobs go to whoever asks next, under a
   * higher fence, and what the holder commits for them is refused. Beats that come again keep what is claimed from then on. While it beats, the
   * holder extends what it knows it has: a claim whose answer never came, or that it lost, ends with its lease.
   * Guarantee `queue.outlives-blocked-loop`. `undefined` where there is no such thread: then `extend` alone keeps claims.
   */
  heartbeat(holder: string, options: { readonly leaseMs: number; readonly blockedMsMax: number }): Heartbeat | undefined;

  readonly read: Reader;

  /**
   * An interactive transaction, alone in the lane: a batch of one (FINDINGS F19). The commit that `work` answers is applied at its
   * end, in the same storage transaction; where it answers none, one without writes, whose id the store mints (FINDINGS F6). Reads made in `work` answer what is
   * durable. Rolled back with `transaction.overran` after `withinMs` (default 250).
   */
  transaction<T>(work: (connection: SqlConnection) => Promise<{ readonly result: T; readonly commit?: Commit }>, withinMs?: number): Promise<T>;

  /** Called after each durable batch, with what it touched. A hint: late or merged notices are allowed, silence after a write is not. */
  onChange(listener: (change: Change) => void): () => void;

  /** The user's migrations: each file once, in order of name; a changed file that was already applied faults with `sql.migration-changed`. */
  migrate(component: string, files: readonly { readonly name: string; readonly text: string }[]): Promise<void>;
  /** A consistent copy of the store, made while it runs. */
  backup(path: string): Promise<void>;
  stats(): StoreStats;
  /** Applies what waits, then closes. Safe to call twice. */
  close(): Promise<void>;
}

export interface ClaimRequest {
  /** Who takes them, for people. */
  readonly holder: string;
  readonly leaseMs: number;
  readonly queues: readonly QueueClaim[];
}
export interface QueueClaim {
  readonly queue: string;
  readonly limit: number;
  /** Absent: groups take turns, one job each, and nothing is limited. */
  readonly policy?: QueuePolicy;
}
/**
 * How a queue is handed out. One decider judges it, in the claim and against what all holders have, so limits are exact over the fleet.
 * Those who claim one queue should send one policy; each claim is judged by its own.
 */
export interface QueuePolicy {
  /** Jobs that are handed out and not ended, of the whole queue. Those that were handed out without any policy do not count. */
  readonly concurrency?: number;
  readonly rate?: ClaimRate;
  /** The same for each group; jobs without a group are one together. */
  readonly perGroup?: { readonly concurrency?: number; readonly rate?: ClaimRate };
  /** Jobs a group gets in its turn, 1 to 1,000; 1 for groups that are not named. */
  readonly weights?: Readonly<Record<string, number>>;
  /** How long a job is kept that nobody started by its deadline. Default: until a person removes it. */
  readonly keepDeadMs?: number;
}
/** At most one job each `everyMs` (fractions count), evenly spread; what was late is made up for within `slackMs`. */
export interface ClaimRate {
  readonly everyMs: number;
  readonly slackMs: number;
}
export interface Claims {
  readonly jobs: readonly ClaimedJob[];
  /**
   * When asking again may give more, by the store's clock: a job falls due, a rate has room. `undefined` when none waits, or when it is
   * for others to end theirs first (limits, pause): `onChange` tells.
   */
  readonly nextDueAtMs: number | undefined;
  /** The store's clock when it answered. */
  readonly nowMs: number;
}
export interface Claim {
  readonly id: JobId;
  readonly fence: Fence;
}
export interface ClaimedJob extends Claim {
  readonly queue: string;
  readonly payload: Uint8Array;
  readonly key: string | undefined;
  /** 1 for the first. */
  readonly attempt: number;
  /** It was handed out before, whatever `attempt` says (later, redrive): its journal may exist. */
  readonly again: boolean;
  readonly sentAtMs: number;
  readonly leaseUntilMs: number;
}

export interface Heartbeat {
  /** The holder is alive and can act. Costs no I/O: call it about once a second, and before each claim. */
  beat(): void;
  /** Nothing is kept any more. Safe to call twice. */
  stop(): void;
}

export interface SqlConnection {
  /** Faults with `sql.denied` on transaction control, PRAGMA, ATTACH, and on Trestle's own tables. */
  execute(statement: Statement): Promise<SqlResult>;
}
export interface SqlResult {
  readonly rows: readonly Readonly<Record<string, SqlValue>>[];
  readonly changes: number;
  readonly lastInsertRowid: bigint | undefined;
}

// ---- reading --------------------------------------------------------------------------------------------------------

/** Reads of the durable state. Each method is one snapshot; two calls are two. */
export interface Reader {
  /** In the order asked for; `undefined` where there is none, or it has expired. */
  records(keys: readonly StoreKey[]): Promise<readonly (RecordRow | undefined)[]>;
  list(query: ListQuery): Promise<readonly RecordRow[]>;
  token(key: StoreKey): Promise<TokenRow | undefined>;
  /** Events of one stream with version > `after` and < `before`; `newest` answers the last of them first. */
  stream(stream: StoreKey, options: StreamQuery): Promise<readonly EventRow[]>;
  /** The version of the stream's last event; 0 when it has none. */
  streamVersion(stream: StoreKey): Promise<number>;
  /**
   * Events of all streams in order of position, after `after`, of these components (the first part of a stream's key) and types. The
   * filters are the engine's to apply: what they leave out does not cross into JavaScript, and a page looks at a bounded part of the log.
   */
  log(options: LogQuery): Promise<LogPage>;
  /**
   * The change feed: commits in order of number, with what they wrote. Kept at least `commitIdRetentionMs`; going on from a commit
   * before the oldest one kept faults with `log.trimmed`, from another epoch or beyond the end with `log.diverged`.
   */
  commits(options: { readonly after: CommitPosition; readonly limit: number }): Promise<readonly CommitRow[]>;
  head(): Promise<Head>;
  queue(queue: string): Promise<QueueDepth>;
  queues(): Promise<readonly QueueDepth[]>;
  jobs(query: { readonly queue?: string; readonly state?: JobState; readonly limit: number; readonly after?: JobId }): Promise<readonly JobRow[]>;
  /** Groups of a queue that have jobs which could be handed out, or run, in order of name (UTF-8 bytes). */
  groups(query: { readonly queue: string; readonly limit: number; readonly after?: string }): Promise<readonly GroupDepth[]>;
  /** Read-only SQL on the user's tables. */
  rows(statement: Statement): Promise<readonly Readonly<Record<string, SqlValue>>[]>;
}

export interface RecordRow {
  readonly key: StoreKey;
  readonly value: Uint8Array;
  /** The commit that last wrote it. */
  readonly version: number;
  /** The commit that created it (since it was last absent). */
  readonly created: number;
  readonly expiresAtMs: number | undefined;
}
export interface TokenRow {
  readonly value: Uint8Array;
  readonly version: number;
}
export interface ListQuery {
  readonly prefix: string;
  readonly where?: IndexEntry;
  /** `newest` is by the creating commit, latest first. */
  readonly order: "key" | "newest";
  /** The last row of the page before. */
  readonly after?: { readonly key: StoreKey; readonly created: number };
  readonly limit: number;
}
export interface EventRow {
  readonly position: number;
  readonly stream: StoreKey;
  readonly version: number;
  readonly id: string;
  readonly type: string;
  readonly data: Uint8Array;
  readonly meta: Uint8Array | undefined;
  /** Store time of its commit. */
  readonly atMs: number;
  readonly commit: number;
}
export interface Position {
  readonly epoch: number;
  /** Gapless over the store, from 1; 0 is before the first event. */
  readonly position: number;
}
export interface StreamQuery {
  readonly after: number;
  readonly before?: number;
  /** Default `oldest`. */
  readonly order?: "oldest" | "newest";
  readonly limit: number;
}
export interface LogQuery {
  readonly after: Position;
  readonly components?: readonly string[];
  readonly types?: readonly string[];
  readonly limit: number;
}
export interface LogPage {
  readonly events: readonly EventRow[];
  /** Everything up to here has been looked at, whether it matched or not: where to go on. */
  readonly next: Position;
  /** `next` is the end of the log. */
  readonly atEnd: boolean;
}
/** Where a reader of the change feed stands; `n` 0 is before the first commit. */
export interface CommitPosition {
  readonly epoch: number;
  readonly n: number;
}
export interface CommitRow extends CommitPosition {
  readonly id: CommitId;
  readonly atMs: number;
  /** In the order of its writes. What user SQL changed is not known. */
  readonly wrote: readonly Written[];
}
/**
 * What a commit wrote to. A job's key is its id, written when it is sent, finished, cancelled or redriven; being claimed is no commit, and
 * a record that expires is removed by none.
 */
export interface Written {
  readonly kind: "record" | "stream" | "token" | "job";
  readonly key: string;
}
export interface Head {
  readonly epoch: number;
  readonly n: number;
  readonly position: number;
}
/** `waiting`: due or not, blocked by its key or not. `done`: kept for people. */
export type JobState = "waiting" | "running" | "dead" | "parked" | "undetermined" | "done";
export interface QueueDepth {
  readonly queue: string;
  readonly waiting: number;
  readonly running: number;
  readonly dead: number;
  readonly parked: number;
  readonly undetermined: number;
  /** Of the oldest job that is due and waits. */
  readonly oldestAgeMs: number;
  readonly paused: boolean;
}
export interface GroupDepth {
  readonly group: string;
  /** Due, and not behind another job of their key. */
  readonly ready: number;
  readonly running: number;
}
export interface JobRow {
  readonly id: JobId;
  readonly queue: string;
  readonly state: JobState;
  readonly key: string | undefined;
  readonly group: string | undefined;
  readonly attempt: number;
  readonly dueAtMs: number;
  readonly sentAtMs: number;
  readonly error: string | undefined;
  readonly payload: Uint8Array;
}

export interface Change {
  /** The newest durable commit. */
  readonly n: number;
  /** Record keys and stream names that were written. */
  readonly keys: readonly StoreKey[];
  /** Queues that got work, or have some again. */
  readonly queues: readonly string[];
}
export interface StoreStats {
  readonly commits: number;
  readonly refused: number;
  readonly batches: number;
  readonly waiting: number;
}
