/**
 * SERIALIZABLE, as a promise and as a licence. The promise: what serializable transactions that committed have read and written is what some order of them,
 * one after the other, would have read and written. The licence: PostgreSQL may refuse more than that. It looks for the *dangerous structure* (Cahill,
 * Röhm and Fekete, "Serializable Isolation for Snapshot Databases", SIGMOD 2008; Ports and Grittner, "Serializable Snapshot Isolation in PostgreSQL", VLDB 2012):
 * one transaction that overwrote what a second has read while a third did the same to it, of which the third has committed. What was read is known
 * to PostgreSQL by page or table, so here whoever read anything may have read what whoever wrote anything has written.
 */
import { isSeen, transactionOf, type Row, type State, type Transaction } from "./state.ts";

/** Would its commit leave no order of the serializable transactions that have committed? */
export function breaksOrder(state: State, committing: Transaction): boolean {
  const judged = new Map<number, Set<number>>();
  for (const { id, level, status } of state.transactions)
    if (level === "serializable" && (status === "committed" || id === committing.id)) judged.set(id, new Set());
  const before = (first: number | undefined, second: number | undefined): void => {
    if (first !== second && second !== undefined && judged.has(second)) judged.get(first as number)?.add(second);
  };
  for (const [key, rows] of state.rows) {
    const writers = rows.flatMap(writersOf);
    writers.forEach((writer, at) => before(writer, writers[at + 1]));
    for (const reader of judged.keys()) {
      const { reads, snapshot } = transactionOf(state, reader);
      if (snapshot === undefined || (reads !== "all" && !reads.has(key))) continue;
      // Writers are in the order of the key's history, so what a snapshot sees of them is their beginning.
      const seen = writers.findLastIndex((writer) => isSeen(state, writer, snapshot));
      before(writers[seen], reader);
      before(reader, writers[seen + 1]);
    }
  }
  const visited = new Set<number>();
  const leadsBack = (from: number): boolean => {
    for (const next of judged.get(from) ?? []) {
      if (next === committing.id) return true;
      if (visited.has(next)) continue;
      visited.add(next);
      if (leadsBack(next)) return true;
    }
    return false;
  };
  return leadsBack(committing.id);
}

function writersOf(row: Row): number[] {
  const writers = row.versions.map(({ by }) => by);
  return row.removedBy === undefined ? writers : [...writers, row.removedBy];
}

/** May PostgreSQL refuse it now? */
export function mayBeRefused(state: State, transaction: Transaction): boolean {
  const serializable = state.transactions.filter(({ level, snapshot }) => level === "serializable" && snapshot !== undefined);
  const overwritten = (reader: Transaction, writer: Transaction): boolean =>
    reader.id !== writer.id && hasRead(reader) && writer.writes && areConcurrent(reader, writer);
  return serializable.some((second) =>
    serializable.some(
      (third) =>
        third.status === "committed" &&
        overwritten(second, third) &&
        serializable.some((first) => (first.id === transaction.id || second.id === transaction.id) && overwritten(first, second)),
    ),
  );
}

const hasRead = ({ reads }: Transaction): boolean => reads === "all" || reads.size > 0;

/** Neither began after the other had ended. */
function areConcurrent(a: Transaction, b: Transaction): boolean {
  const endedBefore = (one: Transaction, other: Transaction) => one.status === "committed" && (one.endedAt as number) <= (other.snapshot as number);
  return !endedBefore(a, b) && !endedBefore(b, a);
}
