/**
 * One call under a plan: its attempts, one after the other, under one promise. What would be four nested functions, each with its promise and its closures, is
 * one object for each attempt, because layers cost more than what they do: `npm run bench -- resilience` has the figures. What only some attempts need is apart (`Rare`).
 *
 * For each attempt, in this order: does each gate let it pass; then the operation, within its time. Answering the caller and the end of the operation are two
 * moments: when the time is over the caller is answered, and only when the operation's promise settles do the gates hear that it has ended.
 *
 * An attempt has one limit, the nearer of its own and the call's: between two attempts none is needed, because a wait that would go beyond the call's is not begun.
 * The clock is read once in a call that succeeds at once, when it comes: its limit, its place in a breaker's window and the time it took are all counted from there.
 *
 * Over 400 lines because the states of a call and of its attempts are one object's, and nobody else changes them.
 */
import {
  beginUntil,
  contextWithin,
  currentContext,
  cutterOf,
  deadlineExceeded,
  emptyContext,
  Fault,
  followSignal,
  inContext,
  soonMs,
  tellFollowers,
  unlink,
} from "../kernel/index.ts";
import type { AmbientContext, Cuttable, Due, DueList, Followed, Link, Timer } from "../kernel/index.ts";
import { backoffMs } from "./backoff.ts";
import { failureOf, retryAfterMs } from "./failure.ts";
import { waits } from "./gate.ts";
import type { Passage, Passing } from "./passage.ts";
import type { Plan } from "./plan.ts";
import type { Attempt, EndedAttempt, InnerCall, Operation, RetryRule } from "./policy.ts";

const noOptions: InnerCall = {};

/**
 * Runs `operation` under the plan. Throws what the last attempt threw, or a fault:
 * - `deadline.exceeded`: the attempt's or the call's time was over (`details.scope`: `attempt`, `call`); the operation may still be going on, and may still take effect;
 * - what a gate declined with: this attempt was not made; `cause` is what the attempt before it threw;
 * - `retry.budget-spent`: it failed, could be retried, and the budget does not allow it; `cause` is what it threw;
 * - the reason of the caller's signal, at once, whether it waits for a gate, for an attempt or between two.
 */
export function run<T>(plan: Plan, operation: Operation<T>, options: InnerCall = noOptions): Promise<T> {
  // What must not throw and does is the answer: a promise's executor sees to that.
  return new Promise<T>((resolve, reject) => {
    const nowMs = plan.clock.monotonicMs();
    new LiveAttempt(plan, operation, options, currentContext(), resolve as (value: unknown) => void, reject, 1, nowMs, nowMs + plan.callMs).begin();
  });
}

type State = "entering" | "waiting" | "running" | "answered" | "ended";

/** What few attempts need. */
class Rare {
  /** Where it stands at the gate at which it waits. */
  place: unknown;
  /** Of a limit of the call that is not the plan's: how long that is. */
  boundMs: number | undefined;
  /** In a line that is not of its own length. */
  dueMs: number | undefined;
  /** Of the wait before the next attempt. */
  waiting: Timer | undefined;
  waitedMs: number | undefined;
  followed: Followed | undefined;
  controller: AbortController | undefined;
  cutBy: { readonly reason: unknown } | undefined;
  /** What the attempt before this one threw. */
  lastError: unknown;
}

