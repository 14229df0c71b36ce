/**
 * The gates of a pipeline, in their order, and how an attempt goes through them. It comes to a pipeline with its first gate: who only retries has none of this.
 *
 * Which gates hear of answers and of ends is known beforehand, so that nobody is asked twice for each call whether it wants to.
 */
import { Fault, systemClock, type Clock } from "../kernel/index.ts";
import { runnerOf } from "./plan.ts";
import type { Answer, Caller, Gate } from "./gate.ts";
import { policyOf, type Policy } from "./policy.ts";

/** What an attempt keeps on its way. */
export interface Passing extends Caller {
  /** How many gates have let it pass. */
  passed: number;
  /** Of the first two gates, which need no list, and of the others. */
  first: number;
  second: number;
  others: number[] | undefined;
}

export class Passage {
  readonly #gates: readonly Gate[];
  readonly #hear: readonly number[];
  readonly #hold: readonly number[];

  constructor(gates: readonly Gate[]) {
    this.#gates = gates;
    this.#hear = gates.flatMap((gate, at) => (gate.answered ? [at] : []));
    this.#hold = gates.flatMap((gate, at) => (gate.ended ? [at] : []));
  }

  /** Through the gates that it has not passed: 0 when it has passed all, else what the one before which it stands has answered: `declined` or `waits`. */
  enter(passing: Passing, nowMs: number): number {
    const gates = this.#gates;
    for (let at = passing.passed; at < gates.length; at++) {
      const token = (gates[at] as Gate).enter(passing, nowMs);
      if (token < 0) {
        passing.passed = at;
        return token;
      }
      keep(passing, at, token);
    }
    passing.passed = gates.length;
    return 0;
  }

  /** The gate before which it waits has let it pass. */
  admitted(passing: Passing, token: number): void {
    keep(passing, passing.passed++, token);
  }

  /** Why the gate before which it stands has declined it. Attempts before this one failed with `cause`. */
  fault(passing: Passing, nowMs: number, cause: unknown): Fault {
    const fault = (this.#gates[passing.passed] as Gate).fault(passing, nowMs);
    if (cause === undefined) return fault;
    return Fault.create(fault.code as `${string}.${string}`, fault.message, fault.remedy, { cause, details: fault.details });
  }

  /** It does not wait any longer before the gate where it stands. */
  leave(passing: Passing, nowMs: number): void {
    this.#gates[passing.passed]?.leave?.(passing, nowMs);
    this.backOut(passing);
  }

  /**
   * Its caller is gone before it has ended. One that left less than a tenth of the usual time says nothing about the other side; one that left more does, or else a dependency that
   * hangs would never open the breaker of callers whose deadlines are shorter than the timeout.
   */
  left(passing: Passing, timedOut: boolean, usualMs: number): void {
    const hardlyWaited = usualMs < Infinity && passing.untilMs - passing.startedMs < usualMs / 10;
    this.answered(passing, timedOut && !hardlyWaited ? "unwell" : "unknown");
  }

  /** The gates that let it pass hear that nothing came of it. */
  backOut(passing: Passing): void {
    this.answered(passing, "unknown");
    this.ended(passing);
  }

  answered(passing: Passing, answer: Answer): void {
    for (const at of this.#hear) if (at < passing.passed) this.#gates[at]?.answered?.(passing, tokenOf(passing, at), answer);
  }

  ended(passing: Passing): void {
    for (const at of this.#hold) if (at < passing.passed) this.#gates[at]?.ended?.(passing, tokenOf(passing, at));
  }
}

function keep(passing: Passing, at: number, token: number): void {
  if (at === 0) passing.first = token;
  else if (at === 1) passing.second = token;
  else (passing.others ??= [])[at - 2] = token;
}

function tokenOf(passing: Passing, at: number): number {
  return at === 0 ? passing.first : at === 1 ? passing.second : ((passing.others as number[])[at - 2] as number);
}

/** A gate as a policy. Called by itself it counts time by the gate's own clock; in a pipeline by the pipeline's. */
export function gatePolicy<Declines extends string>(name: string, gate: Gate<Declines>, clock: Clock = systemClock): Policy<Declines> {
  const passage = (gates: readonly Gate[]) => new Passage(gates);
  return policyOf({ kind: "gate", declines: [gate.refused], name, gate, passage, alone: () => runnerOf({ clock, passage: passage([gate]) }) });
}
