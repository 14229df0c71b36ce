/** What adapters are given to guard calls with, checked when they are made: a call would find out too late. */
import { Fault } from "../kernel/index.ts";
import { layersIn, type Policy } from "../resilience/index.ts";

/** `of` names it in faults. Fault: `pipeline.not-a-policy`. */
export function guardOf(guard: Policy<string>, of: string): Policy<string> {
  if (layersIn(guard)) return guard;
  throw Fault.create(
    "pipeline.not-a-policy",
    `${of}: its guard is no policy, got ${guard === null ? "null" : typeof guard}`,
    "Give it what pipeline, retry, breaker, bulkhead and their like return.",
  );
}

/** One under which a call is made once: a second try would pass the gates once more, and nobody would ever leave that place. Fault: `adapters.bad-guard`. */
export function guardOfOne(guard: Policy<string>, of: string): Policy<string> {
  const again = layersIn(guardOf(guard, of))?.find(({ kind }) => kind === "retry" || kind === "hedge");
  if (!again) return guard;
  throw Fault.create(
    "adapters.bad-guard",
    `${of}: a handler runs once, so its guard must be without retry and hedge, got one with ${again.kind}`,
    "Guard the edge with a bulkhead, a breaker, or a pipeline of such; retry where a handler calls others.",
  );
}

/** What a call would ask and could not. `of` names it in faults. Fault: `option.out-of-range`. */
export function assertFunctions(options: Readonly<Record<string, unknown>>, of: string): void {
  for (const [option, given] of Object.entries(options)) {
    if (typeof given === "function") continue;
    throw Fault.create("option.out-of-range", `${of}.${option} must be a function, got ${given === null ? "null" : typeof given}`, "Give it a function.");
  }
}
