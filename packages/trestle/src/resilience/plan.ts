/** Plans: what policies come to, worked out once. Each policy brings its own part. */
import { systemClock, systemRandom, type Clock, type DueList, type Random } from "../kernel/index.ts";
import { run, type LiveAttempt } from "./call.ts";
import { isUnwell } from "./failure.ts";
import type { Passage } from "./passage.ts";
import type { EndedAttempt, RetryRule, Runner } from "./policy.ts";

export interface Plan {
  readonly clock: Clock;
  readonly random: Random;
  /** Of the whole call. */
  readonly deadline: DueList | undefined;
  /** Of each attempt. */
  readonly timeout: DueList | undefined;
  readonly retry: RetryRule | undefined;
  readonly passage: Passage | undefined;
  /** How long a call has, and an attempt, when nothing shortens it. */
  readonly callMs: number;
  readonly usualMs: number;
  readonly unwell: (thrown: unknown) => boolean;
  readonly onAttempt: ((ended: EndedAttempt) => void) | undefined;
}

/** What runs operations under a plan of these parts. All plans are objects of one form, so that code that was compiled for one is right for the next. */
export function runnerOf({
  clock = systemClock,
  random = systemRandom,
  deadline,
  timeout,
  retry,
  passage,
  unwell = isUnwell,
  onAttempt,
}: Partial<Plan>): Runner {
  const callMs = deadline?.ms ?? Infinity;
  const usualMs = Math.min(timeout?.ms ?? Infinity, callMs);
  const plan: Plan = { clock, random, deadline, timeout, retry, passage, callMs, usualMs, unwell, onAttempt };
  return (operation, how) => run(plan, operation, how);
}

/** `outer` around what `inner` does: for parts that one plan cannot hold. */
export function nested(outer: Runner, inner: Runner): Runner {
  return (operation, how) =>
    outer((attempt) => {
      const within = attempt as LiveAttempt;
      return inner(operation, { ...how, signal: undefined, within, deadlineMs: within.untilMs });
    }, how);
}
