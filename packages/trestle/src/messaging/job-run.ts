/**
 * One claimed job on its way through a handler. It is what `execute` runs, and what the dispatcher holds.
 *
 * States, and how the job is left behind in the store by each end:
 *   waiting     claimed, no handler has begun. Leaves for `running` when its worker has a free slot.
 *   running     the handler runs; perhaps several times (conflicts).
 *   ending      the handler has ended, its commit is on the way: `done` with what it staged; `retry`, `dead`, `parked` or
 *               `undetermined` without; `later` and `dead` as the handler asked, without what it staged since its last recovery point.
 *               A handler that goes on after its time has ended its job all the same, and holds the slot of its worker until it has ended itself.
 *   handing back  aborted from outside: `later`, due now, which counts as no attempt. Where the claim is over, nobody hears of it.
 *   settled     nothing of it is left on this node.
 */
import {
  execute,
  isRefused,
  journalKey,
  type Component,
  type Conclusion,
  type Invocation,
  type Journal,
  type NodeServices,
  type Uses,
  type Work,
  type WorkContext,
} from "../component/index.ts";
import { Fault, sleep } from "../kernel/index.ts";
import type { AdaptiveOptions } from "../resilience/index.ts";
import type { ClaimedJob, Expectation, JobEnd, QueuePolicy, Write } from "../store/index.ts";
import type { HeldJob } from "./dispatcher.ts";
import { unseal, type Envelope } from "./envelope.ts";
import type { Keep } from "./policy.ts";
import { ProgressReport, progressKey } from "./progress.ts";
import { Returned, resultWrite } from "./result.ts";
import { afterFailure, errorText, mayHaveCalled, type Retry } from "./retry.ts";

/** What a kind does with the jobs of its queue. */
export interface Handling {
  readonly component: Component;
  /** Its name in the store. */
  readonly queue: string;
  readonly uses: Uses | undefined;
  /** Handlers that run at once on one node; bounds: as many as what they use works on. */
  readonly concurrency: number | AdaptiveOptions;
  readonly timeoutMs: number;
  readonly retry: Retry;
  /** Limits over the fleet, judged by the store. */
  readonly policy?: QueuePolicy | undefined;
  readonly keep?: Keep;
  /** Somebody may wait for what its jobs answer. */
  readonly returns?: boolean;
  /** How a job ends whose tries are used up. */
  readonly exhausted: "dead" | "parked";
  /** Names the work in metrics, beside the component. */
  operation(message: unknown, type: string | undefined): string;
  handle(message: unknown, uses: object, context: WorkContext, invocation: Invocation, run: JobRun): unknown;
  /** Its jobs are handled together, up to so many by one call. */
  readonly batch?: { readonly most: number; readonly begin: (owner: RunOwner, runs: readonly JobRun[]) => void } | undefined;
  /** A job of the queue has left this node. */
  settled?(): void;
}

/** What a handler may answer instead of nothing, or of its result. A class, so that no result is taken for one. */
export class AskedEnd {
  readonly end: "dead" | "later";
  readonly why: { readonly reason?: string; readonly delayMs?: number; readonly again?: readonly string[] };
  constructor(end: AskedEnd["end"], why: AskedEnd["why"]) {
    this.end = end;
    this.why = why;
  }
}

/** Whose slots a run takes. */
export interface RunOwner {
  readonly node: NodeServices;
  readonly handling: Handling;
  /** Resolves when the run has a slot; before jobs that have not begun. */
  slotAgain(run: JobRun): Promise<void>;
  /** The handler has ended, with a fault if it failed; its slot is free unless slots are kept until the commit, or the handler goes on. */
  handlerEnded(run: JobRun, fault?: unknown): void;
  /** A call of a batch has ended, after `tookMs`; `undefined`: it was stopped. Its slot, `holder`'s, is kept for the next call; where the call goes on the slot is the call's, and the next one needs another. */
  callEnded(holder: JobRun, tookMs: number | undefined, fault?: unknown): void;
  settled(run: JobRun): void;
  /** It was still waiting, to begin or to run again: takes it out of the line. */
  withdraw(run: JobRun): void;
}

