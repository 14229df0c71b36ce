/**
 * Running a handler to its one commit. A conflict runs it again, at once and in turns (see lane.ts), until its deadline. A
 * refusal or fault that rests on reads is checked before it is believed: what the handler saw may never have stood together
 * (FINDINGS F9).
 */
import { currentContext, emptyContext, Fault, inContext, type AmbientContext, type Clock, type Timer } from "../kernel/index.ts";
import type { Expectation, Write } from "../store/index.ts";
import type { Component, Mode, Uses } from "./component.ts";
import { WorkContext } from "./work-context.ts";
import type { Principal } from "./context.ts";
import { bindUses } from "./handles.ts";
import { Invocation } from "./invocation.ts";
import type { Journal } from "./journal.ts";
import type { NodeServices } from "./node.ts";
import { refusalOf } from "./refusal.ts";
import type { InvocationFrame } from "./run.ts";
import type { Accepted } from "./schema.ts";
import { checkTenant } from "./user-key.ts";

export interface Work<T> {
  readonly node: NodeServices;
  readonly component: Component;
  readonly operation: string;
  readonly mode: Mode;
  readonly uses: Uses | undefined;
  /** Equal on every attempt; a UUIDv7 where one is at hand. */
  readonly id: string;
  readonly tenant?: string | undefined;
  readonly principal?: Principal | undefined;
  /** 1 for the first. */
  readonly attempt?: number;
  /** Default: that of the surrounding context. */
  readonly priority?: AmbientContext["priority"] | undefined;
  readonly traceparent?: string | undefined;
  /** Of what set it off. Default: that of the surrounding context, else its own id. */
  readonly correlation?: string | undefined;
  /** The message or event it answers to, when that is not what its own id names. */
  readonly cause?: string | undefined;
  readonly timeoutMs: number;
  /** When the work came into being: fixes the time in ids minted by the handler. Default: now. */
  readonly startedAtMs?: number | undefined;
  /** Aborts the run from outside: the caller is gone, the node drains, the claim is lost. */
  readonly signal?: AbortSignal | undefined;
  /** Nobody's call: it begins in an empty context, whoever woke it. */
  readonly detached?: boolean;
  readonly journal?: Journal | undefined;
  /**
   * Holds only as long as the invocation has not ended, for whoever has no journal yet: without it a late first run could not tell an
   * invocation that has not begun from one that has ended and left no journal.
   */
  readonly guard?: InvocationFrame["guard"];
  readonly resumeAfter?: string | undefined;
  /** See `InvocationFrame.consistent`. */
  readonly consistent?: boolean | undefined;
  /** See `InvocationFrame.accepted`. */
  readonly accepted?: Accepted | undefined;
  /** Told of a run that goes on though its time is over or whoever waited has gone, because it does not heed its signal: it has ended when this settles. */
  readonly outlived?: ((running: Promise<unknown>) => void) | undefined;
  run(uses: object, context: WorkContext, invocation: Invocation): T | Promise<T>;
  /** What the answer means for the commit. */
  conclude(answer: T, invocation: Invocation): Conclusion;
  /** What a fault means: its own commit (a job's retry), or nothing, and then it is thrown. */
  fail?(fault: unknown, invocation: Invocation): Conclusion | undefined;
}

export interface Conclusion {
  /** Does what the handler staged stay? */
  readonly keep: boolean;
  readonly end: "ok" | "refused" | "fault";
  readonly writes?: readonly Write[];
  readonly expects?: readonly Expectation[];
  /** `save` when the invocation will run again. */
  readonly journal?: "drop" | "save";
}

/** How it ended. `lost`: somebody else owns this work now; nothing was committed. */
export type Ended<T> = { readonly kind: "answered"; readonly answer: T } | { readonly kind: "failed"; readonly fault: unknown } | { readonly kind: "lost" };

const runsMax = 1_000;

