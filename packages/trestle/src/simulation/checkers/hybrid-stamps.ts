/**
 * Hybrid clocks held against what happened and against their machines' clocks: S. Kulkarni and others, "Logical Physical Clocks", OPODIS 2014. Their stamps promise two
 * things at once: what happens before something has the smaller one, as of a Lamport clock, and each is near the wall clock of the machine that made it.
 */
import { compareStamps, type HybridStamp } from "../../coordination/index.ts";
import { integerWithin } from "../../kernel/index.ts";
import { allOf, Findings, type Checked } from "./checked.ts";
import { checkClock, type ClockCall } from "./happens-before.ts";
import { inWords, type History, type Operation } from "./history.ts";

/** What an event of such a history answers. */
export interface HybridReading {
  readonly stamp: HybridStamp;
  /** What the machine's own clock showed when the stamp was made. */
  readonly wallMs: number;
}
export interface HybridClockBounds {
  /** That of the clocks, in milliseconds. 1 to 86,400,000; default 500. */
  readonly aheadMaxMs?: number;
}

/**
 * Problems: those of `checkClock` for an order of everything; `stamp-behind` (its machine's clock showed more) and `stamp-too-far-ahead`.
 * Faults `history.bad-operation`, `history.process-overlaps`, `option.out-of-range`.
 */
export function checkHybridClock(events: History<ClockCall, HybridReading>, { aheadMaxMs = 500 }: HybridClockBounds = {}): Checked {
  integerWithin(aheadMaxMs, "aheadMaxMs", { least: 1, most: 86_400_000 });
  const order = checkClock(events, {
    compare: (one, other) => {
      const difference = compareStamps(one.stamp, other.stamp);
      return difference < 0 ? "before" : difference > 0 ? "after" : "equal";
    },
  });
  const findings = new Findings(0);
  for (const [place, event] of events.entries()) {
    const { stamp, wallMs } = event.result as HybridReading;
    const aheadMs = stamp.wallMs - Math.floor(wallMs);
    const how = `${inWords(event as Operation)} has a stamp ${Math.abs(aheadMs)} ms`;
    if (aheadMs < 0) findings.violation("stamp-behind", `${how} behind its machine's clock`, [place]);
    if (aheadMs > aheadMaxMs) findings.violation("stamp-too-far-ahead", `${how} ahead of its machine's clock, which may be ${aheadMaxMs}`, [place]);
  }
  return allOf(order, findings.checked());
}
