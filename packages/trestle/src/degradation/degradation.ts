/** degradation: the ladders of all routes of one policy, on one clock and the same signals. Needs no app; an app's node has one of its own. */
import { Fault, systemClock, type Clock } from "../kernel/index.ts";
import { rulesOf, type Policies, type RouteRules, type Rung } from "./policies.ts";
import { RouteLadder, type AnsweredBy, type AnswerOptions, type Answers, type RouteState, type RungChange } from "./route-ladder.ts";
import type { Signals } from "./trigger.ts";

export interface DegradationOptions {
  readonly signals?: Signals;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Told of every change, after it. Must not throw. */
  readonly onChange?: (change: RungChange) => void;
  /** Told of every answer that was not the whole one. Must not throw. */
  readonly onAnswer?: (route: string, rung: Rung) => void;
}

export interface Degradation {
  /** Answers one request of a route; by `full` alone where no policy names the route. Faults: `degradation.unavailable`, and whatever the answers throw. */
  answer<T>(route: string, answers: Answers<T>, options?: AnswerOptions): Promise<AnsweredBy<T>>;
  /** The ladder of a route; `undefined` where no policy names it. Ask again each time: policies are replaced. */
  of(route: string): RouteLadder | undefined;
  /** By hand: the route stays on this rung until it is held on another, or released (`undefined`). Faults: `degradation.no-such-route`, `degradation.no-such-rung`. */
  hold(route: string, rung: Rung | undefined): void;
  /** Other policies from now on; when they do not fit, the fault `degradation.bad-policy`, and nothing has changed. */
  replace(policies: Policies): void;
  readonly states: readonly RouteState[];
}

/** Fault: `degradation.bad-policy`. */
export function degradation(policies: Policies, options: DegradationOptions = {}): Degradation {
  return new Ladders(rulesOf(policies), options);
}

/** As whoever reads the policies elsewhere has them. */
export class Ladders implements Degradation {
  readonly #place: ConstructorParameters<typeof RouteLadder>[1];
  #ladders: ReadonlyMap<string, RouteLadder> = new Map();
  #held: ReadonlyMap<string, Rung> = new Map();

  constructor(rules: readonly RouteRules[], { signals = {}, clock = systemClock, onChange, onAnswer }: DegradationOptions) {
    this.#place = {
      signals,
      nowMs: () => clock.monotonicMs(),
      changed: (change) => onChange?.(change),
      answered: (route, rung) => onAnswer?.(route, rung),
    };
    this.follow(rules);
  }

  async answer<T>(route: string, answers: Answers<T>, options?: AnswerOptions): Promise<AnsweredBy<T>> {
    const ladder = this.#ladders.get(route);
    return ladder ? ladder.answer(answers, options) : { value: await answers.full(), rung: "full" };
  }

  of(route: string): RouteLadder | undefined {
    return this.#ladders.get(route);
  }

  hold(route: string, rung: Rung | undefined): void {
    checkHold(this.#ladders.get(route)?.rules, route, rung);
    const held = new Map(this.#held);
    if (rung === undefined) held.delete(route);
    else held.set(route, rung);
    this.holdAll(held);
  }

  /** All that is held by hand. What names no rung of a ladder holds nothing. */
  holdAll(held: ReadonlyMap<string, Rung>): void {
    const before = this.#held;
    this.#held = held;
    for (const [route, ladder] of this.#ladders) if (before.get(route) !== held.get(route)) ladder.hold(held.get(route));
  }

  replace(policies: Policies): void {
    this.follow(rulesOf(policies));
  }

  follow(rules: readonly RouteRules[]): void {
    const ladders = new Map<string, RouteLadder>();
    for (const one of rules) {
      const known = this.#ladders.get(one.route);
      known?.follow(one);
      const ladder = known ?? new RouteLadder(one, this.#place);
      ladders.set(one.route, ladder);
      if (!known && this.#held.has(one.route)) ladder.hold(this.#held.get(one.route));
    }
    this.#ladders = ladders;
  }

  get states(): readonly RouteState[] {
    return [...this.#ladders.values()].map((ladder) => ladder.state);
  }
}

/** Faults: `degradation.no-such-route`, `degradation.no-such-rung`. */
export function checkHold(rules: Pick<RouteRules, "ladder"> | undefined, route: string, rung: string | undefined): asserts rung is Rung | undefined {
  if (!rules)
    throw Fault.create("degradation.no-such-route", `no policy names a route ${JSON.stringify(route)}`, "Name it as the file does: service.operation.");
  if (rung !== undefined && !rules.ladder.some((known) => known === rung))
    throw Fault.create("degradation.no-such-rung", `${route} has the rungs ${rules.ladder.join(", ")}, got ${JSON.stringify(rung)}`, "Choose one of them.");
}