export async function execute<T>(work: Work<T>): Promise<Ended<T>> {
  const { node, component, operation } = work;
  checkTenant(work.tenant);
  const startedMs = node.clock.monotonicMs();
  const around = work.detached ? emptyContext : currentContext();
  const span = node.observer.span(
    operation === "" ? component.name : `${component.name} ${operation}`,
    { "trestle.kind": component.kind, "trestle.component": component.name },
    work.traceparent,
  );
  const scope = new RunScope(node.clock, startedMs, work.timeoutMs, work.signal);
  const context: AmbientContext = {
    deadlineMs: scope.deadlineMs,
    signal: undefined,
    tenant: work.tenant,
    priority: work.priority ?? around.priority,
    attempt: work.attempt ?? 1,
    repeated: around.repeated,
    traceparent: span?.traceparent ?? work.traceparent ?? around.traceparent,
    tracestate: around.tracestate,
    correlation: work.correlation ?? around.correlation ?? work.id,
    component: component.name,
    readToken: around.readToken,
  };
  let journal = work.journal;
  let runs = 0;
  let end: Conclusion["end"] = "fault";
  let fault: unknown;
  try {
    for (;;) {
      runs += 1;
      const invocation = new Invocation(new RunFrame(work, scope, journal, runs === 1, context.correlation));
      const ended = await (span?.within
        ? span.within(() => inContext(context, runOnce<T>, work, invocation, scope))
        : inContext(context, runOnce<T>, work, invocation, scope));
      end = ended.end;
      fault = ended.fault;
      if (ended.kind !== "again") return ended.result;
      const late = node.clock.monotonicMs() >= scope.deadlineMs;
      if (late || runs >= runsMax)
        throw Fault.create(
          late ? "deadline.exceeded" : "commit.conflict",
          `${component.kind} "${component.name}" ran ${runs} times${late ? ` within ${work.timeoutMs} ms` : ""}, and each time another commit had changed what it read (${ended.keys.slice(0, 3).join(", ")})`,
          "Merge instead of reading and writing back, or spread the hot key.",
          { details: { keys: ended.keys, runs } },
        );
      journal = invocation.journal;
    }
  } catch (thrown) {
    end = "fault";
    fault = thrown;
    throw thrown;
  } finally {
    scope.close();
    span?.end(end === "fault" ? fault : undefined);
    const tookMs = node.clock.monotonicMs() - startedMs;
    node.observer.invoked(component.name, operation, end, tookMs, runs);
    if (around.component !== undefined) node.observer.called?.(around.component, component.name, end, tookMs);
  }
}

type Once<T> =
  | { readonly kind: "done"; readonly result: Ended<T>; readonly end: Conclusion["end"]; readonly fault?: unknown }
  | { readonly kind: "again"; readonly keys: readonly string[]; readonly end: "fault"; readonly fault?: unknown };

