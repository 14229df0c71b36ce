/**
 * Policies: functions around an operation. Each can be called by itself and be put into a pipeline; what a pipeline reads is its layer.
 */
import { Fault, type Clock, type Cuttable, type Random } from "../kernel/index.ts";
import type { Backoff } from "./backoff.ts";
import type { Budget } from "./budget.ts";
import type { Gate } from "./gate.ts";
import type { Passage } from "./passage.ts";

/** One attempt, as the operation sees it. */
export interface Attempt {
  /** 1 for the first. */
  readonly attempt: number;
  /** Aborts when the attempt's time is over, with `deadline.exceeded`, or with the caller's reason when the caller goes away. Made when somebody asks for it. */
  readonly signal: AbortSignal;
  /** What is left of the attempt's time: what to tell the other side. `Infinity` without a bound. */
  readonly remainingMs: number;
  /** 0, or which one of the additional tries of a hedge this is: ask somebody else than the ones before. */
  readonly hedge: number;
}

export type Operation<T> = (attempt: Attempt) => T | Promise<T>;

/** What one call says of itself. */
export interface CallOptions {
  /** The caller's; default that of the context. */
  readonly signal?: AbortSignal | undefined;
  /** A moment of the clock's monotonic time; the context's holds too. */
  readonly deadlineMs?: number | undefined;
  /** Whose breaker, whose turn: a tenant, an endpoint. Default: the context's tenant. */
  readonly key?: string | undefined;
  /** Default: the context's. */
  readonly priority?: "high" | "normal" | "low" | undefined;
  /** Its weight for what shares by weight, 1e-6 to 1e9. Default 1. */
  readonly cost?: number | undefined;
  /** `false`: repeating it may do harm, so it is only repeated after failures that say that nothing was done. Default `true`. */
  readonly idempotent?: boolean | undefined;
}

/** A call within an attempt of an outer plan, whose signal stands in `within` until somebody asks for it: not an option for callers. */
export interface InnerCall extends CallOptions {
  readonly within?: Cuttable | undefined;
}

/** `refused`: the code of the fault that the call would have thrown. */
export type Attempted<T, Declines extends string> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refused: Declines; readonly fault: Fault<Declines> };

export interface Policy<Declines extends string = never> {
  /** Runs it. Declining throws a fault with one of the policy's codes. */
  <T>(operation: Operation<T>, call?: CallOptions): Promise<T>;
  /** Runs it, with declining as a value; what the operation itself throws is thrown. */
  attempt<T>(operation: Operation<T>, call?: CallOptions): Promise<Attempted<T, Declines>>;
  /** What is wrong with the order of its parts, in words. */
  readonly warnings: readonly string[];
}

export type Runner = <T>(operation: Operation<T>, how?: InnerCall) => Promise<T>;

export interface RetryRule extends Backoff {
  readonly attempts: number;
  readonly budget: Budget | undefined;
  readonly retryAfterMsMax: number;
  readonly when: (thrown: unknown) => boolean;
}

/** What a policy is to a pipeline. Each brings what it is made of: who takes one policy takes nothing of the others. */
export type Layer = {
  /** The codes of its faults. */
  readonly declines: readonly string[];
  /** The policy by itself: a pipeline of one. */
  alone(): Runner;
} & (
  | { readonly kind: "deadline" | "timeout"; readonly ms: number }
  | { readonly kind: "retry"; readonly rule: RetryRule }
  | { readonly kind: "hedge"; around(inner: Runner, clock: Clock): Runner }
  | { readonly kind: "gate"; readonly name: string; readonly gate: Gate; passage(gates: readonly Gate[]): Passage }
);

const layersOf: unique symbol = Symbol("trestle.policy.layers");

/** What a policy is made of, outermost first. `undefined`: it is none. */
export function layersIn(policy: unknown): readonly Layer[] | undefined {
  return typeof policy === "function" ? (policy as { readonly [layersOf]?: readonly Layer[] })[layersOf] : undefined;
}

/** A policy alone. */
export function policyOf<Declines extends string>(layer: Layer): Policy<Declines> {
  return policyFrom([layer], layer.alone, []) as Policy<string> as Policy<Declines>;
}

/** `prepare` is asked once, by the first call: a policy that only stands in pipelines has no timers of its own. */
export function policyFrom(layers: readonly Layer[], prepare: () => Runner, warnings: readonly string[]): Policy<never> {
  let ready: Runner | undefined;
  const call = <T>(operation: Operation<T>, how?: CallOptions): Promise<T> => (ready ??= prepare())(operation, how);
  const attempt = async <T>(operation: Operation<T>, how?: CallOptions): Promise<Attempted<T, never>> => {
    try {
      return { ok: true, value: await call(operation, how) };
    } catch (error) {
      if (Fault.is(error) && layers.some(({ declines }) => declines.includes(error.code)))
        return { ok: false, refused: error.code as never, fault: error as Fault<never> };
      throw error;
    }
  };
  return Object.assign(call, { attempt, warnings, [layersOf]: layers });
}

/** Told of every attempt that is over for its caller. */
export interface EndedAttempt {
  readonly attempt: number;
  readonly durationMs: number;
  readonly outcome: "succeeded" | "failed" | "timed-out" | "abandoned" | "declined";
  readonly error: unknown;
}

export interface PipelineOptions {
  /** What is behind it, for faults and metrics. */
  readonly name?: string;
  /** Default: the system's. */
  readonly clock?: Clock;
  readonly random?: Random;
  /** Whether a failure speaks against the other side, for breakers and limits. Default: whatever `failureOf` does not call a refusal. An answer such as "card declined" does not. */
  readonly unwell?: (thrown: unknown) => boolean;
  /** Must not throw. */
  readonly onAttempt?: (ended: EndedAttempt) => void;
}
