/**
 * The worker of one queue on one node: at most `concurrency` handlers at once. It claims a little ahead of itself when handlers are
 * quick, so that they need not wait for the next claim: as many jobs as it has lately got through in `aheadMs`.
 *
 * A slot is free when its handler has ended, while the commit is still on its way; with `concurrency: 1` only when the commit
 * is durable, so that the next job finds everything the last one did.
 */
import type { Journal, NodePart, NodeServices } from "../component/index.ts";
import type { ClaimedJob, QueuePolicy } from "../store/index.ts";
import { dispatcherOf, type Claimant, type Dispatcher, type HeldJob } from "./dispatcher.ts";
import { JobRun, type Handling, type RunOwner } from "./job-run.ts";
import { isLimited } from "./policy.ts";

const aheadMs = 10;
const aheadJobsMax = 256;
/** Jobs of one queue that are claimed and not settled: those whose commit is on its way count here, not in `concurrency`. */
const unsettledJobsMax = 1_024;
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
    return this.#stopped ? 0 : Math.min(this.handling.concurrency * this.#perSlot + this.#ahead() - this.#begun(), unsettledJobsMax - this.#unsettled);
  }

  /** Half as much again, and only what quick handlers soon get through. */
  roomAhead(): number {
    return this.#stopped ? 0 : Math.min(this.#ahead(), this.handling.concurrency + 2 * this.#ahead() - this.#begun(), unsettledJobsMax - this.#unsettled);
  }

  /** What it is through with in `aheadMs`, these included: so that nobody urgent waits longer for what was claimed. */
  roomBehind(coming: number): number {
    return this.#stopped
      ? 0
      : Math.min(aheadJobsMax, this.handling.concurrency + this.#through() - this.#begun() - coming, unsettledJobsMax - this.#unsettled - coming);
  }

  #ahead(): number {
    return Math.min(aheadJobsMax, this.#through());
  }

  /** Under limits nothing is claimed ahead: it would take a place that another node could use, and begin later than the store let it. */
  #through(): number {
    return (this.policy && isLimited(this.policy)) || this.handling.batch || this.#heldMs === undefined
      ? 0
      : Math.floor((this.handling.concurrency * aheadMs) / this.#heldMs);
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

  handlerEnded(run: JobRun): void {
    if (this.handling.concurrency > 1) this.#free(run);
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
  }

  #free(run: JobRun): void {
    if (!run.holding) return;
    run.holding = false;
    this.#running -= 1;
    const heldMs = Math.max(quickestMs, this.node.clock.monotonicMs() - run.heldSinceMs);
    this.#heldMs = this.#heldMs === undefined ? heldMs : this.#heldMs + (heldMs - this.#heldMs) / 8;
    this.#pump();
    this.#dispatcher.roomIn(this);
  }

  /** Gives free slots away: first to those that run again, then in the order of claiming. Not re-entered by handlers that end at once. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#running < this.handling.concurrency) {
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
      const { batch } = this.handling;
      if (again) again.resolve();
      else if (batch) batch.begin(this, [run, ...this.#others(run, batch.most - 1)]);
      else run.begin();
    }
    this.#pumping = false;
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
