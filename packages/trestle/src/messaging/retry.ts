/**
 * How often a job is tried, how long it waits in between, and what becomes of it when it has used up its tries.
 * Waits are exponential with full jitter (resilience/backoff.ts).
 */
import type { Invocation } from "../component/index.ts";
import { durationMs, Fault, integerWithin, type Duration, type Random } from "../kernel/index.ts";
import { backoffMs, retryAfterMs } from "../resilience/index.ts";
import type { JobEnd } from "../store/index.ts";

export interface RetrySpec {
  /** Tries in all, 1 to 1000. Default 8. */
  readonly attempts?: number;
  /** The longest wait before the second try; it doubles from there. Default 1s. */
  readonly from?: Duration;
  /** The longest wait at all. Default 5m. */
  readonly upTo?: Duration;
}

export interface Retry {
  readonly attempts: number;
  readonly fromMs: number;
  readonly upToMs: number;
}

const errorCharsMax = 2_000;
/** A wait that somebody else asks for is believed up to here. */
const askedMsMax = 24 * 3_600_000;

/** `of` is named in faults: `queue "mail"`. */
export function retryOf(spec: RetrySpec | undefined, of: string): Retry {
  const { attempts = 8, from = "1s", upTo = "5m" } = spec ?? {};
  return {
    attempts: integerWithin(attempts, `${of}: retry.attempts`, { least: 1, most: 1_000 }),
    fromMs: durationMs(from, `${of}: retry.from`),
    upToMs: durationMs(upTo, `${of}: retry.upTo`),
  };
}

export interface Failed {
  readonly fault: unknown;
  /** 1 for the first. */
  readonly attempt: number;
  readonly nowMs: number;
  /** Trying again cannot help. */
  readonly hopeless: boolean;
  /** A call to the outside may or may not have happened. */
  readonly unknown: boolean;
  /** How it ends when its tries are used up: does its key go on? */
  readonly exhausted: "dead" | "parked";
}

/** FINDINGS F16: whatever may have happened outside is for a person to find out, never compensated blindly. */
export function afterFailure(retry: Retry, failed: Failed, random: Random): JobEnd {
  const error = errorText(failed.fault);
  if (!failed.hopeless && failed.attempt < retry.attempts) {
    const waitMs = backoffMs({ fromMs: retry.fromMs, upToMs: retry.upToMs, jitter: "full" }, failed.attempt + 1, random);
    // Not before the other side has asked for it, and then not all at once.
    const askedMs = Math.min(retryAfterMs(failed.fault), askedMsMax);
    return { kind: "retry", dueAtMs: Math.ceil(failed.nowMs + askedMs + waitMs), error };
  }
  if (failed.unknown) return { kind: "undetermined", error };
  return { kind: failed.exhausted, error };
}

/** A call of this invocation may or may not have happened: an answer that never came, or came as "unknown". */
export function mayHaveCalled(invocation: Invocation | undefined): boolean {
  return invocation !== undefined && (invocation.unknownOutcome !== undefined || invocation.unanswered !== undefined);
}

/** What a person reads beside the job. */
export function errorText(fault: unknown): string {
  const text = Fault.is(fault) ? `${fault.code}: ${fault.message}` : fault instanceof Error ? `${fault.name}: ${fault.message}` : String(fault);
  return text.length <= errorCharsMax ? text : `${text.slice(0, errorCharsMax)}…`;
}