async function runOnce<T>(work: Work<T>, invocation: Invocation, scope: RunScope): Promise<Once<T>> {
  let answer: T | undefined;
  let fault: unknown;
  let conclusion: Conclusion | undefined;
  try {
    const running = work.run(bindUses(work.uses, invocation), new WorkContext(invocation), invocation);
    answer = isPromise(running) ? await scope.race(running, work) : running;
    const unread = invocation.unreadRefusal();
    if (invocation.unknownOutcome !== undefined) throw invocation.unknownOutcome; // a handler may not swallow it
    conclusion = work.conclude(answer, invocation);
    // Here, where the deadline bounds it, and not in the commit.
    const reacting = conclusion.keep ? invocation.reacted() : undefined;
    if (reacting) await scope.race(reacting, work);
    if (unread !== undefined && conclusion.end === "ok")
      throw Fault.create(
        "outcome.refusal-unread",
        `${invocation.frame.component.kind} "${invocation.frame.component.name}" ended without looking at a refusal: ${unread}`,
        "Look at `.ok` of what the command answered, and say what then.",
      );
  } catch (thrown) {
    fault = invocation.unknownOutcome ?? thrown;
    conclusion = undefined;
  }
  if (invocation.superseded) return afterRefusal(work, invocation, fault);
  if (fault !== undefined && work.signal?.aborted) {
    // Stopped from outside: whoever stopped it decides what becomes of the work.
    invocation.settle();
    return { kind: "done", result: { kind: "failed", fault }, end: Fault.is(fault, "stream.closed") ? "ok" : "fault", fault };
  }
  if (work.consistent) {
    const changed = await invocation.changedMeanwhile();
    if (changed.length > 0) {
      invocation.settle();
      return { kind: "again", keys: changed, end: "fault", fault };
    }
  }
  if (conclusion === undefined) {
    conclusion = work.fail?.(fault, invocation);
    if (conclusion === undefined) {
      if (work.mode !== "read" && invocation.restsOnReads) {
        const outcome = await invocation.commit({ keep: false, judge: true, writes: [], expects: [], journal: "save" });
        if (!outcome.ok) return afterRefusal(work, invocation, fault);
      } else invocation.settle();
      return { kind: "done", result: { kind: "failed", fault }, end: "fault", fault };
    }
  }
  if (work.mode === "read") {
    invocation.settle();
    return { kind: "done", result: fault === undefined ? { kind: "answered", answer: answer as T } : { kind: "failed", fault }, end: conclusion.end, fault };
  }
  const { keep, writes = [], expects = [], journal = "drop" } = conclusion;
  if (fault !== undefined && journal === "save") invocation.forgetFault(fault);
  let outcome;
  try {
    outcome = await invocation.commit({ keep, judge: keep || invocation.restsOnReads, writes, expects, journal });
  } catch (refusedAtTheDoor) {
    // Too large, overloaded, diverged: a fault of this handler like any other, unless it already is one.
    const again = fault === undefined ? work.fail?.(refusedAtTheDoor, invocation) : undefined;
    if (again) return commitFailure(invocation, again, refusedAtTheDoor);
    invocation.settle();
    throw refusedAtTheDoor;
  }
  if (outcome.ok)
    return { kind: "done", result: fault === undefined ? { kind: "answered", answer: answer as T } : { kind: "failed", fault }, end: conclusion.end, fault };
  return afterRefusal(work, invocation, fault);
}

/** A failure that only showed at the commit is recorded in a commit of its own, without what the handler staged. */
async function commitFailure<T>(invocation: Invocation, { writes = [], expects = [], journal = "drop" }: Conclusion, fault: unknown): Promise<Once<T>> {
  if (journal === "save") invocation.forgetFault(fault);
  const outcome = await invocation.commit({ keep: false, judge: false, writes, expects, journal });
  invocation.settle();
  return { kind: "done", result: outcome.ok ? { kind: "failed", fault } : { kind: "lost" }, end: "fault", fault };
}

/** A commit of this run, at its end or at a recovery point, was refused. */
async function afterRefusal<T>(work: Work<T>, invocation: Invocation, thrown: unknown): Promise<Once<T>> {
  const why = invocation.superseded?.why;
  const fault = why && refusalOf(work.component, why);
  if (fault) {
    const conclusion = work.fail?.(fault, invocation);
    if (conclusion) return commitFailure(invocation, conclusion, fault);
    invocation.settle();
    return { kind: "done", result: { kind: "failed", fault }, end: "fault", fault };
  }
  invocation.settle();
  // Resolved: an unknown outcome turned out to be "not committed".
  if (why?.refused === "resolved") return { kind: "again", keys: [], end: "fault", fault: thrown };
  // Its own journal moved on: another process has taken this invocation over.
  if (why?.refused === "conflict" && !why.keys.some((key) => key.startsWith("~journal/") || key.startsWith("~request/")))
    return { kind: "again", keys: why.keys, end: "fault", fault: thrown };
  return { kind: "done", result: { kind: "lost" }, end: "fault", fault: thrown };
}

function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return value instanceof Promise || (typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function");
}

/**
 * What the runs of one `execute` share. The handler's signal aborts at its deadline, or with the caller's. Signal, timer and listener are made
 * when something is waited for, or somebody asks for the signal: a handler that answers at once needs none of them.
 */
