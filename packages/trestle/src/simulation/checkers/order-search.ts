/**
 * Is there an order of these operations, one after the other, in which each is answered as the specification answers? A search in depth with a
 * memory of the configurations it was in: J. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of
 * G. Lowe, "Testing for linearizability" (2017), as in Porcupine. It serves both orders that are asked for:
 *
 * `real-time`: an operation that had returned before another one was invoked comes before it (linearizability). All are of one key.
 * `program`: the operations of a process come in its order, and nothing else is asked (sequential consistency).
 *
 * Operations with an answer are divided into chains, in which each follows the one before: per process, or, in real time, per caller of
 * that moment. A configuration is then the next operation of each chain, one bit for each operation of unknown outcome that was placed,
 * and the states: a row of integers of the width of the concurrency, not of the history's length. Next may come any chain's next
 * operation that was invoked before the *barrier*, the earliest end of those not yet placed; beyond it some other would have to come first.
 *
 * Three things keep it short. The next to end is tried first (Lowe's just-in-time linearization). An operation that changes no state
 * whatever (`observes`) is placed as soon as the specification accepts it, and never elsewhere: if some order has it later, the same order with it
 * moved here is as good, because the others see the same states without it. And a configuration leads nowhere if one with the same states
 * and fewer operations of unknown outcome placed led nowhere: those it has placed in vain are of no use to it.
 *
 * Both are exponential in the number of callers at once, at worst: the problem is NP-complete (P. Gibbons and E. Korach, 1997). Hence the
 * bounds. One function of more than 60 lines: a machine of which each part reads and writes the same configuration.
 */
import type { Clock } from "../../kernel/index.ts";
import { integerWithin, numberWithin, systemClock } from "../../kernel/index.ts";
import { byProcess, endOf, identityOf, sortBy, type History, type Operation } from "./history.ts";
import type { Specification } from "./specification.ts";
import { columnHash, RowSet } from "./row-set.ts";

/** What a search may cost before its verdict is `unknown`. */
export interface SearchBounds {
  /** Configurations remembered, per key where keys are searched one by one. Default 2,000,000. */
  readonly statesMax?: number;
  /** Bytes for them, likewise; those of the specification's states are estimated. Default 268,435,456 (256 MiB). */
  readonly memoryBytesMax?: number;
  /** Milliseconds for the whole check. Default: no bound, so that a verdict does not depend on the machine. */
  readonly timeMsMax?: number;
  /** What they are measured by. Default: the machine's. */
  readonly clock?: Clock;
}

/** The bounds as the search needs them. */
export interface Bounds {
  readonly statesMax: number;
  readonly memoryBytesMax: number;
  readonly timeMsMax: number;
  timeIsUp(): boolean;
}

export function searchBounds({ statesMax = 2_000_000, memoryBytesMax = 268_435_456, timeMsMax, clock = systemClock }: SearchBounds): Bounds {
  integerWithin(statesMax, "statesMax", { least: 1, most: 1_000_000_000 });
  integerWithin(memoryBytesMax, "memoryBytesMax", { least: 65_536, most: 16_000_000_000 });
  if (timeMsMax === undefined) return { statesMax, memoryBytesMax, timeMsMax: Infinity, timeIsUp: () => false };
  const untilMs = clock.monotonicMs() + numberWithin(timeMsMax, "timeMsMax", { least: 0, most: 86_400_000 });
  return { statesMax, memoryBytesMax, timeMsMax, timeIsUp: () => clock.monotonicMs() >= untilMs };
}

/** Operations are places in the list that was given. */
export type SearchAnswer<State> =
  | { readonly kind: "found"; readonly states: number; readonly order: readonly number[] }
  | { readonly kind: "none"; readonly states: number; readonly furthest: Furthest<State> }
  | { readonly kind: "gave-up"; readonly states: number; readonly why: string };

