/**
 * The flush barrier: what was visible before a synchronous commit began is durable when it ends. Batches commit without waiting for
 * the disk, so that the lane is never held over a flush (FINDINGS F1); an outcome, or anything read, is handed out after a barrier only.
 *
 * States: idle → flushing (one at a time in a process; whoever comes meanwhile is carried by the next) → idle. A failed flush
 * fails everyone it carried: they cannot know whether what they saw will survive.
 */
export interface FlushBarrier {
  /** Resolves when commit `n` of this epoch, which was visible before the call, is durable. */
  pass(epoch: number, n: number): Promise<void>;
  /** Resolves when everything that was visible before the call is durable. */
  all(): Promise<void>;
}

export function flushBarrier(flush: () => Promise<unknown>): FlushBarrier {
  // What is known to be durable. A new epoch may have lost commits of the one before, so it starts from nothing.
  const durable = { epoch: 0, n: 0 };
  let waiting: { readonly epoch: number; readonly n: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  let flushing = false;

  function reached(epoch: number, n: number): void {
    if (epoch > durable.epoch) Object.assign(durable, { epoch, n });
    else if (epoch === durable.epoch) durable.n = Math.max(durable.n, n);
  }

  async function run(): Promise<void> {
    flushing = true;
    while (waiting.length > 0) {
      const carried = waiting;
      waiting = [];
      try {
        await flush();
        for (const one of carried) reached(one.epoch, one.n);
        for (const one of carried) one.resolve();
      } catch (error) {
        for (const one of carried) one.reject(error);
      }
    }
    flushing = false;
  }

  const next = (epoch: number, n: number) =>
    new Promise<void>((resolve, reject) => {
      waiting.push({ epoch, n, resolve, reject });
      if (!flushing) void run();
    });
  return {
    pass: (epoch, n) => (epoch === durable.epoch && n <= durable.n ? Promise.resolve() : next(epoch, n)),
    all: () => next(0, 0),
  };
}
