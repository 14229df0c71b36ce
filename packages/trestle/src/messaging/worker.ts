/**
 * The worker of one queue on one node: at most `concurrency` handlers at once. It claims a little ahead of itself when handlers are
 * quick, so that they need not wait for the next claim: as many jobs as it has lately got through in `aheadMs`.
 *
 * A slot is free when its handler has ended, while the commit is still on its way; with `concurrency: 1` only when the commit
 * is durable, so that the next job finds everything the last one did. A handler that goes on after its time is over, or after its job was taken from it, holds its slot until it has ended, though its job is tried again:
 * otherwise a dependency that hangs gets `concurrency` more handlers with every time-out. While all slots are held so nothing moves here, and what was claimed goes back to the queue.
 *
 * Adaptive: the number of slots follows how long handlers take, and failures that speak against what they use: that it is not there, does not answer, or has too much to do. A conflict, a refused commit, a refusal and a
 * handler's own bug are answers like any other, and a run that is stopped from outside says nothing.
 */
import { Overdue, type Journal, type NodePart, type NodeServices } from "../component/index.ts";
import { eventLoopLoad, Fault, systemClock } from "../kernel/index.ts";
import { AdaptiveLimit, failureOf, type FailureKind } from "../resilience/index.ts";
import type { ClaimedJob, QueuePolicy } from "../store/index.ts";
import { dispatcherOf, type Claimant, type Dispatcher, type HeldJob } from "./dispatcher.ts";
import { JobRun, type Handling, type RunOwner } from "./job-run.ts";
import { isLimited } from "./policy.ts";

const aheadMs = 10;
const aheadJobsMax = 256;
/** Jobs of one queue that are claimed and not settled: those whose commit is on its way count here, not in `concurrency`. */
const unsettledJobsMax = 1_024;
/** Failures of what a handler uses that say that it has too much to do, or nothing of how much it can. */
const speaksAgainst: ReadonlySet<FailureKind> = new Set<FailureKind>(["crash", "omission", "timing"]);
/**
 * What takes less counts as this long: how long a handler takes that hardly waits depends on what else this process does, and is no sign of a line elsewhere. Throughput still tells how many are of use.
 * Without it the limit took such noise for a line: handlers that read a record (`npm run bench -- queue`, `reads-adaptive`) were done 0.6 times as quickly as with 16.
 */
const briefMs = 10;
/** A clock that ticks in milliseconds shows quick handlers as 0. */
const quickestMs = 0.02;

export class Worker implements NodePart, Claimant, RunOwner {
  readonly name: string;
  readonly queue: string;
  readonly policy: QueuePolicy | undefined;
  readonly node: NodeServices;
  readonly handling: Handling;
  readonly #dispatcher: Dispatcher;
  readonly #waiting: JobRun[] = [];
  readonly #again: { readonly run: JobRun; readonly resolve: () => void }[] = [];
  readonly #controllers: AbortController[] = [];
  readonly #overdue: Overdue;
  readonly #adaptive: AdaptiveLimit | undefined;
  /** How many handlers may run at once. */
  #slots: number;
  /** Those that go on after their time included. */
  #running = 0;
  #unsettled = 0;
  #stopped = false;
  #pumping = false;
  /** How long a slot is held, on average of late; unknown until the first job. */
  #heldMs: number | undefined;

