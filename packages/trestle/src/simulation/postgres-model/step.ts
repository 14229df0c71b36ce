/** What a session of PostgreSQL is asked, and what it answers, over one table of keys and whole numbers: `rows (key text primary key, value int)`. */

export type IsolationLevel = "read committed" | "repeatable read" | "serializable";

export type Statement =
  | { readonly kind: "read"; readonly key: string }
  /** Every row. */
  | { readonly kind: "scan" }
  /** `select … for update`. */
  | { readonly kind: "lock"; readonly key: string }
  | { readonly kind: "insert"; readonly key: string; readonly value: number }
  /** Only where the row has this value, with `onlyIf`: what READ COMMITTED judges again after a wait. */
  | { readonly kind: "set"; readonly key: string; readonly value: number; readonly onlyIf?: number }
  | { readonly kind: "add"; readonly key: string; readonly amount: number }
  | { readonly kind: "remove"; readonly key: string; readonly onlyIf?: number };

export type Step =
  /** `asynchronous`: its commit does not wait for the disk (`synchronous_commit = off`). */
  | { readonly kind: "begin"; readonly level: IsolationLevel; readonly asynchronous?: boolean }
  | Statement
  | { readonly kind: "commit" }
  | { readonly kind: "rollback" };

export type RowSeen = readonly [key: string, value: number];

export type Answer =
  /** Of a read what it found, of a change what it made of the rows it found; in order of key, then value. */
  | { readonly kind: "rows"; readonly rows: readonly RowSeen[] }
  | { readonly kind: "begun" | "committed" | "rolled back" }
  /** SQLSTATE. */
  | { readonly kind: "error"; readonly code: string };

export const sqlStates = {
  serializationFailure: "40001",
  deadlock: "40P01",
  uniqueViolation: "23505",
  inFailedTransaction: "25P02",
} as const;

export function inOrder(rows: readonly RowSeen[]): readonly RowSeen[] {
  return [...rows].sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x - y));
}

export function describeStep(step: Step): string {
  switch (step.kind) {
    case "begin":
      return `begin ${step.level}${step.asynchronous ? ", asynchronous" : ""}`;
    case "read":
    case "lock":
      return `${step.kind} ${step.key}`;
    case "insert":
      return `insert ${step.key} = ${step.value}`;
    case "set":
      return `set ${step.key} = ${step.value}${step.onlyIf === undefined ? "" : ` where it is ${step.onlyIf}`}`;
    case "add":
      return `add ${step.amount} to ${step.key}`;
    case "remove":
      return `remove ${step.key}${step.onlyIf === undefined ? "" : ` where it is ${step.onlyIf}`}`;
    case "scan":
    case "commit":
    case "rollback":
      return step.kind;
  }
}

export function describeAnswer(answer: Answer): string {
  if (answer.kind === "error") return `error ${answer.code}`;
  if (answer.kind === "rows") return answer.rows.length === 0 ? "no row" : answer.rows.map(([key, value]) => `${key}=${value}`).join(" ");
  return answer.kind;
}
