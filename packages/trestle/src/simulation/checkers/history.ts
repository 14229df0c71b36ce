/**
 * A history: what processes asked of a system, when, and what they were told. Plain data, one JSON value an operation, so that a
 * simulation can write it down, a person can read it, and a checker can judge it again. All checkers of this folder read this one shape.
 *
 * An operation has one of three outcomes. `ok`: it took effect once, at some moment between its invocation and its answer. `failed`: it
 * certainly took no effect. `unknown`: nobody was told (a crash, a timeout, a cut connection); it takes effect once at any moment after its
 * invocation, however late, or never. Writing `failed` where one only gave up waiting makes every verdict worthless.
 */
import { Fault } from "../../kernel/index.ts";

export interface Operation<Call = unknown, Result = unknown> {
  /** Who asked. A process asks one thing after the other; after an `unknown` outcome it may go on. */
  readonly process: string | number;
  /** What it was asked of: a register, a queue, an account. Absent where there is only one. */
  readonly key?: string | number;
  readonly call: Call;
  /**
   * Moments are numbers on one scale for the whole history: milliseconds, or the place in the order of all events. An operation comes before
   * another one if it returned at a smaller moment than the other was invoked at; at the same moment they ran side by side.
   */
  readonly invokedAt: number;
  readonly outcome: "ok" | "failed" | "unknown";
  /** Absent when the outcome is unknown. */
  readonly returnedAt?: number;
  /** What the caller was told. Absent where the answer says nothing but that it is done. */
  readonly result?: Result;
}

export type History<Call = unknown, Result = unknown> = readonly Operation<Call, Result>[];

/** Gets the answer of one operation, once. Left alone, the outcome is `unknown`. */
export interface Answering<Result = unknown> {
  ok(result?: Result): void;
  failed(): void;
}

export interface HistoryRecorder<Call = unknown, Result = unknown> {
  invoke(process: string | number, call: Call, key?: string | number): Answering<Result>;
  /** What was recorded until now, in the order of invocation. What is still running has the outcome `unknown`. */
  history(): History<Call, Result>;
}

/** Writes a history down while it happens. `now` reads moments; without it they are the places in the order of events: 1, 2, 3. */
export function recordHistory<Call = unknown, Result = unknown>(options: { readonly now?: () => number } = {}): HistoryRecorder<Call, Result> {
  let events = 0;
  const now = options.now ?? (() => ++events);
  const operations: Operation<Call, Result>[] = [];
  return {
    invoke(process, call, key) {
      const asked = { process, ...(key !== undefined && { key }), call, invokedAt: now() };
      const at = operations.push({ ...asked, outcome: "unknown" }) - 1;
      const answer = (outcome: "ok" | "failed", result?: Result) => {
        if ((operations[at] as Operation).outcome !== "unknown") return;
        operations[at] = { ...asked, outcome, returnedAt: now(), ...(result !== undefined && { result }) };
      };
      return { ok: (result) => answer("ok", result), failed: () => answer("failed") };
    },
    history: () => operations.slice(),
  };
}

/** One line of JSON an operation. */
export function historyToJsonLines(history: History): string {
  return history.map((operation) => `${JSON.stringify(operation)}\n`).join("");
}

/** Reads what `historyToJsonLines` wrote; empty lines are left out. Fault `history.bad-line`, `history.bad-operation`. */
export function historyFromJsonLines<Call = unknown, Result = unknown>(text: string): History<Call, Result> {
  const operations: Operation<Call, Result>[] = [];
  text.split("\n").forEach((line, index) => {
    if (line.trim() === "") return;
    try {
      operations.push(JSON.parse(line) as Operation<Call, Result>);
    } catch (cause) {
      throw Fault.create("history.bad-line", `line ${index + 1} of the history is not JSON: ${line.slice(0, 100)}`, "Write one JSON value a line.", { cause });
    }
  });
  checkOperations(operations);
  return operations;
}