  constructor(node: NodeServices, handling: Handling) {
    this.name = `${handling.component.kind} ${handling.queue}`;
    this.queue = handling.queue;
    this.policy = handling.policy;
    this.node = node;
    this.handling = handling;
    this.#dispatcher = dispatcherOf(node);
    const { concurrency } = handling;
    if (typeof concurrency === "object") this.#adaptive = new AdaptiveLimit({ ...(node.clock === systemClock && { loop: eventLoopLoad }), ...concurrency });
    this.#slots = typeof concurrency === "object" ? (this.#adaptive as AdaptiveLimit).limit : concurrency;
    const overdue = (this.#overdue = new Overdue(node, handling.component.name, () => this.#slots));
    node.observer.works?.(this.queue, this.#adaptive !== undefined, () => ({
      running: this.#running,
      places: this.#slots,
      waiting: this.#waiting.length + this.#again.length,
      overdue: overdue.handlers,
    }));
  }

  // ---- as a part of the node --------------------------------------------------------------------------------------------

  start(): Promise<void> {
    this.#dispatcher.add(this);
    return Promise.resolve();
  }

  drain(withinMs: number): Promise<void> {
    return this.#dispatcher.drain(withinMs);
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.#dispatcher.drain(0);
    this.#dispatcher.remove(this);
  }

  idle(): Promise<boolean> {
    return this.#dispatcher.idle();
  }

  // ---- as a claimant ----------------------------------------------------------------------------------------------------

  room(): number {
    return this.#stopped ? 0 : Math.min(this.#slots * this.#perSlot + this.#ahead() - this.#begun(), unsettledJobsMax - this.#unsettled);
  }

  /** Half as much again, and only what quick handlers soon get through. */
  roomAhead(): number {
    return this.#stopped ? 0 : Math.min(this.#ahead(), this.#slots + 2 * this.#ahead() - this.#begun(), unsettledJobsMax - this.#unsettled);
  }

  /** What it is through with in `aheadMs`, these included: so that nobody urgent waits longer for what was claimed. */
  roomBehind(coming: number): number {
    return this.#stopped ? 0 : Math.min(aheadJobsMax, this.#slots + this.#through() - this.#begun() - coming, unsettledJobsMax - this.#unsettled - coming);
  }

  #ahead(): number {
    return Math.min(aheadJobsMax, this.#through());
  }

  /** Under limits nothing is claimed ahead: it would take a place that another node could use, and begin later than the store let it. */
  #through(): number {
    return (this.policy && isLimited(this.policy)) || this.handling.batch || this.#heldMs === undefined
      ? 0
      : Math.floor((Math.max(0, this.#slots - this.#overdue.handlers) * aheadMs) / this.#heldMs);
  }

  #begun(): number {
    return this.#running * this.#perSlot + this.#waiting.length + this.#again.length;
  }

  get #perSlot(): number {
    return this.handling.batch?.most ?? 1;
  }

  take(claim: ClaimedJob, journal: Journal | undefined): HeldJob {
    const run = new JobRun(this, claim, journal, this.#controllers.pop() ?? new AbortController());
    this.#unsettled += 1;
    this.#waiting.push(run);
    if (!this.handling.batch) this.#pump();
    else if (this.#waiting.length === 1) void Promise.resolve().then(() => this.#pump()); // after the others of this claim
    return run;
  }

  handBackWaiting(): void {
    for (const run of this.#waiting.splice(0)) run.handBack();
  }

  // ---- slots ------------------------------------------------------------------------------------------------------------

  slotAgain(run: JobRun): Promise<void> {
    return new Promise((resolve) => {
      this.#again.push({ run, resolve });
      this.#pump();
    });
  }

  handlerEnded(run: JobRun, fault?: unknown): void {
    if (!run.holding) return;
    if (this.#adaptive) this.#ended(this.#adaptive, this.node.clock.monotonicMs() - run.heldSinceMs, fault);
    if (this.handling.concurrency !== 1) this.#free(run);
  }

  callEnded(holder: JobRun, tookMs: number | undefined, fault?: unknown): void {
    if (this.#adaptive && tookMs !== undefined) this.#ended(this.#adaptive, tookMs, fault);
    if (holder.goesOn) this.#free(holder);
  }

  settled(run: JobRun): void {
    this.#free(run);
    this.#unsettled -= 1;
    if (!run.signal.aborted) this.#controllers.push(run.controller); // nobody listens to it any more
    this.#dispatcher.settled(run.id, run);
    this.handling.settled?.();
    this.#dispatcher.roomIn(this);
  }

  withdraw(run: JobRun): void {
    const at = this.#waiting.indexOf(run);
    if (at >= 0) this.#waiting.splice(at, 1);
    const again = this.#again.findIndex((one) => one.run === run);
    if (again >= 0) this.#again.splice(again, 1);
  }

  #ended(adaptive: AdaptiveLimit, tookMs: number, fault: unknown): void {
    if (this.#running >= this.#slots && (this.#waiting.length > 0 || this.#again.length > 0 || this.#dispatcher.hasMore(this))) adaptive.wanted();
    const well = fault === undefined || !speaksAgainst.has(failureOf(fault).kind);
    const how = well ? "well" : Fault.is(fault, "deadline.exceeded") ? "cut" : "failed";
    const nowMs = this.node.clock.monotonicMs();
    if (adaptive.answered(well ? Math.max(briefMs, tookMs) : tookMs, how, this.#running, nowMs, this.#overdue.handlers)) this.#slots = adaptive.limit;
  }

  #free(run: JobRun): void {
    if (!run.holding) return;
    run.holding = false;
    const heldMs = Math.max(quickestMs, this.node.clock.monotonicMs() - run.heldSinceMs);
    this.#heldMs = this.#heldMs === undefined ? heldMs : this.#heldMs + (heldMs - this.#heldMs) / 8;
    const { goesOn } = run;
    if (!goesOn) return this.#left();
    run.goesOn = undefined; // it may take another slot, for the next call of its batch
    this.#overdue.add(run.title, { tenant: run.tenant, invocation: run.id }, goesOn, () => this.#left());
    this.#pump();
  }

  #left(): void {
    this.#running -= 1;
    this.#pump();
    this.#dispatcher.roomIn(this);
  }

  /** Gives free slots away: first to those that run again, then in the order of claiming. Not re-entered by handlers that end at once. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#running < this.#slots) {
      const again = this.#again.shift();
      const run = again ? again.run : this.#waiting.shift();
      if (!run) break;
      if (!run.isReadable) {
        run.begin();
        continue;
      }
      this.#running += 1;
      run.holding = true;
      run.heldSinceMs = this.node.clock.monotonicMs();
      this.#adaptive?.began(this.#running);
      const { batch } = this.handling;
      if (again) again.resolve();
      else if (batch) batch.begin(this, [run, ...this.#others(run, batch.most - 1)]);
      else run.begin();
    }
    this.#pumping = false;
    if (this.#running >= this.#slots && this.#running === this.#overdue.handlers) this.handBackWaiting();
  }

  /** Those that may go with it: of one tenant, whose handles they share. */
  #others(first: JobRun, most: number): JobRun[] {
    const taken: JobRun[] = [];
    for (let at = 0; at < this.#waiting.length && taken.length < most;) {
      const run = this.#waiting[at] as JobRun;
      if (run.isReadable && run.tenant === first.tenant) taken.push(...this.#waiting.splice(at, 1));
      else at++;
    }
    return taken;
  }
}
