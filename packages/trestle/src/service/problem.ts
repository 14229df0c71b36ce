/**
 * Problem details (RFC 9457): what a caller is told when there is no answer. A fault whose message was written for callers (a bad
 * request, a key that is in use) is told in full; of any other only its status, its code and where it was logged.
 */
import type { Refused } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly [fact: string]: unknown;
}

interface Rule {
  readonly status: number;
  /** The message was written for the caller. */
  readonly told: boolean;
  readonly retryAfterSeconds?: number;
}
const told = (status: number): Rule => ({ status, told: true });
const later = (status: number): Rule => ({ status, told: false, retryAfterSeconds: 1 });

const rules = new Map<string, Rule>(
  Object.entries({
    "request.malformed": told(400),
    "request.malformed-json": told(400),
    "request.unsafe-json": told(400),
    "request.duplicate-member": told(400),
    "request.body-missing": told(400),
    "request.params-invalid": told(400),
    "request.query-invalid": told(400),
    "request.no-route": told(404),
    "request.method-not-allowed": told(405),
    "request.not-acceptable": told(406),
    "request.body-too-large": told(413),
    "request.uri-too-long": told(414),
    "request.unsupported-media-type": told(415),
    "request.body-invalid": told(422),
    "request.limit-exceeded": told(429),
    "request.not-admitted": told(503),
    "request.share-exceeded": told(429),
    "idempotency.key-missing": told(400),
    "idempotency.key-malformed": told(400),
    "idempotency.in-flight": { status: 409, told: true, retryAfterSeconds: 1 },
    "idempotency.key-reused": told(422),
    "page.bad-cursor": told(400),
    "page.limit-out-of-range": told(400),
    "commit.conflict": later(409),
    "commit.guard-refused": { status: 409, told: false },
    "deadline.exceeded": { status: 504, told: false },
    "store.overloaded": later(503),
    "store.closed": later(503),
    "node.stopped": later(503),
    "commit.unknown": later(503),
    "queue.full": later(503),
    "degradation.unavailable": later(503),
    "bulkhead.full": later(503),
    "breaker.open": later(503),
    "retry.budget-spent": later(503),
    "external.unreachable": later(503),
    "external.refused": { status: 502, told: false },
    "external.outcome-unknown": later(504),
  } satisfies Record<string, Rule>),
);
const otherwise: Rule = { status: 500, told: false };

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  409: "Conflict",
  410: "Gone",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  423: "Locked",
  428: "Precondition Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  451: "Unavailable For Legal Reasons",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};
const untold: Readonly<Record<number, string>> = {
  409: "Another caller changed the same thing at the same time. Ask again.",
  502: "A system behind this one declined.",
  503: "The service cannot take this now. Ask again in a moment.",
  504: "It took too long. It may have happened: ask again with the same key where there is one.",
};

export const problemType = "application/problem+json";
const reserved = new Set(["type", "title", "status", "detail", "code", "instance", "facts", "ok", "refused"]);

/** The HTTP status a fault is answered with, and whether it is the caller's doing. */
export function statusOf(fault: unknown): number {
  return ruleOf(fault).status;
}

/** What was asked may have been done, or is still being done, and its answer is lost. */
export function mayHaveHappened(fault: unknown): boolean {
  return ["external.outcome-unknown", "external.answer-invalid", "deadline.exceeded", "commit.unknown", "store.closed", "idempotency.in-flight"].some((code) =>
    Fault.is(fault, code as "commit.unknown"),
  );
}

function ruleOf(fault: unknown): Rule {
  return Fault.is(fault) ? (rules.get(fault.code) ?? otherwise) : otherwise;
}

/** What is known of the request that failed. */
interface Failed {
  /** Where the log has the rest of it. */
  readonly invocation?: string | undefined;
  /** It was begun, and asking again with its key goes on with it. */
  readonly unfinished?: boolean;
  /** It changes nothing, and has no key. */
  readonly reads?: boolean | undefined;
}

export function problemOfFault(fault: unknown, { invocation, unfinished = false, reads = false }: Failed = {}): Problem {
  const { status, told } = ruleOf(fault);
  const code = Fault.is(fault) && status !== 500 ? fault.code : "service.fault";
  const words = status === 504 && reads ? "It took too long. Ask again." : untold[status];
  const detail = told ? `${(fault as Fault).message}. ${(fault as Fault).remedy}` : (words ?? "Something went wrong here; it was logged.");
  const { issues, facts } = told ? (fault as Fault).details : ({} as Fault["details"]);
  return {
    type: typeOf(code),
    title: titles[status] ?? "Error",
    status,
    detail,
    code,
    ...(invocation === undefined ? {} : { instance: `urn:uuid:${invocation}` }),
    ...(unfinished && { unfinished }),
    ...(issues === undefined ? {} : { issues }),
    ...(facts as object | undefined),
  };
}

/** A declared refusal. Its facts are members of their own; one whose name is taken by RFC 9457 lies under `facts`. */
export function problemOfRefusal(refusal: Refused, status: number): Problem {
  const { ok: _, refused: code, ...facts } = refusal;
  const open: Record<string, unknown> = {};
  let hidden: Record<string, unknown> | undefined;
  for (const [name, fact] of Object.entries(facts)) {
    if (reserved.has(name)) (hidden ??= {})[name] = fact;
    else open[name] = fact;
  }
  return { type: typeOf(code), title: titles[status] ?? "Refused", status, detail: `Refused: ${code}.`, code, ...open, ...(hidden ? { facts: hidden } : {}) };
}

/** The refusal behind a problem that a service answered. */
export function refusalOfProblem(problem: Problem): Refused {
  const { type: _t, title: _i, status: _s, detail: _d, code, instance: _n, facts, ...open } = problem;
  return { ...open, ...(facts as object | undefined), ok: false, refused: code };
}

export function isProblem(value: unknown): value is Problem {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { code?: unknown }).code === "string" &&
    typeof (value as { status?: unknown }).status === "number"
  );
}

export function faultResponse(fault: unknown, failed?: Failed): Response {
  const headers: Record<string, string> = { "content-type": problemType };
  const { retryAfterSeconds } = ruleOf(fault);
  if (retryAfterSeconds !== undefined) headers["retry-after"] = String(retryAfterSeconds);
  if (Fault.is(fault))
    for (const [name, value] of Object.entries((fault.details["headers"] as Record<string, string> | undefined) ?? {})) headers[name] = value;
  const problem = problemOfFault(fault, failed);
  return new Response(JSON.stringify(problem), { status: problem.status, headers });
}

function typeOf(code: string): string {
  return `urn:trestle:problem:${code}`;
}
