/** Instants as `Date`, for libraries that speak in them. Reads no clock. */
import type { Instant } from "./quantity.ts";

export function dateOf(instant: Instant): Date {
  return new Date(instant);
}

/** ISO 8601 in UTC. */
export function isoTime(instant: Instant): string {
  return new Date(instant).toISOString();
}
