/**
 * The folds of streams that a node keeps, by stream, bounded. Two generations: what is new or used goes to the young one; when that
 * is full it becomes the old one, and what was old and not used since is forgotten. A Map with the oldest entry deleted for
 * each new one would do the same in order of use, but V8 walks over every deleted entry to find the next oldest: 7 % of a node that takes orders.
 */
import type { StoreKey } from "../store/index.ts";

/** The state of a stream at a version, as its kind folds it. */
export interface Fold {
  readonly version: number;
  readonly state: unknown;
}
interface Kept {
  readonly fold: Fold;
  /** It was the state behind the last event when it was folded. */
  isTail: boolean;
}

export class KeptFolds {
  readonly #max: number;
  #young = new Map<StoreKey, Kept>();
  #old = new Map<StoreKey, Kept>();

  /** Between half of `max` and `max` folds are kept. */
  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** A fold of the stream, perhaps not the last. */
  get(stream: StoreKey): Fold | undefined {
    return this.#find(stream)?.fold;
  }

  /** The last one this node knows. */
  tail(stream: StoreKey): Fold | undefined {
    const kept = this.#find(stream);
    return kept?.isTail ? kept.fold : undefined;
  }

  /** Unless a newer one is kept already. */
  keep(stream: StoreKey, fold: Fold, isTail: boolean): void {
    const known = this.#find(stream);
    if (known && known.fold.version >= fold.version) {
      if (isTail && known.fold.version === fold.version) known.isTail = true;
      return;
    }
    this.#add(stream, { fold, isTail });
  }

  forget(stream: StoreKey): void {
    this.#young.delete(stream);
    this.#old.delete(stream);
  }

  #find(stream: StoreKey): Kept | undefined {
    const young = this.#young.get(stream);
    if (young || this.#old.size === 0) return young;
    const old = this.#old.get(stream);
    if (old) {
      this.#old.delete(stream);
      this.#add(stream, old);
    }
    return old;
  }

  #add(stream: StoreKey, kept: Kept): void {
    if (this.#young.size >= this.#max / 2) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(stream, kept);
  }
}
