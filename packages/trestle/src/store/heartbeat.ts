/**
 * Keeps a holder's claims from a thread that the holder's event loop cannot block, up to a bound: what the engines' threads have in common.
 *
 * The holder leaves the time of its last beat in shared memory; the watching side counts from when it saw it change, by its own
 * monotonic clock. States: *alive* while it beats: it extends what it knows of itself. *Blocked*, when the last beat is a third of a lease old:
 * claims that would soon be over are extended. *Taken back*, entered once when it is too old: what the holder has claimed goes back to its
 * lines. The next beat leads back to alive.
 *
 * A holder may beat and claim again while it is being taken back, and before that reaches the store. So first the newest number is asked for: what is claimed
 * after a beat has a higher one than was answered before that beat.
 */
import type { Clock, Timer } from "../kernel/index.ts";
import { checkAbove0 } from "./check.ts";
import type { Heartbeat } from "./store.ts";

export interface HeartbeatOptions {
  readonly holder: string;
  readonly leaseMs: number;
  readonly blockedMsMax: number;
  /** One 64-bit integer: the holder's clock at its last beat. */
  readonly lastBeat: SharedArrayBuffer;
}

/** `Made`: a place in the order in which claims are made. */
export interface HeartbeatSurroundings<Made> {
  readonly clock: Clock;
  /** Extends the holder's claims of which less than two thirds are left, and answers the place of the newest that there are. `nowMs`: the holder's clock. */
  readonly keep: (nowMs: number) => Promise<Made>;
  /** Takes back what the holder has claimed up to that place, and tells whoever waits for work. */
  readonly release: (nowMs: number, madeUpTo: Made) => Promise<void>;
}

/** Looks this many times in a lease. */
const looksPerLease = 6;

/** The holder's side. `start` begins to watch, and answers how to stop. */
export function beating(
  holder: string,
  { leaseMs, blockedMsMax }: { readonly leaseMs: number; readonly blockedMsMax: number },
  clock: Pick<Clock, "wallMs">,
  start: (options: HeartbeatOptions) => () => void,
): Heartbeat {
  checkAbove0(leaseMs, "heartbeat.leaseMs");
  checkAbove0(blockedMsMax, "heartbeat.blockedMsMax");
  const lastBeat = new SharedArrayBuffer(8);
  const beats = new BigInt64Array(lastBeat);
  const beat = () => void Atomics.store(beats, 0, BigInt(Math.floor(clock.wallMs())));
  beat();
  let stop: (() => void) | undefined = start({ holder, leaseMs, blockedMsMax, lastBeat });
  return { beat, stop: () => (stop?.(), (stop = undefined)) };
}

/** The thread's side. Answers how to stop. */
export function watch<Made>({ leaseMs, blockedMsMax, lastBeat }: HeartbeatOptions, { clock, keep, release }: HeartbeatSurroundings<Made>): () => void {
  const beats = new BigInt64Array(lastBeat);
  const everyMs = Math.min(leaseMs, blockedMsMax) / looksPerLease;
  let seen = Atomics.load(beats, 0);
  let seenAtMs = clock.monotonicMs();
  let takenBack = false;
  let stopped = false;
  let timer: Timer;

  function look(): void {
    const beat = Atomics.load(beats, 0);
    if (beat !== seen) {
      seen = beat;
      seenAtMs = clock.monotonicMs();
      takenBack = false;
    }
    const blockedMs = clock.monotonicMs() - seenAtMs;
    const nowMs = Number(seen) + Math.floor(blockedMs);
    const onwards = () => next(everyMs);
    if (blockedMs < leaseMs / 3) onwards();
    else if (blockedMs <= blockedMsMax) keep(nowMs).then(onwards, onwards);
    else if (takenBack) onwards();
    else {
      takenBack = true;
      keep(nowMs)
        .then((madeUpTo) => (Atomics.load(beats, 0) === seen ? release(nowMs, madeUpTo) : undefined))
        .then(onwards, () => {
          takenBack = false; // the store cannot be reached: it is looked at again
          onwards();
        });
    }
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