/** Every checker begins with this. Fault `history.bad-operation`. */
export function checkOperations(history: History): void {
  for (let at = 0; at < history.length; at++) {
    const operation = history[at] as Operation | null;
    const wrong = operation === null || typeof operation !== "object" ? "it is no object" : whatIsWrong(operation);
    if (wrong !== undefined)
      throw Fault.create(
        "history.bad-operation",
        `operation ${at} of the history: ${wrong}, got ${JSON.stringify(operation)?.slice(0, 200)}`,
        "Record operations with recordHistory, or see the shape of Operation.",
      );
  }
}

function whatIsWrong({ process, key, invokedAt, outcome, returnedAt }: Operation): string | undefined {
  if (typeof process !== "string" && typeof process !== "number") return "process must be a text or a number";
  if (key !== undefined && typeof key !== "string" && typeof key !== "number") return "key must be a text or a number";
  if (typeof invokedAt !== "number" || !Number.isFinite(invokedAt)) return "invokedAt must be a number";
  if (outcome === "unknown") return returnedAt === undefined ? undefined : "what has an unknown outcome has no returnedAt";
  if (outcome !== "ok" && outcome !== "failed") return 'outcome must be "ok", "failed" or "unknown"';
  if (typeof returnedAt !== "number" || !Number.isFinite(returnedAt) || returnedAt < invokedAt) return "returnedAt must be a number, at least invokedAt";
  return undefined;
}

/** When an operation was over; never, while nobody knows its outcome. */
export function endOf(operation: Operation): number {
  return operation.returnedAt ?? Infinity;
}

/** The places of what each process did, in its order. Fault `history.process-overlaps` when one did two things at once. */
export function byProcess(history: History, places: Iterable<number> = history.keys()): Map<string | number, number[]> {
  const processes = grouped(places, (at) => (history[at] as Operation).process);
  for (const own of processes.values()) {
    sortBy(own, (at) => (history[at] as Operation).invokedAt);
    for (let i = 1; i < own.length; i++) {
      const [before, after] = [history[own[i - 1] as number] as Operation, history[own[i] as number] as Operation];
      // At one moment the order of the list counts: on a virtual clock much happens within a millisecond.
      if (before.returnedAt !== undefined && before.returnedAt > after.invokedAt)
        throw Fault.create(
          "history.process-overlaps",
          `process ${before.process} asked for ${inWords(after)} before ${inWords(before)} had returned, so its own order is not known`,
          "Give each caller that runs beside another a process of its own.",
        );
    }
  }
  return processes;
}

/** Sorts in place; what is equal keeps its order. */
export function sortBy<T>(list: T[], by: (item: T) => number): T[] {
  return list.sort((a, b) => {
    const [x, y] = [by(a), by(b)];
    return x < y ? -1 : x > y ? 1 : 0; // a difference would be NaN between two Infinities
  });
}

export function grouped<T, K>(items: Iterable<T>, by: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = by(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

/** `process 3: x.cas(1, 2) = true [12 to 15]`. */
export function inWords(operation: Operation): string {
  const { process, key, call, outcome, result, invokedAt, returnedAt } = operation;
  const answer = outcome === "ok" ? (result === undefined ? "" : ` = ${json(result)}`) : outcome === "failed" ? ", which failed," : ", outcome unknown,";
  return `process ${process}: ${key === undefined ? "" : `${key}.`}${callInWords(call)}${answer} [${invokedAt} to ${returnedAt ?? "?"}]`;
}

function callInWords(call: unknown): string {
  if (typeof call !== "object" || call === null || !("kind" in call)) return json(call);
  const { kind, ...rest } = call;
  return `${String(kind)}(${Object.values(rest).map(json).join(", ")})`;
}

export function json(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 120 ? text : `${text.slice(0, 119)}…`;
}

/** What two values have in common exactly when they are the same as JSON; for maps. Primitives stand for themselves. */
export function identityOf(value: unknown): unknown {
  return typeof value === "object" && value !== null ? `\u0000${JSON.stringify(value)}` : value;
}

export function same(a: unknown, b: unknown): boolean {
  return a === b || (typeof a === "object" && a !== null && identityOf(a) === identityOf(b));
}
