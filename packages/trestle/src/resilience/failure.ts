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
 * `mayHaveActed`: whether the other side may have done what was asked. Only a failure that shows that it never heard of it says no. A 503 does not: whoever was called may have begun, and then found
 * somebody else too busy, as our own edges tell their callers.
 * Source of the kinds: F. Cristian, "Understanding Fault-Tolerant Distributed Systems" (CACM 1991).
 */
import { Fault } from "../kernel/index.ts";

export type FailureKind = "crash" | "omission" | "timing" | "response" | "byzantine" | "refusal";

export interface Failure {
  readonly kind: FailureKind;
  readonly mayHaveActed: boolean;
}

/**
 * Of statuses, of names, and of codes of Node's, undici's and `pg`'s errors and of our faults. A status that is not here is an answer nobody can use from 500 on, and a
 * refusal below.
 */
const meanings: ReadonlyMap<unknown, Failure> = new Map(
  (
    [
      ["crash", false, "ECONNREFUSED EHOSTDOWN EHOSTUNREACH ENETUNREACH ENOTFOUND EAI_AGAIN external.unreachable"],
      ["crash", true, "502 ECONNRESET ECONNABORTED EPIPE UND_ERR_SOCKET 57P01 57P02"],
      ["omission", true, "408 504 TimeoutError ETIMEDOUT UND_ERR_HEADERS_TIMEOUT UND_ERR_BODY_TIMEOUT 57014 deadline.exceeded external.outcome-unknown"],
      ["omission", false, "UND_ERR_CONNECT_TIMEOUT"],
      ["timing", false, "425 429 breaker.open bulkhead.full queue.full store.overloaded request.not-admitted request.share-exceeded 53300 57P03"],
      ["timing", true, "503"],
      ["response", true, "500"],
      ["byzantine", true, "response.contradicts"],
      ["refusal", false, "400 external.refused UND_ERR_INVALID_ARG"],
    ] as const
  ).flatMap(([kind, mayHaveActed, those]) => those.split(" ").map((one) => [one, { kind, mayHaveActed }] as const)),
);

/**
 * By form. Of SQLSTATE and of Redis's answers: the statement or the command itself is at fault, or asks for what is not allowed (a constraint, a type, a syntax, what a function raises).
 * That a most is reached ("ERR max number of clients") is no fault of a command.
 */
const refuses = /^(option\.|quantity\.|(0A|2[123]|4[24]|P0)...$|(ERR(?! max)|WRONGTYPE|NOPERM) )/;

/** Whether it speaks against the other side, and trying again could help: whatever is no refusal. */
export const isUnwell = (thrown: unknown): boolean => failureOf(thrown).kind !== "refusal";

/** What this failure means. An error that says nothing about itself is a `response`, and the other side may have acted. */
export function failureOf(thrown: unknown): Failure {
  let isOpen = false;
  for (let error = thrown, depth = 0; error && depth++ < 5; error = (error as { cause?: unknown }).cause) {
    const { code, status, statusCode, name, message, cause, details, response } = error as Readonly<Record<string, unknown>> & {
      readonly details?: { readonly status?: unknown };
      readonly response?: { readonly status?: unknown; readonly statusCode?: unknown };
    };
    const told = status ?? statusCode ?? response?.status ?? response?.statusCode ?? details?.status;
    const isUnknown = code === "external.outcome-unknown";
    isOpen ||= isUnknown;
    const known =
      (typeof told === "number" && (meanings.get(`${told}`) ?? meanings.get(`${told - (told % 100)}`))) ||
      (retryAfterMs(error) > 0 && meanings.get("429")) ||
      // That an outcome is not known says least of all: a cause says why.
      (!(isUnknown && cause) && (meanings.get(code) ?? meanings.get(name))) ||
      ((refuses.test(code as string) || refuses.test(message as string)) && meanings.get("400"));
    // What is not known may have been done, whatever declined the attempt after it.
    if (known) return isOpen ? { ...known, mayHaveActed: true } : known;
  }
  return meanings.get("500") as Failure;
}

/** What a failure asks for: `details.retryAfterMs` of a fault, or `retryAfterMs` of any other error. 0 when it asks for nothing. */
export function retryAfterMs(error: unknown): number {
  const asked = ((Fault.is(error) ? error.details : error) as { readonly retryAfterMs?: unknown } | null | undefined)?.retryAfterMs;
  return typeof asked === "number" && asked > 0 ? asked : 0;
}
