/**
 * The lane among processes: it takes the questions of all of them, fills each batch from all who have something to apply, and
 * gives everybody an answer of their own. It knows no socket and no thread.
 *
 * Fair: a batch has 512 places (and 4 MiB); each process that asks gets an equal part of them, and what it does not need goes to the others.
 * So one with a thousand commits waiting takes no place that another has use for. What does not fit stays first in its line.
 *
 * States: `free` (the next step is a chore, a transaction or a batch; batches and transactions take turns), `held` by a member inside an
 * interactive transaction until it ends, its limit is over or the member is gone (rolled back at once), `over` (superseded or closed: nothing more
 * is touched). Of a member in another process at most one question goes into a batch: so the number a reply tells of divides its claims into those it knows
 * of and those it does not. Of the hub's own process there go all that fit: none of its answers is lost without it.
 * Over 400 lines because these states are one machine over one lane.
 */
import { Fault, type Clock } from "../kernel/index.ts";
import { addKeys, limits, type Change, type CommitOutcome } from "../store/index.ts";
import type { Lane } from "./lane.ts";
import { isFailure, type BatchReply, type Operation, type Result } from "./operation.ts";
import { failed, type Answer, type Question } from "./questions.ts";
import { Superseded } from "./term.ts";
import { packReply, unpackOne, unpackOperations } from "./wire.ts";
import { transactionLimit } from "./writer.ts";

export interface HubOptions {
  readonly lane: Lane;
  readonly clock: Clock;
  /** Called once, when a transaction was refused because another process writes now. */
  readonly superseded: () => void;
  /** The process of this session is known to have ended. */
  readonly isGone: (session: string) => boolean;
  /** How long the flushes of this lane have taken together. */
  readonly flushedMs?: () => number;
}

/** A process, as the hub sees it. */
export interface Member {
  /** Names the process, for as long as it has the store open; whoever holds claims begins with it. */
  readonly session: string;
  /** It is the hub's own process. */
  readonly near?: boolean;
  /** `false`: it does not hear what others change. Default: it does. */
  readonly listens?: boolean;
  answer(answer: Answer): void;
  notice(change: Change): void;
}

interface Asked {
  readonly question: Question;
  readonly operations: readonly Operation[];
  readonly results: Result[];
  tookMs: number;
  flushMs: number;
}

class Chair {
  readonly member: Member;
  readonly line: Asked[] = [];
  readonly limit: ReturnType<typeof transactionLimit>;
  constructor(member: Member, limit: ReturnType<typeof transactionLimit>) {
    this.member = member;
    this.limit = limit;
  }
}

/** Part of a batch: operations of one question. */
interface Share {
  readonly chair: Chair;
  readonly asked: Asked;
  readonly from: number;
  to: number;
}

/** How long claims are kept for processes that live and have not come back. */
export const comeBackWithinMs = 1_000;
const lookForReturnEveryMs = 20;
/** A release that failed (a full disk) is tried again; after all leases end by themselves. */
const releaseAgainMs = 1_000;

export class Hub {
  readonly #lane: Lane;
  readonly #clock: Clock;
  readonly #superseded: () => void;
  readonly #isGone: (session: string) => boolean;
  readonly #flushedMs: () => number;
  readonly #chairs: Chair[] = [];
  readonly #chores: (() => void)[] = [];
  #holder: Chair | undefined;
  #listening = 0;
  #over = false;
  #scheduled = false;
  #turn = 0;
  #transactionLast = false;

  constructor({ lane, clock, superseded, isGone, flushedMs = () => 0 }: HubOptions) {
    this.#superseded = superseded;
    this.#isGone = isGone;
    this.#flushedMs = flushedMs;
    this.#lane = lane;
    this.#clock = clock;
  }

