/** What the tests of the checkers share: histories as text, random histories, checkers that try everything. */
import { seededRandom, type Random } from "../../../kernel/index.ts";
import { endOf, type History, type Operation } from "../history.ts";
import type { Specification } from "../specification.ts";
import type { RegisterCall } from "../specifications.ts";

/**
 * A history drawn as a person would: one line a process, a column a moment. `[w1 ]` is `write(1)` from the column of `[` to that of `]`, `[r1]` a read that answered 1, `[r-]`
 * one that answered null, `[c12 ]` a compare-and-set from 1 to 2 that was done, `[x12 ]` one that was refused, `[w1 ?` a write of unknown outcome,
 * `[w1 !` one that failed. Before a colon stands the key: `[x:w1]`.
 */
export function drawn(...lines: readonly string[]): History<RegisterCall, unknown> {
  const operations: Operation<RegisterCall, unknown>[] = [];
  for (const [process, line] of lines.entries()) {
    for (const match of line.matchAll(/\[(?:(\w):)?([wrcx])(-|\d)(\d?)[ ]*([\]?!])/g)) {
      const [text, key, letter, a, b, end] = match as unknown as [string, string | undefined, string, string, string, string];
      const value = a === "-" ? null : Number(a);
      const invokedAt = match.index;
      operations.push({
        process,
        ...(key !== undefined && { key }),
        call: letter === "r" ? { kind: "read" } : letter === "w" ? { kind: "write", value } : { kind: "cas", from: value, to: Number(b) },
        invokedAt,
        ...(end === "?" ? { outcome: "unknown" } : { outcome: end === "!" ? "failed" : "ok", returnedAt: invokedAt + text.length - 1 }),
        ...(end === "]" && letter !== "w" && { result: letter === "r" ? value : letter === "c" }),
      });
    }
  }
  return operations;
}

export const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
export const below = (random: Random, most: number): number => Math.floor(random.next() * most);
export const chance = (random: Random, likely: number): boolean => random.next() < likely;

/** Runs a random test with many seeds. `FUZZ_SEED=<seed>` replays one, `FUZZ_RUNS` says how many. Answers how many there were. */
export function withSeeds(file: string, runs: number, run: (random: Random, seed: string) => void): number {
  const given = process.env["FUZZ_SEED"];
  const seeds = given ? [given] : Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? runs) }, (_, i) => `${file}-${i}`);
  for (const seed of seeds) {
    try {
      run(seededRandom(seed), seed);
    } catch (cause) {
      throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/trestle/src/simulation/checkers/${file}`, { cause });
    }
  }
  return seeds.length;
}

/** Times of processes that do one thing after the other; on a scale so small that many fall together. What is to be called and answered is left to the caller. */
export function randomTimes(
  random: Random,
  { processes, each, span, unknown = 0.2 }: { readonly processes: number; readonly each: number; readonly span: number; readonly unknown?: number },
): Operation<undefined>[] {
  const operations: Operation<undefined>[] = [];
  for (let process = 0; process < processes; process++) {
    let moment = below(random, span);
    for (let i = 1 + below(random, each); i > 0; i--) {
      const invokedAt = moment;
      moment += below(random, span);
      if (chance(random, unknown)) operations.push({ process, call: undefined, invokedAt, outcome: "unknown" });
      else operations.push({ process, call: undefined, invokedAt, outcome: "ok", returnedAt: moment });
      moment += below(random, span >> 1);
    }
  }
  return operations;
}

export const comesBeforeInRealTime = (one: Operation, other: Operation): boolean => endOf(one) < other.invokedAt;
export const comesBeforeOnItsProcess = (one: Operation, other: Operation, history: History): boolean =>
  one.process === other.process && endOf(one) <= other.invokedAt && history.indexOf(one) < history.indexOf(other);

/** Tries every order, with and without what has an unknown outcome. For six operations or so. */
export function someOrderExists<State, Call, Result>(
  history: History<Call, Result>,
  specification: Specification<State, Call, Result>,
  before: (one: Operation, other: Operation, history: History) => boolean,
): boolean {
  const attempt = (left: readonly Operation<Call, Result>[], states: ReadonlyMap<unknown, State>): boolean => {
    if (left.every(({ outcome }) => outcome === "unknown")) return true;
    return left.some((next) => {
      if (left.some((other) => other !== next && before(other, next, history))) return false;
      const rest = left.filter((other) => other !== next);
      const state = states.has(next.key) ? (states.get(next.key) as State) : specification.initial;
      return specification.step(state, next).some((after) => attempt(rest, new Map(states).set(next.key, after)));
    });
  };
  return attempt(
    history.filter(({ outcome }) => outcome !== "failed"),
    new Map(),
  );
}
