/** Time limits: of a whole call, and of each of its attempts. */
import { DueList, positiveMs, systemClock, type Duration } from "../kernel/index.ts";
import { runnerOf } from "./plan.ts";
import { policyOf, type Policy } from "./policy.ts";

/** The whole call, its attempts and the waits between them, is answered within this, or sooner when the context's deadline comes first. Fault: `deadline.exceeded`, `details.scope` `call`. */
export function deadline(within: Duration): Policy<"deadline.exceeded"> {
  return bounding("deadline", within);
}

/**
 * Each attempt has this long, and never longer than the call. At its end its signal aborts and its caller goes on, also when the operation does not
 * listen: it then goes on by itself, and still counts as running wherever running is counted. Fault: `deadline.exceeded`, `details.scope` `attempt`.
 */
export function timeout(within: Duration): Policy<"deadline.exceeded"> {
  return bounding("timeout", within);
}

function bounding(kind: "deadline" | "timeout", within: Duration): Policy<"deadline.exceeded"> {
  const ms = positiveMs(within, kind);
  return policyOf({ kind, declines: ["deadline.exceeded"], ms, alone: () => runnerOf({ [kind]: new DueList(ms, systemClock) }) });
}
