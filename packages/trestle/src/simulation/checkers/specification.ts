/** What an object does when one asks it one thing at a time: the specification that a history of many callers is held to. */
import type { Operation } from "./history.ts";

export interface Specification<State = unknown, Call = unknown, Result = unknown> {
  /** For people: `register`. */
  readonly name: string;
  readonly initial: State;
  /**
   * The states in which this operation may leave the object, if it takes effect now with the answer that its caller got; none when it cannot have
   * taken effect here. Of an operation with an unknown outcome the answer is not known: what it may do, whatever it would have answered.
   * Must change nothing, and answer the same each time.
   */
  step(state: State, operation: Operation<Call, Result>): readonly State[];
  /** This operation, with this answer, changes no state whatever: a read, a compare-and-set that was refused. Saying so shortens a search by orders of magnitude. */
  observes?(operation: Operation<Call, Result>): boolean;
  /**
   * What this operation does if it takes effect, whoever asked for it and whenever: of two with an unknown outcome and the same effect only the one that was asked for first
   * is tried, and then the other one. `undefined`: it is tried by itself.
   */
  effect?(operation: Operation<Call, Result>): unknown;
  /** Operations with different keys have nothing to do with each other. Default: their `key`. */
  key?(operation: Operation<Call, Result>): string | number | undefined;
  /** Two states are the same exactly when this is. Default: a primitive itself, else its JSON. */
  identity?(state: State): unknown;
  /** A state for people. Default: its JSON. */
  describe?(state: State): string;
  /** Judges operations of one key without a search, where their form allows it; `undefined` where it does not. Failed ones are left out beforehand. */
  decide?(operations: readonly Operation<Call, Result>[]): Decision | undefined;
}

/** Operations as places in the list that was given. */
export type Decision = { readonly ok: true } | { readonly ok: false; readonly text: string; readonly operations: readonly number[] };
