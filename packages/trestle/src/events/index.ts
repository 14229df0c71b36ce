/** Events: aggregates decide them, projections fold them into rows. */
export { aggregate, command } from "./aggregate.ts";
export type { Accepted, Aggregate, AggregateHandle, AggregateSpec, AggregateView, Command, Decision, Emit, Emitted, Evolve, Signature } from "./aggregate.ts";
export { projection } from "./projection.ts";
export type { Folds, Projection, ProjectionSpec, ProjectionView } from "./projection.ts";
