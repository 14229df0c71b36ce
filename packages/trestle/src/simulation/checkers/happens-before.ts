/**
 * Clocks held against what happened: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978. An event happens before another one if it
 * comes earlier on its process, or was the send of what the other one received, or by a chain of these.
 */
import { Findings, type Checked } from "./checked.ts";
import { DependencyGraph } from "./dependency-graph.ts";
import { byProcess, checkOperations, inWords, type History, type Operation } from "./history.ts";

export type ClockCall =
  { readonly kind: "local" } | { readonly kind: "send"; readonly message: string | number } | { readonly kind: "receive"; readonly message: string | number };

export interface ClockOptions<Stamp> {
  /** How two stamps stand. For clocks that order everything `concurrent` never comes. */
  readonly compare: (one: Stamp, other: Stamp) => "before" | "after" | "equal" | "concurrent";
  /** The stamps also say when neither event happened before the other (vector clocks). Compares all pairs. Default false. */
  readonly characterises?: boolean;
  /** Pairs compared before the verdict is `unknown`. Default 10,000,000: some 4,400 events. */
  readonly pairsMax?: number;
}

/**
 * Of events whose result is their stamp: what happens before something has the smaller stamp. Problems: `clock-inconsistent`; with `characterises` also
 * `clock-too-strong` (an order between concurrent events); `received-unsent`; `clock-circle` (no stamps can be right); `gave-up`.
 * Faults `history.bad-operation`, `history.process-overlaps`.
 */
export function checkClock<Stamp>(events: History<ClockCall, Stamp>, { compare, characterises = false, pairsMax = 10_000_000 }: ClockOptions<Stamp>): Checked {
  checkOperations(events);
  const findings = new Findings(events.length);
  const graph = new DependencyGraph(events.length);
  const at = (place: number) => events[place] as Operation<ClockCall, Stamp>;
  for (const own of byProcess(events).values()) for (let i = 1; i < own.length; i++) graph.add(own[i - 1] as number, own[i] as number, 1);
  const sends = new Map([...events.entries()].flatMap(([place, { call }]) => (call.kind === "send" ? [[call.message, place] as const] : [])));
  for (const [place, { call }] of events.entries()) {
    if (call.kind !== "receive") continue;
    const send = sends.get(call.message);
    if (send === undefined) findings.violation("received-unsent", `nobody sent what this received: ${inWords(at(place))}`, [place]);
    else graph.add(send, place, 1);
  }
  const [circle] = graph.components(1);
  if (circle)
    findings.violation(
      "clock-circle",
      `these events would each happen before the others: ${circle
        .slice(0, 10)
        .map((place) => inWords(at(place)))
        .join("; ")}`,
      circle,
    );

  // Where each single step rises, so does every chain of them.
  for (let edge = 0; edge < graph.edges; edge++) {
    const [one, other] = [graph.from(edge), graph.to(edge)];
    const how = compare(at(one).result as Stamp, at(other).result as Stamp);
    if (how !== "before")
      findings.violation(
        "clock-inconsistent",
        `${inWords(at(one))} happened before ${inWords(at(other))}, and its stamp is ${how === "after" ? "after" : how === "equal" ? "equal to" : "concurrent with"} that one's`,
        [one, other],
      );
  }
  findings.states = graph.edges;
  if (!characterises || circle) return findings.checked();
  const pairs = (events.length * (events.length - 1)) / 2;
  if (pairs > pairsMax) findings.unknown("gave-up", `${pairs} pairs of events are more than ${pairsMax}`);
  else comparePairs(events, graph, compare, findings);
  return findings.checked();
}

/** All pairs, against the set of events that each one reaches. */
function comparePairs<Stamp>(events: History<ClockCall, Stamp>, graph: DependencyGraph, compare: ClockOptions<Stamp>["compare"], findings: Findings): void {
  const { starts, order } = graph.index();
  const reached = new Uint8Array(events.length);
  const stamp = (place: number) => events[place]?.result as Stamp;
  for (let place = 0; place < events.length; place++) {
    reached.fill(0);
    const open = [place];
    for (let node = open.pop(); node !== undefined; node = open.pop())
      for (let i = starts[node] as number; i < (starts[node + 1] as number); i++) {
        const next = graph.to(order[i] as number);
        if (reached[next]) continue;
        reached[next] = 1;
        open.push(next);
      }
    for (let other = 0; other < events.length; other++) {
      if (other === place || reached[other]) continue;
      const how = compare(stamp(place), stamp(other));
      if (how !== "before" && !(how === "equal" && place < other)) continue;
      findings.violation(
        "clock-too-strong",
        `${inWords(events[place] as Operation)} did not happen before ${inWords(events[other] as Operation)}, and its stamp is ${how === "before" ? "before" : "equal to"} that one's`,
        [place, other],
      );
    }
    findings.states += events.length - 1;
  }
}
