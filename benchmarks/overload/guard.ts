/** How callers guard themselves in this benchmark, live and rehearsed. */
import { eventLoopLoad, systemClock, systemRandom, type Clock, type LoopLoad, type Random } from "trestle/kernel";
import { breaker, budget, bulkhead, deadline, pipeline, retry, timeout, type JudgedWindow } from "trestle/resilience";

export interface GuardOptions {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly loop?: (sinceMs: number) => LoopLoad;
  readonly onWindow?: (window: JudgedWindow) => void;
}

/** `running`: "adaptive", a number, or "none". */
export function guard(running: string, { clock = systemClock, random = systemRandom, loop = eventLoopLoad, onWindow }: GuardOptions = {}) {
  const layers = [deadline("1s"), retry({ attempts: 2, from: 50, upTo: 200, budget: budget({ clock, share: "10%" }) }), timeout("400ms")] as const;
  if (running === "none") return pipeline({ clock, random }, ...layers);
  const places =
    running === "adaptive"
      ? bulkhead({ clock, random, running: { loop, ...(onWindow && { onWindow }) } })
      : bulkhead({ clock, random, running: Number(running), waiting: { from: 2 * Number(running), most: 3 * Number(running) }, codel: true });
  return pipeline({ clock, random }, ...layers, breaker({ clock, cooldown: "1s" }), places);
}
