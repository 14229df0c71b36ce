/** Where the buckets of a fleet are: one for each key, of which all processes draw. An implementation is a store (`limits/store-place.ts`) or another server (`@trestle/redis`). */
import type { Clock } from "../kernel/index.ts";

export interface LimitPlace {
  /**
   * Gives `back`, then draws as many of `wanted` tokens as the bucket holds, in multiples of `least`, or none. Decided by the place's own clock, one after the other; draws that are asked for
   * at once travel together. A draw that rejects has been made, or not.
   */
  draw(draw: Draw): Promise<Drawn>;
  /** Processes that draw here, as far as is known: 1 or more. Becomes right within seconds, and forgets who has not been seen for half a minute. */
  readonly processes: number;
  close(): Promise<void>;
}

export interface Draw {
  /** Text of at most 512 B of UTF-8. */
  readonly key: string;
  /** Tokens that the bucket gains in a millisecond, and how many it holds. */
  readonly perMs: number;
  readonly burst: number;
  /** Above 0, and at most `wanted`; both 0 to give back only. */
  readonly least: number;
  readonly wanted: number;
  readonly back: number;
}
export interface Drawn {
  /** 0, or from `least` to `wanted`. */
  readonly granted: number;
  /** Tokens that are missing from the bucket now. */
  readonly taken: number;
}

/** What the package of a place exports. */
export interface LimitPlacePackage {
  openLimits(options: LimitPlaceOptions): LimitPlace;
}
export interface LimitPlaceOptions {
  readonly url: string;
  /** Whose buckets they are: apps that share a server have their own. */
  readonly app: string;
  /** Names this process to the others. */
  readonly id: string;
  readonly clock: Clock;
}
