/**
 * One run of one handler. It collects what the handler reads (preconditions) and stages (writes), and turns both into one
 * commit when the handler returns, or just before it talks to the outside (a recovery point). Kinds build their handles on it;
 * users never see it.
 *
 * Its parts: whether it goes on (run.ts), what it reads (reading.ts), stages (draft.ts), draws (chance.ts), learns and calls (recovery.ts), what reacts to its
 * events (reactions.ts), and what it was refused (unread-refusals.ts).
 */
import { Fault } from "../kernel/index.ts";
import type {
  Commit,
  CommitOutcome,
  Expectation,
  IndexEntry,
  ListQuery,
  Merge,
  NewEvent,
  NewJob,
  RecordRow,
  Statement,
  StoreKey,
  Write,
} from "../store/index.ts";
import { Chance } from "./chance.ts";
import type { Component, Mode } from "./component.ts";
import { definitionOf, type StagedEvent } from "./definition.ts";
import { Draft } from "./draft.ts";
import type { CallIdentity, Journal } from "./journal.ts";
import type { Fold } from "./lane.ts";
import type { NodeServices } from "./node.ts";
import type { Refused } from "./outcome.ts";
import { isReaction, Reactions } from "./reactions.ts";
import { Reading, type StreamRead } from "./reading.ts";
import { Recovery, type RecoveryPoint } from "./recovery.ts";
import { Run, type InvocationFrame, type Superseded } from "./run.ts";
import { noEntries, withEntry } from "./scarce.ts";
import { acceptedAgain, type Accepted, type Out, type Schema } from "./schema.ts";
import { UnreadRefusals } from "./unread-refusals.ts";

export interface CommitEnd {
  readonly keep: boolean;
  readonly judge: boolean;
  readonly writes: readonly Write[];
  readonly expects: readonly Expectation[];
  readonly journal: "drop" | "save";
}

/** As many as are looked at one after the other; what was let through before them is checked again. */
const acceptedMax = 8;

export class Invocation {
  readonly frame: InvocationFrame;
  readonly node: NodeServices;
  readonly mode: Mode;

  readonly #run: Run;
  readonly #draft: Draft;
  readonly #reading: Reading;
  readonly #recovery: Recovery;
  readonly #chance: Chance;
  #reactions: Reactions | undefined;
  readonly #unread = new UnreadRefusals();
  #handles: ReadonlyMap<Component, object> = noEntries;
  #accepted: Accepted[] | undefined;

