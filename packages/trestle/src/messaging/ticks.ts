/**
 * When a schedule ticks. `every`: from the moment it first started, in equal steps, without drift. `cron`: five fields in a time
 * zone (croner computes). Around a change of clocks a job with one fixed hour and minute runs once a day all the same: a time that
 * does not exist moves to the end of the gap, a time that occurs twice counts once; `*` and steps follow the clock as it is.
 */
import { Cron as CronPattern } from "croner";
import { dateOf, durationMs, Fault, type Cron, type Duration, type Instant } from "../kernel/index.ts";

export type Rhythm = { readonly cron: Cron; readonly zone?: string } | { readonly every: Duration };

export interface Ticks {
  /** Another text, another schedule: what came due under the old one is forgotten. */
  readonly fingerprint: string;
  /** The first tick after `instant`; `undefined` when there is none any more. `anchor`: when the schedule first started. */
  after(instant: Instant, anchor: Instant): Instant | undefined;
  /** The last tick at or before `instant`. */
  latest(instant: Instant, anchor: Instant): Instant | undefined;
}

const everyMsMin = 10;

export function ticksOf(rhythm: Rhythm, of: string): Ticks {
  if ("every" in rhythm) {
    const everyMs = durationMs(rhythm.every, `${of}: every`);
    if (everyMs < everyMsMin)
      throw Fault.create("schedule.too-often", `${of}: every must be at least ${everyMsMin} ms, got ${everyMs}`, "Tick more slowly, and do more in one tick.");
    return {
      fingerprint: `every ${everyMs}`,
      after: (instant, anchor) => anchor + (Math.floor(Math.max(0, instant - anchor) / everyMs) + 1) * everyMs,
      latest: (instant, anchor) => (instant < anchor + everyMs ? undefined : anchor + Math.floor((instant - anchor) / everyMs) * everyMs),
    };
  }
  const { cron, zone = "UTC" } = rhythm;
  let pattern: CronPattern;
  try {
    // Asked for a run, because a zone is only looked at then.
    pattern = new CronPattern(cron, { mode: "5-part", timezone: zone, paused: true });
    pattern.nextRun(dateOf(0));
  } catch (cause) {
    throw Fault.create(
      "schedule.bad-cron",
      `${of}: cron ${JSON.stringify(cron)} in zone ${JSON.stringify(zone)} cannot be read: ${(cause as Error).message}`,
      'Write five fields (minute hour day month weekday) and an IANA zone such as "Europe/Berlin".',
      { cause },
    );
  }
  return {
    fingerprint: `cron ${cron} ${zone}`,
    after: (instant) => pattern.nextRun(dateOf(instant))?.getTime(),
    latest: (instant) => pattern.previousRuns(1, dateOf(instant + 1))[0]?.getTime(),
  };
}
