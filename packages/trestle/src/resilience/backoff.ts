/**
 * How long to wait before an attempt: exponential from `fromMs`, at most `upToMs`, with full jitter (a wait anywhere between 0 and that), so
 * that callers who failed together do not come back together. Source: M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
 */
import type { Random } from "../kernel/index.ts";

export interface Backoff {
  /** Before the second attempt; doubles from there. */
  readonly fromMs: number;
  readonly upToMs: number;
  /** `none` is for tests and for a caller that is alone. */
  readonly jitter: "full" | "none";
}

/** Milliseconds to wait before attempt number `attempt`; the first is made at once. */
export function backoffMs(backoff: Backoff, attempt: number, random: Random): number {
  if (attempt <= 1) return 0;
  const baseMs = Math.min(backoff.upToMs, backoff.fromMs * 2 ** (attempt - 2));
  return backoff.jitter === "full" ? baseMs * random.next() : baseMs;
}
