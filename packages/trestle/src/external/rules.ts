/** What an external was declared with, checked once: from here on every option has its value. */
import { durationMs, Fault, integerWithin, numberWithin, shareOf, type Duration, type Percent } from "../kernel/index.ts";
import { hedge, type HedgeOptions } from "../resilience/index.ts";
import type { Secret, Setting } from "../setting/index.ts";
import type { DeclaredOperation } from "./external.ts";
import { healthRules, type HealthRules, type HealthSpec } from "./health.ts";
import { policyRule, type MakePolicy } from "./policy.ts";

export interface Rules {
  readonly name: string;
  readonly url: string | Setting<string> | undefined;
  readonly auth: Secret | undefined;
  readonly timeoutMs: number;
  readonly attempts: number;
  readonly budgetShare: Percent;
  readonly breaker: { readonly failureRate: number | undefined; readonly cooldownMs: number; readonly slowerThanMs: number | undefined } | undefined;
  readonly concurrency: number | "adaptive" | undefined;
  readonly policy: MakePolicy | undefined;
  readonly hedge: HedgeSpec | undefined;
  readonly health: HealthRules | undefined;
}

/** Its budget is that of the retries. */
export type HedgeSpec = Omit<HedgeOptions, "budget">;

export interface RulesSpec {
  readonly url: string | Setting<string> | undefined;
  readonly auth: Secret | undefined;
  readonly timeout: Duration | undefined;
  readonly retry: false | { readonly attempts?: number; readonly budget?: `${number}%` } | undefined;
  readonly breaker: false | { readonly failureRate?: number; readonly cooldown?: Duration; readonly slowerThan?: Duration } | undefined;
  readonly concurrency: number | "adaptive" | undefined;
  readonly policy: MakePolicy | undefined;
  readonly hedge: HedgeSpec | undefined;
  readonly health: HealthSpec | undefined;
}

export function rulesOf(name: string, spec: RulesSpec): Rules {
  const of = `external "${name}"`;
  const retry = spec.retry === false ? { attempts: 1 } : (spec.retry ?? {});
  if (typeof spec.url === "string") assertUrl(spec.url, `${of}: url`);
  if (spec.hedge) hedge(spec.hedge); // on trial, so that what is wrong with it is a fault where it is declared
  return {
    name,
    url: spec.url,
    auth: spec.auth,
    timeoutMs: numberWithin(durationMs(spec.timeout ?? "5s", `${of}: timeout`), `${of}: timeout`, { least: 1, most: Infinity }),
    attempts: integerWithin(retry.attempts ?? 3, `${of}: retry.attempts`, { least: 1, most: 100 }),
    budgetShare: budgetOf(retry.budget ?? "20%", `${of}: retry.budget`),
    breaker:
      spec.breaker === false
        ? undefined
        : {
            failureRate:
              spec.breaker?.failureRate === undefined
                ? undefined
                : numberWithin(spec.breaker.failureRate, `${of}: breaker.failureRate`, { least: 0.01, most: 1 }),
            cooldownMs: durationMs(spec.breaker?.cooldown ?? "5s", `${of}: breaker.cooldown`),
            slowerThanMs: spec.breaker?.slowerThan === undefined ? undefined : durationMs(spec.breaker.slowerThan, `${of}: breaker.slowerThan`),
          },
    concurrency:
      spec.concurrency === undefined || spec.concurrency === "adaptive"
        ? spec.concurrency
        : integerWithin(spec.concurrency, `${of}: concurrency`, { least: 1, most: 1_000_000 }),
    policy: policyRule(spec.policy, of),
    hedge: spec.hedge,
    health: spec.health && healthRules(spec.health, of),
  };
}

function budgetOf(share: Percent, option: string): Percent {
  shareOf(share, option);
  return share;
}

export function assertHedgeable({ after }: HedgeSpec, table: Readonly<Record<string, DeclaredOperation>>, { name, timeoutMs }: Rules): void {
  const bad = (message: string, remedy: string) => Fault.create("external.bad-hedge", `external "${name}": hedge${message}`, remedy);
  if (Object.values(table).every(({ changes }) => changes))
    throw bad(" is for queries, and it has none", "Leave it out: what changes something is not to be asked twice at once.");
  const isPercentile = typeof after === "string" && after.startsWith("p");
  if (!isPercentile && durationMs(after as Duration, "hedge.after") >= timeoutMs)
    throw bad(
      `.after (${JSON.stringify(after)}) must be less than the timeout of a try (${timeoutMs} ms), or none ever takes that long`,
      "Choose a shorter one.",
    );
}

export function assertUrl(url: string, option: string): void {
  if (URL.canParse(url) && /^https?:/.test(url)) return;
  throw Fault.create(
    "external.bad-url",
    `${option} must be an absolute http or https URL, got ${JSON.stringify(url)}`,
    "Write it like https://payments.example.",
  );
}
