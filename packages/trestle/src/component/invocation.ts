/**
 * One run of one handler. It collects what the handler reads (preconditions) and stages (writes), and turns both into one
 * commit when the handler returns, or just before it talks to the outside (a recovery point). Kinds build their handles on it;
 * users never see it.
 *
 * States, changed in this file only:
 * - `open`: the handler runs.
 * - `superseded`: a recovery point could not commit (conflict, claim lost, deadline). Every further use throws; the runner
 *   decides whether the handler runs again.
 * - `settled`: the handler has ended. A handle used now faults with `handle.outlived-its-handler`.
 *
 * Over 400 lines because it is the state machine of reading, staging, replaying and committing, which share their state.
 */
import { Fault, seededRandom, uuidv7Named, type Random } from "../kernel/index.ts";
import type { Commit, CommitOutcome, CommitRefused, Expectation, IndexEntry, ListQuery, Merge, NewEvent, NewJob, RecordRow, Statement, StoreKey, Version, Write } from "../store/index.ts";
import type { Component, Mode } from "./component.ts";
import type { Principal } from "./context.ts";
import { definitionOf, type StagedEvent } from "./definition.ts";
import { encodeJournal, journalKey, newSegment, type Answer, type CallIdentity, type Journal, type Segment } from "./journal.ts";
import type { Fold, TurnTaker } from "./lane.ts";
import type { NodeServices } from "./node.ts";
import type { Refused } from "./outcome.ts";

export interface InvocationFrame {
  readonly node: NodeServices;
  readonly mode: Mode;
  /** Equal on every attempt. A UUID where a job or a key names it. */
  readonly id: string;
  /** The component whose handler this is. */
  readonly component: Component;
  readonly operation: string;
  readonly tenant: string | undefined;
  readonly principal: Principal | undefined;
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  /** Of an earlier run of this invocation. */
  readonly journal?: Journal | undefined;
  /** What else a recovery point writes and expects: the claim of a job, the key of a request. Asked before each. */
  readonly guard?: ((first: boolean) => { readonly expects: readonly Expectation[]; readonly writes: readonly Write[] }) | undefined;
  /** Where a resumable read left off (SSE's Last-Event-ID). */
  readonly resumeAfter?: string | undefined;
}

/** A call to the outside, as the kinds `external`, `service` and `context.step` make it. */
export interface RecoveryPoint<T> extends CallIdentity {
  /** `resumed`: an earlier run may already have made this call. Throws a definite fault, or one of `isUnknown`. */
  run(resumed: boolean): Promise<T>;
  /** The call may have happened: the invocation must not go on, nor be compensated blindly (FINDINGS F16). */
  isUnknown(fault: unknown): boolean;
}

export interface Superseded {
  readonly why: CommitRefused | { readonly ok: false; readonly refused: "overran" };
}

export interface StreamRead {
  readonly version: number;
  /** The state of exactly that version. */
  readonly fold: Fold | undefined;
}
interface ReadRecord { readonly value: Uint8Array | undefined; readonly version: Version; readonly precondition: boolean }

export class Invocation implements TurnTaker {
  readonly frame: InvocationFrame;
  readonly node: NodeServices;
  readonly mode: Mode;
  waitsFor: StoreKey | undefined;

  #state: "open" | "superseded" | "settled" = "open";
  #superseded: Superseded | undefined;
  #unknown: unknown;
  readonly #reads = new Map<StoreKey, ReadRecord>();
  readonly #versions = new Map<StoreKey, StreamRead>();
  readonly #overlay = new Map<StoreKey, Uint8Array | undefined>();
  readonly #records = new Map<StoreKey, Write>();
  readonly #merged = new Set<StoreKey>();
  readonly #streams = new Map<StoreKey, NewEvent[]>();
  readonly #folds = new Map<StoreKey, Fold>();
  /** Folds it decided on while they were staged by others. */
  readonly #restsOn = new Map<StoreKey, Fold>();
  #snapshot: number | undefined;
  #others: Write[] = [];
  #expects: Expectation[] = [];
  #reactions: StagedEvent[] = [];
  #reacting: Promise<void> | undefined;
  readonly #turns = new Set<StoreKey>();
  readonly #unread = new Map<Refused, string>();
  readonly #handles = new Map<Component, object>();

