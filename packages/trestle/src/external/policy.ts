/**
 * The policy of an external: gates of one's own before what leaves this node. They stand last, behind the breaker and the places, so that what a `throttle` lets go does go then, and
 * what has no place has taken nothing of it. What they decline was not called: it is no failure of the other side, and not tried again.
 *
 * A gate has state and a clock, so a policy is not given but made, once for each node; nodes of a simulation would share it. Only gates: what makes attempts of its own or bounds them
 * would be a second plan within an attempt, which the breaker and the books of a mutation see as one call. A hedge is of that kind, so it is an option of its own, around all the rest and for queries alone: of a mutation's tries the first failure wins, and a 409 of the second would be told as definite while the first is under way.
 * So it stands beside the other options, not in their place: what is to be remembered of a mutation rests on the retries and the timeout being ours.
 */
import { Fault, systemRandom, virtualClock, type Clock, type Random } from "../kernel/index.ts";
import { layersIn, type Policy } from "../resilience/index.ts";

/** For what the policy is made: the options that every gate takes, `throttle({ ...node, rate: "50/s" })`. */
export interface PolicyNode {
  /** `external "<name>"`, for faults. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
}

export type MakePolicy = (node: PolicyNode) => Policy<string>;

/** Makes one on trial, so that what is wrong with it is a fault where it is declared. Its clock stands still: whatever timers it begins never end, and hold no process. */
export function policyRule(make: MakePolicy | undefined, of: string): MakePolicy | undefined {
  if (make === undefined) return undefined;
  if (typeof make !== "function" || layersIn(make))
    throw badPolicy(`${of}: policy must be a function that makes one for each node, got ${layersIn(make) ? "a policy" : typeof make}`, asFunction);
  policyFor(make, { name: of, clock: virtualClock(), random: systemRandom });
  return make;
}

export function policyFor(make: MakePolicy, node: PolicyNode): Policy<string> {
  const policy: unknown = make(node);
  const layers = layersIn(policy);
  if (!layers) throw badPolicy(`${node.name}: policy must return a policy, got ${typeof policy}`, asFunction);
  for (const { kind } of layers)
    if (kind !== "gate")
      throw badPolicy(`${node.name}: policy may hold gates only (throttle, adaptiveThrottle, bulkhead, breaker, gatePolicy), got ${kind}`, instead[kind]);
  return policy as Policy<string>;
}

const asFunction = 'Write it like policy: (node) => throttle({ ...node, rate: "50/s" }), or return a pipeline of several gates.';
const instead = {
  retry: "Say it by the external's option retry: it knows what was sent.",
  timeout: "Say it by the external's option timeout.",
  deadline: "Say it by the external's option timeout; the whole call is bound by its caller's deadline.",
  hedge: "Say it by the external's option hedge, which asks its queries twice and nothing that changes something.",
} as const;

function badPolicy(message: string, remedy: string): Fault {
  return Fault.create("external.bad-policy", message, remedy);
}
