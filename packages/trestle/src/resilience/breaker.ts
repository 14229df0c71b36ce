/**
 * A circuit breaker: when too many calls of late have failed or were slow, calls are declined at once instead of waiting for one more failure.
 *
 * States.
 * `closed`: calls pass and their outcomes are counted over a rolling window. Entered at first, and from `half-open` when every probe
 *   succeeded. Left for `open` at a call that failed or was slow, when with it the window holds at least `minimumCalls` and at least the share `failureRate` of them failed, or
 *   `slowRate` of them were slower than `slowerThan`. Not at a good one, though it may make them enough: after a time of few calls it is the first sign that they succeed again.
 * `open`: every call is declined. Entered from `closed` as above, and from `half-open` when a probe fails or does not answer in time. Left
 *   for `half-open` when `cooldown` is over.
 * `half-open`: exactly `probes` calls pass, the others are declined. Left for `closed` when all of them succeeded, for `open` at the first that failed or was slow. A
 *   probe that neither succeeded nor failed (its caller went away) gives its place back. A probe without an answer after `probeWithin` has failed.
 *
 * There is no other edge. Outcomes of calls that passed in an earlier state are not counted: they tell of a time that is over. `hold` makes a breaker answer as a
 * person says, and leaves the states to go on below.
 * There is no timer: the end of a cool-down is noticed by whoever looks next. Counting an outcome takes constant time, and a breaker's memory does not grow.
 */
import { durationMs, Fault, integerWithin, numberWithin, oneOf, RecentMap, systemClock, type Clock, type Duration } from "../kernel/index.ts";
import { declined, type Answer, type Caller, type Gate } from "./gate.ts";
import { gatePolicy } from "./passage.ts";
import type { Policy } from "./policy.ts";
import { callWindow, TimeWindow, type Window } from "./rolling-window.ts";

/** Times are of the breaker's clock, monotonic. */
export type BreakerState =
  | { readonly kind: "closed" }
  | { readonly kind: "open"; readonly sinceMs: number; readonly untilMs: number }
  | { readonly kind: "half-open"; readonly sinceMs: number; readonly probing: number; readonly succeeded: number };

export interface BreakerOptions {
  /** What is behind it, for faults. */
  readonly name?: string;
  /** Opens when at least this share of the window's calls failed. 0.00001 to 1; default 0.5. */
  readonly failureRate?: number;
  /** A call that takes longer is slow. Default: none is. */
  readonly slowerThan?: Duration;
  /** Opens when at least this share of the window's calls were slow. 0.00001 to 1; default 0.5. */
  readonly slowRate?: number;
  /** Never opens on fewer calls in the window than this. Default 20, or all of a window of fewer calls. */
  readonly minimumCalls?: number;
  /** How far back it looks: a duration, 10 ms to a day (between 90 % and 100 % of it), or so many calls, 1 to 100,000. Default 10 s. */
  readonly window?: Duration | { readonly calls: number };
  /** How long it stays open. Default 5 s. */
  readonly cooldown?: Duration;
  /** Calls that pass when the cool-down is over. Default 1. */
  readonly probes?: number;
  /** A probe without an answer after this has failed. 1 ms to a day; default 30 s. */
  readonly probeWithin?: Duration;
  /** `key`: one for each key of its calls (an endpoint, a shard), so that one that is unwell does not close the others. At most 1,000 keys, the latest. */
  readonly per?: "key";
  readonly clock?: Clock;
  /** Told of every change, after it. Must not throw. */
  readonly onChange?: (from: BreakerState["kind"], to: BreakerState["kind"], key: string) => void;
}

export interface Breaker extends Policy<"breaker.open"> {
  readonly name: string;
  /** Of the breaker without a key. */
  readonly state: BreakerState;
  stateOf(key: string): BreakerState;
  /** From now on every call passes (`closed`) or none (`open`), whatever has been counted; `undefined`: by its states again. Of all keys. */
  hold(as: "open" | "closed" | undefined): void;
  readonly held: "open" | "closed" | undefined;
  /** Forgets what it has counted, and is closed. That is an edge of its own, for people: `onChange` hears of it. */
  reset(): void;
}

interface Rules {
  readonly failureRate: number;
  readonly slowRate: number;
  readonly slowerThanMs: number;
  readonly minimumCalls: number;
  readonly cooldownMs: number;
  readonly probes: number;
  readonly probeWithinMs: number;
  readonly window: () => Window;
  readonly clock: Clock;
  readonly onChange: BreakerOptions["onChange"];
}

const keysMax = 1_000;

