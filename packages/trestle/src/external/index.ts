/** Foreign systems: calls with a key, a timeout, retries and a breaker; changes are recovery points. */
export { external, mutation, query } from "./external.ts";
export type { AnyOperation, External, ExternalHandle, ExternalSpec, Mutation, MutationSpec, OnlyInADurableHandler, Query } from "./external.ts";
export { exchange, jsonOf } from "./transport.ts";
export type { Wire } from "./wire.ts";
