/**
 * How busy this process's event loop is, and how long it stood still at the longest: what a process must know before it blames others for being slow.
 * The only place that asks `perf_hooks`. There is one loop, so there is one monitor for whoever asks; it starts with the first question, and keeps no process alive.
 *
 * How long it stood is measured by a timer that should fire every 20 ms. Node's own monitor does the same, but forgets where it was when it is reset: a standstill in which somebody
 * resets it is not seen, and without resets its maximum is that of the process's whole life.
 */
import { performance } from "node:perf_hooks";
import { systemClock } from "./clock.ts";

export interface LoopLoad {
  /** The longest that the loop stood still at one time, less than 20 ms too short. */
  readonly delayMsMax: number;
  /** The part of the time in which it had something to do, 0 to 1. */
  readonly utilization: number;
}

/** One tenth of a second each: what is older than half a minute is not told apart. */
const slots = 300;
const ticksPerSlot = 5;
const tickMs = 20; // slotMs / ticksPerSlot

interface Monitor {
  load(sinceMs: number): LoopLoad;
}
let monitor: Monitor | undefined;

/** Of the time since a moment of the system clock's monotonic time, at most the last 30 s. The first answer knows nothing yet: 0 and 0. */
export function eventLoopLoad(sinceMs: number): LoopLoad {
  return (monitor ??= monitored()).load(sinceMs);
}

function monitored(): Monitor {
  const kept: { readonly endedMs: number; readonly delayMs: number; readonly used: ReturnType<typeof performance.eventLoopUtilization> }[] = [];
  const startedWith = performance.eventLoopUtilization();
  let [tickedMs, longestMs, ticks] = [systemClock.monotonicMs(), 0, 0];
  const late = (nowMs: number) => Math.max(longestMs, nowMs - tickedMs - tickMs);
  const tick = () => {
    const nowMs = systemClock.monotonicMs();
    longestMs = late(nowMs);
    tickedMs = nowMs;
    if (++ticks % ticksPerSlot === 0) {
      kept.push({ endedMs: nowMs, delayMs: longestMs, used: performance.eventLoopUtilization() });
      if (kept.length > slots) kept.shift();
      longestMs = 0;
    }
    systemClock.after(tickMs, tick);
  };
  systemClock.after(tickMs, tick);
  return {
    load(sinceMs) {
      let delayMsMax = late(systemClock.monotonicMs());
      let before = startedWith;
      for (const slot of kept)
        if (slot.endedMs > sinceMs) delayMsMax = Math.max(delayMsMax, slot.delayMs);
        else before = slot.used;
      return { delayMsMax, utilization: performance.eventLoopUtilization(performance.eventLoopUtilization(), before).utilization || 0 };
    },
  };
}
