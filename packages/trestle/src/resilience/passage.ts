/**
 * The gates of a pipeline, in their order, and how an attempt goes through them. It comes to a pipeline with its first gate: who only retries has none of this.
 *
 * The first two are asked by name instead of from a list, because that is what most pipelines have, and loops over lists cost a call that succeeds a tenth more.
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
  readonly #first: Gate;
  readonly #second: Gate | undefined;

  /** Of at least one gate. */
  constructor(gates: readonly Gate[]) {
    const [first, second] = gates;
    this.#gates = gates;
    this.#first = first as Gate;
    this.#second = second;
  }

  /** Through the gates that it has not passed: 0 when it has passed all, else what the one before which it stands has answered: `declined` or `waits`. */
  enter(passing: Passing, nowMs: number): number {
    if (passing.passed === 0) {
      const token = this.#first.enter(passing, nowMs);
      if (token < 0) return token;
      passing.first = token;
      passing.passed = 1;
    }
    if (passing.passed === 1 && this.#second !== undefined) {
      const token = this.#second.enter(passing, nowMs);
      if (token < 0) return token;
      passing.second = token;
      passing.passed = 2;
    }
    return passing.passed === this.#gates.length ? 0 : this.#enterOthers(passing, nowMs);
  }

  #enterOthers(passing: Passing, nowMs: number): number {
    for (const gate of this.#gates.slice(passing.passed)) {
      const token = gate.enter(passing, nowMs);
      if (token < 0) return token;
      this.admitted(passing, token);
    }
    return 0;
  }

  /** The gate before which it stands has let it pass. */
  admitted(passing: Passing, token: number): void {
    const at = passing.passed++;
    if (at === 0) passing.first = token;
    else if (at === 1) passing.second = token;
    else (passing.others ??= []).push(token);
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
    this.ended(passing, true);
  }

  answered(passing: Passing, answer: Answer): void {
    const { passed } = passing;
    if (passed > 0) this.#first.answered?.(passing, passing.first, answer);
    if (passed > 1) (this.#second as Gate).answered?.(passing, passing.second, answer);
    for (let at = 2; at < passed; at++) this.#gates[at]?.answered?.(passing, passing.others?.[at - 2] as number, answer);
  }

  ended(passing: Passing, unheard: boolean): void {
    const { passed } = passing;
    if (passed > 0) this.#first.ended?.(passing, passing.first, unheard);
    if (passed > 1) (this.#second as Gate).ended?.(passing, passing.second, unheard);
    for (let at = 2; at < passed; at++) this.#gates[at]?.ended?.(passing, passing.others?.[at - 2] as number, unheard);
  }
}

/** A gate as a policy. Called by itself it counts time by the gate's own clock; in a pipeline by the pipeline's. */
export function gatePolicy<Declines extends string>(name: string, gate: Gate<Declines>, clock: Clock = systemClock): Policy<Declines> {
  const passage = (gates: readonly Gate[]) => new Passage(gates);
  return policyOf({ kind: "gate", declines: [gate.refused], name, gate, passage, alone: () => runnerOf({ clock, passage: passage([gate]) }) });
}