const finishTriesMax = 6;
const laterMsDefault = 1_000;
const claimedOnly: readonly Write[] = [];

export class JobRun implements Work<unknown>, HeldJob {
  readonly claim: ClaimedJob;
  readonly mode = "durable";
  /** Whoever woke the worker is not its caller. */
  readonly detached = true;
  readonly journal: Journal | undefined;
  readonly controller: AbortController;
  /** It holds a slot of its worker. Kept by the worker and by this file. */
  holding = false;
  heldSinceMs = 0;
  /** Its handler does, though its time is over: it has ended when this settles, and holds the slot until then. */
  goesOn: Promise<unknown> | undefined;
  readonly #owner: RunOwner;
  readonly #envelope: Envelope | undefined;
  #work: Promise<void> | undefined;
  #aborted: Fault | undefined;
  #over = false;
  #hopeless = false;
  #invocation: Invocation | undefined;
  #progress: ProgressReport | undefined;

  constructor(owner: RunOwner, claim: ClaimedJob, journal: Journal | undefined, controller: AbortController) {
    this.#owner = owner;
    this.claim = claim;
    this.journal = journal;
    this.controller = controller;
    this.#envelope = unseal(claim.payload);
  }

  // ---- what `execute` reads -------------------------------------------------------------------------------------------

  get node(): NodeServices {
    return this.#owner.node;
  }
  get component(): Component {
    return this.#owner.handling.component;
  }
  get operation(): string {
    return this.#owner.handling.operation(this.#envelope?.data, this.messageType);
  }
  get uses(): Uses | undefined {
    return this.#owner.handling.uses;
  }
  get id(): string {
    return this.claim.id;
  }
  get tenant(): string | undefined {
    return this.#envelope?.tenant;
  }
  get attempt(): number {
    return this.claim.attempt;
  }
  get priority(): "high" | "normal" | "low" {
    return this.#envelope?.priority ?? "normal";
  }
  get traceparent(): string | undefined {
    return this.#envelope?.trace;
  }
  get correlation(): string {
    return this.#envelope?.correlation ?? this.claim.id;
  }
  get cause(): string | undefined {
    return this.#envelope?.cause;
  }
  get timeoutMs(): number {
    return this.#owner.handling.timeoutMs;
  }
  get startedAtMs(): number {
    return this.claim.sentAtMs;
  }
  get signal(): AbortSignal {
    return this.controller.signal;
  }
  /** Each recovery point commits only while the claim holds. */
  get guard(): () => { readonly expects: readonly Expectation[]; readonly writes: readonly Write[] } {
    const { id, fence } = this.claim;
    return () => ({ expects: [{ kind: "claim", job: id, fence }], writes: claimedOnly });
  }

