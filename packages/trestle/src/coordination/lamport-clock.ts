/**
 * A Lamport clock: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978. If one event happened before another one, its number is
 * smaller. Not the other way round: of two numbers nothing follows but that the larger one's event did not happen before the other's.
 */
import { Fault } from "../kernel/index.ts";

export interface LamportClock {
  /** The number of an event that happens here now: of a send, it travels with the message. Larger than all before. */
  now(): number;
  /** The number of the receipt of a message that carries `sent`. Larger than that, and than all before. Fault `lamport-clock.bad-stamp`. */
  receive(sent: number): number;
}

/** `after` is the last number that was handed out here before a restart. Default 0. */
export function lamportClock({ after = 0 }: { readonly after?: number } = {}): LamportClock {
  let last = checked(after);
  return {
    now: () => (last = checked(last) + 1),
    receive: (sent) => (last = Math.max(checked(last), checked(sent)) + 1),
  };
}

/** Up to the last number that has a next one. One beyond it would make every clock that hears of it stand still. */
function checked(stamp: number): number {
  if (Number.isInteger(stamp) && stamp >= 0 && stamp < Number.MAX_SAFE_INTEGER) return stamp;
  throw Fault.create(
    "lamport-clock.bad-stamp",
    `a stamp must be an integer from 0 to ${Number.MAX_SAFE_INTEGER - 1}, got ${stamp}`,
    "Refuse the message: its sender is no Lamport clock.",
  );
}
