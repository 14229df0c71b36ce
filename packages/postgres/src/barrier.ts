/**
 * The flush barrier: what was visible before a synchronous commit began is durable when it ends. Batches commit without waiting for
 * the disk, so that the lane is never held over a flush (FINDINGS F1); an outcome, or anything read, is handed out after a barrier only.
 *
 * States: idle → flushing (one at a time in a process; whoever comes meanwhile is carried by the next) → idle. A failed flush
 * fails everyone it carried: they cannot know whether what they saw will survive.
 */
export interface FlushBarrier {
  /** Every commit up to this number is durable. Others may be too. */
  readonly durable: number;
  /** Resolves when commit `n`, which was visible before the call, is durable. */
  pass(n: number): Promise<void>;
  /** Resolves when everything that was visible before the call is durable. */
  all(): Promise<void>;
}

export function flushBarrier(flush: () => Promise<unknown>): FlushBarrier {
  let durable = 0;
  let waiting: { readonly n: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  let flushing = false;

  async function run(): Promise<void> {
    flushing = true;
    while (waiting.length > 0) {
      const carried = waiting;
      waiting = [];
      try {
        await flush();
        for (const one of carried) durable = Math.max(durable, one.n);
        for (const one of carried) one.resolve();
      } catch (error) {
        for (const one of carried) one.reject(error);
      }
    }
    flushing = false;
  }

  const next = (n: number) =>
    new Promise<void>((resolve, reject) => {
      waiting.push({ n, resolve, reject });
      if (!flushing) void run();
    });
  return {
    get durable() {
      return durable;
    },
    pass: (n) => (n <= durable ? Promise.resolve() : next(n)),
    all: () => next(0),
  };
}