  // Replay and recovery. `#replaying` counts the segments of an earlier run that are still ahead.
  readonly #journal: Journal;
  #segment: Segment;
  #at = 0;
  #replayed: Segment | undefined;
  #gate: Promise<unknown> = Promise.resolve();
  #unsaved = false;
  #saving = false;
  readonly #occurrences = new Map<string, number>();
  /** The faults that calls of this run ended with. */
  readonly #faults = new Map<unknown, Segment>();
  #minted = 0;
  #random: Random | undefined;

  constructor(frame: InvocationFrame) {
    this.frame = frame;
    this.node = frame.node;
    this.mode = frame.mode;
    this.#journal = frame.journal ?? { version: 0, segments: [] };
    this.#replayed = this.#journal.segments[0];
    this.#segment = this.#replayed ?? newSegment(frame.node.clock.wallMs(), frame.startedAtMs);
  }

  // ---- handles ------------------------------------------------------------------------------------------------------

  /** The handle of a component, one per invocation. */
  handle(component: Component): object {
    const known = this.#handles.get(component);
    if (known) return known;
    const bind = definitionOf(component).bind;
    if (!bind) throw Fault.create("component.not-usable", `nothing can be asked of ${component.kind} "${component.name}", so it cannot be used`, "Remove it from `uses`.");
    const handle = bind(this);
    this.#handles.set(component, handle);
    boundTo.set(handle, component);
    this.node.observer.used(this.frame.component.name, component.name);
    return handle;
  }