  run(uses: object, context: WorkContext, invocation: Invocation): unknown {
    this.#invocation = invocation;
    if (this.holding) return this.#owner.handling.handle(this.#envelope?.data, uses, context, invocation, this);
    // A conflict runs it again after its slot went to another job.
    return this.#owner.slotAgain(this).then(() => {
      if (this.goesOn) return; // its time was over just then
      return this.#owner.handling.handle(this.#envelope?.data, uses, context, invocation, this);
    });
  }

  outlived(running: Promise<unknown>): void {
    if (!this.holding)
      this.#owner.withdraw(this); // it waits to run again, or what is left of it needs no slot
    else this.goesOn = this.goesOn ? Promise.allSettled([this.goesOn, running]) : running;
  }

  conclude(answer: unknown): Conclusion {
    if (typeof answer === "object" && answer !== null) {
      if (isRefused(answer))
        throw Fault.create(
          "job.refused",
          `the handler of ${this.title} answered a refusal ("${answer.refused}"); a job cannot be refused`,
          "Return nothing when the job is done, `job.dead(reason)` or `job.later(delay)` when it is not, or throw.",
        );
      if (answer instanceof AskedEnd) return this.#asAsked(answer);
      // As written by hand, with what such an object may say. A queue that returns something gets its ends from the context.
      const { end, ...why } = answer as AskedEnd["why"] & { readonly end?: unknown };
      if (!(answer instanceof Returned) && (end === "dead" || end === "later")) return this.#asAsked(new AskedEnd(end, why));
    }
    this.#owner.handlerEnded(this);
    const writes = this.endWrites(this.doneEnd());
    if (answer instanceof Returned) writes.push(this.#resultOf(answer.value));
    return { keep: true, end: "ok", writes };
  }

  fail(fault: unknown): Conclusion {
    this.#owner.handlerEnded(this, fault);
    return { keep: false, end: "fault", journal: "save", writes: this.endWrites(this.afterFailure(fault)) };
  }

  // ---- what handlers ask ----------------------------------------------------------------------------------------------

  /** Marks the message as one that no further try can handle. Answers the fault, to be thrown. */
  poison(fault: Fault): Fault {
    this.#hopeless = true;
    return fault;
  }

  progress(done: number, of: number): void {
    this.#progress ??= new ProgressReport(this.node, this.claim);
    this.#progress.report(done, of);
  }

  // ---- from claim to settlement ---------------------------------------------------------------------------------------

  get settled(): Promise<void> {
    return this.#work ?? Promise.resolve();
  }

  /** Runs the handler. Once. */
  begin(): void {
    this.#work = this.#envelope ? this.#perform() : this.#setAside();
  }

  /** Gives a job back that has not begun. Once. */
  handBack(): void {
    this.#work = this.#endBy(() => this.giveBack());
  }

  /** It is ended by a batch. Once. */
  endIn(batch: Promise<void>): void {
    this.#work = this.#endBy(() => batch);
  }

  get isAborted(): boolean {
    return this.#aborted !== undefined;
  }
  /** Its payload is one that Trestle wrote. */
  get isReadable(): boolean {
    return this.#envelope !== undefined;
  }
  get message(): unknown {
    return this.#envelope?.data;
  }
  /** Of a queue with several types of messages. */
  get messageType(): string | undefined {
    return this.#envelope?.type;
  }

  abort(reason: Fault): void {
    // Over: its controller may serve another run by now, and to abort that one would leave it without an end.
    if (this.#aborted || this.#over) return;
    this.#aborted = reason;
    if (this.#work) return this.controller.abort(reason);
    this.#owner.withdraw(this);
    this.handBack();
  }

  #perform(): Promise<void> {
    return this.#endBy(async () => {
      try {
        const ended = await execute(this);
        if (ended.kind === "answered") return;
        if (ended.kind === "lost") await this.#lost();
        else if (this.#aborted) await this.giveBack();
      } catch (fault) {
        // Not even its failure could be committed, or it never stopped conflicting.
        if (this.#aborted) await this.giveBack();
        else await this.endAlone(this.afterFailure(fault));
      }
    });
  }

  /** No version of this code wrote that payload. */
  #setAside(): Promise<void> {
    const { exhausted, queue } = this.#owner.handling;
    return this.#endBy(() =>
      this.endAlone({ kind: exhausted, error: `job.unreadable: the payload of this job of queue "${queue}" is not one that Trestle wrote` }),
    );
  }

  async #endBy(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (fault) {
      this.node
        .log(this.component.name, { traceparent: undefined, tenant: this.tenant, invocation: this.id })
        .error("a job could not be settled; its lease runs out and it comes back", { fault: String(fault) });
    } finally {
      this.#over = true;
      this.#progress?.end();
      this.#owner.settled(this);
    }
  }

  /** `fenced`: somebody else owns the job, and this run leaves without a word. Anything else counts as a failed try. */
  async #lost(): Promise<void> {
    const refused = this.#invocation?.superseded?.why.refused;
    if (refused === "fenced") this.countLost();
    else
      await this.endAlone(
        this.afterFailure(Fault.create("job.run-lost", `a run of ${this.title} could not go on (${refused ?? "unknown"})`, "Nothing: it is tried again.")),
      );
  }

  /** Somebody else owns it now. */
  countLost(): void {
    this.node.observer.invoked(this.component.name, "(claim lost)", "fault", 0, 1);
  }

  async giveBack(): Promise<void> {
    const writes = this.endWrites({ kind: "later", dueAtMs: 0, reason: "handed back" });
    // The store answered "over": if it takes this all the same, the job was cancelled, and nobody will ask for its journal.
    if (this.#aborted?.code === "job.claim-over") writes.push({ kind: "remove", key: journalKey(this.id) });
    await this.#submit(writes);
  }

  async endAlone(end: JobEnd): Promise<void> {
    await this.#submit(this.endWrites(end));
  }

  async #submit(writes: readonly Write[]): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        const outcome = await this.node.lane.submit({ id: this.node.ids.next(), expects: [], writes });
        if (!outcome.ok) this.countLost();
        return;
      } catch (fault) {
        if (Fault.is(fault, "store.closed")) return;
        if (tries === finishTriesMax) throw fault;
        await sleep(this.node.clock, 50 * 2 ** tries);
      }
    }
  }

  #asAsked({ end, why }: AskedEnd): Conclusion {
    this.#owner.handlerEnded(this);
    if (end === "later" && why.again) this.#invocation?.askAgain(why.again);
    return { keep: false, end: "refused", journal: "save", writes: this.endWrites(this.askedEnd(end, why)) };
  }

  doneEnd(): JobEnd {
    return { kind: "done", ...this.#keptFor(this.#owner.handling.keep?.doneMs) };
  }

  askedEnd(end: AskedEnd["end"], { reason, delayMs = laterMsDefault }: AskedEnd["why"]): JobEnd {
    if (end === "dead") return { kind: "dead", error: reason ?? "the handler gave no reason", ...this.#keptFor(this.#owner.handling.keep?.deadMs) };
    return { kind: "later", dueAtMs: Math.ceil(this.node.storeClock.latestMs() + delayMs), ...(reason === undefined ? {} : { reason }) };
  }

  /** How it ends, or goes on, after this. */
  afterFailure(fault: unknown): JobEnd {
    const { retry, exhausted } = this.#owner.handling;
    const end = afterFailure(
      retry,
      { fault, attempt: this.attempt, nowMs: this.node.storeClock.latestMs(), hopeless: this.#hopeless, unknown: mayHaveCalled(this.#invocation), exhausted },
      this.node.random,
    );
    const log = this.node.log(this.component.name, { traceparent: this.traceparent, tenant: this.tenant, invocation: this.id });
    const facts = { attempt: this.attempt, error: errorText(fault) };
    if (end.kind === "retry") log.warn("a job failed and will be tried again", facts);
    else log.error(`a job is ${end.kind}: it waits for a person`, facts);
    return end.kind === "dead" ? { ...end, ...this.#keptFor(this.#owner.handling.keep?.deadMs) } : end;
  }

  #keptFor(ms: number | undefined): { readonly keepUntilMs?: number } {
    return ms === undefined ? {} : { keepUntilMs: Math.ceil(this.node.storeClock.latestMs() + ms) };
  }

  /** The writes of this end. */
  endWrites(end: JobEnd): Write[] {
    const { id, fence } = this.claim;
    const writes: Write[] = [{ kind: "finish", job: id, fence, end }];
    if (this.#progress) writes.push({ kind: "remove", key: progressKey(id) });
    if (this.#owner.handling.returns && (end.kind === "dead" || end.kind === "parked" || end.kind === "undetermined")) writes.push(this.#resultOf(undefined));
    return writes;
  }

  #resultOf(value: Uint8Array | undefined): Write {
    return resultWrite(this.tenant, this.id, value, Math.ceil(this.node.storeClock.latestMs() + (this.#owner.handling.keep?.resultMs ?? 0)));
  }

  get title(): string {
    return `job ${this.claim.id} of ${this.component.kind} "${this.component.name}"`;
  }
}
