/**
 * A place that is held by hand: for what is no function around a call, such as a request that is read, answered and sent, or a connection that somebody uses for a while. Waiting for it is what waiting is to a pipeline:
 * by key and priority, no longer than the caller has time, and whoever is declined is told why.
 */
import { currentContext, deadlineExceeded, followSignal, numberWithin, sharedWheel, type Clock, type Followed, type Timer } from "../kernel/index.ts";
import { waits, type Answer, type Caller, type Gate } from "./gate.ts";
import type { Refusal } from "./waiting-line.ts";

export interface PlaceOptions {
  /** Whose turn it is, for `fair`. Default: the context's tenant. */
  readonly key?: string | undefined;
  /** Default: the context's. */
  readonly priority?: "high" | "normal" | "low" | undefined;
  /** 1e-6 to 1e9; default 1. */
  readonly cost?: number | undefined;
  /** A moment of the clock's monotonic time; the context's holds too. */
  readonly deadlineMs?: number | undefined;
  /** The longest wait, in milliseconds, 0 or more. Who has waited for so long is declined with the reason `waited`, whatever time it has left. Default: none. */
  readonly waitMs?: number | undefined;
  /** Default: the context's. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Gives the place back; twice is once. `unwell`: what it was held for failed in a way that speaks against what is behind. Default `well`; `unheard` tells it nothing, nor how long a call takes. `until`: what it was held for goes on though nobody waits for it any more, and
 * holds the place until this has settled.
 */
export type Leave = (answer?: Answer | "unheard", until?: Promise<unknown>) => void;

/** Faults: the gate's; `deadline.exceeded` (scope `wait`); the reason of the signal; `option.out-of-range`. */
export function acquire(gate: Gate, clock: Clock, options: PlaceOptions = {}): Promise<Leave> {
  return new Promise((resolve, reject) => new Held(gate, clock, options, resolve, reject).enter());
}

class Held implements Caller {
  readonly key: string;
  readonly priority: "high" | "normal" | "low";
  readonly untilMs: number;
  readonly cost: number;
  startedMs: number;
  place: unknown = undefined;
  readonly #gate: Gate;
  readonly #clock: Clock;
  readonly #waitMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #resolve: (leave: Leave) => void;
  readonly #reject: (reason: Error) => void;
  #timer: Timer | undefined;
  #followed: Followed | undefined;

  constructor(gate: Gate, clock: Clock, options: PlaceOptions, resolve: (leave: Leave) => void, reject: (reason: Error) => void) {
    const context = currentContext();
    this.key = options.key ?? context.tenant ?? "";
    this.priority = options.priority ?? context.priority;
    this.cost = options.cost ?? 1;
    this.untilMs = Math.min(options.deadlineMs ?? Infinity, context.deadlineMs ?? Infinity);
    this.startedMs = clock.monotonicMs();
    this.#waitMs = numberWithin(options.waitMs ?? Infinity, "acquire.waitMs", { least: 0, most: Infinity });
    this.#signal = options.signal ?? context.signal;
    this.#gate = gate;
    this.#clock = clock;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  enter(): void {
    const cameMs = this.startedMs;
    if (this.#signal?.aborted) return this.#reject(this.#signal.reason as Error);
    const token = this.#gate.enter(this, cameMs);
    if (token >= 0) return this.admitted(token);
    if (token !== waits) return this.declined(cameMs);
    const leftMs = Math.min(this.untilMs - cameMs, this.#waitMs);
    if (leftMs < Infinity) this.#timer = sharedWheel(this.#clock).after(leftMs, () => this.#gaveUp(leftMs));
    if (this.#signal) this.#followed = followSignal(this.#signal, this);
  }

  admitted(token: number, nowMs = this.startedMs): void {
    this.#waitIsOver();
    this.startedMs = nowMs;
    let left = false;
    this.#resolve((answer = "well", until) => {
      if (left) return;
      left = true;
      if (answer !== "unheard") this.#gate.answered?.(this, token, answer);
      const ended = () => this.#gate.ended?.(this, token, answer === "unheard");
      if (until) until.then(ended, ended);
      else ended();
    });
  }

  declined(nowMs: number): void {
    this.#waitIsOver();
    this.#reject(this.#gate.fault(this, nowMs));
  }

  abort(reason: unknown): void {
    this.#waitIsOver();
    this.#gate.leave?.(this, this.#clock.monotonicMs());
    this.#reject(reason as Error);
  }

  #gaveUp(afterMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.untilMs <= nowMs) return this.abort(deadlineExceeded(afterMs, "wait"));
    this.#gate.leave?.(this, nowMs);
    this.place = "waited" satisfies Refusal;
    this.declined(nowMs);
  }

  #waitIsOver(): void {
    this.#timer?.cancel();
    this.#followed?.release();
  }
}
