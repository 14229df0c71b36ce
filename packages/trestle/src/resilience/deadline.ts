/** Time limits: of a whole call, and of each of its attempts. */
import { durationMs, Fault, type Duration } from "../kernel/index.ts";
import { policyOf } from "./pipeline.ts";
import type { Policy } from "./policy.ts";

/** The whole call, its attempts and the waits between them, is answered within this, or sooner when the context's deadline comes first. Fault: `deadline.exceeded`, `details.scope` `call`. */
export function deadline(within: Duration): Policy<"deadline.exceeded"> {
  return policyOf({ kind: "deadline", ms: bound(within, "deadline") });
}

/**
 * Each attempt has this long, and never longer than the call. At its end its signal aborts and its caller goes on, also when the operation does not
 * listen: it then goes on by itself, and still counts as running wherever running is counted. Fault: `deadline.exceeded`, `details.scope` `attempt`.
 */
export function timeout(within: Duration): Policy<"deadline.exceeded"> {
  return policyOf({ kind: "timeout", ms: bound(within, "timeout") });
}

function bound(within: Duration, option: string): number {
  const ms = durationMs(within, option);
  if (ms > 0) return ms;
  throw Fault.create("option.out-of-range", `${option} must be above 0, got ${JSON.stringify(within)}`, `Give the ${option} some time.`);
}