  /** `knows`: it has heard of no claim of its own beyond this commit; what was claimed for it later is taken back. */
  join(member: Member, knows?: number): Chair {
    const limit = transactionLimit(this.#lane, this.#clock, () => {
      this.#holder = undefined;
      this.#schedule();
    });
    const chair = new Chair(member, limit);
    this.#chairs.push(chair);
    if (member.listens !== false) this.#listening++;
    if (knows !== undefined) this.#release((session, n) => session === member.session && n > knows);
    return chair;
  }

  /**
   * A connection has ended: what was still asked is dropped unapplied, an open transaction rolled back. Jobs go back to their queues at once when the process said
   * goodbye or is gone; one that lives (it was told of a silence, or did not read) has a moment to come back for its claims.
   */
  leave(chair: Chair, how: "goodbye" | "ended" | "comes-anew"): void {
    const at = this.#chairs.indexOf(chair);
    if (at < 0) return;
    this.#chairs.splice(at, 1);
    if (chair.member.listens !== false) this.#listening--;
    if (this.#over) return;
    chair.line.length = 0;
    if (this.#holder === chair) {
      this.#holder = undefined;
      this.#chores.push(() => chair.limit.abandon());
    }
    const { session } = chair.member;
    if (how === "goodbye") this.#release((of) => of === session);
    else if (how === "ended") this.#awaitReturn(session, 0);
    // Whoever left a writer that had stopped has gone over to another one.
    this.check();
  }

  #awaitReturn(session: string, waitedMs: number): void {
    if (this.#over || this.#isHere(session)) return;
    if (waitedMs >= comeBackWithinMs || this.#isGone(session)) return this.#release((of) => of === session && !this.#isHere(session));
    this.#clock.after(lookForReturnEveryMs, () => this.#awaitReturn(session, waitedMs + lookForReturnEveryMs));
  }

  /** Someone came to the door and went: perhaps there is another writer. */
  check(): void {
    this.#chore(() => this.#lane.check());
  }

  /** At the beginning of a term: claims of processes that are known to be gone are taken back now, those of others if they do not come back. */
  expect(): void {
    this.#release((session) => this.#isGone(session));
    this.#clock.after(comeBackWithinMs, () => this.#release((session) => !this.#isHere(session)));
  }

  /** Throws when the question is none. */
  ask(chair: Chair, question: Question): void {
    const operations = question.ask === "apply" ? unpackOperations(question.packed).map((operation) => inSession(operation, chair.member.session)) : [];
    chair.line.push({ question, operations, results: [], tookMs: 0, flushMs: 0 });
    this.#schedule();
  }

  /** Nothing more is applied. */
  get isOver(): boolean {
    return this.#over;
  }

  /** Takes back what this member holds, now, if the lane is free. */
  close(leaving: Member): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#holder) return;
    for (let more = true; more;) ({ more } = this.#lane.release((holder) => sessionOf(holder) === leaving.session, this.#clock.wallMs()));
  }

  // ---- steps ------------------------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#scheduled || this.#over) return;
    this.#scheduled = true;
    this.#clock.soon(() => {
      this.#scheduled = false;
      this.#run();
    });
  }

  /** One step for each turn of the loop, so that a batch takes along what came while the one before was written. */
  #run(): void {
    this.#guarded(() => this.#step());
    if (!this.#over && !this.#scheduled && this.#hasWork()) this.#schedule();
  }

  #guarded(work: () => void): void {
    if (this.#over) return;
    try {
      work();
    } catch (error) {
      if (!(error instanceof Superseded)) throw error;
      this.#over = true;
      this.#superseded();
    }
  }

  #hasWork(): boolean {
    if (this.#holder) return inTransaction(this.#holder.line[0]);
    return this.#chores.length > 0 || this.#chairs.some(({ line }) => line.length > 0);
  }

  #step(): void {
    const holder = this.#holder;
    if (holder) {
      while (this.#holder === holder && inTransaction(holder.line[0])) this.#alone(holder);
      return;
    }
    for (const chore of this.#chores.splice(0)) {
      try {
        chore();
      } catch (error) {
        if (error instanceof Superseded) throw error;
        // The lane mends itself before its next batch, or answers what is wrong with it to whoever asks.
      }
    }
    const asking = this.#inTurn().filter(({ line }) => line.length > 0);
    const alone = asking.find(({ line }) => (line[0] as Asked).question.ask !== "apply");
    const together = asking.filter(({ line }) => (line[0] as Asked).question.ask === "apply");
    this.#transactionLast = alone !== undefined && (together.length === 0 || !this.#transactionLast);
    if (alone && this.#transactionLast) this.#alone(alone);
    else if (together.length > 0) this.#batch(together);
  }

  /** Each time another one comes first. */
  #inTurn(): readonly Chair[] {
    const first = this.#turn++ % Math.max(1, this.#chairs.length);
    return [...this.#chairs.slice(first), ...this.#chairs.slice(0, first)];
  }

  // ---- batches ----------------------------------------------------------------------------------------------------------

  #batch(chairs: readonly Chair[]): void {
    const shares = withFollowing(sharesOf(chairs));
    const operations = shares.length === 1 ? whole(shares[0] as Share) : shares.flatMap(whole);
    const nowMs = Math.max(...shares.map(({ asked }) => (asked.question as Question & { ask: "apply" }).nowMs));
    const fromMs = this.#clock.monotonicMs();
    const flushedMs = this.#flushedMs();
    let reply: BatchReply;
    try {
      reply = this.#lane.apply(operations, nowMs);
    } catch (error) {
      if (error instanceof Superseded) throw error;
      for (const { chair } of shares) {
        chair.line.shift();
        chair.member.answer(failed(error));
      }
      return;
    }
    const { results, queues, n } = reply;
    const flushMs = this.#flushedMs() - flushedMs;
    const eachMs = (this.#clock.monotonicMs() - fromMs - flushMs) / Math.max(1, operations.length);
    // The only one who listens hears of his own batch by its answer.
    const told = this.#listening > 1 || (this.#listening === 1 && shares.some(({ chair }) => chair.member.listens === false));
    if (told) this.#tell(n, queues, operations, results);
    let at = 0;
    let queuesTold = told;
    for (const { chair, asked, from, to } of shares) {
      for (let i = from; i < to; i++) asked.results.push(results[at++]);
      asked.flushMs += flushMs;
      asked.tookMs += flushMs + (to - from) * eachMs;
      if (to < asked.operations.length) continue;
      chair.line.shift();
      const packed = packReply({ results: asked.results, queues: queuesTold ? [] : queues, n, told }, this.#lane.epoch);
      queuesTold = true;
      chair.member.answer({ packed, tookMs: asked.tookMs, flushMs: asked.flushMs });
    }
  }

  /** Everybody hears of a batch, and before its answers, so that nobody hears of a commit twice. */
  #tell(n: number, queues: readonly string[], operations: readonly Operation[], results: readonly Result[]): void {
    const keys = new Set<string>();
    let wrote = false;
    operations.forEach((operation, i) => {
      const result = results[i];
      if (operation.kind !== "commit" || isFailure(result) || !(result as CommitOutcome).ok) return;
      wrote ||= operation.commit.writes.length > 0;
      addKeys(keys, operation.commit);
    });
    if (wrote || queues.length > 0) this.#notice({ n, keys: [...keys], queues });
  }

  #notice(change: Change, except?: Chair): void {
    for (const chair of this.#chairs) if (chair !== except && chair.member.listens !== false) chair.member.notice(change);
  }

  // ---- one at a time ------------------------------------------------------------------------------------------------------

  #alone(chair: Chair): void {
    const { question } = chair.line.shift() as Asked;
    let answer: Answer;
    try {
      answer = { answer: this.#handled(chair, question) };
    } catch (error) {
      if (error instanceof Superseded) throw error;
      if (this.#holder === chair && question.ask === "end") this.#holder = undefined;
      answer = failed(error, question);
    }
    chair.member.answer(answer);
  }

  #handled(chair: Chair, question: Question) {
    const { limit } = chair;
    switch (question.ask) {
      case "begin":
        limit.begin(question.nowMs, question.withinMs);
        this.#holder = chair;
        return undefined;
      case "execute":
        return limit.execute(question.statement);
      case "end": {
        const commit = unpackOne(question.commit);
        const end = limit.end(commit);
        this.#holder = undefined;
        const keys = new Set<string>();
        addKeys(keys, commit);
        if (end.outcome.ok) this.#notice({ n: end.n, keys: [...keys], queues: end.queues }, chair);
        return end;
      }
      case "abandon":
        limit.abandon();
        if (this.#holder === chair) this.#holder = undefined;
        return undefined;
      default:
        throw Fault.create("store.failed", `the writer does not know the question ${JSON.stringify((question as { ask: unknown }).ask)}`, "Report it.");
    }
  }

  #isHere(session: string): boolean {
    return this.#chairs.some(({ member }) => member.session === session);
  }

  // ---- claims of those who are gone ---------------------------------------------------------------------------------------

  #chore(work: () => void): void {
    if (this.#over) return;
    this.#chores.push(work);
    this.#schedule();
  }

  /**
   * Of the claims that there are now; it may come to it later, when their holders have made others. A part with each step, between what the living
   * ask: each job is either claimed by whoever is gone or free, and the jobs behind it in its key wait all the same.
   */
  #release(over: (session: string, n: number) => boolean, madeUpTo = this.#lane.n): void {
    this.#chore(() => {
      let released: ReturnType<Lane["release"]>;
      try {
        released = this.#lane.release((holder, n) => n <= madeUpTo && over(sessionOf(holder), n), this.#clock.wallMs());
      } catch (error) {
        if (error instanceof Superseded) throw error;
        return void this.#clock.after(releaseAgainMs, () => this.#release(over, madeUpTo));
      }
      const { queues, more } = released;
      if (queues.length > 0) this.#notice({ n: this.#lane.n, keys: [], queues });
      if (more) this.#release(over, madeUpTo);
    });
  }
}