/** Fault: `breaker.open`, with `details.retryAfterMs`. */
export function breaker(options: BreakerOptions = {}): Breaker {
  const circuits = new Circuits(options);
  const { clock = systemClock } = options;
  return Object.defineProperties(gatePolicy("breaker", circuits, options.clock), {
    name: { value: circuits.name },
    state: { get: () => circuits.of("").current(clock.monotonicMs()) },
    held: { get: () => circuits.held },
    stateOf: { value: (key: string) => circuits.of(key).current(clock.monotonicMs()) },
    hold: { value: (as: "open" | "closed" | undefined) => void (circuits.held = as && oneOf(as, "breaker.hold", ["open", "closed"])) },
    reset: { value: () => circuits.reset() },
  }) as Breaker;
}

class Circuits implements Gate<"breaker.open"> {
  readonly refused = "breaker.open";
  readonly name: string;
  held: "open" | "closed" | undefined = undefined;
  readonly #rules: Rules;
  readonly #only: Circuit;
  readonly #byKey: RecentMap<string, Circuit> | undefined;

  constructor(options: BreakerOptions) {
    this.name = options.name ?? "breaker";
    this.#rules = rulesOf(options);
    this.#only = new Circuit(this.#rules, "");
    this.#byKey = options.per && oneOf(options.per, "breaker.per", ["key"]) && new RecentMap(2 * keysMax);
  }

