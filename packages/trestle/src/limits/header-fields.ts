/**
 * What limits tell callers: the fields of draft-ietf-httpapi-ratelimit-headers-11, which are lists of structured fields (RFC 9651).
 *
 * `RateLimit-Policy`: quota (`q`) in requests (`qu`) in a window (`w`, seconds) for a partition (`pk`). `RateLimit`: what is left of it (`r`), and the effective window (`t`, seconds), in
 * which no more than that can be used: until one more is there. So `Retry-After` of a refusal is not before it. It is left out when all is there.
 */
import type { Decision, RateLimit } from "./rate-limit.ts";

export interface ToldLimit {
  /** Letters, digits, `-`, `_`, `.`. */
  readonly name: string;
  readonly limit: Pick<RateLimit, "limit" | "windowMs" | "look">;
  readonly key: string;
  /** What a request takes. */
  readonly cost: number;
  readonly decision: Decision;
  /** Whose quota it is, when that may be told. */
  readonly partition?: string | undefined;
}

export function rateLimitFields(told: readonly ToldLimit[]): Record<string, string> {
  if (told.length === 0) return {};
  const policies = told.map(({ name, limit, cost, partition }) => {
    const pk = partition === undefined ? "" : `;pk=:${Buffer.from(partition).toString("base64")}:`;
    return `"${name}";q=${Math.floor(limit.limit / cost)};w=${Math.max(1, seconds(limit.windowMs))};qu="requests"${pk}`;
  });
  const states = told.map(({ name, limit, key, cost, decision }) => {
    const left = Math.floor(decision.left / cost);
    const oneMore = (left + 1) * cost;
    return `"${name}";r=${left}${oneMore > limit.limit ? "" : `;t=${seconds(Math.max(limit.look(key, oneMore).retryAfterMs, left === 0 ? decision.retryAfterMs : 0))}`}`;
  });
  return { "ratelimit-policy": policies.join(", "), ratelimit: states.join(", ") };
}

/** 2 an hour come to a window of 3,600,000.0000000005 ms. A structured field's integer has 15 digits. */
const seconds = (ms: number): number => Math.min(999_999_999_999_999, Math.ceil(Math.round(ms) / 1_000));
