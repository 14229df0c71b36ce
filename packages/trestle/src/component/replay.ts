/**
 * Where one run stands in the journal of its invocation. A run goes through the segments of earlier runs, one recovery point
 * after the other, and is *live* when none is left.
 *
 * Handlers may make several calls at once. Then the order in which they come back is chance, and the next run must not depend
 * on it: a recovery point is found by its identity, whatever its place; an answer is handed out only when those recovery
 * points have been passed again that were passed before it came (`Segment.open`). While a call is open nothing but calls may
 * be made (run.ts), so segments in between are empty and their order does not matter. A failure is handed out last, when
 * no other call is under way: `Promise.all` then ends with it, and no branch goes on calling behind a handler that gave up.
 */
import type { Clock, Fault } from "../kernel/index.ts";
import { newSegment, type Answer, type CallIdentity, type Journal, type Segment } from "./journal.ts";
import { noEntries, noMembers, withEntry, withMember, withoutMember } from "./scarce.ts";

/** A call from its recovery point until the handler has its answer. */
export interface OpenCall extends CallIdentity {
  segment: Segment | undefined;
}

/** How long an answer is held for a recovery point that an earlier run passed first, and that nobody comes to. */
const heldMsMax = 1_000;

export class Replay {
  readonly journal: Journal;
  #open: ReadonlySet<OpenCall> = noMembers;
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  /** Called when another segment begins. */
  readonly #turned: () => void;
  #passed: ReadonlySet<Segment> = noMembers;
  #at = 0;
  #segment: Segment;
  #moves = 0;
  /** Open calls that wait for another recovery point: before their own, with their answer, and those that have failed. */
  #held: ReadonlySet<OpenCall> = noMembers;
  #early: ReadonlySet<OpenCall> = noMembers;
  #failed: ReadonlySet<OpenCall> = noMembers;
  #waiting: (() => void)[] | undefined;
  /** What calls of this run threw. */
  #thrown: ReadonlyMap<unknown, Segment> = noEntries;

  constructor(journal: Journal, clock: Clock, startedAtMs: number, turned: () => void) {
    this.journal = journal;
    this.#clock = clock;
    this.#startedAtMs = startedAtMs;
    this.#turned = turned;
    this.#segment = journal.segments[0] ?? newSegment(clock.wallMs(), startedAtMs);
  }

  /** Calls that the handler has made and not got the answer of. */
  get open(): ReadonlySet<OpenCall> {
    return this.#open;
  }

  begin(call: OpenCall): void {
    this.#open = withMember(this.#open, call);
  }

  /** The segment the run is in, of this run or an earlier one. */
  get segment(): Segment {
    return this.#segment;
  }

  /** The segment of an earlier run that this one goes through; `undefined` when it is live. */
  get replayed(): Segment | undefined {
    return this.#at < this.journal.segments.length ? this.#segment : undefined;
  }

  get startedAtMs(): number {
    return this.journal.segments[0]?.startedAtMs ?? this.#startedAtMs;
  }

