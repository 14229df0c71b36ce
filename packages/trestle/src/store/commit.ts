/**
 * A commit is a value: what must still be true, and what is then written, over log, queue, records, tokens and the user's
 * own tables. It is applied whole or not at all. It is plain data (it crosses threads and sockets): no closures; payloads
 * are bytes that no engine looks into, except the numbers and sets of a merge.
 *
 * Guarantees: `commit.atomic`, `commit.durable`, `commit.serializable-over-keys`, `commit.once-per-id`.
 */
import type { StoreKey } from "./key.ts";

/** UUIDv7 text, minted by whoever commits. The same id is the same commit: submitting it again answers the first outcome. */
export type CommitId = string;
/** UUIDv7 text, minted by the sender. */
export type JobId = string;

export interface Commit {
  readonly id: CommitId;
  /** At most `limits.expectationsMax`. All are judged against the state this commit is applied to. */
  readonly expects: readonly Expectation[];
  readonly writes: readonly Write[];
}

/**
 * The number of the commit that last wrote a record or token; 0 for one that is absent or has expired. A commit whose
 * number is not known yet is named by its id: the expectation then falls if that commit is refused (a chain, FINDINGS F2).
 */
export type Version = number | CommitId;

export type Expectation =
  | { readonly kind: "record"; readonly key: StoreKey; readonly version: Version }
  | { readonly kind: "token"; readonly key: StoreKey; readonly version: Version }
  /**
   * `version` counts the stream's events; 0 is a stream without any. `after` names the commit that wrote the last of them, for who
   * decided before its outcome was known: when it falls, another may give the stream the same version with other events.
   */
  | { readonly kind: "stream"; readonly stream: StoreKey; readonly version: number; readonly after?: CommitId }
  /** No record whose key starts with `prefix` was written or removed by a commit after number `since`. */
  | { readonly kind: "unchanged"; readonly prefix: string; readonly since: number }
  /** The claim still holds. */
  | { readonly kind: "claim"; readonly job: JobId; readonly fence: Fence }
  /** This query, run where the commit is applied, still answers the same rows (their JSON has this SHA-256, hex). */
  | { readonly kind: "rows"; readonly statement: Statement; readonly digest: string };

export type Write =
  | { readonly kind: "put"; readonly key: StoreKey; readonly value: Uint8Array; readonly expiresAtMs?: number; readonly index?: readonly IndexEntry[] }
  | { readonly kind: "remove"; readonly key: StoreKey }
  | { readonly kind: "merge"; readonly key: StoreKey; readonly merge: Merge }
  /** A small record under a key that somebody else minted; kept at least `keepForMs`, then dropped with its window (FINDINGS F12). */
  | { readonly kind: "token"; readonly key: StoreKey; readonly value: Uint8Array; readonly keepForMs: number }
  | { readonly kind: "append"; readonly stream: StoreKey; readonly events: readonly NewEvent[] }
  /**
   * Removes the events of a stream up to this version: the one exception to `log.immutable`, for retention. Versions and positions
   * go on from where they were, also when nothing of the stream is left. Deletes what it names in one step: callers keep it small.
   */
  | { readonly kind: "trim"; readonly stream: StoreKey; readonly upTo: number }
  | { readonly kind: "enqueue"; readonly job: NewJob }
  /** Ends a claim. Refuses the whole commit with `fenced` when the claim no longer holds. */
  | { readonly kind: "finish"; readonly job: JobId; readonly fence: Fence; readonly end: JobEnd }
  /** Removes a job that waits, or tells the holder of a running one; nothing when it is already gone. */
  | { readonly kind: "cancel"; readonly job: JobId }
  /** Puts dead, parked or undetermined jobs back to waiting, due now, attempts counted from 0; with another payload, if one is given. */
  | { readonly kind: "redrive"; readonly job: JobId; readonly payload?: Uint8Array }
  /** Nothing of a paused queue is handed out, to anybody, until it is resumed. What runs goes on, what is sent waits. */
  | { readonly kind: "pause"; readonly queue: string; readonly paused: boolean }
  | { readonly kind: "sql"; readonly statement: Statement };

/**
 * Judged at commit on the newest value, without a read and so without conflicts. The record's bytes are then JSON: a number,
 * or an array of strings in order. A missing record counts as 0, as the empty set, as unset.
 */
export type Merge =
  /** Refuses the commit with `guard` when the sum would leave [min, max]. Integers within 2^53. */
  | { readonly kind: "add"; readonly amount: number; readonly min?: number; readonly max?: number }
  | { readonly kind: "max"; readonly value: number }
  | { readonly kind: "min"; readonly value: number }
  | { readonly kind: "union"; readonly members: readonly string[] }
  /**
   * Takes from a token bucket that is kept as the moment at which it will be full again (GCRA), in microseconds of the store's clock. That moment, or now if it is past,
   * moves on by `amountUs`, unless it would then be more than `burstUs` ahead of now: that refuses the commit with `guard`, whose `value` is by how many microseconds this
   * came too early. A negative amount gives back, and never more than a full bucket. The record expires when its bucket is full. Integers within 2^53.
   */
  | { readonly kind: "take"; readonly amountUs: number; readonly burstUs: number }
  /** Keeps the first value ever put. */
  | { readonly kind: "set-once"; readonly value: Uint8Array };

