/**
 * What a PostgreSQL is at one moment: rows with their versions, transactions, sessions.
 *
 * A *row* is one line of the table from its insertion to its removal, with its versions in order; a key that was removed and inserted again is two rows. A
 * version of a transaction that rolled back is gone. Time is counted in commits: a snapshot is the number of commits it sees.
 *
 * A transaction: `active` → `committed` | `rolled back`. A session: idle (no transaction) → in one → idle; after an error it is *failed* (its transaction is
 * rolled back, and all it may say is the end of it); while a statement waits, `running` says what for.
 */
import type { Answer, IsolationLevel, RowSeen, Statement } from "./step.ts";

export interface Version {
  readonly by: number;
  readonly value: number;
}
export interface Row {
  versions: readonly Version[];
  removedBy: number | undefined;
  /** `for update`, or a change that looked at it again and left it alone: PostgreSQL keeps that lock. */
  lockedBy: number | undefined;
}
export interface Transaction {
  readonly id: number;
  readonly session: string;
  readonly level: IsolationLevel;
  readonly asynchronous: boolean;
  status: "active" | "committed" | "rolled back";
  /** Of its first statement; READ COMMITTED takes one for each. */
  snapshot: number | undefined;
  /** The number of its commit, or how many there were when it rolled back. */
  endedAt: number | undefined;
  /** Keys it looked for, or the whole table. */
  reads: ReadonlySet<string> | "all";
  /** It changed something, or tried to. */
  writes: boolean;
}
export interface Session {
  transaction: number | undefined;
  failed: boolean;
  running: { readonly statement: Statement; readonly snapshot: number; waitsFor: number | undefined; /** Of all waits. */ since: number } | undefined;
}
export interface State {
  /** By key, in order of insertion. */
  rows: Map<string, Row[]>;
  /** By id. The first one wrote what was there from the beginning. */
  transactions: Transaction[];
  sessions: Map<string, Session>;
  /** How many transactions have committed. */
  commits: number;
  /** So many of them are on the disk for certain: asynchronous ones only when a synchronous one came after. */
  durable: number;
  /** So many of them a standby has, as far as is known: what it showed, it has. */
  onStandby: number;
  waits: number;
  /** What was answered since the last look. */
  answers: Map<string, Answer>;
}

export function initialState(rows: Readonly<Record<string, number>>): State {
  const first: Transaction = {
    id: 0,
    session: "",
    level: "read committed",
    asynchronous: false,
    status: "committed",
    snapshot: undefined,
    endedAt: 0,
    reads: new Set(),
    writes: true,
  };
  return {
    rows: new Map(Object.entries(rows).map(([key, value]) => [key, [{ versions: [{ by: 0, value }], removedBy: undefined, lockedBy: undefined }]])),
    transactions: [first],
    sessions: new Map(),
    commits: 0,
    durable: 0,
    onStandby: 0,
    waits: 0,
    answers: new Map(),
  };
}

export function copyOf(state: State): State {
  return {
    ...state,
    rows: new Map([...state.rows].map(([key, rows]) => [key, rows.map((row) => ({ ...row }))])),
    transactions: state.transactions.map((transaction) => ({ ...transaction })),
    sessions: new Map([...state.sessions].map(([name, session]) => [name, { ...session, running: session.running && { ...session.running } }])),
    answers: new Map(state.answers),
  };
}

/** Equal for states that differ in nothing a session could see. */
export function fingerprint(state: State): string {
  return JSON.stringify(
    [[...state.rows], state.transactions, [...state.sessions], state.durable, state.onStandby, [...state.answers].sort(([a], [b]) => (a < b ? -1 : 1))],
    (_key, value: unknown) => (value instanceof Set ? [...(value as Set<string>)].sort() : value),
  );
}

export const sessionOf = (state: State, name: string): Session => {
  const known = state.sessions.get(name);
  if (known) return known;
  const session: Session = { transaction: undefined, failed: false, running: undefined };
  state.sessions.set(name, session);
  return session;
};
export const transactionOf = (state: State, id: number): Transaction => state.transactions[id] as Transaction;
export const isActive = (state: State, id: number | undefined): id is number => id !== undefined && transactionOf(state, id).status === "active";

/** Was it committed when this snapshot was taken? */
export function isSeen(state: State, by: number | undefined, snapshot: number): boolean {
  if (by === undefined) return false;
  const { status, endedAt } = transactionOf(state, by);
  return status === "committed" && (endedAt as number) <= snapshot;
}

/** The version that this transaction sees: its own, else the newest one of its snapshot. */
export function visibleVersion(state: State, row: Row, own: number, snapshot: number): Version | undefined {
  if (row.removedBy === own || isSeen(state, row.removedBy, snapshot)) return undefined;
  return row.versions.findLast(({ by }) => by === own || isSeen(state, by, snapshot));
}

export function visibleRows(state: State, keys: Iterable<string>, own: number, snapshot: number): RowSeen[] {
  const seen: RowSeen[] = [];
  for (const key of keys)
    for (const row of state.rows.get(key) ?? []) {
      const version = visibleVersion(state, row, own, snapshot);
      if (version) seen.push([key, version.value]);
    }
  return seen;
}

export const newestVersion = (row: Row): Version => row.versions.at(-1) as Version;

/** Whose outcome decides about this row: who changed, removed or locked it and has not ended. There is one at most. */
export function holderOf(state: State, row: Row): number | undefined {
  return [row.removedBy, newestVersion(row).by, row.lockedBy].find((id) => isActive(state, id));
}

/** Ends it: its locks are free, and without a commit its versions are gone. */
export function endTransaction(state: State, transaction: Transaction, status: "committed" | "rolled back"): void {
  transaction.status = status;
  if (status === "committed") {
    transaction.endedAt = ++state.commits;
    if (!transaction.asynchronous) state.durable = state.commits;
  } else {
    transaction.endedAt = state.commits;
    undo(state, transaction.id);
  }
  for (const rows of state.rows.values()) for (const row of rows) if (row.lockedBy === transaction.id) row.lockedBy = undefined;
}

/** As if it had never written. */
export function undo(state: State, id: number): void {
  for (const [key, rows] of state.rows) {
    for (const row of rows) {
      row.versions = row.versions.filter(({ by }) => by !== id);
      if (row.removedBy === id) row.removedBy = undefined;
    }
    state.rows.set(
      key,
      rows.filter(({ versions }) => versions.length > 0),
    );
  }
}
