/**
 * A place as this process finds it: *reached* or *away*. Away after a draw has failed; then one draw at a time goes there as a probe, every 200 ms. Any answer, of a probe or late, is
 * the end of it. That is known of the place, and holds for all limits of the node; that somebody has waited in vain is known of one limit, which may be in more of a hurry than the others.
 */
import type { LimitPlace } from "../component/index.ts";
import { emptyContext, inContext, type Clock } from "../kernel/index.ts";

export const probeEveryMs = 200;
/** A probe that has not come back is lost. */
const probeForMs = 2_000;

/** `cause` is missing where somebody has waited in vain. */
export type Told = (isAway: boolean, cause?: unknown) => void;

export class Reach {
  isAway = false;
  #probeAtMs = 0;
  #probing = false;
  readonly #told: Told;

  constructor(told: Told = () => undefined) {
    this.#told = told;
  }

  answered(): void {
    if (!this.isAway) return;
    this.isAway = this.#probing = false;
    this.#told(false);
  }
  failed(nowMs: number, cause?: unknown): void {
    if (!this.isAway) this.#told(true, cause);
    if (!this.isAway || this.#probing) this.#probeAtMs = nowMs + probeEveryMs;
    this.isAway = true;
    this.#probing = false;
  }
  /** One at a time, unless it is lost. */
  mayProbe(nowMs: number): boolean {
    return !this.isAway || nowMs >= this.#probeAtMs;
  }
  probes(nowMs: number): void {
    this.#probing = true;
    this.#probeAtMs = nowMs + probeForMs;
  }
}

/** One for all limits of a node. */
export class ReachedPlace extends Reach {
  readonly place: LimitPlace;
  readonly #clock: Clock;
  #coming: (() => void)[] = [];

  constructor(place: LimitPlace, clock: Clock, told?: Told) {
    super(told);
    this.place = place;
    this.#clock = clock;
  }

  /** With all others that come before the loop turns, and in nobody's context: the deadline of one is not that of all. What they draw travels together. */
  soon(task: () => void): void {
    if (this.#coming.push(task) > 1) return;
    inContext(emptyContext, () => {
      this.#clock.soon(() => {
        const coming = this.#coming;
        this.#coming = [];
        for (const each of coming) each();
      });
    });
  }
}