/** A field of a record by which `list` can filter: texts compare by UTF-8 bytes, numbers by value. */
export interface IndexEntry {
  readonly field: string;
  readonly value: string | number;
}

export interface NewEvent {
  /** UUIDv7 text. */
  readonly id: string;
  readonly type: string;
  readonly data: Uint8Array;
  /** Envelope facts beside the payload (schema version, correlation, causation, trace), as the runtime encodes them. */
  readonly meta?: Uint8Array;
}

export interface NewJob {
  readonly id: JobId;
  readonly queue: string;
  readonly payload: Uint8Array;
  /** Store time; absent or past means now. A job with a key joins its key when due (FINDINGS F17). */
  readonly dueAtMs?: number;
  /** Lower is sooner. 0 high, 1 normal, 2 low. Orders keys, never the messages of one key. */
  readonly priority: number;
  /** Jobs with one key are handed out strictly in order of sending, one at a time. */
  readonly key?: string;
  /** At most one waiting job of the queue has this; a second one is dropped. */
  readonly unique?: string;
  /**
   * With `unique`: the second one is not dropped. The one that waits goes, if it has never been handed out, and this one is sent in
   * its stead: with the first one's time of sending, and due at the latest `atMostMs` after that.
   */
  readonly replace?: { readonly atMostMs?: number };
  /** Whose share of the queue it takes: groups are handed out in turns. Empty is a group too; absent is nobody's. */
  readonly group?: string;
  /** Store time. A job that would be handed out later than this is dead instead, with `expiredError`. */
  readonly startByMs?: number;
}

/** What a person reads beside a job that nobody started in time. */
export const expiredError = "job.expired: nobody started it by its deadline";

/** Who may finish a job: rises with every claim of the store, over crashes too. */
export interface Fence {
  readonly epoch: number;
  readonly n: number;
}

export type JobEnd =
  /** Removed; with `keepUntilMs` kept for people until then, by store time. */
  | { readonly kind: "done"; readonly keepUntilMs?: number }
  /** Tried and failed: waits until `dueAtMs`, still the head of its key. */
  | { readonly kind: "retry"; readonly dueAtMs: number; readonly error: string }
  /** Not now: does not count as an attempt. */
  | { readonly kind: "later"; readonly dueAtMs: number; readonly reason?: string }
  /** Kept for a person, at most until `keepUntilMs`; its key goes on. */
  | { readonly kind: "dead"; readonly error: string; readonly keepUntilMs?: number }
  /** Kept for a person; its key waits. */
  | { readonly kind: "parked"; readonly error: string }
  /** Out of attempts while a call to the outside may or may not have happened (FINDINGS F16); its key waits. */
  | { readonly kind: "undetermined"; readonly error: string };

/** Text with `?` placeholders of the engine's dialect, and what is bound to them, never pasted. */
export interface Statement {
  readonly text: string;
  readonly parameters: readonly SqlValue[];
}
export type SqlValue = string | number | bigint | boolean | null | Uint8Array;

export type CommitOutcome =
  /**
   * `n` is its number. A commit without writes takes none: `n` is then the newest number its expectations held at. `takenUs`: how far from full its last `take` left the
   * bucket; whoever hears of the outcome a second time is not told.
   */
  { readonly ok: true; readonly epoch: number; readonly n: number; readonly takenUs?: number } | CommitRefused;

export type CommitRefused =
  /** These expectations no longer hold. */
  | { readonly ok: false; readonly refused: "conflict"; readonly keys: readonly string[] }
  /** A claim it ends or expects is over. */
  | { readonly ok: false; readonly refused: "fenced"; readonly job: JobId }
  /** A merge would leave its range; `value` is what stands, and of a `take` by how much it came too early. */
  | { readonly ok: false; readonly refused: "guard"; readonly key: StoreKey; readonly value: number }
  /** A statement of the user's failed; nothing of the commit was applied. */
  | { readonly ok: false; readonly refused: "statement"; readonly message: string }
  /** This id was resolved as not committed, or is older than `commitIdRetentionMs`. */
  | { readonly ok: false; readonly refused: "resolved" };

/** What a change tells of this commit: its record keys and streams. */
export function addKeys(keys: Set<string>, commit: Commit): void {
  for (const write of commit.writes) {
    if (write.kind === "put" || write.kind === "remove" || write.kind === "merge") keys.add(write.key);
    else if (write.kind === "append") keys.add(write.stream);
  }
}
