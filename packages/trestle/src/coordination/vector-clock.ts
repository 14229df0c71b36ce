/**
 * Vector clocks: C. Fidge, "Timestamps in Message-Passing Systems That Preserve the Partial Ordering", 1988; F. Mattern, "Virtual Time and Global States of Distributed Systems",
 * 1989. A stamp counts, for each process, its events that happened before. One event happened before another one exactly when its stamp is smaller. The
 * price is a number for each process that ever took part, in every stamp.
 */
import { Fault } from "../kernel/index.ts";

/** By process, how many of its events; what is not there counts 0. */
export type VectorStamp = Readonly<Record<string, number>>;

export interface VectorClock {
  /** The stamp of an event that happens here now: of a send, it travels with the message. */
  now(): VectorStamp;
  /** The stamp of the receipt of a message that carries `sent`. Fault `vector-clock.bad-stamp`. */
  receive(sent: VectorStamp): VectorStamp;
}

/** `process` is the name of this one, unlike all others'. `after` is its last stamp before a restart. Default: none. */
export function vectorClock(process: string, { after = {} }: { readonly after?: VectorStamp } = {}): VectorClock {
  let last = checked(after);
  const step = (stamp: VectorStamp) => (last = Object.freeze({ ...stamp, [process]: countOf(stamp, process) + 1 }));
  return { now: () => step(last), receive: (sent) => step(mergeVectors(last, checked(sent))) };
}

/** How the events of two stamps stand to each other. */
export function compareVectors(one: VectorStamp, other: VectorStamp): "before" | "after" | "equal" | "concurrent" {
  const isSmaller = Object.keys(other).some((process) => countOf(one, process) < countOf(other, process));
  const isLarger = Object.keys(one).some((process) => countOf(one, process) > countOf(other, process));
  return isSmaller ? (isLarger ? "concurrent" : "before") : isLarger ? "after" : "equal";
}

/** The smallest stamp that is after or equal to both. */
export function mergeVectors(one: VectorStamp, other: VectorStamp): VectorStamp {
  const processes = new Set([...Object.keys(one), ...Object.keys(other)]);
  return Object.fromEntries([...processes].map((process) => [process, Math.max(countOf(one, process), countOf(other, process))]));
}

function countOf(stamp: VectorStamp, process: string): number {
  return Object.hasOwn(stamp, process) ? (stamp[process] as number) : 0; // a process may be called `constructor`
}

function checked(stamp: VectorStamp): VectorStamp {
  const isRight =
    typeof stamp === "object" &&
    stamp !== null &&
    Object.values(stamp).every((count) => Number.isInteger(count) && count >= 0 && count < Number.MAX_SAFE_INTEGER);
  if (isRight) return stamp;
  throw Fault.create(
    "vector-clock.bad-stamp",
    `a stamp must have an integer from 0 to ${Number.MAX_SAFE_INTEGER - 1} for each process, got ${JSON.stringify(stamp)?.slice(0, 200)}`,
    "Refuse the message: its sender is no vector clock.",
  );
}
