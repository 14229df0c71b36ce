/** Faults of policies as answers: RFC 9457 problems, with `Retry-After` where the fault knows when to come back. */
import { Fault } from "../kernel/index.ts";
import { retryAfterMs } from "../resilience/index.ts";

export interface ProblemAnswer {
  readonly status: 429 | 503 | 504;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON. */
  readonly body: string;
}

const statuses: ReadonlyMap<string, ProblemAnswer["status"]> = new Map([
  ["request.limit-exceeded", 429],
  ["deadline.exceeded", 504],
  ...[
    "breaker.open",
    "bulkhead.full",
    "degradation.unavailable",
    "limiter.exceeded",
    "queue.full",
    "retry.budget-spent",
    "store.overloaded",
    "throttle.declined",
  ].map((code) => [code, 503] as const),
]);
const titles = { 429: "Too Many Requests", 503: "Service Unavailable", 504: "Gateway Timeout" } as const;

/** What to answer when a handler threw this; `undefined` when it is no fault of a policy: for error handlers, which pass that on. */
export function problemOf(thrown: unknown, headers: Readonly<Record<string, string>> = {}): ProblemAnswer | undefined {
  const status = Fault.is(thrown) ? statuses.get(thrown.code) : undefined;
  if (status === undefined) return undefined;
  const { code, message, remedy, details } = thrown as Fault;
  const waitMs = retryAfterMs(thrown);
  // Of what is behind this service its callers need to know no more than when to come back.
  const detail = status === 429 ? `${message}. ${remedy}` : status === 504 ? "It took too long." : "There is no room for this now.";
  return {
    status,
    headers: {
      "content-type": "application/problem+json",
      "cache-control": "no-store",
      ...headers,
      ...(details["headers"] as Readonly<Record<string, string>> | undefined),
      ...(waitMs > 0 && { "retry-after": String(Math.ceil(waitMs / 1_000)) }),
    },
    body: JSON.stringify({ type: "about:blank", title: titles[status], status, detail, code }),
  };
}
