/**
 * The flush barrier: what was visible before a synchronous commit began is durable when it ends. Batches commit without waiting for
 * the disk, so that the lane is never held over a flush (FINDINGS F1); an outcome, or anything read, is handed out after a flush only. Batches and claims bring
 * their own (lane.ts); who reads, resolves, or commits beside the lane waits with such a one where it began late enough, and else for one from here.
 *
 * States: idle → flushing (one at a time in a process; whoever comes meanwhile is carried by the next) → idle. A failed flush
 * fails everyone it carried: they cannot know whether what they saw will survive.
 *
 * A server may crash, lose what was visible, and be back before the flush: the flush then succeeds, on a history without it. So whoever
 * waits says in which *life* of the server he saw it (sql/tables.sql), and a flush in another life fails him.
 */
import { emptyContext, inContext } from "trestle/kernel";

/** Of the server: its id, or `null` when nothing was committed in it before, so that all there is was durable when it began. */
export type Life = string | null;

/** What was seen: the newest commit of that moment, and in which life of the server. */
export interface Sight {
  readonly epoch: number;
  readonly n: number;
  readonly life: Life;
}

export interface FlushBarrier {
  /** Is it known to be durable? Without waiting. */
  knows(sight: Sight): boolean;
  /** Resolves when commit `n`, which was visible before the call, is durable; rejects when nobody knows, or it is known to be lost. */
  pass(sight: Sight): Promise<void>;
  /** The same for everything that was visible in that life, whether it has a number or not. */
  all(life: Life): Promise<void>;
  /** The same with a flush that somebody else began when this was visible, and the life that it tells. */
  follow(sight: Sight, flushed: Promise<Life>): Promise<void>;
}

export function flushBarrier(flush: () => Promise<Life>): FlushBarrier {
  // What is known to be durable. A new epoch may have lost commits of the one before, so it starts from nothing.
  const durable = { epoch: 0, n: 0 };
  let waiting: (Sight & { readonly resolve: () => void; readonly reject: (error: unknown) => void })[] = [];
  let flushing = false;
  // Flushes of others that are under way, and what was visible when they began.
  const followed = new Set<Sight & { readonly end: Promise<void> }>();

  function reached(epoch: number, n: number): void {
    if (epoch > durable.epoch) Object.assign(durable, { epoch, n });
    else if (epoch === durable.epoch) durable.n = Math.max(durable.n, n);
  }

  function passed({ epoch, n, life }: Sight, flushedIn: Life): void {
    if (life !== null && life !== flushedIn) throw new Error("the server crashed between showing it and flushing it");
    reached(epoch, n);
  }

  async function run(): Promise<void> {
    flushing = true;
    while (waiting.length > 0) {
      const carried = waiting;
      waiting = [];
      try {
        const life = await flush();
        for (const one of carried) {
          try {
            passed(one, life);
            one.resolve();
          } catch (error) {
            one.reject(error);
          }
        }
      } catch (error) {
        for (const one of carried) one.reject(error);
      }
    }
    flushing = false;
  }

  const next = (sight: Sight) =>
    new Promise<void>((resolve, reject) => {
      waiting.push({ ...sight, resolve, reject });
      if (!flushing) void inContext(emptyContext, run); // whoever waits first is not whose flush it is
    });
  async function follow(sight: Sight, flushed: Promise<Life>): Promise<void> {
    const one = { ...sight, end: flushed.then((life) => passed(sight, life)) };
    followed.add(one);
    try {
      await one.end;
    } finally {
      followed.delete(one);
    }
  }

  const knows = ({ epoch, n }: Sight) => epoch === durable.epoch && n <= durable.n;

  async function pass(sight: Sight): Promise<void> {
    if (knows(sight)) return;
    for (const { epoch, n, life, end } of followed) if (epoch === sight.epoch && n >= sight.n && life === sight.life) return end.catch(() => next(sight));
    return next(sight);
  }

  return { knows, pass, all: (life) => next({ epoch: 0, n: 0, life }), follow };
}
