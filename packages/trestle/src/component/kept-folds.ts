/** The folds of streams that a node keeps, by stream, bounded. */
import { RecentMap } from "../kernel/index.ts";
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
  readonly #kept: RecentMap<StoreKey, Kept>;

  /** Between half of `max` and `max` folds are kept. */
  constructor(max: number) {
    this.#kept = new RecentMap(max);
  }

  /** A fold of the stream, perhaps not the last. */
  get(stream: StoreKey): Fold | undefined {
    return this.#kept.get(stream)?.fold;
  }

  /** The last one this node knows. */
  tail(stream: StoreKey): Fold | undefined {
    const kept = this.#kept.get(stream);
    return kept?.isTail ? kept.fold : undefined;
  }

  /** Unless a newer one is kept already. */
  keep(stream: StoreKey, fold: Fold, isTail: boolean): void {
    const known = this.#kept.get(stream);
    if (known && known.fold.version >= fold.version) {
      if (isTail && known.fold.version === fold.version) known.isTail = true;
      return;
    }
    this.#kept.set(stream, { fold, isTail });
  }

  forget(stream: StoreKey): void {
    this.#kept.delete(stream);
  }
}