  /** Passes a recovery point that an earlier run has passed. `undefined`: the run is live. `check` throws when the run is over. */
  async pass(call: OpenCall, check: () => void, diverged: () => Fault): Promise<Segment | undefined> {
    for (;;) {
      check();
      const { segments } = this.journal;
      if (this.#at >= segments.length) return undefined;
      const found = segments.find((segment) => !this.#passed.has(segment) && segment.call?.operation === call.operation && segment.call.key === call.key);
      if (found) {
        this.#passed = withMember(this.#passed, found);
        call.segment = found;
        const before = this.#at;
        while (this.#at < segments.length && this.#passed.has(segments[this.#at] as Segment)) this.#at += 1;
        if (this.#at > before) this.#turn();
        this.#moved();
        return found;
      }
      await this.#untilMoved(call, diverged);
    }
  }

  /** The recovery point's commit is durable: the segment is part of the journal, and the next one begins. */
  append(segment: Segment, version: number): void {
    this.journal.segments.push(segment);
    this.journal.version = version;
    this.#passed = withMember(this.#passed, segment);
    this.#at = this.journal.segments.length;
    this.#turn();
    this.#moved();
  }

  /** Numbers of the calls whose answers the handler has not got. */
  openNumbers(): number[] {
    return [...this.#open].flatMap(({ segment }) => (segment ? [this.journal.segments.indexOf(segment)] : [])).filter((at) => at >= 0);
  }

  /** Waits until the answer of this segment may be handed out. */
  async inOrder(call: OpenCall, segment: Segment, check: () => void, diverged: () => Fault): Promise<void> {
    const number = this.journal.segments.indexOf(segment);
    const early = () => this.journal.segments.some((later) => !this.#passed.has(later) && later.open.includes(number));
    if (!early()) return;
    let over = false;
    const timer = this.#clock.after(heldMsMax, () => ((over = true), this.#wake()));
    this.#early = withMember(this.#early, call);
    this.#wake();
    try {
      while (early()) {
        await this.#change();
        check();
        if (over && early()) throw diverged();
      }
    } finally {
      timer.cancel();
      withoutMember(this.#early, call);
    }
  }

  /** Waits until no other call is under way. */
  async lastOfAll(call: OpenCall, check: () => void): Promise<void> {
    this.#failed = withMember(this.#failed, call);
    this.#wake();
    for (;;) {
      if (!this.#allStuck()) await this.#change();
      else {
        await this.#turnMore();
        if (this.#allStuck()) return;
      }
      check();
    }
  }

  /** A branch that has just got its answer may be on its way to its next call. */
  #turnMore(): Promise<void> {
    return new Promise((resolve) => this.#clock.soon(resolve));
  }

  #allStuck(): boolean {
    for (const call of this.#open) if (!this.#held.has(call) && !this.#failed.has(call) && !this.#early.has(call)) return false;
    return true;
  }

  /** An answer came, or went. */
  learn(segment: Segment, answer: Answer | undefined): void {
    segment.answer = answer;
    this.journal.learned += 1;
  }

  threw(thrown: unknown, segment: Segment): void {
    this.#thrown = withEntry(this.#thrown, thrown, segment);
  }

  /**
   * The run ends with this fault, and will be run again. What a call threw is forgotten where the handler let it pass, and the
   * next run makes the call again (under the same key) rather than failing by what it remembers. An error that is no fault says
   * nothing definite, so it is forgotten too. But not where a later recovery point rests on it.
   */
  forget(fault: unknown): void {
    let passed: Segment | undefined;
    for (let cause = fault; cause !== undefined && cause !== null && !passed; cause = (cause as { readonly cause?: unknown }).cause)
      passed = this.#thrown.get(cause);
    for (const { segment, kept } of this.answeredCalls()) if (!kept && (segment === passed || segment.answer?.kind === "error")) this.learn(segment, undefined);
  }

  /** Calls that have been answered; `kept`: a later recovery point rests on the answer, which can then not be forgotten. */
  answeredCalls(): readonly { readonly segment: Segment; readonly kept: boolean }[] {
    const { segments } = this.journal;
    return segments.flatMap((segment, number) =>
      segment.answer === undefined ? [] : [{ segment, kept: segments.some(({ open }, at) => at > number && !open.includes(number)) }],
    );
  }

  /** Wakes what waits for another recovery point: the run is over. */
  end(): void {
    this.#moved();
  }

  /** Until another recovery point was passed. Where nothing can move any more, the handler has taken another way. */
  async #untilMoved(call: OpenCall, diverged: () => Fault): Promise<void> {
    const moves = this.#moves;
    const stuck = () => this.#failed.size + this.#early.size === 0 && this.#allStuck();
    this.#held = withMember(this.#held, call);
    this.#wake();
    try {
      while (moves === this.#moves) {
        if (!stuck()) await this.#change();
        else {
          await this.#turnMore();
          if (moves === this.#moves && stuck()) throw diverged();
        }
      }
    } finally {
      withoutMember(this.#held, call);
    }
  }

  /** Resolves when a recovery point was passed, a call was answered, or another one waits like this. */
  #change(): Promise<void> {
    return new Promise((resolve) => (this.#waiting ??= []).push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) for (const wake of waiting) wake();
  }

  #moved(): void {
    this.#moves += 1;
    this.#wake();
  }

  /** The handler has its answer. */
  answered(call: OpenCall): void {
    withoutMember(this.#open, call);
    withoutMember(this.#failed, call);
    this.#wake();
  }

  #turn(): void {
    this.#segment = this.journal.segments[this.#at] ?? newSegment(this.#clock.wallMs(), this.#startedAtMs);
    this.#turned();
  }
}
