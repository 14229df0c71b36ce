/** Coordination: what processes need to agree. For now: clocks that order what happened. */
export { compareStamps, hybridClock, stampFromBigint, stampFromText, stampToBigint, stampToText } from "./hybrid-clock.ts";
export type { HybridClock, HybridClockOptions, HybridStamp } from "./hybrid-clock.ts";
export { lamportClock } from "./lamport-clock.ts";
export type { LamportClock } from "./lamport-clock.ts";
export { compareVectors, mergeVectors, vectorClock } from "./vector-clock.ts";
export type { VectorClock, VectorStamp } from "./vector-clock.ts";
