/**
 * The port of a live move (FINDINGS F13): what the engine that is left and the engine that is moved to must be able to do. Rows travel with
 * every number they have (commit numbers, versions, positions, places, fences, due times), so that nothing that was handed out before changes its meaning.
 *
 * States of the two stores, changed by `trestle move` only:
 *   old   open → `capture` (it goes on as before, and notes which jobs change) → `seal` (its last commit; everything later faults with `store.moved`)
 *   new   empty → `begin` (it receives, and refuses everybody else with `store.receiving`) → `open` (it is the store)
 * Before `seal` a move can be given up: `release` on the one side, `abandon` on the other.
 */
import type { IndexEntry, Statement } from "./commit.ts";
import type { StoreKey } from "./key.ts";
import type { Head, SqlResult } from "./store.ts";

/** In this order they are copied. */
export const moveParts = ["commit", "event", "stream", "record", "token", "job", "queue"] as const;
export type MovePart = (typeof moveParts)[number];

/** A row as it travels. `id` names it within its part, and orders the pages. Times are milliseconds, by the clock of the store they are in. */
export type MoveRow =
  /** `n` is absent where the id was resolved as not committed; `commit` where a batch of claims took the number. */
  | {
      readonly part: "commit";
      readonly id: string;
      readonly n?: number;
      readonly commit?: string;
      readonly epoch: number;
      readonly atMs: number;
      readonly keys: readonly string[];
    }
  | {
      readonly part: "event";
      readonly id: number;
      readonly stream: StoreKey;
      readonly version: number;
      readonly n: number;
      readonly event: string;
      readonly type: string;
      readonly data: Uint8Array;
      readonly meta?: Uint8Array;
      readonly atMs: number;
    }
  /** A stream of which retention has left nothing. */
  | { readonly part: "stream"; readonly id: StoreKey; readonly version: number; readonly n: number }
  | {
      readonly part: "record";
      readonly id: StoreKey;
      readonly value: Uint8Array;
      readonly version: number;
      readonly created: number;
      readonly expiresAtMs?: number;
      readonly index: readonly IndexEntry[];
    }
  | { readonly part: "token"; readonly id: StoreKey; readonly value: Uint8Array; readonly version: number; readonly keepUntilMs: number }
  | {
      readonly part: "job";
      /** The job's id. */
      readonly id: string;
      /** The order of sending. */
      readonly seq: number;
      readonly queue: string;
      readonly state: MovedJobState;
      readonly priority: number;
      /** The order in its line, and among lines. */
      readonly place: number;
      readonly dueAtMs: number;
      readonly sentAtMs: number;
      readonly attempt: number;
      readonly key?: string;
      readonly unique?: string;
      readonly group?: string;
      readonly cancelled: boolean;
      readonly epoch?: number;
      readonly n?: number;
      readonly leaseUntilMs?: number;
      readonly holder?: string;
      readonly error?: string;
      readonly untilMs?: number;
      readonly payload: Uint8Array;
    }
  /** A paused queue, and the rates that are limited in it: when the next job may be handed out, by scope. */
  | { readonly part: "queue"; readonly id: string; readonly paused: boolean; readonly rates: readonly (readonly [scope: string, nextMs: number])[] };

export type MovedJobState = "ready" | "running" | "retrying" | "parked" | "undetermined" | "behind" | "scheduled" | "dead" | "done";

/** A row that is there no more. */
export interface Gone {
  readonly part: MovePart;
  readonly id: string | number;
  readonly gone: true;
}
/** Retention has removed the events of a stream up to this version. */
export interface Trimmed {
  readonly part: "event";
  readonly stream: StoreKey;
  readonly trimmedTo: number;
}
export type Moved = MoveRow | Gone | Trimmed;

export interface MovePage {
  readonly rows: readonly MoveRow[];
  /** The id of the last row; `undefined` at the end. */
  readonly next: string | number | undefined;
}

