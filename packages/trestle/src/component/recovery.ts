/**
 * What makes the next run of an invocation find everything as it was: what was learned from elsewhere, and the recovery points. A recovery point commits
 * what is staged together with the intent to call, calls, and remembers the answer in the journal. On a later run the answer is given without
 * calling; a call whose answer was lost is made again under the same key.
 */
import { createHash } from "node:crypto";
import { Fault } from "../kernel/index.ts";
import type { Expectation, Write } from "../store/index.ts";
import type { Draft } from "./draft.ts";
import { copyOf, deliver, encodeJournal, isStorable, journalKey, thrownAnswer, valueAnswer, type Answer, type CallIdentity, type Segment } from "./journal.ts";
import type { Reading } from "./reading.ts";
import type { OpenCall } from "./replay.ts";
import type { InvocationFrame, Run } from "./run.ts";
import { noEntries, withEntry } from "./scarce.ts";

/** A call to the outside, as the kinds `external`, `service` and `context.step` make it. */
export interface RecoveryPoint<T> extends CallIdentity {
  /** `resumed`: an earlier run may already have made this call. Throws a definite fault, or one of `isUnknown`. */
  run(resumed: boolean): Promise<T>;
  /** This fault says that nothing was done, by this run or an earlier one. Default: nothing does. */
  isNotMade?(fault: unknown): boolean;
  /** The call may have happened: the invocation must not go on, nor be compensated blindly (FINDINGS F16). */
  isUnknown(fault: unknown): boolean;
}

export class Recovery {
  readonly #run: Run;
  readonly #reading: Reading;
  readonly #draft: Draft;
  /** What has to be durable before the next commit of this run; `undefined`: nothing. */
  #gate: Promise<unknown> | undefined;
  #saving = false;
  #ending = false;
  #occurrences: ReadonlyMap<string, number> = noEntries;
  /** What `now()` says beside an open call: on the next run the segments have turned by then. */
  #besideAtMs = 0;
  #unknown: unknown;

  constructor(run: Run, reading: Reading, draft: Draft) {
    this.#run = run;
    this.#reading = reading;
    this.#draft = draft;
    if (this.#unsaved) this.#saveSoon(); // learned by a run of this process that a conflict ended
  }

  /** See `Invocation.now`. */
  now(): number {
    const { replay } = this.#run;
    return replay.open.size > 0 ? this.#besideAtMs : replay.segment.atMs;
  }

  // ---- what is learned from elsewhere -----------------------------------------------------------------------------------

  /** `shared`: the handler may change what it gets. */
  recall<T>(identity: string, ask: () => Promise<T>, shared = true): Promise<T> {
    return this.#recalled(this.#named(identity), ask, shared);
  }

  once<T>(identity: string, act: () => Promise<T>): Promise<T> {
    const name = this.#named(identity);
    const { done } = this.#run.frame;
    return this.#recalled(
      name,
      async () => {
        if (done?.has(name)) return done.get(name) as T;
        const result = await act();
        done?.set(name, result);
        return result;
      },
      true,
    );
  }

