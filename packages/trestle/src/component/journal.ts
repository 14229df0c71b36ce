/**
 * The journal of one durable invocation: what its handler learned between recovery points, so that the handler can be run
 * again from its first line after a crash and find everything as it was. A handler that never talks to the outside has none.
 *
 * A segment ends at a recovery point. It is written in the commit that the recovery point makes; the answer of the call is
 * added with the next commit, or a moment later when none comes. `v8.serialize` keeps bytes, dates and maps as they are.
 */
import { deserialize, serialize } from "node:v8";
import { Fault } from "../kernel/index.ts";
import { storeKey, type StoreKey } from "../store/index.ts";
import { noEntries } from "./scarce.ts";

export interface Journal {
  /** The journal's own record version, expected by the next write: two runs of one invocation cannot both go on. */
  version: number;
  readonly segments: Segment[];
  /** Answers that came, and answers that went: how many changes there were, and how many of them a commit has written. */
  learned: number;
  saved: number;
}

export interface Segment {
  /** Wall time when the segment began: what `now()` says in it. */
  readonly atMs: number;
  /** When the invocation came into being: what ids minted in it carry. A job may have waited long before its first run. */
  readonly startedAtMs: number;
  /** Records as first read; `null` for absent. */
  reads: ReadonlyMap<StoreKey, Uint8Array | null>;
  /** Versions of streams as first read. */
  streams: ReadonlyMap<StoreKey, number>;
  /** Whatever else was learned, by identity: lists, rows, answers of queries. */
  recalls: ReadonlyMap<string, Answer>;
  /** The recovery point that ended it. */
  call: CallIdentity | undefined;
  answer: Answer | undefined;
  /** Whatever runs have tried, nothing came of it: never sent, or refused. Cleared before the call is made again, so where it is missing the call may have been made. */
  notMade?: boolean;
  /** Calls of earlier segments, by number, whose answers the handler had not got when this segment ended. */
  open: readonly number[];
}

/** Which call it was: a step is known by operation and idempotency key, not by its position in the code. */
export interface CallIdentity {
  readonly operation: string;
  readonly key: string;
}
export type Answer =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "fault"; readonly code: string; readonly message: string; readonly remedy: string; readonly details: Readonly<Record<string, unknown>> }
  /** Thrown by code that knows no faults. */
  | { readonly kind: "error"; readonly name: string; readonly message: string };

const bytesMax = 524_288;

export function journalKey(invocation: string): StoreKey {
  return storeKey("~journal", undefined, invocation);
}

export function newJournal(): Journal {
  return { version: 0, segments: [], learned: 0, saved: 0 };
}

export function newSegment(atMs: number, startedAtMs: number): Segment {
  return { atMs, startedAtMs, reads: noEntries, streams: noEntries, recalls: noEntries, call: undefined, answer: undefined, open: [] };
}

export function encodeJournal(segments: readonly Segment[], component: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = serialize(segments);
  } catch (cause) {
    for (const { recalls } of segments) for (const [what, answer] of recalls) if (!isStorable(answer)) throw notStorable(what, component, cause);
    throw cause;
  }
  if (bytes.byteLength > bytesMax) {
    throw Fault.create(
      "journal.too-large",
      `a handler of ${component} read ${bytes.byteLength} bytes before its recovery points; the journal keeps at most ${bytesMax}`,
      "Read less before calling the outside, or split the work into two jobs.",
    );
  }
  return bytes;
}

export function decodeJournal(value: Uint8Array, version: number): Journal {
  return { version, segments: deserialize(value) as Segment[], learned: 0, saved: 0 };
}

// ---- answers --------------------------------------------------------------------------------------------------------

/** A copy, as the journal would give it back: what a handler does to an answer must not change what its next run finds. */
export function copyOf<T>(value: T): T {
  return typeof value === "object" && value !== null ? (deserialize(serialize(value)) as T) : value;
}

/** The answer as the journal keeps it. Fault: `journal.not-storable`. */
export function valueAnswer(value: unknown, what: string, component: string): Answer {
  try {
    if (typeof value === "function" || typeof value === "symbol") throw new TypeError(`a ${typeof value}`);
    return { kind: "value", value: copyOf(value) };
  } catch (cause) {
    throw notStorable(what, component, cause);
  }
}

export function thrownAnswer(thrown: unknown): Answer {
  if (!Fault.is(thrown))
    return thrown instanceof Error ? { kind: "error", name: thrown.name, message: thrown.message } : { kind: "error", name: "Error", message: String(thrown) };
  const { code, message, remedy } = thrown;
  // Whatever of the details cannot be kept is for people: a cause, a response.
  const details = Object.fromEntries(Object.entries(thrown.details).filter(([, detail]) => isStorable(detail)));
  return { kind: "fault", code, message, remedy, details: copyOf(details) };
}

/** What a handler gets for it: the value, or what to throw. */
export function deliver(answer: Answer): { readonly value: unknown } | { readonly thrown: Error } {
  switch (answer.kind) {
    case "value":
      return { value: copyOf(answer.value) };
    case "fault":
      return { thrown: Fault.create(answer.code as `${string}.${string}`, answer.message, answer.remedy, { details: copyOf(answer.details) }) };
    case "error":
      return { thrown: Object.assign(new Error(answer.message), { name: answer.name }) };
  }
}

export function isStorable(value: unknown): boolean {
  try {
    serialize(value);
    return true;
  } catch {
    return false;
  }
}

function notStorable(what: string, component: string, cause: unknown): Fault {
  return Fault.create(
    "journal.not-storable",
    `${component} got an answer from ${what} that its journal cannot keep: ${cause instanceof Error ? cause.message : String(cause)}`,
    "Answer plain data: no functions, no open connections.",
    { cause },
  );
}
