/** Kinds of your own. */
export { kind } from "./kind.ts";
export type { Declared, KindDefinition, Reads, RunningKind, Writes } from "./kind.ts";
