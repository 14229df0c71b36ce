/**
 * A circuit breaker: when too many calls of late have failed, calls are declined at once instead of waiting for one more failure.
 *
 * States.
 * `closed`: calls pass and their outcomes are counted over a rolling window. Entered at first, and from `half-open` when every probe
 *   succeeded. Left for `open` when, after an outcome is counted, the window holds at least `minimumCalls` and at least the share `failureRate` of them failed.
 * `open`: every call is declined. Entered from `closed` as above, and from `half-open` when a probe fails or does not answer in time. Left
 *   for `half-open` when `cooldownMs` is over.
 * `half-open`: exactly `probes` calls pass, the others are declined. Left for `closed` when all of them succeeded, for `open` at the first that failed. A probe
 *   that neither succeeded nor failed (its caller went away) gives its place back. A probe without an answer after `probeWithinMs` has failed.
 *
 * There is no other edge. Outcomes of calls that passed in an earlier state are not counted: they tell of a time that is over.
 * There is no timer: the end of a cool-down is noticed by whoever looks next. Counting an outcome takes constant time, and a breaker's
 * memory does not grow. The state machine is one function of more than 60 lines.
 */
import type { Clock } from "../kernel/index.ts";
import { Fault, integerWithin, numberWithin } from "../kernel/index.ts";

/** Times are of the breaker's clock, monotonic. */
export type BreakerState =
  | { readonly kind: "closed" }
  | { readonly kind: "open"; readonly sinceMs: number; readonly untilMs: number }
  | { readonly kind: "half-open"; readonly sinceMs: number; readonly probing: number; readonly succeeded: number };

export interface BreakerOptions {
  readonly clock: Clock;
  /** What is behind it, for faults. */
  readonly name?: string;
  /** Opens when at least this share of the window's calls failed. Above 0, at most 1; default 0.5. */
  readonly failureRate?: number;
  /** Never opens on fewer calls in the window than this. Default 20. */
  readonly minimumCalls?: number;
  /** How far back it looks, in tenths: between 90 % and 100 % of this. Default 10,000. */
  readonly windowMs?: number;
  /** How long it stays open. Default 5,000. */
  readonly cooldownMs?: number;
  /** Calls that pass when the cool-down is over. Default 1. */
  readonly probes?: number;
  /** A probe without an answer after this has failed. Default 30,000. */
  readonly probeWithinMs?: number;
  /** A success that took longer counts as a failure. Default: none does. */
  readonly slowerThanMs?: number;
  /** Told of every change, after it. Must not throw. */
  readonly onChange?: (from: BreakerState["kind"], to: BreakerState["kind"]) => void;
}

/** One call that passed. It ends once; what is said after that is not heard. */
export interface BreakerPass {
  succeeded(): void;
  failed(): void;
  /** Ended without telling anything about the other side: the caller went away. */
  abandoned(): void;
}

export interface Breaker {
  readonly name: string;
  readonly state: BreakerState;
  /** `undefined`: declined. */
  tryEnter(): BreakerPass | undefined;
  /** As `tryEnter`; declining throws `breaker.open`, with `details.retryAfterMs`. */
  enter(): BreakerPass;
}

