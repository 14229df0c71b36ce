/** Across what a limit counts, as it is declared: this process, or all that share its place. */
import { durationMs, Fault, numberWithin, type Duration } from "../kernel/index.ts";
import type { BucketRule } from "./checks.ts";

/**
 * What a limit answers while its place cannot be reached: `admit` admits everybody, `refuse` nobody, `local-share` what this process admits alone at the rate divided by
 * the processes that were seen last. No default: it is a decision.
 */
export type WhenUnreachable = "admit" | "refuse" | "local-share";
/** `exact`: every take is decided where the bucket is. `leased`: out of a budget that this process has drawn for 100 ms. */
export type Exactness = "exact" | "leased";

export type Across =
  /** Default: each process has its own buckets. */
  | { readonly across?: "process"; readonly whenUnreachable?: undefined; readonly exactness?: undefined; readonly within?: undefined }
  | {
      /** All processes together: the buckets are in the app's store, or where `counters` says. */
      readonly across: "fleet";
      readonly whenUnreachable: WhenUnreachable;
      /** Default `exact`. */
      readonly exactness?: Exactness;
      /** How long a take waits for the place, from 1 ms to 60 s; default 1 s. After one that waited in vain nobody waits until the place has answered again. */
      readonly within?: Duration;
    };

/** A limit of a fleet, checked. */
export interface FleetRule extends BucketRule {
  /** Names its buckets: who says the same shares them. */
  readonly name: string;
  readonly whenUnreachable: WhenUnreachable;
  readonly exactness: Exactness;
  readonly withinMs: number;
}

/** For so long a budget that was drawn may be spent. */
export const leaseMs = 100;
const windowMsMax = 366 * 86_400_000;

/** `undefined`: of this process. `of` names it in faults, `name` its buckets. Faults: `limits.bad-across`, `limits.burst-below-lease`, `option.out-of-range`. */
export function fleetRule(declared: Across, rule: BucketRule, of: string, name: string): FleetRule | undefined {
  const { across = "process", whenUnreachable, exactness = "exact", within = 1_000 } = declared;
  const oneOf = (option: string, given: unknown, values: readonly string[]) => {
    if (values.includes(given as string)) return;
    throw Fault.create(
      "limits.bad-across",
      `${of}: ${option} must be ${values.map((value) => JSON.stringify(value)).join(" or ")}, got ${JSON.stringify(given)}`,
      "Say across what the limit counts, and what it answers when that cannot be reached.",
    );
  };
  oneOf("across", across, ["process", "fleet"]);
  if (across === "process") return undefined;
  oneOf("whenUnreachable", whenUnreachable, ["admit", "refuse", "local-share"]);
  oneOf("exactness", exactness, ["exact", "leased"]);
  const { perSecond, burst } = rule;
  numberWithin(Math.ceil((burst / perSecond) * 1_000), `${of}: burst / rate, in milliseconds,`, { least: 0, most: windowMsMax });
  if (exactness === "leased" && burst < (perSecond * leaseMs) / 1_000)
    throw Fault.create(
      "limits.burst-below-lease",
      `${of}: a leased limit needs a burst of what its rate gives in ${leaseMs} ms, ${(perSecond * leaseMs) / 1_000}, got ${burst}`,
      "Allow a larger burst, or let it be exact.",
    );
  const withinMs = numberWithin(durationMs(within, `${of}: within`), `${of}: within, in milliseconds,`, { least: 1, most: 60_000 });
  return { ...rule, name, whenUnreachable: whenUnreachable as WhenUnreachable, exactness, withinMs };
}
