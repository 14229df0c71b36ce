/**
 * In which order those of one priority wait: the first come first, the last come first, or the earliest deadline first. `fair` has a file of its own.
 *
 * An order holds places and answers which one is next. It does not know who is told what: places that have waited too long (StandingDelay) it
 * takes out and puts into `gone`, which the line looks at when it has done what it is about.
 */
import { isAlone, Linked, unlink } from "../kernel/index.ts";
import { StandingDelay } from "./standing-delay.ts";
import type { DelayBounds } from "./standing-delay.ts";

/** Who waits. A `Caller` of a gate is one. */
export interface Waiter {
  readonly key: string;
  readonly priority: "high" | "normal" | "low";
  /** Of the monotonic clock; `Infinity` without one. */
  readonly untilMs: number;
  readonly cost: number;
  /** The line's: its place while it waits, a `Refusal` once it was declined. */
  place: unknown;
  /** It has waited in vain. */
  declined(nowMs: number): void;
}

/** Where somebody stands: an entry of a list, or of a heap. */
export class Place extends Linked {
  readonly waiter: Waiter;
  readonly sinceMs: number;
  /** Whether it still waits. */
  waits = true;
  /** Where it is in the heap of `deadline`. */
  at = -1;
  /** Its queue, of `fair`. */
  queue: unknown;

  constructor(waiter: Waiter, sinceMs: number) {
    super();
    this.waiter = waiter;
    this.sinceMs = sinceMs;
  }
}

export interface LineOrder {
  /** Somebody comes: those who have waited too long where it would stand go. Where nobody is served, those who come are who finds that the line stands. */
  sweep(waiter: Waiter, nowMs: number): void;
  add(place: Place, nowMs: number): void;
  remove(place: Place, nowMs: number): void;
  /** Takes out the one whose turn it is. */
  next(nowMs: number): Place | undefined;
  /** The one whom a more urgent caller displaces. */
  last(): Place | undefined;
  /** The one whom a caller of the same priority displaces; `undefined`: nobody, the line is full for it. */
  displacedBy(waiter: Waiter): Place | undefined;
  /** An operation has ended whose caller had waited here: `units` is what it took, where 1 is the average of one unit of cost. Without it nobody owes anything. */
  charge?(place: Place, units: number, nowMs: number): void;
}

/** Source of delay bounds; `undefined`: nobody waits too long. They move with how long operations take. */
export type Bounds = () => DelayBounds | undefined;

/** One list: served from its head (`fifo`) or from its end (`lifo`). Its head is the oldest in both. */
export class ListOrder implements LineOrder {
  readonly #list = new Linked();
  readonly #delay = new StandingDelay();
  readonly #newestFirst: boolean;
  readonly #bounds: Bounds;
  readonly #gone: Place[];

  constructor(newestFirst: boolean, bounds: Bounds, gone: Place[]) {
    this.#newestFirst = newestFirst;
    this.#bounds = bounds;
    this.#gone = gone;
  }

  sweep(_waiter: Waiter | undefined, nowMs: number, serving = false): void {
    sweep(() => oldestOf(this.#list), unlink, this.#gone, this.#delay, this.#bounds(), serving, nowMs);
  }

  add(place: Place): void {
    this.#list.append(place);
  }

  remove(place: Place): void {
    unlink(place);
  }

  next(nowMs: number): Place | undefined {
    this.sweep(undefined, nowMs, true);
    const next = this.#newestFirst ? this.#list.previous : this.#list.next;
    if (next === this.#list) return undefined;
    unlink(next);
    return next as Place;
  }

  last(): Place | undefined {
    const last = this.#newestFirst ? this.#list.next : this.#list.previous;
    return last === this.#list ? undefined : (last as Place);
  }

  displacedBy(): Place | undefined {
    return this.#newestFirst ? this.last() : undefined;
  }
}

/** The old end of a list. */
export const oldestOf = (list: Linked): Place | undefined => (isAlone(list) ? undefined : (list.next as Place));

/** Takes those out of the old end who have waited too long. Each is looked at once, whoever looks. */
export function sweep(
  oldest: () => Place | undefined,
  takeOut: (place: Place) => void,
  gone: Place[],
  delay: StandingDelay,
  bounds: DelayBounds | undefined,
  serving: boolean,
  nowMs: number,
): void {
  if (!bounds) return;
  for (;;) {
    const first = oldest();
    const waitedMs = first ? nowMs - first.sinceMs : 0;
    if (serving) delay.served(waitedMs, nowMs, bounds);
    else delay.seen(waitedMs, nowMs, bounds);
    if (!first || !delay.tooLong(waitedMs, nowMs, bounds)) return;
    takeOut(first);
    gone.push(first);
  }
}

/** The earliest deadline first; of equal ones the first come. A binary heap in which each entry knows where it is, so that one who leaves costs O(log n). */
export class DeadlineOrder implements LineOrder {
  readonly #heap: Place[] = [];
  readonly #delay = new StandingDelay();
  readonly #bounds: Bounds;
  readonly #gone: Place[];

  constructor(bounds: Bounds, gone: Place[]) {
    this.#bounds = bounds;
    this.#gone = gone;
  }

  add(place: Place): void {
    this.#heap.push(place);
    this.#up(place, this.#heap.length - 1);
  }

  remove(place: Place): void {
    const { at } = place;
    const moved = this.#heap.pop() as Place;
    place.at = -1;
    if (moved === place) return;
    this.#up(moved, at);
    this.#down(moved, moved.at);
  }

  /** The most urgent one stands for the old end: it is not always the oldest. */
  sweep(_waiter: Waiter | undefined, nowMs: number, serving = false): void {
    sweep(
      () => this.#heap[0],
      (place) => this.remove(place),
      this.#gone,
      this.#delay,
      this.#bounds(),
      serving,
      nowMs,
    );
  }

  next(nowMs: number): Place | undefined {
    this.sweep(undefined, nowMs, true);
    const first = this.#heap[0];
    if (first) this.remove(first);
    return first;
  }

  /** One without a more urgent one behind it: a leaf. The least urgent of all would cost a look at half of them. */
  last(): Place | undefined {
    return this.#heap.at(-1);
  }

  displacedBy(waiter: Waiter): Place | undefined {
    const last = this.last();
    return last && last.waiter.untilMs > waiter.untilMs ? last : undefined;
  }

  #up(place: Place, from: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = this.#heap[parent] as Place;
      if (!before(place, above)) break;
      this.#put(above, at);
      at = parent;
    }
    this.#put(place, at);
  }

  #down(place: Place, from: number): void {
    const heap = this.#heap;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Place, heap[child] as Place)) child++;
      if (!before(heap[child] as Place, place)) break;
      this.#put(heap[child] as Place, at);
      at = child;
    }
    this.#put(place, at);
  }

  #put(place: Place, at: number): void {
    this.#heap[at] = place;
    place.at = at;
  }
}

const before = (a: Place, b: Place): boolean => a.waiter.untilMs < b.waiter.untilMs || (a.waiter.untilMs === b.waiter.untilMs && a.sinceMs < b.sinceMs);