const inTransaction = (asked: Asked | undefined): boolean => asked !== undefined && ["execute", "end", "abandon"].includes(asked.question.ask);

const whole = ({ asked, from, to }: Share): readonly Operation[] =>
  from === 0 && to === asked.operations.length ? asked.operations : asked.operations.slice(from, to);

/** The first question of each, as far as its part of a batch goes: those that need least are served first, and leave the rest to the others. */
function sharesOf(chairs: readonly Chair[]): readonly Share[] {
  const shares = chairs.map((chair): Share => {
    const asked = chair.line[0] as Asked;
    return { chair, asked, from: asked.results.length, to: asked.results.length };
  });
  const needs = ({ asked, from }: Share) => asked.operations.length - from;
  let places: number = limits.batchCommitsMax;
  let sizeBytes: number = limits.batchBytesMax;
  shares
    .toSorted((a, b) => needs(a) - needs(b))
    .forEach((share, i) => {
      const others = shares.length - i;
      const each = bytesEach(share.asked);
      const most = Math.max(1, Math.min(places / others, each === 0 ? Infinity : sizeBytes / others / each));
      const taken = Math.min(needs(share), Math.floor(most));
      share.to = share.from + taken;
      places -= taken;
      sizeBytes -= taken * each;
    });
  return shares;
}

