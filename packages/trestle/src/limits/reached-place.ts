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

  readonly #told: (isAway: boolean, cause?: unknown) => void;

  constructor(place: LimitPlace, told: (isAway: boolean, cause?: unknown) => void = () => undefined) {
    this.place = place;
    this.#told = told;
  }

  answered(): void {
    if (this.isAway) this.#told(false);
    this.isAway = false;
    this.#probing = false;
  }
  /** Without a cause: somebody has waited in vain. */
  failed(nowMs: number, cause?: unknown): void {
    if (!this.isAway) this.#told(true, cause);
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