/** How far the search came that did not come through. */
export interface Furthest<State> {
  /** An order of what could be placed. */
  readonly order: readonly number[];
  /** What then could not come next. In real time the first has the earliest end. */
  readonly blocked: readonly number[];
  /** The states that a blocked operation found, whatever the order: at most four. */
  readonly states: readonly State[];
}

export function searchOrder<State, Call, Result>(
  operations: History<Call, Result>,
  specification: Specification<State, Call, Result>,
  order: "real-time" | "program",
  bounds: Bounds,
): SearchAnswer<State> {
  const { observes = () => false, identity = identityOf as (state: State) => unknown, key = (operation) => operation.key } = specification;
  const realTime = order === "real-time";
  const at = (place: number) => operations[place] as Operation<Call, Result>;
  const starts = new Float64Array(operations.length);
  const ends = new Float64Array(operations.length);
  const observer = new Uint8Array(operations.length);
  const unanswered: number[] = [];
  for (let place = 0; place < operations.length; place++) {
    starts[place] = at(place).invokedAt;
    ends[place] = endOf(at(place));
    observer[place] = observes(at(place)) ? 1 : 0;
    // What observes and has no answer says nothing. The others may come, or not.
    if (ends[place] === Infinity && !observer[place]) unanswered.push(place);
  }
  const pending = Int32Array.from(unanswered);
  const chains = realTime ? callers(operations, ends) : sequences(operations);
  const predecessor = realTime ? sameBefore(operations, pending, specification.effect) : lastBefore(operations, pending);

  const columnsOfKeys = new Map<unknown, number>();
  const firstState = chains.length;
  const stateColumn = new Int32Array(operations.length);
  for (let place = 0; place < operations.length; place++) {
    const name = key(at(place));
    let column = columnsOfKeys.get(name);
    if (column === undefined) columnsOfKeys.set(name, (column = firstState + columnsOfKeys.size));
    stateColumn[place] = column;
  }
  const states: State[] = [specification.initial];
  const idOf = new Map<unknown, number>([[identity(specification.initial), 0]]);
  let stateBytes = 0;
  const numbered = (state: State): number => {
    const name = identity(state);
    const known = idOf.get(name);
    if (known !== undefined) return known;
    idOf.set(name, states.length);
    stateBytes += typeof name === "string" ? 100 + 5 * name.length : 50; // the text, its place in the map, and the state: 8 bytes for each two letters
    return states.push(state) - 1;
  };

  const after = new Int32Array(operations.length).fill(-1);
  const chainOf = new Int32Array(operations.length);
  for (const [chain, places] of chains.entries())
    for (let i = 0; i < places.length; i++) {
      chainOf[places[i] as number] = chain;
      after[places[i] as number] = places[i + 1] ?? -1;
    }

  // The configuration: the next of each chain (-1 at its end), states, bits of the pending ones placed.
  const firstBit = firstState + columnsOfKeys.size;
  const row = new Int32Array(firstBit + Math.ceil(pending.length / 32));
  chains.forEach((places, chain) => (row[chain] = places[0] as number));
  let plainHash = 0;
  let bitHash = 0;
  for (let column = 0; column < firstBit; column++) plainHash ^= columnHash(column, row[column] as number);
  const set = (column: number, value: number) => {
    const change = columnHash(column, row[column] as number) ^ columnHash(column, value);
    if (column < firstBit) plainHash ^= change;
    else bitHash ^= change;
    row[column] = value;
  };
  const pendingIndex = new Map([...pending].map((place, index) => [place, index]));
  const placed = new Uint8Array(operations.length);
  let left = chains.reduce((sum, places) => sum + places.length, 0);

  // What was placed at each depth; `taken` is which of the specification's answers, of how many.
  const path = new Int32Array(left + pending.length);
  const stateBefore = new Int32Array(path.length);
  const taken = new Int32Array(path.length);
  const offered = new Int32Array(path.length);
  const forced = new Uint8Array(path.length);
  let depth = 0;

  const toggle = (place: number, next: number) => {
    const index = pendingIndex.get(place);
    if (index === undefined) set(chainOf[place] as number, next);
    else set(firstBit + (index >>> 5), (row[firstBit + (index >>> 5)] as number) ^ (1 << (index & 31)));
  };
  const place = (operation: number, state: number, choice: number, of: number, only: boolean) => {
    path[depth] = operation;
    stateBefore[depth] = row[stateColumn[operation] as number] as number;
    taken[depth] = choice;
    offered[depth] = of;
    forced[depth++] = only ? 1 : 0;
    placed[operation] = 1;
    if (ends[operation] !== Infinity) left--;
    toggle(operation, after[operation] as number);
    set(stateColumn[operation] as number, state);
  };
  const unplace = () => {
    const operation = path[--depth] as number;
    placed[operation] = 0;
    if (ends[operation] !== Infinity) left++;
    toggle(operation, operation);
    set(stateColumn[operation] as number, stateBefore[depth] as number);
  };

  const barrierNow = (): number => {
    let earliest = Infinity;
    if (realTime)
      for (let chain = 0; chain < chains.length; chain++) if ((row[chain] as number) >= 0) earliest = Math.min(earliest, ends[row[chain] as number] as number);
    return earliest;
  };
  /** The next to try after `last` (-1: the first): by end, then by place. -1 when there is none. */
  const candidate = (last: number, barrier: number): number => {
    let best = -1;
    const lastEnd = last < 0 ? -Infinity : (ends[last] as number);
    for (let chain = 0; chain < chains.length && lastEnd < Infinity; chain++) {
      const next = row[chain] as number;
      if (next < 0 || observer[next] || (starts[next] as number) > barrier) continue;
      const end = ends[next] as number;
      if (end < lastEnd || (end === lastEnd && next <= last)) continue;
      if (best < 0 || end < (ends[best] as number) || (end === ends[best] && next < best)) best = next;
    }
    if (best >= 0) return best;
    for (let i = lastEnd === Infinity ? (pendingIndex.get(last) as number) + 1 : 0; i < pending.length; i++) {
      const next = pending[i] as number;
      if (placed[next] || (starts[next] as number) > barrier) continue;
      if ((predecessor[i] as number) >= 0 && !placed[predecessor[i] as number]) continue;
      return next;
    }
    return -1;
  };

  const seen = new RowSet(row.length, row.length - firstBit);
  const exhausted = (): string | undefined => {
    if (seen.size >= bounds.statesMax) return `${bounds.statesMax} configurations`;
    if (seen.bytesForNext + stateBytes > bounds.memoryBytesMax) return `${bounds.memoryBytesMax} bytes (${seen.size} configurations)`;
    return (seen.size & 1_023) === 1_023 && bounds.timeIsUp() ? `${bounds.timeMsMax} ms` : undefined;
  };
  let reach = -1;
  let reachedPath = path;
  let reachedRow = row;
  const reachedStates = new Set<number>();
  const heads = (of: Int32Array) =>
    sortBy(
      [...of.subarray(0, chains.length)].filter((next) => next >= 0),
      (next) => ends[next] as number,
    );
  /** A configuration from which nothing led on. */
  const note = (barrier: number) => {
    const here = realTime ? barrier : depth;
    if (here > reach) {
      reach = here;
      reachedPath = path.slice(0, depth);
      reachedRow = row.slice();
      reachedStates.clear();
    }
    if (here === reach && reachedStates.size < 4) reachedStates.add(row[stateColumn[heads(reachedRow)[0] as number] as number] as number);
  };
  const furthestReached = (): Furthest<State> => ({
    order: [...reachedPath],
    blocked: heads(reachedRow),
    states: [...reachedStates].map((id) => states[id] as State),
  });

  configuration: for (;;) {
    let barrier = barrierNow();
    // Those that observe and are not accepted now are no candidates: they wait for another state.
    for (let chain = 0; chain < chains.length; chain++) {
      const next = row[chain] as number;
      if (next < 0 || !observer[next] || (starts[next] as number) > barrier) continue;
      const state = row[stateColumn[next] as number] as number;
      if (specification.step(states[state] as State, at(next)).length === 0) continue;
      place(next, state, 0, 1, true);
      continue configuration;
    }
    if (left === 0) return { kind: "found", states: seen.size, order: [...path.subarray(0, depth)] };

    const why = exhausted();
    if (why !== undefined) return { kind: "gave-up", states: seen.size, why };
    let last = -1;
    let choice = 0;
    let answers: readonly State[] = [];
    for (let isNew = seen.add(row, plainHash ^ bitHash, plainHash); ; isNew = true) {
      while (isNew) {
        if (choice >= answers.length) {
          last = candidate(last, barrier);
          if (last < 0) break;
          choice = 0;
          answers = specification.step(states[row[stateColumn[last] as number] as number] as State, at(last));
          continue;
        }
        const state = numbered(answers[choice++] as State);
        // What has no answer and changes nothing may as well not be.
        if (ends[last] === Infinity && state === row[stateColumn[last] as number]) continue;
        place(last, state, choice, answers.length, false);
        continue configuration;
      }
      if (isNew) note(barrier);
      do {
        if (depth === 0) return { kind: "none", states: seen.size, furthest: furthestReached() };
        unplace();
      } while (forced[depth]);
      last = path[depth] as number;
      choice = taken[depth] as number;
      answers = choice < (offered[depth] as number) ? specification.step(states[row[stateColumn[last] as number] as number] as State, at(last)) : [];
      barrier = barrierNow();
    }
  }
}