export function breaker(options: BreakerOptions): Breaker {
  const { clock, name = "breaker", slowerThanMs = Infinity, onChange } = options;
  const failureRate = numberWithin(options.failureRate ?? 0.5, "breaker.failureRate", { least: Number.MIN_VALUE, most: 1 });
  const minimumCalls = integerWithin(options.minimumCalls ?? 20, "breaker.minimumCalls", { least: 1, most: 1_000_000 });
  const windowMs = numberWithin(options.windowMs ?? 10_000, "breaker.windowMs", { least: 10, most: 86_400_000 });
  const cooldownMs = numberWithin(options.cooldownMs ?? 5_000, "breaker.cooldownMs", { least: 0, most: 86_400_000 });
  const probes = integerWithin(options.probes ?? 1, "breaker.probes", { least: 1, most: 1_000 });
  const probeWithinMs = numberWithin(options.probeWithinMs ?? 30_000, "breaker.probeWithinMs", { least: 1, most: 86_400_000 });

  const window = rollingWindow(windowMs);
  let state: BreakerState = { kind: "closed" };
  /** Rises with every change of state; a pass of an earlier era is not heard. */
  let era = 0;
  /** When each probe that is out was let through, the oldest first. */
  let probesOut: number[] = [];

  function change(to: BreakerState): void {
    const from = state.kind;
    state = to;
    era++;
    probesOut = [];
    window.clear();
    onChange?.(from, to.kind);
  }

  const open = (nowMs: number) => change({ kind: "open", sinceMs: nowMs, untilMs: nowMs + cooldownMs });

  /** What the passing of time alone brings about. */
  function current(nowMs: number): BreakerState {
    if (state.kind === "open" && nowMs >= state.untilMs) change({ kind: "half-open", sinceMs: nowMs, probing: 0, succeeded: 0 });
    else if (state.kind === "half-open" && probesOut.length > 0 && nowMs - (probesOut[0] as number) >= probeWithinMs) open(nowMs);
    return state;
  }

  function count(failed: boolean, nowMs: number): void {
    if (state.kind === "closed") {
      window.add(nowMs, failed);
      if (window.calls >= minimumCalls && window.failures >= failureRate * window.calls) open(nowMs);
    } else if (state.kind === "half-open") {
      if (failed) open(nowMs);
      else if (state.succeeded + 1 === probes) change({ kind: "closed" });
      else state = { ...state, probing: state.probing - 1, succeeded: state.succeeded + 1 };
    }
  }

  function pass(startMs: number): BreakerPass {
    const startedIn = era;
    let ended = false;
    const end = (outcome: "succeeded" | "failed" | "abandoned") => {
      if (ended) return;
      ended = true;
      const nowMs = clock.monotonicMs();
      current(nowMs); // a probe that is late has failed, whatever it says now
      if (startedIn !== era) return;
      if (state.kind === "half-open") probesOut.splice(probesOut.indexOf(startMs), 1);
      if (outcome !== "abandoned") count(outcome === "failed" || nowMs - startMs > slowerThanMs, nowMs);
      else if (state.kind === "half-open") state = { ...state, probing: state.probing - 1 };
    };
    return { succeeded: () => end("succeeded"), failed: () => end("failed"), abandoned: () => end("abandoned") };
  }

  function tryEnter(): BreakerPass | undefined {
    const nowMs = clock.monotonicMs();
    const now = current(nowMs);
    if (now.kind === "open") return undefined;
    if (now.kind === "half-open") {
      if (now.probing + now.succeeded === probes) return undefined;
      state = { ...now, probing: now.probing + 1 };
      probesOut.push(nowMs);
    }
    return pass(nowMs);
  }

  return {
    name,
    get state() {
      return current(clock.monotonicMs());
    },
    tryEnter,
    enter() {
      const entered = tryEnter();
      if (entered) return entered;
      // Half-open means that probes are out: how long they take is not known, so ask again after the least of waits.
      const retryAfterMs = state.kind === "open" ? Math.max(0, state.untilMs - clock.monotonicMs()) : 0;
      throw Fault.create(
        "breaker.open",
        `${name} is ${state.kind === "open" ? `open: too many calls failed; probes pass in ${Math.ceil(retryAfterMs)} ms` : "half-open: its probes are still out"}`,
        "Come back later, do without the answer, or see why what is behind it fails.",
        { details: { name, state: state.kind, retryAfterMs } },
      );
    },
  };
}

/** Calls and failures of the last `windowMs`, in ten buckets; the sums are kept, so adding takes constant time. */
function rollingWindow(windowMs: number): { add(nowMs: number, failed: boolean): void; clear(): void; readonly calls: number; readonly failures: number } {
  const buckets = 10;
  const bucketMs = windowMs / buckets;
  const callsIn = new Float64Array(buckets);
  const failuresIn = new Float64Array(buckets);
  let newest = -1;
  let calls = 0;
  let failures = 0;
  const drop = (slot: number) => {
    calls -= callsIn[slot] as number;
    failures -= failuresIn[slot] as number;
    callsIn[slot] = failuresIn[slot] = 0;
  };
  return {
    get calls() {
      return calls;
    },
    get failures() {
      return failures;
    },
    add(nowMs, failed) {
      const bucket = Math.floor(nowMs / bucketMs);
      for (let passed = Math.max(newest + 1, bucket - buckets + 1); passed <= bucket; passed++) drop(passed % buckets);
      newest = Math.max(newest, bucket);
      const slot = newest % buckets;
      callsIn[slot] = (callsIn[slot] as number) + 1;
      calls++;
      if (failed) {
        failuresIn[slot] = (failuresIn[slot] as number) + 1;
        failures++;
      }
    },
    clear() {
      for (let slot = 0; slot < buckets; slot++) drop(slot);
    },
  };
}
