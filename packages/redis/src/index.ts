/** Rate limits of a fleet, counted in Redis. */
export { openLimits } from "./redis-place.ts";
