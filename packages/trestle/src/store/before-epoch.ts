/** Where an epoch begins in the change feed. */
import { Fault } from "../kernel/index.ts";
import type { CommitPosition } from "./store.ts";

/**
 * The position just before the first commit of the head's epoch that the feed has: who followed another epoch was told of none of them. Numbers and epochs
 * rise together, so it is found by halves, with some twenty looks of one row each.
 */
export async function beforeEpoch(
  feed: (after: CommitPosition, limit: number) => Promise<readonly CommitPosition[]>,
  { epoch, n: end }: CommitPosition,
): Promise<CommitPosition> {
  // Everything up to `older` is of other epochs, or not kept; everything after `newer` is of this one.
  let [older, newer] = [0, end];
  while (older < newer) {
    const middle = Math.floor((older + newer) / 2);
    const first = await firstAfter(middle);
    if (first === undefined || first.epoch >= epoch) newer = middle;
    else older = Math.max(middle + 1, first.n);
  }
  return { epoch, n: newer };

  async function firstAfter(n: number): Promise<CommitPosition | undefined> {
    try {
      return (await feed({ epoch, n }, 1))[0];
    } catch (error) {
      if (!Fault.is(error, "log.trimmed")) throw error;
      return { epoch: epoch - 1, n: (error.details as { readonly kept: number }).kept - 1 };
    }
  }
}
