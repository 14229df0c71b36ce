/**
 * The waiting line: what stands before everything of which there is not enough, such as places in a bulkhead or connections of a pool. It is bounded, it serves in the order that was chosen, and it
 * never serves somebody who has left, or whose deadline is over or will be before an average operation could end.
 *
 * - *Priority* comes before order: high before normal before low. So that nobody starves, a class that has waited while 32 of more urgent ones were served is served
 *   once: under any load of the others it gets 1 place in 33.
 * - *Full* means that somebody has to go, not that it is the newcomer. A less urgent one goes first (the last of its order); then, in `fair`, the last of the longest queue, in `lifo` the oldest,
 *   in `deadline` one with more time; otherwise the newcomer. Between `from` and `most` waiting somebody has to go with a probability that rises from 0 to 1
 *   (RED, Floyd and Jacobson, 1993): those who come see the line grow before it is full.
 * - *Waited too long*: see standing-delay.ts. Unless said otherwise the target is 5 ms, or what one operation takes where that is longer, and the interval 20 times the target: a line of operations of 100 ms
 *   moves once in 100 ms, and would stand by CoDel's 5 ms at nine tenths of its capacity.
 * - Entering, leaving and being served take constant time, whatever the number of those who wait, but for `deadline`: O(log n). There is no timer: whoever has a deadline takes itself out
 *   (`remove`) when it is over; if its turn comes first, it is passed over.
 *
 * Nobody is told anything while the line is in the middle of something: those who are declined hear of it when it is done, and may come again at once.
 */
import type { Random } from "../kernel/index.ts";
import { FairOrder } from "./fair-order.ts";
import { DeadlineOrder, ListOrder, Place } from "./line-order.ts";
import type { LineOrder, Waiter } from "./line-order.ts";
import type { DelayBounds } from "./standing-delay.ts";

/** Why somebody was declined. */
export type Refusal =
  /** As many wait as may. */
  | "full"
  /** So many wait that some of those who come are turned away. */
  | "early"
  /** Its place was needed for a more urgent one. */
  | "displaced"
  /** Its place was needed for a key with fewer waiting. */
  | "share"
  /** It waited too long in a line that stands. */
  | "waited"
  /** It had less time left than a call takes: when it came, none; when its turn came, less than the average. */
  | "late";

export type Order = "fifo" | "lifo" | "fair" | "deadline";
const classes = ["high", "normal", "low"] as const;
/** How many of more urgent classes are served before one that waits has its turn. */
const patience = 32;

export interface LineOptions {
  readonly order: Order;
  readonly random: Random;
  /** Default: nobody waits too long. A bound that is not given follows the operations. */
  readonly codel?: Partial<DelayBounds> | undefined;
}

export class WaitingLine<W extends Waiter> {
  /** How many wait. */
  size = 0;
  /** How many were passed over because their deadline was over before their turn came. */
  passedOver = 0;
  /** How many were declined, when they came or later, by reason. */
  readonly refusals: Record<Refusal, number> = { full: 0, early: 0, displaced: 0, share: 0, waited: 0, late: 0 };
  /** Above this somebody may have to go. */
  from = 0;
  /** At this somebody has to go. */
  most = 0;
  readonly #orders: readonly LineOrder[];
  readonly #sizes = [0, 0, 0];
  /** How many of more urgent classes were served while this one waited. */
  readonly #passed = [0, 0, 0];
  readonly #random: Random;
  readonly #given: Partial<DelayBounds> | undefined;
  #bounds: DelayBounds | undefined;
  /** Taken out, and not told yet. */
  readonly #gone: Place[] = [];
  /** How many of them are counted as gone. */
  #counted = 0;
  #msPerUnit = 0;