/** The store that is left. It is used while it is read. */
export interface MoveSource {
  /** Names it: another source cannot continue a move. */
  readonly identity: string;
  readonly epoch: number;
  nowMs(): number;
  head(): Head;
  /** Tables of the user's own. Their SQL is of one dialect, so that whoever wrote it brings them over; see `MoveTarget.open`. */
  userTables(): readonly string[];
  /** What a query of the user's answers; once sealed, for good. */
  rows(statement: Statement): Promise<SqlResult["rows"]>;
  /** Notes from here on which jobs change. */
  capture(): Promise<void>;
  /** Takes that back; before the cut only. */
  release(): Promise<void>;
  page(part: MovePart, after: string | number | undefined, limit: number): MovePage;
  /** Rows of a part whose time is not over at `nowMs`. */
  count(part: MovePart, nowMs: number): number;
  /** What has changed since, as it stands now, with events in order of position; `next` is where to go on. Not more than about `limit` commits at once. */
  changes(after: MoveCursor, limit: number): { readonly rows: readonly Moved[]; readonly next: MoveCursor; readonly atEnd: boolean };
  /** Of rows of one part, as they stand now. */
  look(part: MovePart, ids: readonly (string | number)[]): readonly Moved[];
  /** The last commit: whoever asks afterwards is told to go to `url`. Safe to call again. */
  seal(url: string): Promise<Head>;
  /** Takes the seal back, while the new store has not been opened. */
  unseal(): Promise<void>;
  /** Where it has moved to. */
  sealed(): { readonly url: string; readonly head: Head } | undefined;
  close(): Promise<void>;
}
export interface MoveCursor {
  readonly n: number;
  readonly position: number;
  readonly jobChange: number;
}

/** How far a move has come: kept in the new store, in the transaction of the rows it stands for. */
export interface MoveProgress {
  readonly source: string;
  /** What is added to times that will be judged by the new store's clock. */
  readonly clockOffsetMs: number;
  /** The parts that are copied, and the one in work. */
  readonly done: readonly MovePart[];
  readonly after?: string | number;
  readonly cursor: MoveCursor;
  /** It is over: the new store is in use. */
  readonly opened?: true;
}

/** The user's own tables in the store that is moved to. Faults: `sql.denied`, `sql.migration-failed`, and what the engine says of a statement. */
export interface NewTables {
  readonly dialect: "sqlite" | "postgres";
  /** Each file once, in order of name. */
  migrate(component: string, files: readonly { readonly name: string; readonly text: string }[]): Promise<void>;
  execute(statement: Statement): Promise<void>;
}

/** The store that is moved to. */
export interface MoveTarget {
  nowMs(): Promise<number>;
  /** `undefined` when nothing has been moved here yet. Faults with `move.target-in-use` when the store is not empty and not of this move. */
  progress(): Promise<MoveProgress | undefined>;
  /**
   * The same, and from here on this is the one mover: what an earlier one (it sleeps, or somebody started the move again) asks of `begin`, `load`, `open`,
   * `abandon` or `whileMine` faults with `move.taken-over`, and once the store is open with `move.already-moved`.
   */
  take(): Promise<MoveProgress | undefined>;
  /** Runs `work` while nobody can take over or open the store. */
  whileMine(work: () => Promise<void>): Promise<void>;
  begin(progress: MoveProgress): Promise<void>;
  /** Puts rows as they are, and removes those that are gone, in one transaction with the progress. Doing it twice is doing it once. */
  load(rows: readonly Moved[], progress: MoveProgress): Promise<void>;
  page(part: MovePart, after: string | number | undefined, limit: number): Promise<MovePage>;
  count(part: MovePart, nowMs: number): Promise<number>;
  look(part: MovePart, ids: readonly (string | number)[]): Promise<readonly Moved[]>;
  /** From here on it is the store, in the next epoch. What `tables` does to the user's own tables happens in the same transaction; what it throws undoes all of it. */
  open(cut: Head, progress: MoveProgress, tables: (into: NewTables) => Promise<void>): Promise<void>;
  /** Removes what was moved; before the cut only. */
  abandon(): Promise<void>;
  close(): Promise<void>;
}
