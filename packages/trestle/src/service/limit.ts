/**
 * Limits of a route: a token bucket per caller, tenant or address, kept in this process on the monotonic clock.
 *
 * The bucket is kept as the one moment when it will be full again (GCRA, ITU-T I.371): empty until then minus `burst` intervals. In any
 * time t at most `burst + rate * t` calls pass, and a caller who keeps to the rate is never refused. A bucket that is full again is the
 * same as none, so forgetting full ones changes nothing.
 */
import type { Clock, Rate } from "../kernel/index.ts";
import { Fault, integerWithin, ratePerSecond } from "../kernel/index.ts";

export interface Limit {
  /** `caller`: who is known by a principal, else the address. */
  readonly per: "caller" | "tenant" | "address" | "everyone";
  readonly rate: Rate;
  /** How many may come at once; default: what the rate allows in one second, at least 1. */
  readonly burst?: number;
}

export interface LimitRule {
  readonly per: Limit["per"];
  readonly perSecond: number;
  readonly burst: number;
}

export function limitRule(limit: Limit, option: string): LimitRule {
  const perSecond = ratePerSecond(limit.rate, `${option}: rate`);
  const burst = limit.burst === undefined ? Math.max(1, Math.ceil(perSecond)) : integerWithin(limit.burst, `${option}: burst`, { least: 1, most: 1_000_000 });
  return { per: limit.per, perSecond, burst };
}

export interface Taken {
  readonly admitted: boolean;
  /** How many more may come now. */
  readonly remaining: number;
  /** Until one may come again; 0 when one may come now. */
  readonly retryAfterMs: number;
  /** Until the bucket is full. */
  readonly resetMs: number;
}

const bucketsMax = 100_000;

export class TokenBuckets {
  readonly rule: LimitRule;
  readonly #clock: Clock;
  readonly #fullAtMs = new Map<string, number>();
  readonly #intervalMs: number;

  constructor(rule: LimitRule, clock: Clock) {
    this.rule = rule;
    this.#clock = clock;
    this.#intervalMs = 1_000 / rule.perSecond;
  }

  get size(): number {
    return this.#fullAtMs.size;
  }

  take(key: string): Taken {
    const nowMs = this.#clock.monotonicMs();
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(key) ?? nowMs);
    const roomMs = nowMs + this.rule.burst * this.#intervalMs - fullAtMs;
    // A millionth of an interval is rounding, not a caller who came early.
    const slackMs = this.#intervalMs * 1e-6;
    if (roomMs + slackMs < this.#intervalMs) return { admitted: false, remaining: 0, retryAfterMs: this.#intervalMs - roomMs, resetMs: fullAtMs - nowMs };
    if (this.#fullAtMs.size >= bucketsMax) this.#forget(nowMs);
    this.#fullAtMs.set(key, fullAtMs + this.#intervalMs);
    const leftMs = roomMs - this.#intervalMs;
    return {
      admitted: true,
      remaining: Math.floor((leftMs + slackMs) / this.#intervalMs),
      retryAfterMs: leftMs + slackMs >= this.#intervalMs ? 0 : this.#intervalMs - leftMs,
      resetMs: fullAtMs + this.#intervalMs - nowMs,
    };
  }

  /** Full buckets go; when all are in use, the one that was made first: its caller starts anew. */
  #forget(nowMs: number): void {
    for (const [key, fullAtMs] of this.#fullAtMs) if (fullAtMs <= nowMs) this.#fullAtMs.delete(key);
    for (const key of this.#fullAtMs.keys()) {
      if (this.#fullAtMs.size < bucketsMax) break;
      this.#fullAtMs.delete(key);
    }
  }
}

/** The fields of draft-ietf-httpapi-ratelimit-headers. */
export function limitHeaders(rule: LimitRule, taken: Taken): Record<string, string> {
  const windowSeconds = Math.max(1, Math.ceil(rule.burst / rule.perSecond));
  return {
    "ratelimit-policy": `"${rule.per}";q=${rule.burst};w=${windowSeconds}`,
    ratelimit: `"${rule.per}";r=${taken.remaining};t=${Math.ceil(taken.resetMs / 1_000)}`,
  };
}

export function limitExceeded(operation: string, rule: LimitRule, taken: Taken): Fault {
  const seconds = Math.max(1, Math.ceil(taken.retryAfterMs / 1_000));
  return Fault.create(
    "request.limit-exceeded",
    `${operation} takes ${rule.perSecond} requests a second per ${rule.per}, ${rule.burst} at once`,
    `Ask again in ${seconds} s.`,
    {
      details: { headers: { ...limitHeaders(rule, taken), "retry-after": String(seconds) } },
    },
  );
}
