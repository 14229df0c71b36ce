/**
 * What a failure of a call means: the five kinds of failures, and whether the other side may have acted.
 *
 *   crash      the other side is not there, or went away: refused, reset, unreachable          → another one, or wait until it is back
 *   omission   it did not answer in time                                                       → again, elsewhere, or without it
 *   timing     it is there, and too busy or too slow: 429, 503, overloaded, a limit, a breaker → come back later, ask less
 *   response   it answered what nobody can use: 500, a body that does not parse                → refuse it; perhaps again
 *   byzantine  it contradicts itself or its like                                               → ask a third, tell a person
 *   refusal    it answered, and the answer is no: nothing is wrong with it
 *
 * `mayHaveActed`: whether the other side may have done what was asked. Only a failure that shows that it never heard of it says no.
 * Source of the kinds: F. Cristian, "Understanding Fault-Tolerant Distributed Systems" (CACM 1991).
 */
import { Fault } from "../kernel/index.ts";

export type FailureKind = "crash" | "omission" | "timing" | "response" | "byzantine" | "refusal";

export interface Failure {
  readonly kind: FailureKind;
  readonly mayHaveActed: boolean;
}

const failure = (kind: FailureKind, mayHaveActed: boolean): Failure => ({ kind, mayHaveActed });
const neverReached = failure("crash", false);
const wentAway = failure("crash", true);
const noAnswer = failure("omission", true);
const notEvenAsked = failure("omission", false);
const tooBusy = failure("timing", false);
const unusable = failure("response", true);
const contradicts = failure("byzantine", true);
const refusal = failure("refusal", false);

/**
 * Of statuses, of names, and of codes of Node's, undici's and `pg`'s errors and of our faults. A status that is not here is an answer nobody can use from 500 on, and a
 * refusal below.
 */
const meanings = new Map(
  (
    [
      [neverReached, "ECONNREFUSED ENOTFOUND EAI_AGAIN EHOSTUNREACH ENETUNREACH EHOSTDOWN external.unreachable"],
      [wentAway, "502 ECONNRESET EPIPE ECONNABORTED UND_ERR_SOCKET 57P01 57P02"],
      [noAnswer, "408 504 TimeoutError ETIMEDOUT UND_ERR_HEADERS_TIMEOUT UND_ERR_BODY_TIMEOUT deadline.exceeded"],
      [notEvenAsked, "UND_ERR_CONNECT_TIMEOUT"],
      [tooBusy, "425 429 503 breaker.open bulkhead.full limiter.exceeded store.overloaded queue.full request.not-admitted request.share-exceeded 53300 57P03"],
      [unusable, "SyntaxError external.answer-invalid HPE_INVALID_CONSTANT UND_ERR_RES_CONTENT_LENGTH_MISMATCH"],
      [contradicts, "response.contradicts"],
      [refusal, "external.refused UND_ERR_INVALID_ARG"],
    ] as const
  ).flatMap(([meaning, those]) => those.split(" ").map((one) => [one, meaning] as const)),
);

/** Whether it speaks against the other side, and trying again could help: whatever is no refusal. */
export const isUnwell = (thrown: unknown): boolean => failureOf(thrown).kind !== "refusal";

/** What this failure means. An error that says nothing about itself is a `response`, and the other side may have acted. */
export function failureOf(thrown: unknown): Failure {
  let vague = false; // no answer, unless a cause says why there is none
  for (let error = thrown, depth = 0; error && depth < 5; error = (error as { cause?: unknown }).cause, depth++) {
    const { code, status, statusCode, name, details } = error as {
      readonly code?: unknown;
      readonly status?: unknown;
      readonly statusCode?: unknown;
      readonly name?: unknown;
      readonly details?: { readonly status?: unknown };
    };
    const told = Fault.is(error) ? details?.status : (status ?? statusCode);
    if (typeof told === "number" && told >= 400 && told < 600) return meanings.get(String(told)) ?? (told >= 500 ? unusable : refusal);
    if (retryAfterMs(error) > 0) return tooBusy;
    vague ||= Fault.is(error, "external.outcome-unknown");
    const known = meanings.get(code as string) ?? meanings.get(name as string);
    if (known) return known;
    if (Fault.is(error) && /^(option|quantity)\./.test(error.code)) return refusal;
  }
  return vague ? noAnswer : unusable;
}

/** What a failure asks for: `details.retryAfterMs` of a fault, or `retryAfterMs` of any other error. 0 when it asks for nothing. */
export function retryAfterMs(error: unknown): number {
  const asked = Fault.is(error) ? error.details["retryAfterMs"] : (error as { readonly retryAfterMs?: unknown } | null | undefined)?.retryAfterMs;
  return typeof asked === "number" && asked > 0 ? asked : 0;
}
