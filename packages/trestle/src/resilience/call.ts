/**
 * One call under a plan: its attempts, one after the other, under one promise. What would be four nested functions, each with its promise and its closures, is
 * one object for each attempt, because layers cost more than what they do: `npm run bench -- resilience` has the figures. What only some attempts need is apart (`Rare`).
 *
 * For each attempt, in this order: does each gate let it pass; then the operation, within its time. Answering the caller and the end of the operation are two
 * moments: when the time is over the caller is answered, and only when the operation's promise settles do the gates hear that it has ended.
 *
 * The clock is read once in a call that succeeds at once.
 */
import { contextWithin, currentContext, deadlineExceeded, emptyContext, Fault, followSignal, inContext, sharedWheel } from "../kernel/index.ts";
import type { AmbientContext, Clock, Followed, Random, Timer } from "../kernel/index.ts";
import { backoffMs } from "./backoff.ts";
import { Bound, type Bounded, type BoundLine } from "./bound-line.ts";
import { failureOf, retryAfterMs } from "./failure.ts";
import { waits, type Answer, type Caller, type Gate } from "./gate.ts";
import type { Attempt, CallOptions, EndedAttempt, Operation, RetryRule } from "./policy.ts";

/** What a pipeline comes to, worked out once. */
export interface Plan {
  readonly clock: Clock;
  readonly random: Random;
  /** Of the whole call. */
  readonly deadline: BoundLine | undefined;
  /** Of each attempt. */
  readonly timeout: BoundLine | undefined;
  readonly retry: RetryRule | undefined;
  readonly gates: readonly Gate[];
  readonly unwell: (thrown: unknown) => boolean;
  readonly onAttempt: ((ended: EndedAttempt) => void) | undefined;
}

const noOptions: CallOptions = {};

/**
 * Runs `operation` under the plan. Throws what the last attempt threw, or a fault:
 * - `deadline.exceeded`: the attempt's or the call's time was over (`details.scope`: `attempt`, `call`); the operation may still be going on, and may still take effect;
 * - what a gate declined with: this attempt was not made; `cause` is what the attempt before it threw;
 * - `retry.budget-spent`: it failed, could be retried, and the budget does not allow it; `cause` is what it threw;
 * - the reason of the caller's signal, at once, whether it waits for a gate, for an attempt or between two.
 */
export function run<T>(plan: Plan, operation: Operation<T>, options: CallOptions = noOptions): Promise<T> {
  return new Promise<T>((resolve, reject) =>
    new LiveAttempt(plan, operation as Operation<unknown>, options, currentContext(), resolve as (value: unknown) => void, reject, 1, 0).begin(),
  );
}

type State = "entering" | "waiting" | "running" | "answered" | "ended";

/** What few attempts need. */
interface Rare {
  /** Where it stands at the gate at which it waits. */
  place: unknown;
  /** Of a deadline that is not the plan's. */
  deadlineTimer: Timer | undefined;
  /** Of the wait before the next attempt. */
  waiting: Timer | undefined;
  waitedMs: number;
  followed: Followed | undefined;
  controller: AbortController | undefined;
  cutBy: { readonly reason: unknown } | undefined;
  /** What the attempt before this one threw. */
  lastError: unknown;
}

