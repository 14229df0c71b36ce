/**
 * Sequential consistency: all operations have one order in which each process finds its own (L. Lamport, "How to make a multiprocessor computer that
 * correctly executes multiprocess programs", 1979). Real time does not count: a read may be late, if nothing that its process knows is later.
 * It is not local: two objects that are each sequentially consistent need not be so together, so all keys are searched at once.
 */
import { Findings, type Checked } from "./checked.ts";
import { checkOperations, inWords, type History, type Operation } from "./history.ts";
import type { Specification } from "./specification.ts";
import { stateInWords } from "./specifications.ts";
import { searchBounds, searchOrder, type SearchBounds } from "./order-search.ts";

/**
 * Problems: `not-sequential`, with the longest order that was found and what could not follow it; `gave-up` when a bound was reached, which a history of
 * more than some hundred writes by several processes may do. Faults `history.bad-operation`, `history.process-overlaps`, `option.out-of-range`.
 */
export function checkSequential<State, Call, Result>(
  history: History<Call, Result>,
  specification: Specification<State, Call, Result>,
  options: SearchBounds = {},
): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const places = [...history.keys()].filter((place) => (history[place] as Operation).outcome !== "failed");
  const operations = places.map((place) => history[place] as Operation<Call, Result>);
  const answer = searchOrder(operations, specification, "program", searchBounds(options));
  findings.states += answer.states;
  if (answer.kind === "gave-up") findings.unknown("gave-up", `no answer within ${answer.why} for ${operations.length} operations`);
  if (answer.kind === "none") {
    const { order, blocked, states } = answer.furthest;
    const words = (list: readonly number[]) => list.map((place) => inWords(operations[place] as Operation)).join("; ");
    findings.violation(
      "not-sequential",
      `no order of all processes: at most ${order.length} of ${operations.length} operations can be ordered${order.length === 0 ? "" : `, ending with ${words(order.slice(-3))}`}; then none of these can follow: ${words(blocked.slice(0, 10))}. The first of them meets ${states.map((state) => stateInWords(specification, state)).join(" or ")}.`,
      blocked.map((place) => places[place] as number),
    );
  }
  return findings.checked();
}