class RunScope {
  readonly deadlineMs: number;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #outer: AbortSignal | undefined;
  #controller: AbortController | undefined;
  #timer: Timer | undefined;
  #done: Map<string, unknown> | undefined;
  #over: { readonly reason: unknown } | undefined;
  #cut: ((reason: unknown) => void) | undefined;

  constructor(clock: Clock, startedMs: number, timeoutMs: number, outer: AbortSignal | undefined) {
    this.deadlineMs = startedMs + timeoutMs;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#outer = outer;
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#arm();
      this.#controller = new AbortController();
      if (this.#over) this.#controller.abort(this.#over.reason);
    }
    return this.#controller.signal;
  }

  /** See `InvocationFrame.done`. */
  get done(): Map<string, unknown> {
    return (this.#done ??= new Map());
  }

  /** The handler's end, or the deadline, whichever comes first. A handler that goes on after it finds its handles dead, and `outlived` is told of it. */
  race<T>(running: Promise<T>, work: Pick<Work<unknown>, "outlived">): Promise<T> {
    this.#arm();
    return new Promise((resolve, reject) => {
      this.#cut = (reason) => {
        work.outlived?.(running);
        reject(reason as Error);
      };
      if (this.#over) this.#cut(this.#over.reason);
      running.then(resolve, reject);
    });
  }

  close(): void {
    if (!this.#timer) return;
    this.#timer.cancel();
    this.#outer?.removeEventListener("abort", this.#aborted);
  }

  #arm(): void {
    if (this.#timer) return;
    this.#timer = this.#clock.after(Math.max(0, this.deadlineMs - this.#clock.monotonicMs()), this.#late);
    if (this.#outer?.aborted) this.#aborted();
    else this.#outer?.addEventListener("abort", this.#aborted, { once: true });
  }

  readonly #late = (): void =>
    this.#abort(Fault.create("deadline.exceeded", `the handler did not end within ${this.#timeoutMs} ms`, "Raise `timeout`, or do less in one handler."));

  readonly #aborted = (): void => this.#abort(this.#outer?.reason);

  #abort(reason: unknown): void {
    if (this.#over) return;
    this.#over = { reason };
    this.#controller?.abort(reason);
    this.#cut?.(reason);
  }
}

class RunFrame implements InvocationFrame {
  readonly node: NodeServices;
  readonly mode: Mode;
  readonly id: string;
  readonly component: Component;
  readonly operation: string;
  readonly tenant: string | undefined;
  readonly principal: Principal | undefined;
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly deadlineMs: number;
  readonly journal: Journal | undefined;
  readonly guard: InvocationFrame["guard"];
  readonly resumeAfter: string | undefined;
  readonly consistent: boolean | undefined;
  readonly accepted: Accepted | undefined;
  readonly first: boolean;
  readonly correlation: string | undefined;
  readonly cause: string | undefined;
  readonly #scope: RunScope;

  constructor(
    work: Omit<Work<unknown>, "run" | "conclude" | "fail">,
    scope: RunScope,
    journal: Journal | undefined,
    first: boolean,
    correlation: string | undefined,
  ) {
    this.node = work.node;
    this.mode = work.mode;
    this.id = work.id;
    this.component = work.component;
    this.operation = work.operation;
    this.tenant = work.tenant;
    this.principal = work.principal;
    this.attempt = work.attempt ?? 1;
    this.startedAtMs = work.startedAtMs ?? work.node.clock.wallMs();
    this.deadlineMs = scope.deadlineMs;
    this.journal = journal;
    this.guard = work.guard;
    this.resumeAfter = work.resumeAfter;
    this.consistent = work.consistent;
    this.accepted = work.accepted;
    this.first = first && this.attempt === 1 && journal === undefined;
    this.correlation = correlation;
    this.cause = work.cause;
    this.#scope = scope;
  }

  get signal(): AbortSignal {
    return this.#scope.signal;
  }
  get done(): Map<string, unknown> {
    return this.#scope.done;
  }
}