  #named(identity: string): string {
    return `${identity} #${this.#countOf(identity)}`;
  }

  #countOf(identity: string): number {
    const count = this.#occurrences.get(identity) ?? 0;
    this.#occurrences = withEntry(this.#occurrences, identity, count + 1);
    return count;
  }

  async #recalled<T>(name: string, ask: () => Promise<T>, shared: boolean): Promise<T> {
    const { mode, replay, frame } = this.#run;
    this.#run.assertFree();
    if (mode !== "durable") return ask();
    const { replayed, segment } = replay;
    if (replayed) {
      const answer = replayed.recalls.get(name);
      if (!answer) throw this.#run.diverged(name);
      return this.#delivered(answer) as T;
    }
    let value: T;
    try {
      value = await ask();
    } catch (fault) {
      // What the handler does about it may be committed, and is then the same on every run.
      if (this.#run.isOpen && !frame.signal.aborted) segment.recalls = withEntry(segment.recalls, name, thrownAnswer(fault));
      throw fault;
    }
    this.#run.assertFree();
    segment.recalls = withEntry(segment.recalls, name, { kind: "value", value: shared && isStorable(value) ? copyOf(value) : value });
    return value;
  }

  // ---- calls ------------------------------------------------------------------------------------------------------------

  /** See `Invocation.callKey`. */
  callKey(operation: string, input: unknown): string {
    const text = JSON.stringify(input, (_name, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)) ?? "";
    const digest = createHash("sha256").update(text).digest("base64url").slice(0, 16);
    const named = `${operation}:${digest}`;
    const count = this.#countOf(named);
    return `${this.#run.frame.id}:${named}${count === 0 ? "" : `:${count}`}`;
  }

  async pass<T>(point: RecoveryPoint<T>): Promise<T> {
    const { operation, key } = point;
    const call: OpenCall = { operation, key, segment: undefined };
    const { replay } = this.#run;
    const diverged = () => this.#run.diverged(`call ${operation} with key ${key}`);
    this.#besideAtMs = this.now();
    replay.begin(call);
    try {
      const known = await replay.pass(call, this.#goesOn, diverged);
      const segment = known ?? (await this.#passLive(call));
      const thrown = segment.answer ? undefined : await this.#ask(point, segment, known !== undefined && !known.notMade);
      await replay.inOrder(call, segment, this.#goesOn, diverged);
      if (thrown || segment.answer?.kind !== "value") await replay.lastOfAll(call, this.#goesOn);
      if (thrown) throw thrown.fault as Error;
      return this.#delivered(segment.answer as Answer, segment) as T;
    } finally {
      replay.answered(call);
    }
  }

  /** Throws when nothing new may be begun: the run is over, or is about to be. */
  readonly #goesOn = (): void => {
    this.#run.assertOpen();
    if (this.#ending) throw this.#run.overlapping("called after it had ended");
    this.#run.frame.signal.throwIfAborted();
  };

  #passLive(call: OpenCall): Promise<Segment> {
    const passing = (this.#gate ?? Promise.resolve()).then(() => this.#commitPoint(call));
    this.#gate = passing.catch(() => undefined);
    return passing;
  }

  async #commitPoint(call: OpenCall): Promise<Segment> {
    this.#goesOn();
    const { replay, frame } = this.#run;
    const { journal, segment } = replay;
    segment.call = { operation: call.operation, key: call.key };
    segment.open = replay.openNumbers();
    const segments = [...journal.segments, segment];
    const guard = frame.guard?.(journal.segments.length === 0);
    const { learned } = journal;
    const expects = this.#reading.expectations([...(guard?.expects ?? []), this.#journalExpectation()]);
    const outcome = await this.#draft.submit(expects, [...(guard?.writes ?? []), this.#journalWrite(segments)], true);
    if (!outcome.ok) throw this.#run.supersede(outcome);
    journal.saved = learned;
    call.segment = segment;
    replay.append(segment, outcome.n);
    return segment;
  }

  /** From here on the call may have been made, for whoever comes after a crash. Commits as the recovery point did: only while the work is this run's. */
  #intendAgain(segment: Segment): Promise<void> {
    const passing = (this.#gate ?? Promise.resolve()).then(async () => {
      this.#goesOn();
      const { replay, frame } = this.#run;
      const segments = replay.journal.segments.map((one) => (one === segment ? { ...one, notMade: false } : one));
      await this.#saveJournal(segments, frame.guard?.(false));
      this.#goesOn();
      segment.notMade = false;
    });
    this.#gate = passing.catch(() => undefined);
    return passing;
  }

  /** Makes the call, or joins the one that an earlier run in this process has under way. What it threw, unless it is remembered. */
  async #ask<T>(point: RecoveryPoint<T>, segment: Segment, resumed: boolean): Promise<{ readonly fault: unknown } | undefined> {
    this.#goesOn();
    if (segment.notMade && !asking.has(segment)) await this.#intendAgain(segment);
    let asked = asking.get(segment);
    if (!asked) {
      asked = (async () => point.run(resumed))()
        .then(
          (value) => ({ value }),
          (fault: unknown) => ({ fault }),
        )
        .finally(() => asking.delete(segment));
      asking.set(segment, asked);
    }
    const end = await asked;
    if (!("fault" in end)) {
      this.#remember(segment, valueAnswer(end.value, point.operation, this.#run.name));
      return undefined;
    }
    if (point.isUnknown(end.fault)) this.#unknown = end.fault;
    // When the run was cut short, so was the call: nothing was learned.
    else if (!this.#run.frame.signal.aborted) {
      this.#run.replay.threw(end.fault, segment);
      segment.notMade = point.isNotMade?.(end.fault) ?? false;
      this.#remember(segment, thrownAnswer(end.fault));
    }
    return { fault: end.fault };
  }

  #delivered(answer: Answer, segment?: Segment): unknown {
    const delivered = deliver(answer);
    if ("value" in delivered) return delivered.value;
    if (segment) this.#run.replay.threw(delivered.thrown, segment);
    throw delivered.thrown;
  }

  /** See `Invocation.unknownOutcome`. */
  get unknown(): unknown {
    return this.#unknown;
  }

  /** See `Invocation.askAgain`. */
  askAgain(steps: readonly string[]): void {
    for (const { segment, kept } of this.#run.replay.answeredCalls()) {
      const step = steps.find((name) => segment.call?.operation === `step ${name}`);
      if (step === undefined) continue;
      if (kept)
        throw Fault.create(
          "job.step-kept",
          `${this.#run.name} asked for step ${JSON.stringify(step)} to be made again, and has called others since it had its answer`,
          "Ask last: what was called in between rests on what the step answered.",
        );
      this.#run.replay.learn(segment, undefined);
    }
  }

  // ---- the journal ------------------------------------------------------------------------------------------------------

  get #unsaved(): boolean {
    const { learned, saved } = this.#run.replay.journal;
    return learned > saved;
  }

  // The answer goes with the next commit; when none comes in this turn of the loop, it gets one of its own, so that a long
  // handler does not ask twice after a crash. The shop's jobs finish in the same turn and pay nothing for it.
  #remember(segment: Segment, answer: Answer): void {
    this.#run.replay.learn(segment, answer);
    this.#saveSoon();
  }

  #saveSoon(): void {
    if (this.#saving) return;
    this.#saving = true;
    const { node, frame } = this.#run;
    node.clock.soon(() => {
      this.#saving = false;
      if (!this.#unsaved || this.#ending || !this.#run.isOpen) return;
      this.#gate = (this.#gate ?? Promise.resolve())
        .then(() => this.#saveAnswers())
        .catch((fault: unknown) =>
          node
            .log(frame.component.name, { traceparent: undefined, tenant: frame.tenant, invocation: frame.id })
            .warn("an answer could not be journalled", { fault: String(fault) }),
        );
    });
  }

  async #saveAnswers(): Promise<void> {
    if (!this.#unsaved || this.#ending || !this.#run.isOpen) return;
    await this.#saveJournal(this.#run.replay.journal.segments);
  }

  /** A commit of its own. When it is refused, this run is over. */
  async #saveJournal(segments: readonly Segment[], guard?: ReturnType<NonNullable<InvocationFrame["guard"]>>): Promise<void> {
    const { node, replay } = this.#run;
    const { journal } = replay;
    const { learned } = journal;
    const outcome = await node.lane.submit({
      id: node.ids.next(),
      expects: [...(guard?.expects ?? []), this.#journalExpectation()],
      writes: [...(guard?.writes ?? []), this.#journalWrite(segments)],
    });
    if (outcome.ok) {
      journal.version = outcome.n;
      journal.saved = learned;
    } else this.#run.supersede(outcome);
  }

  #journalExpectation(): Expectation {
    return { kind: "record", key: journalKey(this.#run.frame.id), version: this.#run.replay.journal.version };
  }

  #journalWrite(segments: readonly Segment[]): Write {
    return { kind: "put", key: journalKey(this.#run.frame.id), value: encodeJournal(segments, this.#run.name) };
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------

  /** From here on nothing is called, and no answer is saved: they go with the last commit. */
  beginEnd(): void {
    this.#ending = true;
  }

  /** What has to be durable before the last commit. It may be another one when that is. */
  get gate(): Promise<unknown> | undefined {
    return this.#gate;
  }

  /** What the last commit does with the journal, added to what it writes and expects. */
  endJournal(how: "drop" | "save", writes: Write[], expects: Expectation[]): void {
    const { segments } = this.#run.replay.journal;
    if (segments.length === 0) return;
    if (how === "drop") writes.push({ kind: "remove", key: journalKey(this.#run.frame.id) });
    else if (this.#unsaved) writes.push(this.#journalWrite(segments));
    expects.push(this.#journalExpectation());
  }
}

/** Calls under way, by the segment that ended with them: a run after a conflict waits for the call instead of repeating it. */
const asking = new WeakMap<Segment, Promise<{ readonly value: unknown } | { readonly fault: unknown }>>();
