/** What limits are given, checked: options once, keys, costs and times at each call. */
import { Fault, integerWithin, numberWithin, oneOf, ratePerSecond, type Clock, type Rate } from "../kernel/index.ts";

/** What a bucket is made of, checked. */
export interface BucketRule {
  readonly perSecond: number;
  readonly burst: number;
  readonly keys: number;
}

/** Called without options, something is missing from them: which, its own check says. */
export function givenTo<T extends object>(options: T): T {
  return (options as T | null | undefined) ?? ({} as T);
}

/** `of` names it in faults. */
export function bucketRule(options: { readonly rate: Rate; readonly burst?: number | undefined; readonly keys?: number | undefined }, of: string): BucketRule {
  const perSecond = perSecondOf(options.rate, `${of}: rate`);
  return {
    perSecond,
    burst: options.burst === undefined ? Math.max(1, Math.ceil(perSecond)) : numberWithin(options.burst, `${of}: burst`, { least: 1, most: 1e9 }),
    keys: keysOf(options.keys ?? 100_000, `${of}: keys`),
  };
}

function perSecondOf(rate: Rate, option: string): number {
  return numberWithin(ratePerSecond(rate, option), `${option}, a second,`, { least: 1e-9, most: 1e9 });
}

/** For so many keys at once there is room. */
export function keysOf(keys: number, option: string): number {
  return integerWithin(keys, option, { least: 1, most: 2 ** 24 });
}

export function isCost(cost: number, limit: number): boolean {
  return typeof cost === "number" && cost >= 1e-6 && cost <= limit;
}

export function assertCost(cost: number, limit: number, option = "a limit's cost"): void {
  if (!isCost(cost, limit)) numberWithin(cost, option, { least: 1e-6, most: limit });
}

export function assertWholeCost(cost: number, limit: number): void {
  if (!(cost >= 1 && cost <= limit && Number.isInteger(cost))) integerWithin(cost, "a limit's cost", { least: 1, most: limit });
}

export function assertKey(key: unknown): asserts key is string {
  if (typeof key === "string") return;
  throw Fault.create(
    "limits.key-not-a-text",
    `a limit's key must be a text, got ${key === null ? "null" : typeof key}`,
    "Make a text of what tells callers apart: String(id).",
  );
}

/** What a moment may be off by, in milliseconds, after a few sums: who comes so much too early has waited as long as was said. */
export function slackMs(sinceMs: number): number {
  return 1e-6 + sinceMs * 2 ** -50;
}

const msMax = 2 ** 53;

/** Times that never go back, counted from where they began: small numbers have more room behind the point. */
export class Moments {
  readonly #clock: Clock;
  readonly #originMs: number;
  #latestMs: number;

  constructor(clock: Clock) {
    oneOf(typeof (clock as Partial<Clock> | null)?.monotonicMs, "typeof a limit's clock.monotonicMs", ["function"]);
    this.#clock = clock;
    this.#originMs = this.#latestMs = clock.monotonicMs();
  }

  /** What `sinceMs` answered last. */
  get latestSinceMs(): number {
    return this.#latestMs - this.#originMs;
  }

  /** Milliseconds since the beginning; never less than at the call before. */
  sinceMs(nowMs = this.#clock.monotonicMs()): number {
    if (typeof nowMs === "number" && nowMs >= this.#latestMs && nowMs <= msMax) this.#latestMs = nowMs;
    else numberWithin(nowMs, "a limit's nowMs", { least: -msMax, most: msMax });
    return this.#latestMs - this.#originMs;
  }
}