/** Of a member that is near and asks alone, also what stands behind its first question, while there is room. */
function withFollowing(shares: readonly Share[]): readonly Share[] {
  const first = shares[0] as Share;
  if (shares.length > 1 || !first.chair.member.near || first.to < first.asked.operations.length) return shares;
  const all = [first];
  let places = limits.batchCommitsMax - (first.to - first.from);
  let sizeBytes = limits.batchBytesMax - bytesEach(first.asked) * (first.to - first.from);
  for (const asked of first.chair.line.slice(1)) {
    const { length } = asked.operations;
    if (asked.question.ask !== "apply" || (places -= length) < 0 || (sizeBytes -= asked.question.packed.bytes.byteLength) < 0) break;
    all.push({ chair: first.chair, asked, from: 0, to: length });
  }
  return all;
}

function bytesEach({ question, operations }: Asked): number {
  return question.ask === "apply" && operations.length > 0 ? question.packed.bytes.byteLength / operations.length : 0;
}

/** Claims carry the process that holds them, so that they can be taken back when it is gone. */
function inSession(operation: Operation, session: string): Operation {
  if (operation.kind === "keep" || operation.kind === "release") return { ...operation, holder: `${session}/${operation.holder}` };
  if (operation.kind !== "claim") return operation;
  return { ...operation, request: { ...operation.request, holder: `${session}/${operation.request.holder}` } };
}

/** A holder of a store that one process opened alone has no session. */
function sessionOf(holder: string): string {
  const slash = holder.indexOf("/");
  return slash < 0 ? "" : holder.slice(0, slash);
}
