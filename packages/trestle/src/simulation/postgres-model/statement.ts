/**
 * One statement, tried: it answers, or waits for the end of another transaction and is tried again then, with the snapshot it began with.
 *
 * PostgreSQL 18, "Transaction Isolation" (13.2) and "Index Uniqueness Checks" (63.5):
 *
 * - A read never waits.
 * - A change finds its rows by its snapshot. Then it waits for whoever holds them. If they were changed meanwhile, REPEATABLE READ and SERIALIZABLE fail
 *   (first updater wins); READ COMMITTED takes the newest version, keeps it locked, and looks at its condition once more (EvalPlanQual). What is found by
 *   the newest version alone is not found.
 * - `for update` that waited for a change goes on to the newest version, and waits for whoever has that, before it says that it fails.
 * - An insert looks at the key as it is, whatever its snapshot: it waits for whoever is about to insert, change or remove it.
 */
import { holderOf, isActive, isSeen, newestVersion, transactionOf, visibleRows, visibleVersion, type Row, type State, type Transaction } from "./state.ts";
import { inOrder, sqlStates, type Answer, type RowSeen, type Statement } from "./step.ts";

export type Attempt = { readonly kind: "answers"; readonly answer: Answer } | { readonly kind: "waits"; readonly waitsFor: number };

export interface Trial {
  readonly statement: Statement;
  readonly snapshot: number;
  /** It was tried before. */
  readonly hasWaited: boolean;
}

/** Changes the state when it answers; an error is for the caller to carry out. */
export function attempt(state: State, transaction: Transaction, { statement, snapshot, hasWaited }: Trial): Attempt {
  switch (statement.kind) {
    case "read":
      return found(visibleRows(state, [statement.key], transaction.id, snapshot));
    case "scan":
      return found(visibleRows(state, state.rows.keys(), transaction.id, snapshot));
    case "insert":
      return insert(state, transaction, statement);
    case "lock":
    case "set":
    case "add":
    case "remove":
      return change(state, transaction, { statement, snapshot, hasWaited });
  }
}

/** What it looks for and whether it writes: what serializable transactions are judged by. */
export function noteStatement(transaction: Transaction, statement: Statement): void {
  if (statement.kind === "scan") transaction.reads = "all";
  // An insert looks at its key as it is, and the order of writes says so.
  else if (statement.kind !== "insert" && transaction.reads !== "all") transaction.reads = new Set([...transaction.reads, statement.key]);
  if (statement.kind !== "read" && statement.kind !== "scan" && statement.kind !== "lock") transaction.writes = true;
}

const found = (rows: readonly RowSeen[]): Attempt => ({ kind: "answers", answer: { kind: "rows", rows: inOrder(rows) } });
const fails = (code: string): Attempt => ({ kind: "answers", answer: { kind: "error", code } });

type Change = Extract<Statement, { readonly kind: "lock" | "set" | "add" | "remove" }>;

function change(state: State, transaction: Transaction, { statement, snapshot, hasWaited }: Trial & { readonly statement: Change }): Attempt {
  const own = transaction.id;
  const changed: RowSeen[] = [];
  for (const row of state.rows.get(statement.key) ?? []) {
    const seen = visibleVersion(state, row, own, snapshot);
    if (!seen || !meets(statement, seen.value)) continue;
    const isStale = changedSince(state, row, snapshot, own);
    const holder = holderOf(state, row);
    const isHeld = holder !== undefined && holder !== own;
    if (isStale && transaction.level !== "read committed" && !(isHeld && hasWaited && statement.kind === "lock")) return fails(sqlStates.serializationFailure);
    if (isHeld) return { kind: "waits", waitsFor: holder };
    if (isStale) {
      if (row.removedBy !== undefined) continue;
      row.lockedBy = own; // also where it is left alone
      if (!meets(statement, newestVersion(row).value)) continue;
    }
    changed.push([statement.key, apply(row, own, statement)]);
  }
  return found(changed);
}

function meets(statement: Change, value: number): boolean {
  return !("onlyIf" in statement) || statement.onlyIf === undefined || statement.onlyIf === value;
}

/** By somebody else, who has committed. */
function changedSince(state: State, row: Row, snapshot: number, own: number): boolean {
  const isLater = (by: number | undefined) => by !== undefined && by !== own && transactionOf(state, by).status === "committed" && !isSeen(state, by, snapshot);
  return isLater(row.removedBy) || row.versions.some(({ by }) => isLater(by));
}

/** Answers the value that the statement returns. */
function apply(row: Row, own: number, statement: Change): number {
  const { value } = newestVersion(row);
  const write = (next: number): number => {
    row.versions = [...row.versions, { by: own, value: next }];
    return next;
  };
  switch (statement.kind) {
    case "lock":
      row.lockedBy = own;
      return value;
    case "set":
      return write(statement.value);
    case "add":
      return write(value + statement.amount);
    case "remove":
      row.removedBy = own;
      return value;
  }
}

function insert(state: State, { id: own }: Transaction, { key, value }: Extract<Statement, { readonly kind: "insert" }>): Attempt {
  const rows = state.rows.get(key) ?? [];
  for (const row of rows) {
    const writer = [row.removedBy, newestVersion(row).by].find((id) => isActive(state, id)); // one that only locks it changes nothing
    if (writer !== undefined && writer !== own) return { kind: "waits", waitsFor: writer };
    if (row.removedBy === undefined) return fails(sqlStates.uniqueViolation);
  }
  state.rows.set(key, [...rows, { versions: [{ by: own, value }], removedBy: undefined, lockedBy: undefined }]);
  return found([[key, value]]);
}
