/**
 * What lets calls pass on one node, and turns others away: the admission of a service, its limits, what stands before a system outside (places and a breaker), and the places of a queue's handlers. Its
 * decisions of the last minute, by what was decided, and how it stands now.
 */
import type { BreakerState } from "../resilience/index.ts";
import { trafficOf, TrafficWindow } from "./traffic.ts";

export interface GateView {
  readonly component: string;
  /** `admission`, `calls` (to a system outside), `jobs` (of a queue), or `limit <name>`. */
  readonly gate: string;
  /** A second, in the last minute: `admitted`, or why not. Of `calls` only what was turned away or failed, and additional tries (`hedge-won`, `hedge-lost`): what was asked is the component's traffic. */
  readonly decisions: Readonly<Record<string, number>>;
  /** Of admission, of calls with `concurrency`, and of jobs. */
  readonly room?: Room;
  /** Of calls, from its first change on. */
  readonly breaker?: BreakerState["kind"];
}
export interface Room {
  readonly running: number;
  readonly places: number;
  readonly waiting: number;
  /** Of admission and jobs: of those that run, how many go on though nobody waits for them any more. */
  readonly overdue?: number;
  /** Of jobs: how many places there are is found. */
  readonly adaptive?: boolean;
}

interface Gate {
  /** Several of one name: a decision is counted for each operation or priority. */
  readonly windows: { readonly decision: string; readonly window: TrafficWindow }[];
  look: (() => Room) | undefined;
  breaker: BreakerState["kind"] | undefined;
}

export class Gates {
  readonly #gates = new Map<string, Map<string, Gate>>();

  gate(component: string, name: string): Gate {
    let ofComponent = this.#gates.get(component);
    if (!ofComponent) this.#gates.set(component, (ofComponent = new Map()));
    let gate = ofComponent.get(name);
    if (!gate) ofComponent.set(name, (gate = { windows: [], look: undefined, breaker: undefined }));
    return gate;
  }

  /** Where decisions of this kind are counted. */
  window(component: string, name: string, decision: string): TrafficWindow {
    const window = new TrafficWindow();
    this.gate(component, name).windows.push({ decision, window });
    return window;
  }

  view(nowMs: number, sinceMs: number): readonly GateView[] {
    return [...this.#gates].flatMap(([component, gates]) =>
      [...gates].map(([gate, { windows, look, breaker }]): GateView => {
        const decisions: Record<string, number> = {};
        for (const { decision, window } of windows) decisions[decision] = (decisions[decision] ?? 0) + trafficOf([window], nowMs, sinceMs).perSecond;
        return { component, gate, decisions, ...(look && { room: look() }), ...(breaker && { breaker }) };
      }),
    );
  }
}

const breakerStates: readonly BreakerState["kind"][] = ["closed", "half-open", "open"];

/** Of several processes: rates and places add up, and of breakers the one that is furthest from closed is shown. */
export function gatesOfAll(all: readonly (readonly GateView[])[]): readonly GateView[] {
  const sums = new Map<string, GateView>();
  for (const one of all.flat()) {
    const key = `${one.component} ${one.gate}`;
    const before = sums.get(key);
    sums.set(key, before ? sumOf(before, one) : one);
  }
  return [...sums.values()];
}

function sumOf(a: GateView, b: GateView): GateView {
  const decisions: Record<string, number> = { ...a.decisions };
  for (const [decision, perSecond] of Object.entries(b.decisions)) decisions[decision] = (decisions[decision] ?? 0) + perSecond;
  const room = a.room && b.room ? plus(a.room, b.room) : (a.room ?? b.room);
  const breaker = breakerStates[Math.max(breakerStates.indexOf(a.breaker ?? "closed"), breakerStates.indexOf(b.breaker ?? "closed"))] as BreakerState["kind"];
  return { component: a.component, gate: a.gate, decisions, ...(room && { room }), ...((a.breaker ?? b.breaker) && { breaker }) };
}

const plus = (a: Room, b: Room): Room => ({
  running: a.running + b.running,
  places: a.places + b.places,
  waiting: a.waiting + b.waiting,
  overdue: (a.overdue ?? 0) + (b.overdue ?? 0),
  ...((a.adaptive || b.adaptive) && { adaptive: true }),
});
