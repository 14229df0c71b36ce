/** Degradation: routes that answer with less while what they need is not there, by a policy that may change while they run. */
export { checkHold, degradation, Ladders } from "./degradation.ts";
export type { Degradation, DegradationOptions } from "./degradation.ts";
export { badPolicy, levelOf, rulesOf, rungs } from "./policies.ts";
export type { Burn, PlaceOf, Policies, RoutePolicy, RouteRules, Rung, Trigger, TriggerRules } from "./policies.ts";
export { followPolicies, policiesOf, readPolicies } from "./policy-file.ts";
export type { FollowedFile, KnownFlaws, ReadPolicies } from "./policy-file.ts";
export { degradedHeader, RouteLadder } from "./route-ladder.ts";
export type { AnsweredBy, AnswerOptions, Answers, RouteState, RungChange } from "./route-ladder.ts";
export type { Flaw } from "./schema-check.ts";
export { Outcomes } from "./outcomes.ts";
export type { Admitted, Signals } from "./trigger.ts";
