/** Foreign systems: calls with a key, a timeout, retries and a breaker; changes are recovery points. */
export { dependencyOf, external, mutation, query } from "./external.ts";
export type { HealthState } from "./health.ts";
export type {
  AnyOperation,
  Dependency,
  External,
  ExternalHandle,
  ExternalSpec,
  HealthCheck,
  Mutation,
  MutationSpec,
  OnlyInADurableHandler,
  Query,
} from "./external.ts";
export { exchange, jsonOf } from "./transport.ts";
export type { Wire } from "./wire.ts";
