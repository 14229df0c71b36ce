/**
 * Keeps a holder's claims from the writer thread, however long the holder's event loop is blocked, up to a bound.
 *
 * The holder leaves the store's time of its last beat in shared memory; this side counts from when it saw it change, by its own
 * monotonic clock. States: *kept* while the last beat is young enough; claims that would soon be over are extended. *Taken back*,
 * entered once when it is too old: what the holder has claimed goes back to its lines. The next beat leads back to kept.
 */
import type { Clock, Timer } from "../kernel/index.ts";
import type { Operation } from "./operation.ts";
import type { Seat } from "./seat.ts";
import { packOperations, unpackReply } from "./wire.ts";
import type { HeartbeatOptions, Notice } from "./writer.ts";

interface Surroundings {
  /** It asks like any other of its process, of whoever writes; its answers stay here. */
  readonly seat: Pick<Seat, "ask" | "inTransaction">;
  readonly clock: Clock;
  readonly notice: (notice: Notice) => void;
}

/** Looks this many times in a lease. A claim is extended when less than two thirds of it are left. */
const looksPerLease = 6;
const busyMs = 20;

/** Answers how to stop. */
export function startHeartbeat({ holder, leaseMs, blockedMsMax, lastBeat }: HeartbeatOptions, { seat, clock, notice }: Surroundings): () => void {
  const beats = new BigInt64Array(lastBeat);
  const everyMs = Math.min(leaseMs, blockedMsMax) / looksPerLease;
  let seen = Atomics.load(beats, 0);
  let seenAtMs = clock.monotonicMs();
  let takenBack = false;
  let stopped = false;
  let timer: Timer;

  function look(): void {
    if (seat.inTransaction) return next(busyMs);
    const beat = Atomics.load(beats, 0);
    if (beat !== seen) {
      seen = beat;
      seenAtMs = clock.monotonicMs();
      takenBack = false;
    }
    const blockedMs = clock.monotonicMs() - seenAtMs;
    // The store's clock, as far as the holder has told it.
    const nowMs = Number(seen) + Math.floor(blockedMs);
    if (blockedMs <= blockedMsMax) ask({ kind: "keep", holder, leaseMs }, nowMs, () => undefined);
    else if (takenBack) next(everyMs);
    else {
      takenBack = true;
      ask({ kind: "release", holder }, nowMs, (change) => notice({ change }));
    }
  }
  function ask(
    operation: Operation,
    nowMs: number,
    applied: (change: { readonly n: number; readonly keys: []; readonly queues: readonly string[] }) => void,
  ): void {
    seat.ask({ ask: "apply", packed: packOperations([operation]), nowMs }, (answer) => {
      if ("packed" in answer) {
        const { n, queues } = unpackReply(answer.packed, 0);
        applied({ n, keys: [], queues });
      } else takenBack = false; // nobody writes: what was to be taken back is looked at again
      next(everyMs);
    });
  }
  function next(delayMs: number): void {
    if (!stopped) timer = clock.after(delayMs, look);
  }

  next(everyMs);
  return () => {
    stopped = true;
    timer.cancel();
  };
}
