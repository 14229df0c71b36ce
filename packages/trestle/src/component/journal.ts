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

export interface Journal {
  /** The journal's own record version, expected by the next write: two runs of one invocation cannot both go on. */
  version: number;
  readonly segments: Segment[];
}

export interface Segment {
  /** Wall time when the segment began: what `now()` says in it. */
  readonly atMs: number;
  /** When the invocation came into being: what ids minted in it carry. A job may have waited long before its first run. */
  readonly startedAtMs: number;
  /** Records as first read; `null` for absent. */
  readonly reads: Map<StoreKey, Uint8Array | null>;
  /** Versions of streams as first read. */
  readonly streams: Map<StoreKey, number>;
  /** Whatever else was learned, by identity: lists, rows, answers of queries. */
  readonly recalls: Map<string, unknown>;
  /** The recovery point that ended it. */
  call: CallIdentity | undefined;
  answer: Answer | undefined;
}

/** Which call it was: a step is known by operation and idempotency key, not by its position in the code. */
export interface CallIdentity {
  readonly operation: string;
  readonly key: string;
}
export type Answer = { readonly kind: "value"; readonly value: unknown } | { readonly kind: "fault"; readonly code: string; readonly message: string; readonly remedy: string };

const bytesMax = 524_288;

export function journalKey(invocation: string): StoreKey {
  return storeKey("~journal", undefined, invocation);
}

export function newSegment(atMs: number, startedAtMs: number): Segment {
  return { atMs, startedAtMs, reads: new Map(), streams: new Map(), recalls: new Map(), call: undefined, answer: undefined };
}

export function encodeJournal(segments: readonly Segment[], component: string): Uint8Array {
  const bytes = serialize(segments);
  if (bytes.byteLength > bytesMax) {
    throw Fault.create("journal.too-large", `a handler of ${component} read ${bytes.byteLength} bytes before its recovery points; the journal keeps at most ${bytesMax}`, "Read less before calling the outside, or split the work into two jobs.");
  }
  return bytes;
}

export function decodeJournal(value: Uint8Array, version: number): Journal {
  return { version, segments: deserialize(value) as Segment[] };
}
