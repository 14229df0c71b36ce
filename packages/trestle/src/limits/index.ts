/** Limits: how often, per key. */
export type { Draw, Drawn, LimitPlace, LimitPlaceOptions, LimitPlacePackage } from "../component/index.ts";
export { fleetRule } from "./across.ts";
export type { Across, Exactness, FleetRule, WhenUnreachable } from "./across.ts";
export { assertCost, bucketRule } from "./checks.ts";
export { FleetLimit } from "./fleet-limit.ts";
export { ReachedPlace } from "./reached-place.ts";
export { fleetLimitOf } from "./fleet.ts";
export { rateLimitFields } from "./header-fields.ts";
export type { ToldLimit } from "./header-fields.ts";
export { limiter } from "./limiter.ts";
export type { Limiter, LimiterHandle, LimiterSpec, OverLimit, Took } from "./limiter.ts";
export { StorePlace } from "./store-place.ts";
export { rateLimit, TokenBuckets } from "./rate-limit.ts";
export type { Decision, RateLimit, RateLimitOptions } from "./rate-limit.ts";
export { slidingCounter } from "./sliding-counter.ts";
export { slidingLog } from "./sliding-log.ts";
export type { SlidingWindowOptions } from "./sliding-log.ts";
