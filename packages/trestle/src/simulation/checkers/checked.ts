/** What every checker answers. */

/**
 * `ok`: what was to be checked holds of this history. `violation`: it certainly does not. `unknown`: a bound was reached, or the history
 * does not say enough, before either was certain; a violation found on the way is still a violation.
 */
export type Verdict = "ok" | "violation" | "unknown";

export interface Problem {
  readonly verdict: "violation" | "unknown";
  /** What kind of problem, by the name the field has for it: `not-linearizable`, `G1a`, `lost`. For `unknown`: `gave-up` or `not-looked`. */
  readonly kind: string;
  /** For people: which operations, and why they cannot be. */
  readonly text: string;
  /** The operations it is about, as places in the history. */
  readonly operations: readonly number[];
}

export interface Checked {
  readonly verdict: Verdict;
  /** At most 100; one more says how many were left out. Empty when `ok`. */
  readonly problems: readonly Problem[];
  /** How much was looked at: a check of nothing is `ok` too. */
  readonly explored: {
    readonly operations: number;
    /** Configurations of a search, edges of a graph, pairs compared; 0 where a checker only passes over the operations. */
    readonly states: number;
  };
}

const problemsMax = 100;

/** Collects what a checker finds. */
export class Findings {
  states = 0;
  readonly #operations: number;
  readonly #problems: Problem[] = [];
  readonly #left = { violation: 0, unknown: 0 };

  constructor(operations: number) {
    this.#operations = operations;
  }

  get count(): number {
    return this.#problems.length;
  }

  violation(kind: string, text: string, operations: readonly number[]): void {
    this.add({ verdict: "violation", kind, text, operations });
  }

  unknown(kind: "gave-up" | "not-looked", text: string, operations: readonly number[] = []): void {
    this.add({ verdict: "unknown", kind, text, operations });
  }

  add(problem: Problem): void {
    if (this.#problems.length < problemsMax) this.#problems.push(problem);
    else this.#left[problem.verdict]++;
  }

  checked(): Checked {
    const problems = this.#problems.slice();
    for (const verdict of ["violation", "unknown"] as const)
      if (this.#left[verdict] > 0) problems.push({ verdict, kind: "more", text: `and ${this.#left[verdict]} more`, operations: [] });
    return { verdict: worst(problems.map((problem) => problem.verdict)), problems, explored: { operations: this.#operations, states: this.states } };
  }
}

/** Several checks as one: the worst verdict, all problems. */
export function allOf(...checks: readonly Checked[]): Checked {
  return {
    verdict: worst(checks.map(({ verdict }) => verdict)),
    problems: checks.flatMap(({ problems }) => problems),
    explored: {
      operations: checks.reduce((sum, { explored }) => sum + explored.operations, 0),
      states: checks.reduce((sum, { explored }) => sum + explored.states, 0),
    },
  };
}

function worst(verdicts: readonly Verdict[]): Verdict {
  return verdicts.includes("violation") ? "violation" : verdicts.includes("unknown") ? "unknown" : "ok";
}
