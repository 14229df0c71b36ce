/**
 * Time. `wallMs` is for people and storage, `monotonicMs` for durations; nothing outside the kernel reads the machine's clock.
 * A virtual clock stands still until it is told to advance, and then fires what is due in order of time, then of creation.
 */
import { uptime } from "node:os";
import { performance } from "node:perf_hooks"; // the global of this name is looked up by a function at each use, for a quarter of the price of a look at the clock
import { TaskHeap } from "./task-heap.ts";

export interface Clock {
  /** Milliseconds since 1970. May jump. */
  wallMs(): number;
  /** Milliseconds since some moment. Never goes back; stops while the machine sleeps (Linux CLOCK_MONOTONIC). */
  monotonicMs(): number;
  /** How long the machine has slept, since some moment: to a hundredth of a second on Linux, to a second elsewhere. Costs 10 µs. Without it, a clock cannot tell. */
  sleptMs?(): number;
  /** Runs `task` once after `delayMs`. The timer does not keep the process alive, unless it is said that somebody waits for it. */
  after(delayMs: number, task: () => void, options?: { readonly keepsAlive: boolean }): Timer;
  /** Runs `task` after everything that is ready now: how a burst of callers becomes one batch. */
  soon(task: () => void): void;
}

export interface Timer {
  /** Safe to call twice and after it fired. */
  cancel(): void;
}

/** Resolves after `delayMs`, or rejects with the signal's reason as soon as it aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const aborted = () => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    });
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  // The machine's uptime goes on while it sleeps (Linux CLOCK_BOOTTIME), and no step of the wall clock moves it.
  sleptMs: () => uptime() * 1_000 - performance.now(),
  after(delayMs, task, options) {
    // setTimeout fires at once beyond 2^31-1 ms; a longer wait is made of several.
    const longest = 2_147_483_647;
    let handle: NodeJS.Timeout;
    const arm = (leftMs: number) => {
      // setTimeout cuts fractions off, which would be early.
      handle = setTimeout(() => (leftMs > longest ? arm(leftMs - longest) : task()), Math.min(Math.ceil(leftMs), longest));
      if (!options?.keepsAlive) handle.unref();
    };
    arm(delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
  soon: (task) => void setImmediate(task),
};

// Marked as pure, so that a bundle leaves it out where nobody uses it.
const immediate = /* @__PURE__ */ (() => setImmediate)();
/** Runs `task` when every promise that can settle has: Node's own immediate, whatever stands in its place by then. */
export function whenSettled(task: () => void): void {
  immediate(task);
}

/** A clock for tests and the simulator. `advance` also lets promises settle between two timers. */
export interface VirtualClock extends Clock {
  advance(byMs: number): Promise<void>;
  /** Moves wall time only, as an administrator or NTP would. */
  jumpWall(byMs: number): void;
}

export function virtualClock(startWallMs = 1_700_000_000_000): VirtualClock {
  interface Pending {
    readonly atMs: number;
    readonly order: number;
    task: (() => void) | undefined;
  }
  let nowMs = 0;
  let offsetMs = startWallMs;
  let order = 0;
  let soonPending = 0;
  const heap = new TaskHeap<Pending>((a, b) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order));

  // setImmediate runs after all promise reactions that are ready, so a turn of it means that these have settled; as long as tasks of
  // `soon` bring about more of them there are more turns. The bound is for a task that sets itself again for ever.
  const settle = async () => {
    for (let turns = 0; turns === 0 || (soonPending > 0 && turns < 1_000); turns++) await new Promise<void>((resolve) => void setImmediate(resolve));
  };

  return {
    wallMs: () => offsetMs + nowMs,
    monotonicMs: () => nowMs,
    after(delayMs, task) {
      const entry: Pending = { atMs: nowMs + (delayMs > 0 ? delayMs : 0), order: order++, task };
      heap.push(entry);
      return { cancel: () => void (entry.task = undefined) };
    },
    soon(task) {
      soonPending++;
      setImmediate(() => {
        soonPending--;
        task();
      });
    },
    jumpWall(byMs) {
      offsetMs += byMs;
    },
    async advance(byMs) {
      const untilMs = nowMs + byMs;
      await settle();
      for (let next = heap.peek(); next && next.atMs <= untilMs; next = heap.peek()) {
        heap.pop();
        nowMs = Math.max(nowMs, next.atMs);
        const { task } = next;
        next.task = undefined;
        task?.();
        await settle();
      }
      nowMs = Math.max(nowMs, untilMs);
      await settle();
    },
  };
}
