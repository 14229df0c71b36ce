/**
 * What stands before an operation and lets it pass or not: a breaker, a bulkhead, an adaptive limit, a throttle. A pipeline asks its gates in order
 * and tells each of them two things about every attempt it let pass: how its caller was answered, and when the operation truly ended. The two differ
 * whenever a caller is answered because its time is over: the operation goes on, and holds its place until its promise settles.
 *
 * Passing costs no allocation: what a gate has to remember of an attempt is a number, its token, which the pipeline keeps and brings back.
 */
import type { Fault } from "../kernel/index.ts";

/** What `Gate.enter` answers when it does not let the caller pass at once. Everything from 0 is a token. */
export const declined = -1;
export const waits = -2;

/** How an attempt was answered. `unwell`: a failure that speaks against the other side; `well`: an answer, were it "no such order"; `unknown`: its caller went away first. */
export type Answer = "well" | "unwell" | "unknown";

/** An attempt, as a gate sees it. */
export interface Caller {
  /** Whose it is, for fairness: the tenant, unless the call names another key. */
  readonly key: string;
  readonly priority: "high" | "normal" | "low";
  /** Its deadline, of the monotonic clock; `Infinity` without one. Who waits behind a gate is taken out by the pipeline (`Gate.leave`) when it is over. */
  readonly untilMs: number;
  /** Its weight in what it asks for; 1 unless the call says otherwise. */
  readonly cost: number;
  /** When its operation began, of the monotonic clock; before that, when it came. */
  readonly startedMs: number;
  /** For the gate at which it waits: where it stands there. */
  place: unknown;
  /** Only after `enter` answered `waits`: it may pass now. Runs the operation before it returns. */
  admitted(token: number, nowMs: number): void;
  /** Only after `enter` answered `waits`: it has waited in vain. The gate's `fault` tells why. */
  declined(nowMs: number): void;
}

export interface Gate<Refused extends string = string> {
  /** The code of its faults. */
  readonly refused: Refused;
  /** A token from 0, `declined` or `waits`. Takes constant time, whatever the number of those who wait. */
  enter(caller: Caller, nowMs: number): number;
  /** The fault of a caller that was just declined: asked for only when somebody will see it, because it costs more than the declining. */
  fault(caller: Caller, nowMs: number): Fault;
  /** A caller that waits goes away. */
  leave?(caller: Caller, nowMs: number): void;
  /** Once for each token. A gate that measures reads the clock itself: who does not look saves it. */
  answered?(caller: Caller, token: number, answer: Answer): void;
  /** Once for each token, after `answered`: the operation's promise has settled, or it was never begun. `unheard`: how long that took says nothing. */
  ended?(caller: Caller, token: number, unheard?: boolean): void;
}