  constructor(options: LineOptions) {
    this.#random = options.random;
    this.#given = options.codel;
    this.paced(0);
    const bounds = () => this.#bounds;
    this.#orders = classes.map(() => {
      if (options.order === "fair") return new FairOrder(options.random, bounds, () => Math.max(this.#msPerUnit, 1e-3), this.#gone);
      if (options.order === "deadline") return new DeadlineOrder(bounds, this.#gone);
      return new ListOrder(options.order === "lifo", bounds, this.#gone);
    });
  }

  sizeOf(priority: Waiter["priority"]): number {
    return this.#sizes[classOf(priority)] as number;
  }

  /** How long an operation of cost 1 takes on average: bounds that were not given follow it, and what keys owe is forgiven by it. */
  paced(msPerUnit: number): void {
    this.#msPerUnit = msPerUnit;
    if (!this.#given) return;
    const targetMs = this.#given.targetMs ?? Math.max(5, msPerUnit);
    this.#bounds = { targetMs, intervalMs: this.#given.intervalMs ?? 20 * targetMs };
  }

  /** Puts it into the line, or answers why not. Others may be declined for it before this returns. */
  push(waiter: W, nowMs: number): Refusal | undefined {
    const refusal = this.#refusal(waiter, nowMs);
    if (refusal) {
      waiter.place = refusal;
      this.refusals[refusal]++;
    } else {
      const place = new Place(waiter, nowMs);
      waiter.place = place;
      const of = classOf(waiter.priority);
      if (this.#sizes[of] === 0) this.#passed[of] = 0;
      (this.#orders[of] as LineOrder).add(place, nowMs);
      this.#count(of, 1);
    }
    this.#tell(nowMs);
    return refusal;
  }

  /** Takes out the one whose turn it is. Others may be declined before this returns. */
  take(nowMs: number): Place | undefined {
    let taken: Place | undefined;
    while (this.size > 0 && !taken) {
      const of = this.#turn();
      const place = (this.#orders[of] as LineOrder).next(nowMs);
      this.#countGone();
      if (!place) continue;
      place.waits = false;
      this.#count(of, -1);
      if (place.waiter.untilMs <= nowMs) {
        this.passedOver++;
        place.waiter.place = undefined;
        continue;
      }
      if (place.waiter.untilMs - nowMs < this.#msPerUnit * place.waiter.cost) {
        this.#decline(place, "late");
        continue;
      }
      taken = place;
      this.#passed[of] = 0;
      for (let less = of + 1; less < classes.length; less++) if (this.#sizes[less] as number) (this.#passed[less] as number)++;
    }
    this.#tell(nowMs);
    return taken;
  }

  /** It does not want to wait any longer. `false`: it did not wait here any more. */
  remove(waiter: W, nowMs: number): boolean {
    const { place } = waiter;
    if (!(place instanceof Place) || !place.waits) return false;
    this.#takeOut(place, nowMs);
    waiter.place = undefined;
    return true;
  }

  /** Of those who wait when fewer may, at most `most` go on waiting: the least urgent are declined. */
  shorten(most: number, nowMs: number): void {
    for (let of = classes.length - 1; this.size > most;) if (!this.#displace((this.#orders[of] as LineOrder).last(), "full", nowMs)) of--;
    this.#tell(nowMs);
  }

  /** An operation that had waited here has ended: `units` is what it took, where 1 is the average of one unit of cost. */
  charge(place: Place, units: number, nowMs: number): void {
    (this.#orders[classOf(place.waiter.priority)] as LineOrder).charge?.(place, units, nowMs);
  }

  #refusal(waiter: W, nowMs: number): Refusal | undefined {
    if (!(waiter.untilMs > nowMs)) return "late";
    const of = classOf(waiter.priority);
    const own = this.#orders[of] as LineOrder;
    if (this.#bounds) {
      own.sweep(waiter, nowMs);
      this.#countGone();
    }
    const full = this.size >= this.most;
    if (!full && !(this.size > this.from && this.#random.next() < (this.size - this.from) / (this.most - this.from))) return undefined;
    for (let less = classes.length - 1; less > of; less--) if (this.#displace((this.#orders[less] as LineOrder).last(), "displaced", nowMs)) return undefined;
    if (this.#displace(own.displacedBy(waiter), own instanceof FairOrder ? "share" : "displaced", nowMs)) return undefined;
    return full ? "full" : "early";
  }

  #displace(place: Place | undefined, why: Refusal, nowMs: number): boolean {
    if (!place) return false;
    this.#takeOut(place, nowMs);
    this.#decline(place, why);
    return true;
  }

  /** Of one who is out of the line already. */
  #decline(place: Place, why: Refusal): void {
    place.waiter.place = why;
    this.refusals[why]++;
    this.#gone.push(place);
  }

  #takeOut(place: Place, nowMs: number): void {
    const of = classOf(place.waiter.priority);
    (this.#orders[of] as LineOrder).remove(place, nowMs);
    place.waits = false;
    this.#count(of, -1);
  }

  #turn(): number {
    for (let of = classes.length - 1; of > 0; of--) if (this.#sizes[of] && (this.#passed[of] as number) >= patience) return of;
    return this.#sizes[0] ? 0 : this.#sizes[1] ? 1 : 2;
  }

  #count(of: number, by: 1 | -1): void {
    (this.#sizes[of] as number) += by;
    this.size += by;
  }

  /** Those whom an order took out because they had waited too long. */
  #countGone(): void {
    for (; this.#counted < this.#gone.length; this.#counted++) {
      const place = this.#gone[this.#counted] as Place;
      if (!place.waits) continue; // displaced: counted already
      place.waits = false;
      place.waiter.place = "waited" satisfies Refusal;
      this.refusals.waited++;
      this.#count(classOf(place.waiter.priority), -1);
    }
  }

  #tell(nowMs: number): void {
    if (this.#gone.length === 0) return;
    this.#countGone();
    this.#counted = 0;
    for (const { waiter } of this.#gone.splice(0)) waiter.declined(nowMs);
  }
}

const classOf = (priority: Waiter["priority"]): 0 | 1 | 2 => (priority === "high" ? 0 : priority === "normal" ? 1 : 2);
