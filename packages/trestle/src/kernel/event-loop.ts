/**
 * How busy this process's event loop is, and how long it stood still at the longest: what a process must know before it blames others for being slow.
 * The only place that asks `perf_hooks`. There is one loop, so there is one monitor for whoever asks; it starts with the first question, and keeps no process alive.
 */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { systemClock } from "./clock.ts";

export interface LoopLoad {
  /** The longest that the loop stood still at one time. */
  readonly delayMsMax: number;
  /** The part of the time in which it had something to do, 0 to 1. */
  readonly utilization: number;
}

/** One tenth of a second each: what is older than half a minute is not told apart. */
const slotMs = 100;
const slots = 300;
const resolutionMs = 20;

interface Monitor {
  load(sinceMs: number): LoopLoad;
}
let monitor: Monitor | undefined;

/** Of the time since a moment of the system clock's monotonic time, at most the last 30 s. The first answer knows nothing yet: 0 and 0. */
export function eventLoopLoad(sinceMs: number): LoopLoad {
  return (monitor ??= monitored()).load(sinceMs);
}

function monitored(): Monitor {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  const kept: { readonly endedMs: number; readonly delayMs: number; readonly used: ReturnType<typeof performance.eventLoopUtilization> }[] = [];
  const startedWith = performance.eventLoopUtilization();
  // The monitor counts the time between two ticks, so a loop that is free shows one tick.
  const delayMs = () => Math.max(0, delays.max / 1e6 - resolutionMs);
  const rotate = () => {
    kept.push({ endedMs: systemClock.monotonicMs(), delayMs: delayMs(), used: performance.eventLoopUtilization() });
    if (kept.length > slots) kept.shift();
    delays.reset();
    systemClock.after(slotMs, rotate);
  };
  systemClock.after(slotMs, rotate);
  return {
    load(sinceMs) {
      let longestMs = delayMs();
      let before = startedWith;
      for (const slot of kept)
        if (slot.endedMs > sinceMs) longestMs = Math.max(longestMs, slot.delayMs);
        else before = slot.used;
      return { delayMsMax: longestMs, utilization: performance.eventLoopUtilization(performance.eventLoopUtilization(), before).utilization };
    },
  };
}
