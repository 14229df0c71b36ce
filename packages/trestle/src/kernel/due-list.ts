/**
 * What is due so long after it began, such as time limits: a list, because of one length they end in the order in which they began. Beginning and ending one take constant time
 * and allocate nothing, and there is one timer for all of them, which is set when there is none and looks at the list when it fires. So each is due at its time, not before
 * it and not at the next tick of something: late only by what the clock's own timers are, and one turn of the loop. (On a timing wheel, which takes any delays, each one is an object and late by a grain.)
 *
 * What is due at a moment of somebody else's choosing, such as the deadline of a request, stands in the list of the longest power of two that is not beyond it, and, if it is
 * still there then, in the one of what is left, down to a millisecond: any number of them need one timer for each power of two, and nearly all of them end in their first list.
 */
import type { Clock } from "./clock.ts";
import { emptyContext, inContext } from "./context.ts";
import { Linked, unlink, type Link } from "./linked.ts";

/** An entry of a list. `unlink` ends it. */
export interface Due extends Link {
  dueMs: number;
  /** Called when its time is over and it is in no list any more. What it throws is thrown from the timer, after which the others are told. */
  due(nowMs: number): void;
}

export class DueList {
  readonly ms: number;
  readonly #clock: Clock;
  readonly #head = new Linked();
  /** Whether there is a timer, or the list is being looked at. */
  #isWatched = false;

  constructor(ms: number, clock: Clock) {
    this.ms = ms;
    this.#clock = clock;
  }

  /** `entry`, which is in no list, is due by its `dueMs`: the list's length from now or later, and not before those that began before it. */
  begin(entry: Due): void {
    this.#head.append(entry);
    if (!this.#isWatched) this.#watch(this.ms);
  }

  /** The timer is everybody's, and of nobody's context. */
  #watch(inMs: number): void {
    this.#isWatched = true;
    // Timers come before what has arrived: an answer that was there when its time was over, as after a standstill of the process, is read before it is called late.
    inContext(emptyContext, () => this.#clock.after(inMs, () => this.#clock.soon(this.#look)));
  }

  readonly #look = (): void => {
    const head = this.#head;
    const nowMs = this.#clock.monotonicMs();
    try {
      // Whoever began within the same turn as another is due with it, whatever a fraction of a microsecond says.
      for (let first = head.next; first !== head && (first as Due).dueMs <= nowMs + soonMs; first = head.next) {
        unlink(first);
        (first as Due).due(nowMs);
      }
    } finally {
      // Whatever one of them throws, the others are still to be told.
      if (head.next === head) this.#isWatched = false;
      else this.#watch(Math.max(0, (head.next as Due).dueMs - nowMs));
    }
  };
}

/** What is due within this is due now. */
export const soonMs = 1e-3;

const lists = new WeakMap<Clock, DueList[]>();

/** `entry` is due in `leftMs`, which is above 0: the first list it stands in. When that is over it begins another one with what is left. Late by less than a millisecond. */
export function beginUntil(clock: Clock, entry: Due, leftMs: number, nowMs: number): void {
  const powerOfTwo = Math.max(0, Math.floor(Math.log2(leftMs)));
  let of = lists.get(clock);
  if (!of) lists.set(clock, (of = []));
  entry.dueMs = nowMs + 2 ** powerOfTwo;
  (of[powerOfTwo] ??= new DueList(2 ** powerOfTwo, clock)).begin(entry);
}
