/** Instants as `Date`, for libraries that speak in them. Reads no clock. */
import type { Instant } from "./quantity.ts";

export function dateOf(instant: Instant): Date {
  return new Date(instant);
}