export class LiveAttempt implements Attempt, Cuttable, Passing, Due {
  next: Link = this;
  previous: Link = this;
  readonly #plan: Plan;
  readonly #operation: Operation<unknown>;
  readonly #options: InnerCall;
  readonly #context: AmbientContext;
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: Error) => void;
  // `declare`: no `undefined` comes before the number, so that the field is one of numbers.
  declare readonly attempt: number;
  declare startedMs: number;
  declare untilMs: number;
  /** Of the call, where its attempt ends sooner. */
  #callUntilMs: number | undefined;
  #state: State = "entering";
  passed = 0;
  first = 0;
  second = 0;
  others: number[] | undefined;
  #rare: Rare | undefined;

  constructor(
    plan: Plan,
    operation: Operation<unknown>,
    options: InnerCall,
    context: AmbientContext,
    resolve: (value: unknown) => void,
    reject: (error: Error) => void,
    attempt: number,
    nowMs: number,
    untilMs: number,
  ) {
    this.#plan = plan;
    this.#operation = operation;
    this.#options = options;
    this.#context = context;
    this.#resolve = resolve;
    this.#reject = reject;
    this.attempt = attempt;
    this.startedMs = nowMs;
    this.untilMs = untilMs;
  }

  // ---- the call -------------------------------------------------------------------------------------------------------

  begin(): void {
    if ((this.#context !== emptyContext || this.#options !== noOptions) && this.#isOver()) return;
    this.#plan.retry?.budget?.deposit();
    this.#enter();
  }

  /** Binds it by what its caller and the context say. Whether that is over: it is answered then. */
  #isOver(): boolean {
    const { signal, within = signal, deadlineMs = Infinity } = this.#options;
    const outer = within ?? cutterOf(this.#context);
    const givenMs = Math.min(deadlineMs, this.#context.deadlineMs ?? Infinity);
    const nowMs = this.startedMs;
    if (outer?.aborted) this.#reject(outer.reason as Error);
    // A moment that is none (NaN) would leave it without any bound, that of the context too.
    else if (!(givenMs > nowMs)) this.#reject(deadlineExceeded(0, "call"));
    else {
      if (givenMs < this.untilMs) {
        this.untilMs = givenMs;
        this.#rarely.boundMs = givenMs - nowMs;
      }
      if (outer) this.#rarely.followed = followSignal(outer, this);
      return false;
    }
    return true;
  }

  #failed(error: unknown): void {
    const { retry, clock, random } = this.#plan;
    const waitMs =
      retry && this.#mayRepeat(retry, error) ? Math.max(backoffMs(retry, this.attempt + 1, random, this.#rare?.waitedMs), retryAfterMs(error)) : Infinity;
    if (clock.monotonicMs() + waitMs >= this.#endMs) return this.#refuse(error);
    const { budget, attempts } = retry as RetryRule;
    if (budget && !budget.tryWithdraw()) return this.#refuse(budget.spent(error, this.attempt, attempts));
    const next = this.#next(waitMs, error);
    const begin = () => {
      next.#rarely.waiting = undefined;
      next.startedMs = clock.monotonicMs();
      if (next.startedMs < next.untilMs) next.#enter();
      else next.due(next.startedMs); // the timer was late
    };
    // Somebody waits for this: the process is not to end meanwhile.
    if (waitMs > 0) next.#rarely.waiting = clock.after(waitMs, begin, { keepsAlive: true });
    else begin();
  }

  /** Makes the next attempt the one that the call's limits speak to. */
  #next(waitedMs: number, lastError: unknown): LiveAttempt {
    const next = new LiveAttempt(this.#plan, this.#operation, this.#options, this.#context, this.#resolve, this.#reject, this.attempt + 1, 0, this.#endMs);
    const { boundMs, followed } = this.#rarely;
    if (followed) followed.holder = next;
    Object.assign(next.#rarely, { boundMs, followed, waitedMs, lastError });
    return next;
  }

  #mayRepeat(retry: RetryRule, error: unknown): boolean {
    if (this.attempt >= retry.attempts || this.#context.repeated) return false;
    if (retryAfterMs(error) > retry.retryAfterMsMax || !retry.when(error)) return false;
    return this.#options.idempotent !== false || !failureOf(error).mayHaveActed;
  }

  #refuse(error: unknown): void {
    this.#rare?.followed?.release();
    this.#reject(error as Error);
  }

  /** The caller is answered with `reason` and goes on; the operation hears of it by its signal. */
  abort(reason: unknown): void {
    this.#rare?.waiting?.cancel();
    this.#end(reason, false);
  }

  due(nowMs: number): void {
    const { clock, deadline, timeout } = this.#plan;
    const leftMs = this.untilMs - nowMs;
    if (leftMs > soonMs) return beginUntil(clock, this, leftMs, nowMs);
    if (this.#callUntilMs === undefined) return this.abort(deadlineExceeded(this.#rare?.boundMs ?? (deadline as DueList).ms, "call"));
    this.#end(deadlineExceeded((timeout as DueList).ms, "attempt"), true);
  }

  // ---- this attempt ---------------------------------------------------------------------------------------------------

  get hedge(): number {
    return (this.#options as { readonly hedge?: number }).hedge ?? 0;
  }

  get key(): string {
    return this.#options.key ?? this.#context.tenant ?? "";
  }

  get priority(): "high" | "normal" | "low" {
    return this.#options.priority ?? this.#context.priority;
  }

  get cost(): number {
    return this.#options.cost ?? 1;
  }

  get remainingMs(): number {
    return Math.max(0, this.untilMs - this.#plan.clock.monotonicMs());
  }

  get signal(): AbortSignal {
    const rare = this.#rarely;
    if (!rare.controller) {
      rare.controller = new AbortController();
      if (rare.cutBy) rare.controller.abort(rare.cutBy.reason);
    }
    return rare.controller.signal;
  }

  /** When its call's time is over. */
  get #endMs(): number {
    return this.#callUntilMs ?? this.untilMs;
  }

  get dueMs(): number {
    return this.#rare?.dueMs ?? this.untilMs;
  }

  set dueMs(ms: number) {
    this.#rarely.dueMs = ms;
  }

  get aborted(): boolean {
    return this.#rare?.cutBy !== undefined;
  }

  get reason(): unknown {
    return this.#rare?.cutBy?.reason;
  }

  get place(): unknown {
    return this.#rare?.place;
  }

  set place(at: unknown) {
    this.#rarely.place = at;
  }

  get #rarely(): Rare {
    return (this.#rare ??= new Rare());
  }

  /** Its limit begins; then through the gates and to the operation. */
  #enter(): void {
    const { timeout, deadline, clock } = this.#plan;
    const nowMs = this.startedMs;
    if (timeout !== undefined && nowMs + timeout.ms < this.untilMs) {
      this.#callUntilMs = this.untilMs;
      this.untilMs = nowMs + timeout.ms;
      timeout.begin(this);
    } else if (deadline !== undefined && this.untilMs === nowMs + deadline.ms) deadline.begin(this);
    else if (this.untilMs < Infinity) beginUntil(clock, this, this.untilMs - nowMs, nowMs);
    this.#pass(nowMs);
  }

  #pass(nowMs: number): void {
    let outcome: number;
    try {
      outcome = this.#plan.passage?.enter(this, nowMs) ?? 0;
    } catch (broken) {
      return this.#backOut(broken);
    }
    if (outcome === 0) this.#run(nowMs);
    else if (outcome === waits) this.#state = "waiting";
    else this.declined(nowMs);
  }

  admitted(token: number, nowMs: number): void {
    this.#state = "entering";
    (this.#plan.passage as Passage).admitted(this, token);
    this.#pass(nowMs);
  }

  /** That is the answer; what failed before is its cause. */
  declined(nowMs: number): void {
    let answer: unknown = (this.#plan.passage as Passage).fault(this, nowMs, this.#rare?.lastError);
    try {
      this.#tell("declined", answer, nowMs);
    } catch (broken) {
      answer = broken; // somebody else may have come, or ended, and is not to hear of it
    }
    this.#backOut(answer);
  }

  /** Of what it passed already. */
  #backOut(reason: unknown): void {
    this.#state = "ended";
    unlink(this);
    this.#plan.passage?.backOut(this);
    this.#refuse(reason);
  }

  #run(nowMs: number): void {
    this.#state = "running";
    this.startedMs = nowMs;
    let result: unknown;
    try {
      result =
        (this.#context === emptyContext && this.#rare === undefined) || this.#isBoundAlready()
          ? this.#operation(this)
          : inContext(this.#contextWithin(), this.#operation, this);
    } catch (error) {
      return this.#settled(false, error);
    }
    if (isThenable(result))
      // A promise calls back once and throws nothing; what else has a `then` may do as it likes.
      (result instanceof Promise ? result : Promise.resolve(result)).then(
        (value) => this.#settled(true, value),
        (error: unknown) => this.#settled(false, error),
      );
    else this.#settled(true, result);
  }

  /**
   * Whether a context of its own would tell the operation's calls nothing new: entering one costs more than all the rest. Outside of any context none is begun for a first
   * attempt; those after it tell whoever they call that they repeat. Who has waited is let pass in the context of whoever made room.
   */
  #isBoundAlready(): boolean {
    const context = this.#context;
    const { retry } = this.#plan;
    return (
      context !== emptyContext &&
      this.untilMs === (context.deadlineMs ?? Infinity) &&
      (!retry || context.repeated) &&
      this.#options.signal === undefined &&
      this.#options.within === undefined &&
      (this.untilMs === Infinity || this.#rare?.followed !== undefined) &&
      currentContext() === context
    );
  }

  /** What the operation's own calls are bound by. */
  #contextWithin(): AmbientContext {
    const { untilMs } = this;
    return contextWithin(
      this.#context,
      { deadlineMs: untilMs === Infinity ? undefined : untilMs, repeated: this.#context.repeated || this.#plan.retry !== undefined },
      this,
    );
  }

  /** What `when`, `unwell`, `onAttempt` or a breaker's `onChange` throw is the call's answer: thrown here, nobody would hear it, and the caller would wait for ever. */
  #settled(ok: boolean, value: unknown): void {
    try {
      this.#conclude(ok, value);
    } catch (broken) {
      this.#refuse(broken);
    }
  }

  #conclude(ok: boolean, value: unknown): void {
    const { passage, unwell, onAttempt } = this.#plan;
    const isAnswered = this.#state !== "running";
    this.#state = "ended";
    if (isAnswered) return passage?.ended(this, !ok); // long ago
    unlink(this);
    if (passage) {
      passage.answered(this, ok || !unwell(value) ? "well" : "unwell");
      passage.ended(this, false);
    }
    if (onAttempt) this.#tell(ok ? "succeeded" : "failed", ok ? undefined : value);
    if (!ok) return this.#failed(value);
    this.#rare?.followed?.release();
    this.#resolve(value);
  }

  /** As `#settled`, of an attempt that is over before it has ended. */
  #end(reason: unknown, mayRepeat: boolean): void {
    try {
      this.#cut(reason);
      if (mayRepeat) this.#failed(reason);
      else this.#refuse(reason);
    } catch (broken) {
      this.#refuse(broken);
    }
  }

  #cut(reason: unknown): void {
    const { passage, clock, usualMs } = this.#plan;
    const timedOut = Fault.is(reason, "deadline.exceeded");
    unlink(this);
    if (this.#state === "waiting") {
      this.#state = "ended";
      passage?.leave(this, clock.monotonicMs());
    } else if (this.#state === "running") {
      this.#state = "answered";
      passage?.left(this, timedOut, usualMs);
    } else return;
    this.#tell(timedOut ? "timed-out" : "abandoned", reason);
    this.#rarely.cutBy = { reason };
    this.#rarely.controller?.abort(reason);
    tellFollowers(this, reason);
  }

  #tell(outcome: EndedAttempt["outcome"], error: unknown, nowMs?: number): void {
    const { onAttempt, clock } = this.#plan;
    onAttempt?.({ attempt: this.attempt, durationMs: (nowMs ?? clock.monotonicMs()) - this.startedMs, outcome, error });
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { readonly then?: unknown } | null | undefined)?.then === "function";
}
