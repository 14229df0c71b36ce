/**
 * The one claim loop of a node. It takes jobs for every queue that runs here, all queues in one claim, keeps the claims alive
 * while their jobs are worked on, and hands back what it cannot finish.
 *
 * When it claims: when the store tells that a queue has work, when a job falls due (a timer for the earliest one), when a worker
 * has room again for a queue that had more. Nothing is polled; every third of a lease it looks at all queues once, because a
 * lease that ran out elsewhere announces itself to nobody. Where the store has heartbeats, it keeps the claims of a blocked event loop
 * for `blockedMsMax`; this loop shows it every second that it is alive, and goes on asking, to hear of cancelled jobs.
 *
 * States. `open`: claims. `draining`: entered by `drain`, or when the node begins to drain: claims nothing, hands back what has not
 * begun, waits for what runs until its time is over, then aborts the rest, which hands itself back. `closed`: final.
 * Over 400 lines because claiming, keeping and ending are one machine over what the node holds.
 */
import { decodeJournal, journalKey, type Component, type Journal, type NodeServices } from "../component/index.ts";
import { emptyContext, Fault, inContext, PassingMap, type Timer } from "../kernel/index.ts";
import { limits, type Claim, type ClaimedJob, type Claims, type Heartbeat, type QueueClaim, type QueuePolicy } from "../store/index.ts";

/** Who works on the jobs of one queue. */
export interface Claimant {
  readonly queue: string;
  /** Limits over the fleet. */
  readonly policy?: QueuePolicy | undefined;
  /** How many jobs it would take now; 0 for none. */
  room(): number;
  /** How many it would take beside what it has asked for, because it is quick. Default 0. */
  roomAhead?(): number;
  /** How many more than the `coming`, because it is through with all of them so soon. Default 0. */
  roomBehind?(coming: number): number;
  /** Takes a claimed job over: from here on it is the claimant's to settle. */
  take(job: ClaimedJob, journal: Journal | undefined): HeldJob;
  /** Gives back what it has taken and not begun. */
  handBackWaiting(): void;
}

/** A job between claim and settlement. */
export interface HeldJob {
  readonly claim: ClaimedJob;
  /** The run is aborted and settles itself. `job.claim-over`, `job.lease-over` or `job.handed-back` says why. */
  abort(reason: Fault): void;
  /** Resolves when nothing of it is left on this node. */
  readonly settled: Promise<void>;
}
export const leaseMs = 30_000;
const heartbeatMs = leaseMs / 3;
/** An event loop that is blocked for longer than this has lost its jobs, where the store can keep them for so long. */
export const blockedMsMax = 60_000;
const signOfLifeMs = 1_000;
/** Claims on their way beside the loop: one for each part of the batches that may be on their way, or half of the jobs wait for another flush. */
const claimsBesideMax = 16;
const claimEverySent = 16;
/** Kept back from the time given to a drain, for handing back. */
const handBackMsMax = 500;

/** A place of the node's own, where the dispatcher is kept. */
const place: Component = Object.freeze({ kind: "~dispatcher", name: "~dispatcher" });

export function dispatcherOf(node: NodeServices): Dispatcher {
  return node.local(place, () => new Dispatcher(node));
}

/** On the monotonic clock and on the wall, counted from before the claim was asked for; over when either says so (FINDINGS F15). */
interface LeaseEnds {
  untilMonotonicMs: number;
  untilWallMs: number;
}
interface Held extends LeaseEnds {
  readonly job: HeldJob;
}

