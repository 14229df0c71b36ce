/**
 * Time limits of one length. They end in the order in which they began, so that a list is all it takes: beginning and ending one take constant time, and
 * there is one timer for all of them, which is set when there is none and looks at the list when it fires. A limit fires at its time, not before it and not at
 * the next tick of something: late only by what the clock's own timers are.
 */
import { Linked, type Clock, type Timer } from "../kernel/index.ts";

export interface Bounded {
  /** The time of this limit is over. */
  expire(bound: Bound, boundMs: number): void;
}

export class Bound extends Linked {
  readonly untilMs: number;
  holder: Bounded;

  constructor(untilMs: number, holder: Bounded) {
    super();
    this.untilMs = untilMs;
    this.holder = holder;
  }
}

export class BoundLine {
  readonly ms: number;
  readonly #clock: Clock;
  readonly #head = new Linked();
  #armed: Timer | undefined;

  constructor(ms: number, clock: Clock) {
    this.ms = ms;
    this.#clock = clock;
  }

  /** A limit that begins now. `unlink` ends it. */
  begin(holder: Bounded, nowMs: number): Bound {
    const bound = new Bound(nowMs + this.ms, holder);
    this.#head.append(bound);
    if (!this.#armed) this.#armed = this.#clock.after(this.ms, this.#fire);
    return bound;
  }

  readonly #fire = (): void => {
    this.#armed = undefined;
    const nowMs = this.#clock.monotonicMs();
    // Whoever began within the same turn as another is due with it, whatever a fraction of a microsecond says.
    for (let first = this.#head.next; first !== this.#head && (first as Bound).untilMs <= nowMs + 1e-3; first = this.#head.next) {
      first.unlink();
      (first as Bound).holder.expire(first as Bound, this.ms);
    }
    if (!this.#armed && !this.#head.isAlone) this.#armed = this.#clock.after((this.#head.next as Bound).untilMs - nowMs, this.#fire);
  };
}