  /** Kinds call it first in every operation of theirs that does not go through a method below. */
  assertOpen(): void {
    if (this.#state === "open") return;
    if (this.#state === "superseded") throw Fault.create("handler.superseded", `this run of ${this.#name()} cannot commit any more (${this.#superseded?.why.refused}); it ends here`, "Let the fault pass: the runtime runs the handler again where that is right.");
    throw Fault.create("handle.outlived-its-handler", `a handle of ${this.#name()} was used after its handler had ended`, "Await everything the handler starts; handles cannot be kept for later.");
  }

  get tenant(): string | undefined {
    return this.frame.tenant;
  }

  /** True while the handler goes again through what an earlier run has committed. */
  get replaying(): boolean {
    return this.#replayed !== undefined;
  }

  // ---- what surrounds it --------------------------------------------------------------------------------------------

  /** Wall time; stands still between two recovery points, so that it is the same on every run. */
  now(): number {
    return this.#segment.atMs;
  }

  random(): number {
    this.#random ??= seededRandom(this.frame.id);
    return this.#random.next();
  }

  /** A UUIDv7, the same on every attempt: from the invocation's id, its start and a count. */
  newId(): string {
    this.assertOpen();
    const startedAtMs = this.#journal.segments[0]?.startedAtMs ?? this.frame.startedAtMs;
    return uuidv7Named(Math.floor(startedAtMs), `${this.frame.id}#${this.#minted++}`);
  }

  // ---- reading ------------------------------------------------------------------------------------------------------

  /** A record's bytes: staged here, else staged in this process, else durable. In `write` and `durable` a precondition. */
  async record(key: StoreKey, options: { readonly precondition?: boolean } = {}): Promise<Uint8Array | undefined> {
    this.assertOpen();
    if (this.#overlay.has(key)) return this.#overlay.get(key);
    if (this.mode === "read") return (await this.node.store.read.records([key]))[0]?.value;
    if (this.#merged.has(key)) throw Fault.create("records.read-after-merge", `${this.#name()} read a record it has merged into in the same commit`, "Read before you merge, or read in a commit of its own.");
    const known = this.#reads.get(key);
    if (known) return known.value;
    if (this.#replayed) {
      const value = this.#replayed.reads.get(key);
      if (value === undefined) throw this.#diverged(`read ${key}`);
      this.#reads.set(key, { value: value ?? undefined, version: 0, precondition: false });
      return value ?? undefined;
    }
    if (this.node.lane.isContended(key) && (await this.node.lane.takeTurn(key, this))) this.#turns.add(key);
    let staged = this.node.lane.stagedRecord(key);
    if (staged?.unknownUntil) {
      await staged.unknownUntil.catch(() => undefined);
      staged = this.node.lane.stagedRecord(key);
    }
    const row = staged && !staged.unknownUntil ? { value: staged.value, version: staged.commit } : (await this.node.store.read.records([key]))[0];
    const again = this.#reads.get(key);
    if (again) return again.value;
    this.assertOpen();
    this.#reads.set(key, { value: row?.value, version: row?.version ?? 0, precondition: options.precondition ?? true });
    this.#segment.reads.set(key, row?.value ?? null);
    return row?.value;
  }

  /** A snapshot, not a precondition. Sees only what is durable. */
  async list(query: ListQuery): Promise<readonly RecordRow[]> {
    // The head before the first list: what `expectUnchanged` counts from.
    this.#snapshot ??= this.mode === "read" ? 0 : (await this.node.store.read.head()).n;
    return this.recall(`list ${JSON.stringify(query)}`, () => this.node.store.read.list(query));
  }

  /**
   * The version of a stream this invocation decides on, with the state of that version when this process has it folded
   * (perhaps staged). The first answer holds until the next recovery point, and is a precondition in `write` and `durable`.
   */
  async stream(stream: StoreKey, options: { readonly precondition?: boolean } = {}): Promise<StreamRead> {
    this.assertOpen();
    const known = this.#versions.get(stream);
    if (known) return known;
    if (this.#replayed) {
      const version = this.#replayed.streams.get(stream);
      if (version === undefined) throw this.#diverged(`read stream ${stream}`);
      const replayed = { version, fold: undefined };
      this.#versions.set(stream, replayed);
      return replayed;
    }
    if (this.mode === "read") {
      const version = await this.node.store.read.streamVersion(stream);
      const fold = this.node.lane.durableFold(stream);
      return { version, fold: fold?.version === version ? fold : undefined };
    }
    if (this.node.lane.isContended(stream) && (await this.node.lane.takeTurn(stream, this))) this.#turns.add(stream);
    let fold = this.node.lane.newestFold(stream);
    const version = fold?.version ?? (await this.node.store.read.streamVersion(stream));
    fold ??= this.node.lane.newestFold(stream);
    const again = this.#versions.get(stream);
    if (again) return again;
    this.assertOpen();
    const read: StreamRead = fold && fold.version >= version ? { version: fold.version, fold } : { version, fold: undefined };
    this.#versions.set(stream, read);
    this.#segment.streams.set(stream, read.version);
    if (options.precondition ?? true) {
      this.#expects.push({ kind: "stream", stream, version: read.version });
      if (read.fold && this.node.lane.stagedFold(stream) === read.fold) this.#restsOn.set(stream, read.fold);
    }
    return read;
  }

  /** The fold this invocation has made of a stream by its own appends. */
  ownFold(stream: StoreKey): Fold | undefined {
    return this.#folds.get(stream);
  }

  /**
   * Something learned from elsewhere (a list, rows, a query to the outside): asked once, the same when the handler is run
   * again. `identity` names question and parameters; the n-th time a question is asked is the n-th answer.
   */
  async recall<T>(identity: string, ask: () => Promise<T>): Promise<T> {
    this.assertOpen();
    if (this.mode !== "durable") return ask();
    const occurrence = this.#occurrences.get(identity) ?? 0;
    this.#occurrences.set(identity, occurrence + 1);
    const name = `${identity} #${occurrence}`;
    if (this.#replayed) {
      if (!this.#replayed.recalls.has(name)) throw this.#diverged(identity);
      return this.#replayed.recalls.get(name) as T;
    }
    const segment = this.#segment;
    const answer = await ask();
    this.assertOpen();
    segment.recalls.set(name, answer);
    return answer;
  }

  /** Opts a snapshot read in as a precondition. */
  expect(expectation: Expectation): void {
    this.assertOpen();
    if (!this.replaying) this.#expects.push(expectation);
  }

  /** No record under `prefix` may have changed between the start of this segment's reading and the commit. */
  async expectUnchanged(prefix: string): Promise<void> {
    this.assertOpen();
    if (this.replaying) return;
    this.expect({ kind: "unchanged", prefix, since: this.#snapshot ?? (await this.node.store.read.head()).n });
  }

  // ---- staging ------------------------------------------------------------------------------------------------------

  put(key: StoreKey, value: Uint8Array, options: { readonly expiresAtMs?: number | undefined; readonly index?: readonly IndexEntry[] } = {}): void {
    this.#assertWrites();
    this.#overlay.set(key, value);
    const { expiresAtMs, index } = options;
    if (!this.replaying) this.#records.set(key, { kind: "put", key, value, ...(expiresAtMs === undefined ? {} : { expiresAtMs }), ...(index === undefined ? {} : { index }) });
  }

  remove(key: StoreKey): void {
    this.#assertWrites();
    this.#overlay.set(key, undefined);
    if (!this.replaying) this.#records.set(key, { kind: "remove", key });
  }

  merge(key: StoreKey, merge: Merge): void {
    this.#assertWrites();
    if (this.#overlay.has(key)) throw Fault.create("records.merge-after-put", `${this.#name()} merged into a record it has put in the same commit`, "Put the value you mean, or merge only.");
    this.#merged.add(key);
    if (!this.replaying) this.#others.push({ kind: "merge", key, merge });
  }

  /** `after`: the fold behind these events, for streams whose version this invocation has read. */
  append(events: readonly StagedEvent[], encoded: readonly NewEvent[], after?: Fold): void {
    this.#assertWrites();
    const stream = events[0]?.stream;
    if (stream === undefined) return;
    if (after) this.#folds.set(stream, after);
    this.#reactions.push(...events);
    if (this.replaying) return;
    const staged = this.#streams.get(stream);
    if (staged) staged.push(...encoded);
    else this.#streams.set(stream, [...encoded]);
  }

  enqueue(job: NewJob): void {
    this.#assertWrites();
    if (!this.replaying) this.#others.push({ kind: "enqueue", job });
  }

  /** Any other write of the port. */
  write(write: Write): void {
    this.#assertWrites();
    if (!this.replaying) this.#others.push(write);
  }

  sql(statement: Statement): void {
    this.write({ kind: "sql", statement });
  }

  /** Runs what reacts in-commit to events staged so far. Kinds await it where their caller may read the result. */
  react(): Promise<void> {
    if (this.#reactions.length === 0) return this.#reacting ?? Promise.resolve();
    this.#reacting = (this.#reacting ?? Promise.resolve()).then(async () => {
      for (let round = 0; this.#reactions.length > 0; round++) {
        if (round === 16) throw Fault.create("subscription.endless", `in-commit subscriptions of ${this.#name()} keep causing events, 16 rounds deep`, "Make one of them `following`.");
        const events = this.#reactions;
        this.#reactions = [];
        for (const event of events) for (const follower of this.node.inCommit(event.source)) await follower.react(event, this);
      }
    });
    return this.#reacting;
  }

  /** Wraps a refusal so that the runtime knows whether the handler looked at it. */
  watchRefusal<R extends Refused>(refusal: R, from: string): R {
    const looked = () => void this.#unread.delete(watched);
    const watched: R = Object.defineProperties({ ...refusal }, {
      ok: { enumerable: true, get: () => (looked(), false) },
      refused: { enumerable: true, get: () => (looked(), refusal.refused) },
    });
    this.#unread.set(watched, `${from} refused with "${refusal.refused}"`);
    return watched;
  }

  // ---- recovery points ----------------------------------------------------------------------------------------------

  /**
   * Commits what is staged together with the intent to call, calls, and remembers the answer. On a later run the answer
   * is given without calling; a call whose answer was lost is made again under the same key.
   */
  async recoveryPoint<T>(point: RecoveryPoint<T>): Promise<T> {
    this.assertOpen();
    if (this.mode !== "durable") throw Fault.create("handler.not-durable", `${this.#name()} called ${point.operation} from a handler that will not be finished if this process dies`, "Make the route `idempotent`, or call from a queue, a subscription or a schedule.");
    await this.react();
    const passing = this.#gate.then(() => this.#pass(point));
    this.#gate = passing.catch(() => undefined);
    const { segment, resumed } = await passing;
    if (!segment.answer) return this.#ask(point, segment, resumed);
    if (segment.answer.kind === "value") return segment.answer.value as T;
    const { code, message, remedy } = segment.answer;
    const fault = Fault.create(code as `${string}.${string}`, message, remedy);
    this.#faults.set(fault, segment);
    throw fault;
  }

  async #pass(point: CallIdentity): Promise<{ readonly segment: Segment; readonly resumed: boolean }> {
    this.assertOpen();
    const replayed = this.#replayed;
    if (replayed) {
      if (replayed.call?.operation !== point.operation || replayed.call.key !== point.key) throw this.#diverged(`call ${point.operation} with key ${point.key}`);
      this.#nextSegment();
      return { segment: replayed, resumed: true };
    }
    const segment = this.#segment;
    segment.call = { operation: point.operation, key: point.key };
    const segments = [...this.#journal.segments, segment];
    const guard = this.frame.guard?.(this.#journal.segments.length === 0);
    const outcome = await this.#submit([...(guard?.expects ?? []), this.#journalExpectation()], [...(guard?.writes ?? []), this.#journalWrite(segments)], true);
    if (!outcome.ok) throw this.supersede(outcome);
    this.#journal.segments.push(segment);
    this.#journal.version = outcome.n;
    this.#unsaved = false;
    this.#nextSegment();
    return { segment, resumed: false };
  }

  async #ask<T>(point: RecoveryPoint<T>, segment: Segment, resumed: boolean): Promise<T> {
    try {
      const value = await point.run(resumed);
      this.#remember(segment, { kind: "value", value });
      return value;
    } catch (fault) {
      if (point.isUnknown(fault)) this.#unknown = fault;
      else if (Fault.is(fault)) {
        this.#faults.set(fault, segment);
        this.#remember(segment, { kind: "fault", code: fault.code, message: fault.message, remedy: fault.remedy });
      }
      throw fault;
    }
  }

  // The answer goes with the next commit; when none comes in this turn of the loop, it gets one of its own, so that a long
  // handler does not ask twice after a crash. The shop's jobs finish in the same turn and pay nothing for it.
  #remember(segment: Segment, answer: Answer): void {
    segment.answer = answer;
    this.#unsaved = true;
    if (this.#saving) return;
    this.#saving = true;
    this.node.clock.soon(() => {
      this.#saving = false;
      if (!this.#unsaved || this.#state !== "open") return;
      this.#gate = this.#gate.then(() => this.#saveAnswers()).catch((fault: unknown) => this.node.log(this.frame.component.name, { traceparent: undefined, tenant: this.tenant, invocation: this.frame.id }).warn("an answer could not be journalled", { fault: String(fault) }));
    });
  }

  async #saveAnswers(): Promise<void> {
    if (!this.#unsaved || this.#state !== "open") return;
    this.#unsaved = false;
    const outcome = await this.node.lane.submit({ id: this.node.ids.next(), expects: [this.#journalExpectation()], writes: [this.#journalWrite(this.#journal.segments)] });
    if (outcome.ok) this.#journal.version = outcome.n;
    else this.supersede(outcome);
  }

  #nextSegment(): void {
    this.#at += 1;
    this.#replayed = this.#journal.segments[this.#at];
    this.#segment = this.#replayed ?? newSegment(this.node.clock.wallMs(), this.frame.startedAtMs);
    this.#clear();
  }

  #journalExpectation(): Expectation {
    return { kind: "record", key: journalKey(this.frame.id), version: this.#journal.version };
  }

  #journalWrite(segments: readonly Segment[]): Write {
    return { kind: "put", key: journalKey(this.frame.id), value: encodeJournal(segments, this.#name()) };
  }

  #diverged(what: string): Fault {
    const expected = this.#replayed?.call;
    return Fault.create("handler.diverged", `${this.#name()} took another way when it was run again: it tried to ${what}, which its earlier run had not done before ${expected ? `calling ${expected.operation} with key ${expected.key}` : "its recovery point"}`, "Make the code before a recovery point depend only on its message, its handles and its context.");
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** From here on this run cannot commit. Answers the fault to throw out of the handler. */
  supersede(why: Superseded["why"]): Fault {
    if (this.#state === "open") {
      this.#state = "superseded";
      this.#superseded = { why };
      this.#endTurns();
    }
    return Fault.create("handler.superseded", `this run of ${this.#name()} cannot commit any more (${why.refused})`, "Let the fault pass: the runtime runs the handler again where that is right.");
  }

  get superseded(): Superseded | undefined {
    return this.#superseded;
  }

  /** The fault of a call that may or may not have happened; then nothing of this run may be committed but its end. */
  get unknownOutcome(): unknown {
    return this.#unknown;
  }

  /** A call of an earlier or this run is unanswered: it may have happened. */
  get unanswered(): CallIdentity | undefined {
    return this.#journal.segments.find((segment) => segment.answer === undefined)?.call;
  }

  /**
   * The run ends with this fault, and will be run again. When it is what a call ended with, the handler let it pass instead of
   * deciding on it, so the next run makes the call again (under the same key) rather than failing by what it remembers.
   */
  forgetFault(fault: unknown): void {
    for (let cause = fault; cause !== undefined && cause !== null; cause = (cause as { readonly cause?: unknown }).cause) {
      const segment = this.#faults.get(cause);
      if (!segment) continue;
      segment.answer = undefined;
      this.#unsaved = true;
      return;
    }
  }

  /** The journal as it stands, for another run in this process. */
  get journal(): Journal | undefined {
    return this.#journal.segments.length > 0 ? this.#journal : undefined;
  }

  /** Refusals that the handler got and never looked at. */
  unreadRefusal(): string | undefined {
    return this.#unread.values().next().value;
  }

  /** Is what this run has read reason enough to check it before its refusal or fault is believed (FINDINGS F9)? */
  get restsOnReads(): boolean {
    const staged = [...this.#reads.values()].some(({ version }) => typeof version === "string");
    return staged || this.#restsOn.size > 0 || this.#reads.size + this.#versions.size >= 2;
  }

  /**
   * Commits: with `keep` what the handler staged, and in any case `writes`. `judge` says whether its reads are judged.
   * Afterwards the invocation is settled, unless the commit was refused: then it is superseded.
   */
  async commit(end: { readonly keep: boolean; readonly judge: boolean; readonly writes: readonly Write[]; readonly expects: readonly Expectation[]; readonly journal: "drop" | "save" }): Promise<CommitOutcome> {
    await this.#gate;
    if (end.keep) await this.react();
    if (this.#replayed && end.keep) throw this.#diverged("return");
    const writes = [...end.writes];
    const expects = [...end.expects];
    if (this.#journal.segments.length > 0) {
      if (end.journal === "drop") writes.push({ kind: "remove", key: journalKey(this.frame.id) });
      else if (this.#unsaved) writes.push(this.#journalWrite(this.#journal.segments));
      expects.push(this.#journalExpectation());
    }
    this.#unsaved = false;
    const outcome = await this.#submit(expects, writes, end.keep, end.judge);
    if (outcome.ok) this.settle();
    else this.supersede(outcome);
    return outcome;
  }

  /** Ends without a commit. */
  settle(): void {
    if (this.#state === "open") this.#state = "settled";
    this.#endTurns();
  }

  /** What is staged and expected, as a value: for a transaction, whose end applies it. */
  async staged(): Promise<Commit> {
    await this.react();
    const fallen = this.node.lane.fallen(this.#restsOn);
    if (fallen.length > 0) throw this.supersede({ ok: false, refused: "conflict", keys: fallen });
    return this.#build([], [], true, true);
  }

  #build(expects: readonly Expectation[], writes: readonly Write[], keep: boolean, judge: boolean): Commit {
    const all: Expectation[] = [...expects];
    if (judge && !this.#replayed) {
      for (const [key, { version, precondition }] of this.#reads) if (precondition) all.push({ kind: "record", key, version });
      all.push(...this.#expects);
    }
    const staged: Write[] = keep ? [...this.#records.values(), ...this.#others] : [];
    if (keep) for (const [stream, events] of this.#streams) staged.push({ kind: "append", stream, events });
    staged.push(...writes);
    return { id: this.node.ids.next(), expects: all, writes: staged };
  }

  #submit(expects: readonly Expectation[], writes: readonly Write[], keep: boolean, judge = keep): Promise<CommitOutcome> {
    const commit = this.#build(expects, writes, keep, judge);
    if (commit.writes.length === 0 && commit.expects.length === 0) return Promise.resolve({ ok: true, epoch: this.node.store.epoch, n: 0 });
    const folds = keep && this.#folds.size > 0 ? new Map(this.#folds) : undefined;
    const answer = this.node.lane.submit(commit, folds, judge && !this.#replayed ? this.#restsOn : undefined);
    this.#endTurns(); // staged: the next one may decide on it
    return answer;
  }

  #endTurns(): void {
    for (const key of this.#turns) this.node.lane.endTurn(key, this);
    this.#turns.clear();
  }

  #clear(): void {
    this.#reads.clear();
    this.#versions.clear();
    this.#overlay.clear();
    this.#records.clear();
    this.#merged.clear();
    this.#streams.clear();
    this.#folds.clear();
    this.#restsOn.clear();
    this.#others = [];
    this.#expects = [];
    this.#snapshot = undefined;
  }

  #assertWrites(): void {
    this.assertOpen();
    if (this.mode === "read") throw Fault.create("handler.read-only", `${this.#name()} only looks; it cannot write`, "Write in a POST, a queue, a subscription or a schedule.");
  }

  #name(): string {
    return `${this.frame.component.kind} "${this.frame.component.name}"${this.frame.operation === "" ? "" : `, ${this.frame.operation}`}`;
  }
}

const boundTo = new WeakMap<object, Component>();

/** The component behind a handle, for `commitSeparately`. */
export function componentOf(handle: object): Component | undefined {
  return boundTo.get(handle);
}