export class Dispatcher {
  readonly #node: NodeServices;
  readonly #claimants = new Map<string, Claimant>();
  readonly #held = new PassingMap<string, Held>();
  /** Queues that may have work for us. */
  readonly #wanting = new Set<Claimant>();
  #state: "open" | "draining" | "closed" = "open";
  #forget: (() => void) | undefined;
  #scheduled = false;
  #claiming: Promise<void> | undefined;
  #due: { readonly atMs: number; readonly timer: Timer } | undefined;
  #heartbeat: Timer | undefined;
  #alive: { readonly heartbeat: Heartbeat; readonly timer: Timer } | undefined;
  #turn = 0;
  /** Jobs sent from here in this turn of the loop. */
  readonly #sent = new Map<Claimant, number>();
  readonly #beside: Promise<unknown>[] = [];
  #draining: Promise<void> | undefined;
  #looking: Promise<boolean> | undefined;

  constructor(node: NodeServices) {
    this.#node = node;
  }

  add(claimant: Claimant): void {
    this.#claimants.set(claimant.queue, claimant);
    if (!this.#forget) {
      this.#state = this.#node.draining.aborted ? "draining" : "open";
      this.#forget = this.#node.store.onChange(({ queues }) => {
        for (const queue of queues) {
          const known = this.#claimants.get(queue);
          if (known) this.want(known);
        }
      });
      this.#node.lane.onSend(this.#sending);
      this.#node.draining.addEventListener("abort", this.#beginDraining, { once: true });
      this.#beat();
      const heartbeat = this.#node.store.heartbeat(this.#node.id, { leaseMs, blockedMsMax });
      if (heartbeat) this.#showLife(heartbeat);
    }
    this.want(claimant);
  }

  remove(claimant: Claimant): void {
    this.#claimants.delete(claimant.queue);
    this.#wanting.delete(claimant);
    if (this.#claimants.size === 0) this.#close();
  }

  /** Its queue may have work. */
  want(claimant: Claimant): void {
    if (this.#state !== "open") return;
    this.#wanting.add(claimant);
    this.#schedule();
  }

  /** Its queue may have work that it had no room for. */
  hasMore(claimant: Claimant): boolean {
    return this.#wanting.has(claimant);
  }

  /** It has room again. */
  roomIn(claimant: Claimant): void {
    if (this.#wanting.has(claimant)) this.#schedule();
  }

  /**
   * A commit of this node that sends to the queue is on its way. Where handlers are quick, a claim goes right behind it, in the
   * same batch: beside the loop, which looks again when the store tells of the commit.
   */
  readonly #sending = (queue: string): void => {
    const claimant = this.#claimants.get(queue);
    if (!claimant?.roomAhead || this.#state !== "open") return;
    const before = this.#sent.get(claimant);
    this.#sent.set(claimant, (before ?? 0) + 1);
    const claimSent = () => inContext(emptyContext, () => this.#claimSent());
    // A claim for each few of a long burst: the first of its jobs are worked on while the last are still on their way to the store.
    if ((before ?? 0) + 1 >= claimEverySent) claimSent();
    else if (before === undefined && this.#sent.size === 1) void Promise.resolve().then(claimSent);
  };

  /** Nothing is held, and a look at every queue found nothing due. */
  idle(): Promise<boolean> {
    return (this.#looking ??= this.#look().finally(() => (this.#looking = undefined)));
  }

  /** All queues of the node at once: the first call drains, later ones wait for it. */
  drain(withinMs: number): Promise<void> {
    return (this.#draining ??= this.#drain(withinMs));
  }

  // ---- claiming -------------------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#scheduled || this.#claiming || this.#state !== "open") return;
    this.#scheduled = true;
    // After what is ready in this turn, so that a burst of freed slots and notices becomes one claim; and in nobody's context: a job that
    // ends or a request that sends wakes the loop, and their deadlines are not the loop's.
    void Promise.resolve().then(() =>
      inContext(emptyContext, () => {
        this.#scheduled = false;
        this.#claiming ??= this.#claim().finally(() => {
          this.#claiming = undefined;
          for (const claimant of this.#wanting) if (claimant.room() > 0) return this.#schedule();
        });
      }),
    );
  }

  async #claim(): Promise<void> {
    if (this.#state !== "open") return;
    const asked: Claimant[] = [];
    const queues = [];
    for (const claimant of this.#inTurn()) {
      const limit = Math.min(claimant.room(), limits.claimJobsMax);
      if (limit <= 0) continue;
      asked.push(claimant);
      queues.push(claimOf(claimant, limit));
    }
    if (queues.length === 0) return;
    for (const claimant of asked) this.#wanting.delete(claimant);
    await this.#claimOn(queues, asked);
  }

  /** Claims, and where there is more and handlers are quick asks for the next ones before it hands these out: the store works on the claim meanwhile. */
  async #claimOn(queues: readonly QueueClaim[], asked: readonly Claimant[]): Promise<void> {
    const asking: Promise<Claims | undefined>[] = [];
    const ask = (wanted: readonly QueueClaim[]) =>
      asking.push(
        this.#ask(wanted, asked, (answer) => {
          const behind = isCut(answer) ? this.#claimsBehind(asked, answer.jobs) : [];
          if (behind.length > 0) ask(behind);
        }),
      );
    ask(queues);
    let claims: Claims | undefined;
    for (let one = asking.shift(); one; one = asking.shift()) claims = await one;
    if (!claims) return;
    // A limit cut the answer short, and there is more.
    if (isCut(claims)) for (const claimant of asked) this.#wanting.add(claimant);
    else if (claims.nextDueAtMs !== undefined) this.#wakeIn(Math.max(1, claims.nextDueAtMs - this.#node.storeClock.earliestMs()));
  }

  /** What those who are quick may take behind these jobs, which are theirs in a moment. All of them or nobody: who is left out would wait for the others. */
  #claimsBehind(asked: readonly Claimant[], jobs: readonly ClaimedJob[]): readonly QueueClaim[] {
    if (this.#state !== "open") return [];
    for (const claimant of this.#wanting) if (!asked.includes(claimant)) return []; // its turn
    const claims = asked.map((claimant) => {
      const got = jobs.reduce((count, job) => count + (job.queue === claimant.queue ? 1 : 0), 0);
      return claimOf(claimant, Math.min(claimant.roomBehind?.(got) ?? 0, limits.claimJobsMax));
    });
    return claims.every(({ limit }) => limit > 0) ? claims : [];
  }

  #claimSent(): void {
    const queues = [];
    for (const [claimant, sent] of this.#sent) {
      const limit = Math.min(sent, claimant.roomAhead?.() ?? 0, limits.claimJobsMax);
      if (limit > 0) queues.push(claimOf(claimant, limit));
    }
    this.#sent.clear();
    if (queues.length === 0 || this.#state !== "open" || this.#beside.length === claimsBesideMax) return;
    const asking = this.#ask(queues, []).finally(() => this.#beside.splice(this.#beside.indexOf(asking), 1));
    this.#beside.push(asking);
  }

  /** Claims and hands out. `undefined` when the store could not be asked; then `again` are looked at a moment later. */
  async #ask(queues: readonly QueueClaim[], again: readonly Claimant[], answered?: (claims: Claims) => void): Promise<Claims | undefined> {
    this.#alive?.heartbeat.beat();
    const askedMs = this.#node.clock.monotonicMs();
    const leaseEnds: LeaseEnds = { untilMonotonicMs: askedMs + leaseMs, untilWallMs: this.#node.clock.wallMs() + leaseMs };
    let claims: Claims;
    try {
      claims = await this.#node.store.claim({ holder: this.#node.id, leaseMs, queues });
    } catch (fault) {
      this.#claimFailed(again, fault);
      return undefined;
    }
    const { jobs, nowMs } = claims;
    this.#node.storeClock.heard(nowMs, askedMs);
    answered?.(claims);
    if (!jobs.some((job) => job.again)) this.#handOut(jobs, leaseEnds);
    else {
      this.#handOut(
        jobs.filter((job) => !job.again),
        leaseEnds,
      );
      await this.#handOutAgain(
        jobs.filter((job) => job.again),
        leaseEnds,
      );
    }
    return claims;
  }

  /** Each time another queue comes first, so that a busy one cannot use up every claim. */
  #inTurn(): readonly Claimant[] {
    const all = [...this.#wanting];
    const first = this.#turn++ % Math.max(1, all.length);
    return first === 0 ? all : [...all.slice(first), ...all.slice(0, first)];
  }

  #handOut(jobs: readonly ClaimedJob[], leaseEnds: LeaseEnds, journals?: ReadonlyMap<string, Journal>): void {
    for (const claim of jobs) {
      const claimant = this.#claimants.get(claim.queue);
      const lost = this.#held.get(claim.id)?.job;
      if (lost) lost.abort(claimOver(lost.claim)); // its lease ran out, and it came back to us
      if (claimant) this.#held.set(claim.id, { job: claimant.take(claim, journals?.get(claim.id)), ...leaseEnds });
      // Otherwise its part was stopped while the claim was on its way: the lease runs out.
    }
    if (this.#state !== "open") for (const claimant of this.#claimants.values()) claimant.handBackWaiting();
  }

  /** Jobs that ran before may have a journal. Without it they must not run: when it cannot be read, their leases run out. */
  async #handOutAgain(jobs: readonly ClaimedJob[], leaseEnds: LeaseEnds): Promise<void> {
    const journals = new Map<string, Journal>();
    try {
      const rows = await this.#node.store.read.records(jobs.map(({ id }) => journalKey(id)));
      rows.forEach((row, at) => {
        if (row) journals.set((jobs[at] as ClaimedJob).id, decodeJournal(row.value, row.version));
      });
    } catch (fault) {
      this.#node
        .log("~dispatcher", { traceparent: undefined, tenant: undefined })
        .error("journals could not be read; their jobs wait for the end of their leases", { fault: String(fault), jobs: jobs.length });
      return;
    }
    this.#handOut(jobs, leaseEnds, journals);
  }

  #claimFailed(asked: readonly Claimant[], fault: unknown): void {
    if (Fault.is(fault, "store.closed") || this.#state !== "open") return;
    this.#node.log("~dispatcher", { traceparent: undefined, tenant: undefined }).warn("jobs could not be claimed; trying again", { fault: String(fault) });
    this.#node.clock.after(1_000, () => {
      for (const claimant of asked) this.want(claimant);
    });
  }

  #wakeIn(delayMs: number): void {
    const atMs = this.#node.clock.monotonicMs() + delayMs;
    if (this.#due && this.#due.atMs <= atMs) return;
    this.#due?.timer.cancel();
    const timer = this.#node.clock.after(delayMs, () => {
      this.#due = undefined;
      this.#wantAll();
    });
    this.#due = { atMs, timer };
  }

  #wantAll(): void {
    for (const claimant of this.#claimants.values()) this.want(claimant);
  }

  // ---- holding --------------------------------------------------------------------------------------------------------

  /** Called by a claimant when a job needs no heartbeat any more. */
  settled(id: string, job?: HeldJob): void {
    // The store may have handed the job out again, to this node: that claim goes on.
    if (!job || this.#held.get(id)?.job === job) this.#held.delete(id);
  }

  #beat(): void {
    this.#heartbeat = this.#node.clock.after(heartbeatMs, () => {
      this.#beat();
      void this.#extend();
      this.#wantAll();
    });
  }

  #showLife(heartbeat: Heartbeat): void {
    heartbeat.beat();
    this.#alive = { heartbeat, timer: this.#node.clock.after(signOfLifeMs, () => this.#showLife(heartbeat)) };
  }

  async #extend(): Promise<void> {
    if (this.#held.size === 0) return;
    const all = [...this.#held.values()];
    const monotonicMs = this.#node.clock.monotonicMs();
    const wallMs = this.#node.clock.wallMs();
    let extended: readonly boolean[];
    try {
      extended = await this.#node.store.extend(
        all.map(({ job }): Claim => job.claim),
        leaseMs,
      );
    } catch (fault) {
      if (Fault.is(fault, "store.closed")) return;
      this.#node
        .log("~dispatcher", { traceparent: undefined, tenant: undefined })
        .warn("claims could not be extended; trying again", { fault: String(fault), claims: all.length });
      for (const held of all)
        if (held.untilMonotonicMs <= this.#node.clock.monotonicMs() || held.untilWallMs <= this.#node.clock.wallMs()) held.job.abort(leaseOver(held.job.claim));
      return;
    }
    all.forEach((held, at) => {
      if (!extended[at]) return held.job.abort(claimOver(held.job.claim));
      held.untilMonotonicMs = monotonicMs + leaseMs;
      held.untilWallMs = wallMs + leaseMs;
    });
  }

  // ---- ending ---------------------------------------------------------------------------------------------------------

  readonly #beginDraining = (): void => {
    if (this.#state === "open") this.#state = "draining";
    for (const claimant of this.#claimants.values()) claimant.handBackWaiting();
  };

  async #drain(withinMs: number): Promise<void> {
    this.#beginDraining();
    await Promise.all([this.#claiming, ...this.#beside]);
    const graceMs = withinMs - Math.min(handBackMsMax, withinMs / 5);
    if (graceMs > 0) {
      const finished = Promise.all([...this.#held.values()].map(({ job }) => job.settled));
      await new Promise<void>((resolve) => {
        const timer = this.#node.clock.after(graceMs, resolve);
        void finished.then(() => {
          timer.cancel();
          resolve();
        });
      });
    }
    const left = [...this.#held.values()];
    for (const { job } of left) job.abort(handedBack(job.claim));
    await Promise.all(left.map(({ job }) => job.settled));
  }

  async #look(): Promise<boolean> {
    if (this.#state !== "open") return this.#held.size === 0;
    if (this.#held.size > 0 || this.#claiming || this.#beside.length > 0) return false;
    for (const claimant of this.#claimants.values()) this.#wanting.add(claimant);
    const asking = (this.#claiming = this.#claim().finally(() => {
      this.#claiming = undefined;
      if (this.#wanting.size > 0) this.#schedule();
    }));
    await asking;
    return this.#held.size === 0 && this.#wanting.size === 0;
  }

  #close(): void {
    this.#state = "closed";
    this.#forget?.();
    this.#forget = undefined;
    this.#draining = undefined;
    this.#node.draining.removeEventListener("abort", this.#beginDraining);
    this.#heartbeat?.cancel();
    this.#alive?.timer.cancel();
    this.#alive?.heartbeat.stop();
    this.#alive = undefined;
    this.#due?.timer.cancel();
  }
}

function claimOf({ queue, policy }: Claimant, limit: number): QueueClaim {
  return policy ? { queue, limit, policy } : { queue, limit };
}

/** Due now: there is more than it was allowed to answer. */
function isCut({ jobs, nextDueAtMs, nowMs }: Claims): boolean {
  return nextDueAtMs !== undefined && nextDueAtMs <= nowMs && jobs.length > 0;
}

function claimOver({ id, queue }: ClaimedJob): Fault {
  return Fault.create(
    "job.claim-over",
    `the claim on job ${id} of queue "${queue}" is over: its lease ran out, or it was cancelled`,
    "Nothing: whoever holds it now runs it. If it happens often, look for handlers that block the event loop.",
  );
}

function leaseOver({ id, queue }: ClaimedJob): Fault {
  return Fault.create(
    "job.lease-over",
    `the lease on job ${id} of queue "${queue}" ended before it could be extended`,
    "See why the store does not answer; the job is run again.",
  );
}

function handedBack({ id, queue }: ClaimedJob): Fault {
  return Fault.create(
    "job.handed-back",
    `this node stops; job ${id} of queue "${queue}" goes back to its queue`,
    "Nothing: another node, or this one when it starts again, runs it.",
  );
}
