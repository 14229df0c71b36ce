/** What a queue's limits are as data: the policy that its claims carry to the store, which judges it over the whole fleet. */
import type { Guarantee } from "../component/index.ts";
import { durationMs, Fault, integerWithin, ratePerSecond, type Duration, type Rate } from "../kernel/index.ts";
import { limits, type ClaimRate, type QueuePolicy } from "../store/index.ts";

/** Over all nodes together, judged by the store. */
export interface FleetLimits {
  /** Jobs begun per time, evenly spread: `"50/s"`, `"1000/h"`. What a busy fleet was late with is made up for within 100 ms. Default: no limit. */
  readonly rate?: Rate;
  /** Jobs that are claimed and not ended at once in the whole fleet, 1 to 100,000. A handler that goes on after its job's time counts in its node's `concurrency` only. Default: no limit but each node's `concurrency`. */
  readonly fleetConcurrency?: number;
  /** The same for each tenant, or whatever `fairBy` names. `weights`: jobs per turn, 1 to 1,000, at most 1,000 names; default 1 each. */
  readonly perTenant?: {
    readonly rate?: Rate;
    readonly concurrency?: number;
    readonly weights?: Readonly<Record<string, number>>;
  };
  /**
   * How long ended jobs are kept for people to look at: done ones by default not at all, dead ones until a person removes them. And
   * results, for whoever waits: by default 1h.
   */
  readonly keep?: { readonly done?: Duration; readonly dead?: Duration; readonly result?: Duration };
}

export interface Keep {
  readonly doneMs: number | undefined;
  readonly deadMs: number | undefined;
  readonly resultMs: number;
}

const slackMs = 100;
const fleetConcurrencyMax = 100_000;
const weightsMax = 1_000;

/** `of` is named in faults: `queue "mail"`. `undefined`: nothing is limited. */
export function policyOf(
  { rate, fleetConcurrency, perTenant, keep }: { readonly [Limit in keyof FleetLimits]: FleetLimits[Limit] | undefined },
  of: string,
): QueuePolicy | undefined {
  const { deadMs } = keepOf(keep, of);
  const policy: QueuePolicy = {
    ...limitOf(fleetConcurrency, rate, `${of}: fleetConcurrency`, `${of}: rate`),
    ...(perTenant?.concurrency !== undefined || perTenant?.rate !== undefined
      ? { perGroup: limitOf(perTenant.concurrency, perTenant.rate, `${of}: perTenant.concurrency`, `${of}: perTenant.rate`) }
      : {}),
    ...(perTenant?.weights === undefined ? {} : { weights: weightsOf(perTenant.weights, of) }),
    ...(deadMs === undefined ? {} : { keepDeadMs: deadMs }),
  };
  return Object.keys(policy).length > 0 ? policy : undefined;
}

export function isLimited({ concurrency, rate, perGroup }: QueuePolicy): boolean {
  return concurrency !== undefined || rate !== undefined || perGroup !== undefined;
}

/** Guarantees of the store that a policy rests on. */
export function policyNeeds(policy: QueuePolicy | undefined): readonly Guarantee[] {
  if (!policy) return [];
  const { weights } = policy;
  const needs: Guarantee[] = [];
  if (isLimited(policy)) needs.push("queue.limits-exact");
  if (weights) needs.push("queue.fair-share");
  return needs;
}

export function keepOf(keep: FleetLimits["keep"], of: string): Keep {
  return {
    doneMs: keep?.done === undefined ? undefined : durationMs(keep.done, `${of}: keep.done`),
    deadMs: keep?.dead === undefined ? undefined : durationMs(keep.dead, `${of}: keep.dead`),
    resultMs: durationMs(keep?.result ?? "1h", `${of}: keep.result`),
  };
}

function limitOf(concurrency: number | undefined, rate: Rate | undefined, concurrencyOption: string, rateOption: string) {
  return {
    ...(concurrency === undefined ? {} : { concurrency: integerWithin(concurrency, concurrencyOption, { least: 1, most: fleetConcurrencyMax }) }),
    ...(rate === undefined ? {} : { rate: { everyMs: 1_000 / ratePerSecond(rate, rateOption), slackMs } satisfies ClaimRate }),
  };
}

function weightsOf(weights: Readonly<Record<string, number>>, of: string): Readonly<Record<string, number>> {
  const names = Object.keys(weights);
  if (names.length > weightsMax)
    throw Fault.create("option.out-of-range", `${of}: perTenant.weights may name ${weightsMax}, got ${names.length}`, "Name those that differ from 1.");
  return Object.fromEntries(
    Object.entries(weights).map(([name, weight]) => [
      name,
      integerWithin(weight, `${of}: perTenant.weights.${name}`, { least: 1, most: limits.groupWeightMax }),
    ]),
  );
}