  of(key: string): Circuit {
    if (!this.#byKey || key === "") return this.#only;
    let circuit = this.#byKey.get(key);
    if (!circuit) this.#byKey.set(key, (circuit = new Circuit(this.#rules, key)));
    return circuit;
  }

  enter(caller: Caller, nowMs: number): number {
    if (this.held === "open") return declined;
    const circuit = this.#byKey ? this.of(caller.key) : this.#only;
    const token = circuit.closedAs === declined ? circuit.probe(caller, nowMs) : circuit.closedAs;
    return token === declined && this.held === "closed" ? unheard : token;
  }

  answered(caller: Caller, token: number, answer: Answer): void {
    const circuit = this.#byKey ? this.of(caller.key) : this.#only;
    if (token === circuit.closedAs) circuit.count(caller, answer);
    else circuit.probed(caller, token, answer);
  }

  fault(caller: Caller, nowMs: number): Fault {
    const { name, held } = this;
    const { state } = this.of(caller.key);
    const whose = this.#byKey && caller.key !== "" ? `${name} for ${caller.key}` : name;
    // Half-open means that probes are out: how long they take is not known, so ask again after the least of waits.
    const retryAfterMs = held !== "open" && state.kind === "open" ? Math.max(0, state.untilMs - nowMs) : 0;
    const why =
      held === "open"
        ? "held open by hand"
        : state.kind === "open"
          ? `open: too many calls failed; probes pass in ${Math.ceil(retryAfterMs)} ms`
          : "half-open: its probes are still out";
    return Fault.create("breaker.open", `${whose} is ${why}`, "Come back later, do without the answer, or see why what is behind it fails.", {
      details: { name, ...(this.#byKey && { key: caller.key }), state: state.kind, retryAfterMs },
    });
  }

  reset(): void {
    this.#only.reset();
    for (const circuit of this.#byKey?.values() ?? []) circuit.reset();
  }
}

function rulesOf(options: BreakerOptions): Rules {
  const { window = 10_000 } = options;
  const calls = typeof window === "object" ? integerWithin(window.calls, "breaker.window.calls", { least: 1, most: 100_000 }) : undefined;
  const windowMs = calls === undefined ? numberWithin(durationMs(window as Duration, "breaker.window"), "breaker.window", { least: 10, most: 86_400_000 }) : 0;
  const cooldownMs = durationMs(options.cooldown ?? 5_000, "breaker.cooldown");
  const probeWithinMs = numberWithin(durationMs(options.probeWithin ?? 30_000, "breaker.probeWithin"), "breaker.probeWithin", { least: 1, most: 86_400_000 });
  return {
    failureRate: numberWithin(options.failureRate ?? 0.5, "breaker.failureRate", { least: 0.00001, most: 1 }),
    slowRate: numberWithin(options.slowRate ?? 0.5, "breaker.slowRate", { least: 0.00001, most: 1 }),
    slowerThanMs: options.slowerThan === undefined ? Infinity : durationMs(options.slowerThan, "breaker.slowerThan"),
    minimumCalls: integerWithin(options.minimumCalls ?? Math.min(20, calls ?? 20), "breaker.minimumCalls", { least: 1, most: calls ?? 1_000_000 }),
    cooldownMs,
    probes: integerWithin(options.probes ?? 1, "breaker.probes", { least: 1, most: 1_000 }),
    probeWithinMs,
    window: () => (calls === undefined ? new TimeWindow(windowMs) : callWindow(calls)),
    clock: options.clock ?? systemClock,
    onChange: options.onChange,
  };
}

/** The token of a call whose outcome nobody counts. */
const unheard = 0;

class Circuit {
  readonly #rules: Rules;
  readonly #key: string;
  readonly #window: Window;
  readonly #countsSlow: boolean;
  state: BreakerState = { kind: "closed" };
  /** Rises with every change of state, and is the token of those who pass: an outcome of an earlier era is not counted. */
  #era = unheard + 1;
  /** What `enter` answers while it is closed, the era; `declined` while it is not. */
  closedAs = this.#era;
  /** The probes that are out, the oldest first. */
  #probesOut: { readonly caller: Caller; readonly sinceMs: number }[] = [];

  constructor(rules: Rules, key: string) {
    this.#rules = rules;
    this.#key = key;
    this.#window = rules.window();
    this.#countsSlow = rules.slowerThanMs < Infinity;
  }

  /** While it is not closed. */
  probe(caller: Caller, nowMs: number): number {
    const now = this.current(nowMs);
    if (now.kind === "open") return declined;
    if (now.kind === "half-open") {
      if (now.probing + now.succeeded === this.#rules.probes) return declined;
      this.state = { ...now, probing: now.probing + 1 };
      this.#probesOut.push({ caller, sinceMs: nowMs });
    }
    return this.#era;
  }

  /** Of a call that passed while it was closed, as it still is. */
  count(caller: Caller, answer: Answer): void {
    // A good answer goes to the bucket of its beginning, so that no clock need be read for it.
    if (answer === "well" && !this.#countsSlow) this.#window.add(caller.startedMs, false, false);
    else if (answer !== "unknown") this.#countNow(caller, answer === "unwell");
  }

  #countNow(caller: Caller, failed: boolean): void {
    const nowMs = this.#rules.clock.monotonicMs();
    const slow = nowMs - caller.startedMs > this.#rules.slowerThanMs;
    this.#window.add(nowMs, failed, slow);
    if ((failed || slow) && this.#isTooMuch()) this.#open(nowMs);
  }

  /** Of a probe, or of a call of an earlier era. */
  probed(caller: Caller, token: number, answer: Answer): void {
    if (token !== this.#era) return;
    const nowMs = this.#rules.clock.monotonicMs();
    this.current(nowMs); // a probe that is late has failed, whatever it says now
    if (token !== this.#era || this.state.kind !== "half-open") return;
    this.#probesOut.splice(
      this.#probesOut.findIndex((probe) => probe.caller === caller),
      1,
    );
    const { probing, succeeded } = this.state;
    if (answer === "unknown") this.state = { ...this.state, probing: probing - 1 };
    else if (answer === "unwell" || nowMs - caller.startedMs > this.#rules.slowerThanMs) this.#open(nowMs);
    else if (succeeded + 1 === this.#rules.probes) this.#change({ kind: "closed" });
    else this.state = { ...this.state, probing: probing - 1, succeeded: succeeded + 1 };
  }

  /** What the passing of time alone brings about. */
  current(nowMs: number): BreakerState {
    const { state } = this;
    const oldest = this.#probesOut[0];
    if (state.kind === "open" && nowMs >= state.untilMs) this.#change({ kind: "half-open", sinceMs: nowMs, probing: 0, succeeded: 0 });
    else if (state.kind === "half-open" && oldest && nowMs - oldest.sinceMs >= this.#rules.probeWithinMs) this.#open(nowMs);
    return this.state;
  }

  reset(): void {
    if (this.state.kind !== "closed") return this.#change({ kind: "closed" });
    this.#window.clear();
    this.closedAs = ++this.#era; // what began before counts no more
  }

  #isTooMuch(): boolean {
    const { calls, failures, slow } = this.#window;
    const { minimumCalls, failureRate, slowRate } = this.#rules;
    return calls >= minimumCalls && (failures >= failureRate * calls || slow >= slowRate * calls);
  }

  #open(nowMs: number): void {
    this.#change({ kind: "open", sinceMs: nowMs, untilMs: nowMs + this.#rules.cooldownMs });
  }

  #change(to: BreakerState): void {
    const from = this.state.kind;
    this.state = to;
    this.#era++;
    this.closedAs = to.kind === "closed" ? this.#era : declined;
    this.#probesOut = [];
    this.#window.clear();
    this.#rules.onChange?.(from, to.kind, this.#key);
  }
}
