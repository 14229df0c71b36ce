/** Handlers for interfaces that were declared without one. */
export { implement } from "./implement.ts";
export type { Behaviour, Implementation } from "./implement.ts";