  constructor(frame: InvocationFrame) {
    this.frame = frame;
    this.node = frame.node;
    this.mode = frame.mode;
    this.#run = new Run(frame, () => {
      this.#reading.clear();
      this.#draft.clear();
    });
    this.#draft = new Draft(this.#run);
    this.#reading = new Reading(this.#run, this.#draft);
    this.#recovery = new Recovery(this.#run, this.#reading, this.#draft);
    this.#chance = new Chance(this.#run);
  }

  // ---- handles ------------------------------------------------------------------------------------------------------

  /** The handle of a component, one per invocation. */
  handle(component: Component): object {
    const known = this.#handles.get(component);
    if (known) return known;
    const bind = definitionOf(component).bind;
    if (!bind)
      throw Fault.create(
        "component.not-usable",
        `nothing can be asked of ${component.kind} "${component.name}", so it cannot be used`,
        "Remove it from `uses`.",
      );
    const handle = bind(this);
    this.#handles = withEntry(this.#handles, component, handle);
    this.node.observer.used(this.frame.component.name, component.name);
    return handle;
  }

  /** The component behind one of its handles. */
  componentOf(handle: object): Component | undefined {
    for (const [component, known] of this.#handles) if (known === handle) return component;
    return undefined;
  }

  /** Kinds call it first in every operation of theirs that does not go through a method below. */
  assertOpen(): void {
    this.#run.assertOpen();
  }

  get tenant(): string | undefined {
    return this.frame.tenant;
  }

  /** True while the handler goes again through what an earlier run has committed. */
  get replaying(): boolean {
    return this.#run.isReplaying;
  }

  /**
   * What this schema would make of a value that it has let through, as it came, at an earlier door of this run. `undefined`: it has to be asked,
   * because it has not seen the value, has changed it, or somebody has changed it since.
   */
  accepted<S extends Schema>(schema: S, value: unknown): Out<S> | undefined {
    const known = (this.#accepted ??= this.frame.accepted ? [this.frame.accepted] : []).find((one) => one.value === value && one.schema === schema);
    const again = known && acceptedAgain(known);
    if (again && this.#accepted.length < acceptedMax) this.#accepted.push(again);
    return again?.value as Out<S> | undefined;
  }

  // ---- what surrounds it --------------------------------------------------------------------------------------------

  /** Wall time; stands still between two recovery points, so that it is the same on every run. */
  now(): number {
    return this.#recovery.now();
  }

  random(): number {
    return this.#chance.random();
  }

  /** A UUIDv7, the same on every attempt: from the invocation's id, its start and a count. */
  newId(): string {
    return this.#chance.newId();
  }

  // ---- reading ------------------------------------------------------------------------------------------------------

  /** A record's bytes: staged here, else staged in this process, else durable. In `write` and `durable` a precondition. */
  record(key: StoreKey, options: { readonly precondition?: boolean } = {}): Promise<Uint8Array | undefined> {
    return this.#reading.record(key, options.precondition ?? true);
  }

  /** What a read of this key would answer, when that is known without asking: for folds that must not be torn by an await. */
  peek(key: StoreKey): Uint8Array | undefined {
    return this.#reading.peek(key);
  }

  /** A snapshot, not a precondition. Sees only what is durable. */
  async list(query: ListQuery): Promise<readonly RecordRow[]> {
    this.#run.assertFree();
    if (this.mode !== "read" && !this.replaying) await this.#reading.snapshot();
    return this.#recovery.recall(`list ${JSON.stringify(query)}`, () => this.node.store.read.list(query), false);
  }

  /**
   * The version of a stream this invocation decides on, with the state of that version when this process has it folded
   * (perhaps staged). The first answer holds until the next recovery point, and is a precondition in `write` and `durable`.
   * `of`: the user's key of the stream. Of one that `newId` has just made nothing is read: the stream is new, and the precondition says so.
   */
  stream(stream: StoreKey, options?: { readonly precondition?: boolean; readonly of?: string | number }): StreamRead | Promise<StreamRead> {
    return this.#reading.stream(stream, options?.precondition ?? true, options?.of !== undefined && this.#chance.isNew(options.of));
  }

  /** The fold this invocation has made of a stream by its own appends. */
  ownFold(stream: StoreKey): Fold | undefined {
    return this.#draft.fold(stream);
  }

  /**
   * Something learned from elsewhere (a list, rows, a query to the outside): asked once, the same when the handler is run
   * again. `identity` names question and parameters; the n-th time a question is asked is the n-th answer.
   */
  recall<T>(identity: string, ask: () => Promise<T>): Promise<T> {
    return this.#recovery.recall(identity, ask);
  }

  /** Something done once for this attempt of the invocation, however often a conflict runs its handler. */
  once<T>(identity: string, act: () => Promise<T>): Promise<T> {
    return this.#recovery.once(identity, act);
  }

  /** Opts a snapshot read in as a precondition. */
  expect(expectation: Expectation): void {
    this.#reading.expect(expectation);
  }

  /** No record under `prefix` may have changed between the start of this segment's reading and the commit. */
  expectUnchanged(prefix: string): Promise<void> {
    return this.#reading.expectUnchanged(prefix);
  }

  // ---- staging ------------------------------------------------------------------------------------------------------

  put(key: StoreKey, value: Uint8Array, options: { readonly expiresAtMs?: number | undefined; readonly index?: readonly IndexEntry[] } = {}): void {
    this.#draft.put(key, value, options);
  }

  remove(key: StoreKey): void {
    this.#draft.remove(key);
  }

  merge(key: StoreKey, merge: Merge): void {
    this.#draft.merge(key, merge);
  }

  /** `after`: the fold behind these events, for streams whose version this invocation has read. */
  append(events: readonly StagedEvent[], encoded: readonly NewEvent[], after?: Fold): void {
    this.#run.assertWrites();
    const stream = events[0]?.stream;
    if (stream === undefined) return;
    for (const event of events) if (this.node.inCommit(event.source).length > 0) (this.#reactions ??= new Reactions(this, this.#run.name)).add(event);
    this.#draft.append(stream, encoded, after);
  }

  enqueue(job: NewJob): void {
    this.#draft.write({ kind: "enqueue", job });
  }

  /** Any other write of the port. */
  write(write: Write): void {
    this.#draft.write(write);
  }

  /** A write that only saves time later: left out where there is no room for it. The last one of a key counts. */
  writeSpare(key: StoreKey, write: Write, sizeBytes: number): void {
    this.#draft.writeSpare(key, write, sizeBytes);
  }

  sql(statement: Statement): void {
    this.write({ kind: "sql", statement });
  }

  /** Runs what reacts in-commit to events staged so far. Kinds await it where their caller may read the result. `undefined`: there is nothing to wait for. */
  react(): Promise<void> | undefined {
    return this.#reactions?.react();
  }

  /** Resolves when everything staged so far has been reacted to; `undefined` when it has. */
  reacted(): Promise<void> | undefined {
    return this.#reactions?.done();
  }

  /**
   * Wraps a refusal so that the runtime knows whether the handler looked at it: at its end, and with `decides` (what is refused
   * would have been part of the commit) before it calls anybody.
   */
  watchRefusal<R extends Refused>(refusal: R, from: string, decides = false): R {
    return this.#unread.watch(refusal, from, decides);
  }

  /** Refusals that the handler got and never looked at. */
  unreadRefusal(): string | undefined {
    return this.#unread.first();
  }

  // ---- recovery points ----------------------------------------------------------------------------------------------

  /**
   * The key of a call that names none: of this invocation, of what is called and with what. Branches that run at once may come to
   * their calls in another order on the next run, and each finds its own; of calls that are alike, either is as good as the other.
   */
  callKey(operation: string, input: unknown): string {
    return this.#recovery.callKey(operation, input);
  }

  /**
   * Commits what is staged together with the intent to call, calls, and remembers the answer. On a later run the answer
   * is given without calling; a call whose answer was lost is made again under the same key.
   */
  async recoveryPoint<T>(point: RecoveryPoint<T>): Promise<T> {
    this.assertOpen();
    const { name } = this.#run;
    if (this.mode !== "durable")
      throw Fault.create(
        "handler.not-durable",
        `${name} called ${point.operation} from a handler that will not be finished if this process dies`,
        "Make the route `idempotent`, or call from a queue, a subscription or a schedule.",
      );
    if (isReaction(this))
      throw Fault.create(
        "handler.not-durable",
        `an in-commit reaction in ${name} called ${point.operation}, in the middle of the commit it belongs to`,
        "Make the subscription `following`.",
      );
    for (let reacting = this.reacted(); reacting; reacting = this.reacted()) await reacting;
    const unread = this.#unread.first({ deciding: true });
    if (unread !== undefined)
      throw Fault.create(
        "outcome.refusal-unread",
        `${name} was about to call ${point.operation} without having looked at a refusal: ${unread}`,
        "Look at `.ok` of what the command answered, and say what then.",
      );
    return this.#recovery.pass(point);
  }

  /** The fault of a call that may or may not have happened; then nothing of this run may be committed but its end. */
  get unknownOutcome(): unknown {
    return this.#recovery.unknown;
  }

  /** A call of an earlier or this run that may have happened: it is unanswered. */
  get unanswered(): CallIdentity | undefined {
    return this.#run.replay.journal.segments.find(({ answer, notMade }) => answer === undefined && !notMade)?.call;
  }

  /** The next run makes these steps again, under their keys. Fault: `job.step-kept` where something rests on an answer. */
  askAgain(steps: readonly string[]): void {
    this.#recovery.askAgain(steps);
  }

  /** The run ends with this fault, and will be run again. See `Replay.forget`. */
  forgetFault(fault: unknown): void {
    this.#run.replay.forget(fault);
  }

  /** The journal as it stands, for another run in this process. */
  get journal(): Journal | undefined {
    const { journal } = this.#run.replay;
    return journal.segments.length > 0 ? journal : undefined;
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** From here on this run cannot commit. Answers the fault to throw out of the handler. */
  supersede(why: Superseded["why"]): Fault {
    return this.#run.supersede(why);
  }

  get superseded(): Superseded | undefined {
    return this.#run.superseded;
  }

  /**
   * Is what this run has read reason enough to check it before its refusal or fault is believed (FINDINGS F9)? Two keys may never
   * have stood together; one that is staged may fall; one that this process remembers may have been passed by.
   */
  get restsOnReads(): boolean {
    return this.#reading.mayBeStale;
  }

  /**
   * Which of the keys and streams that this run has read are otherwise by now. None: all of it stood together when the records were
   * looked at again, in one snapshot; for a stream whose version is the same before and after has had no other in between.
   */
  changedMeanwhile(): Promise<readonly StoreKey[]> {
    return this.#reading.changed();
  }

  /**
   * Commits: with `keep` what the handler staged, and in any case `writes`. `judge` says whether its reads are judged.
   * Afterwards the invocation is settled, unless the commit was refused: then it is superseded.
   */
  async commit({ keep, judge, writes, expects, journal: how }: CommitEnd): Promise<CommitOutcome> {
    const { replay } = this.#run;
    const recovery = this.#recovery;
    recovery.beginEnd();
    const reacting = keep ? this.reacted() : undefined;
    if (reacting) await reacting;
    for (let gate: unknown; gate !== recovery.gate;) await (gate = recovery.gate);
    if (keep || how === "drop") {
      if (replay.open.size > 0) for (const call of replay.open) throw this.#run.overlapping(`ended while ${call.operation} had not been answered`);
      if (this.replaying) throw this.#run.diverged("end");
    }
    const { journal } = replay;
    const { learned } = journal;
    const [allWrites, allExpects] = [[...writes], [...expects]];
    recovery.endJournal(how, allWrites, allExpects);
    const outcome = await this.#draft.submit(judge ? this.#reading.expectations(allExpects) : allExpects, allWrites, keep);
    if (outcome.ok) {
      journal.saved = learned;
      this.settle();
    } else this.supersede(outcome);
    return outcome;
  }

  /** Ends without a commit. */
  settle(): void {
    this.#run.settle();
  }

  /** What is staged and expected, as a value: for a transaction, whose end applies it. */
  async staged(): Promise<Commit> {
    await this.reacted();
    return this.#draft.commit(this.#reading.expectations([]), [], true);
  }
}
