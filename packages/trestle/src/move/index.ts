/** Moves a store to another engine while it is used. */
export { abandonMove, move } from "./move.ts";
export type { MoveOptions, MoveReport, MoveStepReport } from "./move.ts";
