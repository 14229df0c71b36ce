/**
 * Linearizability: each operation takes effect at one moment between its invocation and its answer (M. Herlihy and J. Wing, "Linearizability: a
 * correctness condition for concurrent objects", 1990). It is local: a history is linearizable if that of each object is, so objects are
 * searched one by one (A. Horn and D. Kroening, "Faster linearizability checking via P-compositionality", 2015).
 */
import { Findings, type Checked } from "./checked.ts";
import { checkOperations, endOf, grouped, inWords, type History, type Operation } from "./history.ts";
import type { Specification } from "./specification.ts";
import { stateInWords } from "./specifications.ts";
import { searchBounds, searchOrder, type Furthest, type SearchBounds } from "./order-search.ts";

/**
 * Problems: `not-linearizable` once per object, with the operation that has no place in any order of what came before it, those that ran beside it, and
 * the states it could have met; `gave-up` when a bound was reached. Keep a key below ten callers at once and a few hundred operations, or
 * write each value once, and no bound will be. Faults `history.bad-operation`, `option.out-of-range`.
 */
export function checkLinearizable<State, Call, Result>(
  history: History<Call, Result>,
  specification: Specification<State, Call, Result>,
  options: SearchBounds = {},
): Checked {
  checkOperations(history);
  const bounds = searchBounds(options);
  const findings = new Findings(history.length);
  const key = specification.key ?? ((operation: Operation<Call, Result>) => operation.key);
  const effective = [...history.keys()].filter((place) => (history[place] as Operation).outcome !== "failed");
  for (const [name, places] of grouped(effective, (place) => key(history[place] as Operation<Call, Result>))) {
    const operations = places.map((place) => history[place] as Operation<Call, Result>);
    const original = (own: readonly number[]) => own.map((place) => places[place] as number);
    const title = name === undefined ? specification.name : `${specification.name} ${name}`;

    const decision = specification.decide?.(operations);
    if (decision) {
      findings.states += operations.length;
      if (!decision.ok) findings.violation("not-linearizable", `${title}: ${decision.text}`, original(decision.operations));
      continue;
    }
    const answer = searchOrder(operations, specification, "real-time", bounds);
    findings.states += answer.states;
    if (answer.kind === "gave-up")
      findings.unknown(
        "gave-up",
        `${title}: no answer within ${answer.why} for ${operations.length} operations; use more keys, fewer callers or values that are written once`,
        original([]),
      );
    if (answer.kind === "none") {
      const { text, about } = explained(operations, specification, answer.furthest);
      findings.violation("not-linearizable", `${title}: ${text}`, original(about));
    }
  }
  return findings.checked();
}

function explained<State, Call, Result>(
  operations: History<Call, Result>,
  specification: Specification<State, Call, Result>,
  { order, blocked: [blocked = -1], states }: Furthest<State>,
): { readonly text: string; readonly about: readonly number[] } {
  const stuck = operations[blocked] as Operation;
  const before = operations.filter((operation) => endOf(operation) < endOf(stuck)).length;
  const beside = [...operations.keys()].filter((place) => {
    const other = operations[place] as Operation;
    return place !== blocked && other.invokedAt <= endOf(stuck) && endOf(other) >= stuck.invokedAt;
  });
  const list = beside.slice(0, 10).map((place) => inWords(operations[place] as Operation));
  const last = order.filter((place) => !beside.includes(place)).at(-1);
  return {
    text: [
      `no order has a place for ${inWords(stuck)}.`,
      `The ${before} operations that ended before it can be ordered${last === undefined ? "" : `, the last of them ${inWords(operations[last] as Operation)}`};`,
      `whatever their order, it meets ${states.map((state) => stateInWords(specification, state)).join(" or ")}.`,
      beside.length === 0 ? "Nothing ran beside it." : `Beside it ran ${list.join("; ")}${beside.length > 10 ? ` and ${beside.length - 10} more` : ""}.`,
    ].join(" "),
    about: [blocked, ...beside],
  };
}
