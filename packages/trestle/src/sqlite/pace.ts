/**
 * When a batch is worth a flush of its own. Another batch on its way lets main thread and writer work at the same time; but it may cost a
 * flush that its operations would have shared. So it has to hold as many of them as the writer applies in the time of a flush:
 * few on a quick disk, everything that can be had where a flush takes 10 ms.
 */

/** No fewer: each message between the threads costs as much as applying several operations. */
export const followersLeast = 24;
export const followersMost = 256;

export class Pace {
  #followersMin = followersLeast;
  /** The shortest of late, which is the flush without what a large batch has to write. It falls at once and rises slowly. */
  #flushMs = Infinity;
  #operationMs = 0.05;

  /** Operations that are worth a flush. */
  get followersMin(): number {
    return this.#followersMin;
  }

  /** How long these operations took, and the flush of them alone. */
  learn({ tookMs, flushMs }: { readonly tookMs: number; readonly flushMs: number }, operations: number): void {
    this.#flushMs = flushMs < this.#flushMs ? flushMs : this.#flushMs + (flushMs - this.#flushMs) / 32;
    this.#operationMs += (Math.max(0, tookMs - this.#flushMs) / operations - this.#operationMs) / 32;
    const worth = Math.ceil(this.#flushMs / Math.max(this.#operationMs, 0.001));
    this.#followersMin = Math.min(followersMost, Math.max(followersLeast, worth));
  }
}
