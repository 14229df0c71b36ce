/** Limits: how often, per key. */
export { assertCost, bucketRule } from "./checks.ts";
export { limiter } from "./limiter.ts";
export type { Limiter, LimiterHandle, LimiterSpec, OverLimit, Took } from "./limiter.ts";
export { rateLimit } from "./rate-limit.ts";
export type { Decision, RateLimit, RateLimitOptions } from "./rate-limit.ts";
export { slidingCounter } from "./sliding-counter.ts";
export { slidingLog } from "./sliding-log.ts";
export type { SlidingWindowOptions } from "./sliding-log.ts";
