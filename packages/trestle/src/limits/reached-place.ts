/**
 * A place as this process finds it: *reached* or *away*. Away after a draw has failed or somebody has waited in vain; then one draw at a time goes there as a probe, every 200 ms. Any
 * answer, of a probe or late, is the end of it.
 */
import type { LimitPlace } from "../component/index.ts";

export const probeEveryMs = 200;
/** A probe that has not come back is lost. */
const probeForMs = 2_000;

/** One for all limits of a node. */
export class ReachedPlace {
  readonly place: LimitPlace;
  isAway = false;
  #probeAtMs = 0;
  #probing = false;

  constructor(place: LimitPlace) {
    this.place = place;
  }

  answered(): void {
    this.isAway = false;
    this.#probing = false;
  }
  failed(nowMs: number): void {
    if (!this.isAway || this.#probing) this.#probeAtMs = nowMs + probeEveryMs;
    this.isAway = true;
    this.#probing = false;
  }
  /** One at a time, unless it is lost. */
  mayProbe(nowMs: number): boolean {
    if (nowMs < this.#probeAtMs) return false;
    this.#probing = true;
    this.#probeAtMs = nowMs + probeForMs;
    return true;
  }
}
