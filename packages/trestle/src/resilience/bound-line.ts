/**
 * Time limits. Those of one length end in the order in which they began, so that a list is all it takes: beginning and ending one take constant time, and
 * there is one timer for all of them, which is set when there is none and looks at the list when it fires. A limit fires at its time, not before it and not at
 * the next tick of something: late only by what the clock's own timers are.
 *
 * A limit that ends at a moment of somebody else's choosing, such as the deadline of a request, stands in the line of the longest power of two that is not beyond it, and, if it is
 * still there then, in the one of what is left, down to a millisecond: any number of them need one timer for each power of two, and nearly all of them end in their first line.
 */
import { Linked, unlink, type Clock, type Link } from "../kernel/index.ts";

/** Who stands in a line. `unlink` ends it. */
export interface Bounded extends Link {
  /** When it has stood for the line's length. */
  dueMs: number;
  due(nowMs: number): void;
}

export class BoundLine {
  readonly ms: number;
  readonly #clock: Clock;
  readonly #head = new Linked();
  /** Whether there is a timer, or the list is being looked at. */
  #isWatched = false;

  constructor(ms: number, clock: Clock) {
    this.ms = ms;
    this.#clock = clock;
  }

  /** A limit of this line's length that begins now: who stands here is due by that. */
  begin(bounded: Bounded): void {
    this.#head.append(bounded);
    if (!this.#isWatched) this.#watch(this.ms);
  }

  #watch(inMs: number): void {
    this.#isWatched = true;
    this.#clock.after(inMs, this.#look);
  }

  readonly #look = (): void => {
    const nowMs = this.#clock.monotonicMs();
    try {
      // Whoever began within the same turn as another is due with it, whatever a fraction of a microsecond says.
      for (let first = this.#head.next; first !== this.#head && (first as Bounded).dueMs <= nowMs + soonMs; first = this.#head.next) {
        unlink(first);
        (first as Bounded).due(nowMs);
      }
    } finally {
      // Whatever one of them throws, the others are still to be told.
      if (this.#head.isAlone) this.#isWatched = false;
      else this.#watch(Math.max(0, (this.#head.next as Bounded).dueMs - nowMs));
    }
  };
}

/** What is due within this is due now. */
export const soonMs = 1e-3;

const lines = new WeakMap<Clock, BoundLine[]>();

/** A limit that ends in `leftMs`, which is above 0: the first line it stands in. When that is over it begins another one with what is left. Late by less than a millisecond. */
export function beginUntil(clock: Clock, bounded: Bounded, leftMs: number, nowMs: number): void {
  const powerOfTwo = leftMs < 2 ? 0 : Math.floor(Math.log2(leftMs));
  let of = lines.get(clock);
  if (!of) lines.set(clock, (of = []));
  bounded.dueMs = nowMs + 2 ** powerOfTwo;
  (of[powerOfTwo] ??= new BoundLine(2 ** powerOfTwo, clock)).begin(bounded);
}