/** Chains in real time: each operation goes on after one that had ended. As many as were running at once. */
function callers(operations: History, ends: Float64Array): number[][] {
  const chains: number[][] = [];
  const free: number[] = []; // ends of the chains
  const answered = [...operations.keys()].filter((place) => ends[place] !== Infinity);
  for (const place of sortBy(answered, (place) => (operations[place] as Operation).invokedAt)) {
    let chain = 0;
    while (chain < free.length && (free[chain] as number) >= (operations[place] as Operation).invokedAt) chain++;
    free[chain] = ends[place] as number;
    (chains[chain] ??= []).push(place);
  }
  return chains;
}

/** Chains in program order: what each process did and was told of. */
function sequences(operations: History): number[][] {
  return [...byProcess(operations).values()]
    .map((own) => own.filter((place) => endOf(operations[place] as Operation) < Infinity))
    .filter((own) => own.length > 0);
}

/** Of each pending operation, the one before it that would do the same; -1 when there is none. */
function sameBefore<State, Call, Result>(
  operations: History<Call, Result>,
  pending: Int32Array,
  effect: Specification<State, Call, Result>["effect"],
): Int32Array {
  const before = new Int32Array(operations.length).fill(-1);
  const last = new Map<unknown, number>();
  for (const place of sortBy([...pending], (place) => (operations[place] as Operation).invokedAt)) {
    const does = effect?.(operations[place] as Operation<Call, Result>);
    if (does === undefined) continue;
    before[place] = last.get(does) ?? -1;
    last.set(does, place);
  }
  return pending.map((place) => before[place] as number);
}

/** Of each pending operation, the last of its process that had returned before it was invoked; -1 when there is none. */
function lastBefore(operations: History, pending: Int32Array): Int32Array {
  const before = new Int32Array(operations.length).fill(-1);
  for (const own of byProcess(operations).values()) {
    let last = -1;
    for (const place of own) {
      before[place] = last;
      if (endOf(operations[place] as Operation) < Infinity) last = place;
    }
  }
  return pending.map((place) => before[place] as number);
}