class LiveAttempt implements Attempt, Caller, Bounded {
  readonly #plan: Plan;
  readonly #operation: Operation<unknown>;
  readonly #options: CallOptions;
  readonly #context: AmbientContext;
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: Error) => void;
  readonly attempt: number;
  startedMs: number;
  #state: State = "entering";
  /** How many gates have let it pass, and with what. */
  #passed = 0;
  #tokens: number[] | undefined = undefined;
  /** Of the call, handed from attempt to attempt; and of this attempt. */
  #deadline: Bound | undefined = undefined;
  #timeout: Bound | undefined = undefined;
  #rare: Rare | undefined = undefined;

  constructor(
    plan: Plan,
    operation: Operation<unknown>,
    options: CallOptions,
    context: AmbientContext,
    resolve: (value: unknown) => void,
    reject: (error: Error) => void,
    attempt: number,
    nowMs: number,
  ) {
    this.#plan = plan;
    this.#operation = operation;
    this.#options = options;
    this.#context = context;
    this.#resolve = resolve;
    this.#reject = reject;
    this.attempt = attempt;
    this.startedMs = nowMs;
  }

  // ---- the call -------------------------------------------------------------------------------------------------------

  begin(): void {
    const plan = this.#plan;
    const { signal = this.#context.signal, deadlineMs = Infinity } = this.#options;
    if (signal?.aborted) return this.#reject(signal.reason as Error);
    const nowMs = (this.startedMs = plan.clock.monotonicMs());
    const givenMs = Math.min(deadlineMs, this.#context.deadlineMs ?? Infinity);
    if (plan.deadline && nowMs + plan.deadline.ms <= givenMs) this.#deadline = plan.deadline.begin(this, nowMs);
    else if (givenMs < Infinity) {
      if (givenMs <= nowMs) return this.#reject(deadlineExceeded(0, "call"));
      this.#deadline = new Bound(givenMs, this);
      const bound = this.#deadline;
      this.#rarely.deadlineTimer = sharedWheel(plan.clock).after(givenMs - nowMs, () => bound.holder.expire(bound, givenMs - nowMs));
    }
    if (signal) {
      const followed = followSignal(signal, this);
      this.#rarely.followed = followed;
    }
    plan.retry?.budget?.deposit();
    this.#enter(0, nowMs);
  }

  /** Makes the next attempt the one that the call's limits speak to. */
  #next(waitMs: number, error: unknown): LiveAttempt {
    const next = new LiveAttempt(this.#plan, this.#operation, this.#options, this.#context, this.#resolve, this.#reject, this.attempt + 1, 0);
    const { deadlineTimer, followed } = this.#rarely;
    next.#deadline = this.#deadline;
    if (this.#deadline) this.#deadline.holder = next;
    if (followed) followed.holder = next;
    Object.assign(next.#rarely, { deadlineTimer, followed, waitedMs: waitMs, lastError: error });
    return next;
  }

  #finish(): void {
    this.#deadline?.unlink();
    if (!this.#rare) return;
    this.#rare.deadlineTimer?.cancel();
    this.#rare.followed?.release();
  }

  #failed(error: unknown): void {
    const { retry, clock, random } = this.#plan;
    const waitMs =
      retry && this.#mayRepeat(retry, error) ? Math.max(backoffMs(retry, this.attempt + 1, random, this.#rare?.waitedMs), retryAfterMs(error)) : Infinity;
    if (waitMs === Infinity || clock.monotonicMs() + waitMs >= (this.#deadline?.untilMs ?? Infinity)) {
      this.#finish();
      return this.#reject(error as Error);
    }
    const { budget, attempts } = retry as RetryRule;
    if (budget && !budget.tryWithdraw()) {
      this.#finish();
      return this.#reject(budgetSpent(budget.share, error, this.attempt, attempts));
    }
    const next = this.#next(waitMs, error);
    const begin = () => {
      next.#rarely.waiting = undefined;
      next.startedMs = clock.monotonicMs();
      next.#enter(0, next.startedMs);
    };
    if (waitMs > 0) next.#rarely.waiting = clock.after(waitMs, begin);
    else begin();
  }

  #mayRepeat(retry: RetryRule, error: unknown): boolean {
    if (this.attempt >= retry.attempts || this.#context.repeated) return false;
    if (retryAfterMs(error) > retry.retryAfterMsMax || !retry.when(error)) return false;
    return this.#options.idempotent !== false || !failureOf(error).mayHaveActed;
  }

  /** The caller is answered with `reason` and goes on; the operation hears of it by its signal. */
  aborted(reason: unknown): void {
    this.#rare?.waiting?.cancel();
    this.#cut(reason);
    this.#finish();
    this.#reject(reason as Error);
  }

  expire(bound: Bound, boundMs: number): void {
    if (bound === this.#deadline) return this.aborted(deadlineExceeded(boundMs, "call"));
    const error = deadlineExceeded(boundMs, "attempt");
    this.#cut(error);
    this.#failed(error);
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

  get untilMs(): number {
    return Math.min(this.#deadline?.untilMs ?? Infinity, this.#timeout?.untilMs ?? Infinity);
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

  get place(): unknown {
    return this.#rare?.place;
  }

  set place(at: unknown) {
    this.#rarely.place = at;
  }

  get #rarely(): Rare {
    return (this.#rare ??= {
      place: undefined,
      deadlineTimer: undefined,
      waiting: undefined,
      waitedMs: 0,
      followed: undefined,
      controller: undefined,
      cutBy: undefined,
      lastError: undefined,
    });
  }

  /** Through the gates from `at` on, and then the operation. */
  #enter(at: number, nowMs: number): void {
    const { gates, timeout } = this.#plan;
    if (at === 0) {
      if (timeout && !(this.#deadline && this.#deadline.untilMs <= nowMs + timeout.ms)) this.#timeout = timeout.begin(this, nowMs);
      if (gates.length > 0) this.#tokens = new Array<number>(gates.length);
    }
    for (let i = at; i < gates.length; i++) {
      const token = (gates[i] as Gate).enter(this, nowMs);
      if (token < 0) {
        this.#passed = i;
        if (token === waits) this.#state = "waiting";
        else this.declined(nowMs);
        return;
      }
      (this.#tokens as number[])[i] = token;
    }
    this.#passed = gates.length;
    this.#run(nowMs);
  }

  admitted(token: number, nowMs: number): void {
    (this.#tokens as number[])[this.#passed] = token;
    this.#state = "entering";
    this.#enter(this.#passed + 1, nowMs);
  }

  /** That is the answer; what failed before is its cause. */
  declined(nowMs: number): void {
    const fault = (this.#plan.gates[this.#passed] as Gate).fault(this, nowMs);
    this.#state = "ended";
    this.#timeout?.unlink();
    this.#backOut();
    this.#tell("declined", fault, nowMs);
    this.#finish();
    this.#reject(
      this.attempt === 1
        ? fault
        : Fault.create(fault.code as `${string}.${string}`, fault.message, fault.remedy, { cause: this.#rare?.lastError, details: fault.details }),
    );
  }

  #run(nowMs: number): void {
    this.#state = "running";
    this.startedMs = nowMs;
    let result: unknown;
    try {
      // Outside of any context none is begun for a first attempt: it would cost more than all the rest. Those after it tell whoever they call that they repeat.
      result = this.#context === emptyContext && this.attempt === 1 ? this.#operation(this) : inContext(this.#contextWithin(), this.#operation, this);
    } catch (error) {
      return this.#settled(false, error);
    }
    if (isThenable(result))
      result.then(
        (value) => this.#settled(true, value),
        (error: unknown) => this.#settled(false, error),
      );
    else this.#settled(true, result);
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

  #settled(ok: boolean, value: unknown): void {
    if (this.#state !== "running") {
      this.#state = "ended";
      return this.#ended(); // its caller has been answered long ago
    }
    this.#state = "ended";
    this.#timeout?.unlink();
    const plan = this.#plan;
    this.#answered(ok || !plan.unwell(value) ? "well" : "unwell");
    this.#ended();
    if (plan.onAttempt) this.#tell(ok ? "succeeded" : "failed", ok ? undefined : value);
    if (!ok) return this.#failed(value);
    this.#finish();
    this.#resolve(value);
  }

  #cut(reason: unknown): void {
    const timedOut = Fault.is(reason, "deadline.exceeded");
    this.#timeout?.unlink();
    if (this.#state === "waiting") {
      const { clock, gates } = this.#plan;
      this.#state = "ended";
      (gates[this.#passed] as Gate).leave?.(this, clock.monotonicMs());
      this.#backOut();
    } else if (this.#state === "running") {
      this.#state = "answered";
      this.#answered(timedOut && !this.#hardlyWaited() ? "unwell" : "unknown");
    } else return;
    this.#tell(timedOut ? "timed-out" : "abandoned", reason);
    this.#rarely.cutBy = { reason };
    this.#rarely.controller?.abort(reason);
  }

  /**
   * A caller that left less than a tenth of the usual time says nothing about the other side; one that left more does, or else a dependency that hangs would
   * never open the breaker of callers whose deadlines are shorter than the timeout.
   */
  #hardlyWaited(): boolean {
    const { timeout, deadline } = this.#plan;
    const usualMs = Math.min(timeout?.ms ?? Infinity, deadline?.ms ?? Infinity);
    return usualMs < Infinity && this.untilMs - this.startedMs < usualMs / 10;
  }

  #answered(answer: Answer): void {
    const { gates } = this.#plan;
    for (let i = 0; i < gates.length; i++) gates[i]?.answered?.(this, (this.#tokens as number[])[i] as number, answer);
  }

  #ended(): void {
    const { gates } = this.#plan;
    for (let i = 0; i < gates.length; i++) gates[i]?.ended?.(this, (this.#tokens as number[])[i] as number);
  }

  /** The gates that let it pass hear that nothing came of it. */
  #backOut(): void {
    const { gates } = this.#plan;
    for (let i = 0; i < this.#passed; i++) {
      const token = (this.#tokens as number[])[i] as number;
      gates[i]?.answered?.(this, token, "unknown");
      gates[i]?.ended?.(this, token);
    }
  }

  #tell(outcome: EndedAttempt["outcome"], error: unknown, nowMs?: number): void {
    const { onAttempt, clock } = this.#plan;
    onAttempt?.({ attempt: this.attempt, durationMs: (nowMs ?? clock.monotonicMs()) - this.startedMs, outcome, error });
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { readonly then?: unknown }).then === "function";
}

function budgetSpent(share: number, cause: unknown, attempt: number, attempts: number): Fault {
  return Fault.create(
    "retry.budget-spent",
    `attempt ${attempt} of ${attempts} failed, and retries are held to ${Math.round(share * 100)} % of the calls`,
    "See why so many calls fail: see the cause. Retrying more would add to the load.",
    { cause, details: { attempt } },
  );
}
