/**
 * How the context crosses a process: HTTP header fields, written by whoever calls and read by whoever is called. Time goes as what is left of it, because two clocks
 * do not agree; trace and baggage are W3C Trace Context.
 */
import type { AmbientContext } from "./context.ts";
import { incomingTrace } from "./trace.ts";

/** Milliseconds of the caller's time that are left. */
export const deadlineHeader = "trestle-deadline-ms";
/** Of what set this call off: the same over every process it reaches. */
export const correlationHeader = "trestle-correlation-id";
/** `high` or `low`; without it normal. */
export const priorityHeader = "trestle-priority";
/** 2 and more: the caller has asked before, and would ask again. Whoever is called does not repeat its own calls. */
export const attemptHeader = "trestle-attempt";

/** What a call says of the context it is made in. `remainingMs` is that of the call itself, `attempt` which one of it this is. */
export function contextHeaders(
  context: AmbientContext,
  { remainingMs, attempt = 1 }: { readonly remainingMs: number; readonly attempt?: number },
): Record<string, string> {
  const headers: Record<string, string> = {};
  if (remainingMs < Infinity) headers[deadlineHeader] = String(Math.max(0, Math.floor(remainingMs)));
  if (context.priority !== "normal") headers[priorityHeader] = context.priority;
  if (attempt > 1 || context.repeated) headers[attemptHeader] = String(Math.max(2, attempt));
  if (context.correlation !== undefined) headers[correlationHeader] = context.correlation;
  if (context.traceparent !== undefined) headers["traceparent"] = context.traceparent;
  if (context.tracestate !== undefined) headers["tracestate"] = context.tracestate;
  return headers;
}

/**
 * What a caller said; `undefined` when it said nothing. Whatever is not as it should be is left out: a caller can shorten its own time and lower its own
 * priority, and is believed a `high` one only with `trusted`.
 */
export function contextOfHeaders(
  headers: { get(name: string): string | null },
  { nowMs, trusted = false }: { readonly nowMs: number; readonly trusted?: boolean },
): Partial<AmbientContext> | undefined {
  const traceparent = headers.get("traceparent");
  const deadline = headers.get(deadlineHeader);
  const correlation = headers.get(correlationHeader);
  const priority = headers.get(priorityHeader);
  const attempt = headers.get(attemptHeader);
  if (traceparent === null && deadline === null && correlation === null && priority === null && attempt === null) return undefined;
  const incoming = traceparent === null ? undefined : incomingTrace(traceparent, headers.get("tracestate") ?? undefined);
  return {
    ...(incoming && { traceparent: incoming.traceparent, tracestate: incoming.tracestate }),
    // A label that goes into envelopes: whatever does not look like an id is left out.
    ...(correlation !== null && /^[\w.:-]{1,128}$/.test(correlation) && { correlation }),
    ...(deadline !== null && /^\d{1,10}$/.test(deadline) && { deadlineMs: nowMs + Number(deadline) }),
    ...((priority === "low" || (priority === "high" && trusted)) && { priority }),
    ...(attempt !== null && /^([2-9]|[1-9]\d{1,3})$/.test(attempt) && { repeated: true }),
  };
}
