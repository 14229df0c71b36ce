/**
 * How long to wait before an attempt, so that callers who failed together do not come back together. `full`: anywhere between 0 and an exponential bound.
 * `decorrelated`: anywhere between `fromMs` and three times the wait before, which spreads callers further with every attempt.
 * Source: M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
 */
import type { Random } from "../kernel/index.ts";

export interface Backoff {
  /** Before the second attempt; doubles from there. */
  readonly fromMs: number;
  readonly upToMs: number;
  /** `none` is for tests and for a caller that is alone. */
  readonly jitter: "full" | "decorrelated" | "none";
}

/** Milliseconds to wait before attempt number `attempt`; the first is made at once. `beforeMs`: the wait before the attempt before, for `decorrelated`; by default `fromMs`, so that the second attempt is spread too. */
export function backoffMs({ fromMs, upToMs, jitter }: Backoff, attempt: number, random: Random, beforeMs = fromMs): number {
  if (attempt <= 1) return 0;
  if (jitter === "decorrelated") return Math.min(upToMs, fromMs + random.next() * (Math.max(fromMs, beforeMs * 3) - fromMs));
  const baseMs = Math.min(upToMs, fromMs * 2 ** (attempt - 2));
  return jitter === "none" ? baseMs : baseMs * random.next();
}
