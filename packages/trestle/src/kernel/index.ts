/** The kernel: time, chance, identity, faults, quantities, context. Nothing else in Trestle reads a clock or rolls a die. */
export { sleep, systemClock, virtualClock } from "./clock.ts";
export type { Clock, Timer, VirtualClock } from "./clock.ts";
export { currentContext, emptyContext, withContext } from "./context.ts";
export type { AmbientContext } from "./context.ts";
export { Fault } from "./fault.ts";
export type { FaultCode, FaultOptions } from "./fault.ts";
export { formatUuidv7, mintedAtMs, uuidv7Ids } from "./ids.ts";
export type { Ids } from "./ids.ts";
export { durationMs, integerWithin, ratePerSecond, sizeBytes } from "./quantity.ts";
export type { Bytes, Cron, Duration, Instant, Percent, Rate } from "./quantity.ts";
export { seededRandom, systemRandom } from "./random.ts";
export type { Random } from "./random.ts";
