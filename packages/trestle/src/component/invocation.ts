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
import { AsyncLocalStorage } from "node:async_hooks";
import { createHash } from "node:crypto";
import { Fault, seededRandom, seriesLength, uuidv7Series, type Random } from "../kernel/index.ts";
import type {
  Commit,
  CommitOutcome,
  CommitRefused,
  Expectation,
  IndexEntry,
  ListQuery,
  Merge,
  NewEvent,
  NewJob,
  RecordRow,
  Statement,
  StoreKey,
  Version,
  Write,
} from "../store/index.ts";
import type { Component, Mode } from "./component.ts";
import type { Principal } from "./context.ts";
import { definitionOf, type StagedEvent } from "./definition.ts";
import {
  copyOf,
  deliver,
  encodeJournal,
  isStorable,
  journalKey,
  newJournal,
  thrownAnswer,
  valueAnswer,
  type Answer,
  type CallIdentity,
  type Journal,
  type Segment,
} from "./journal.ts";
import type { Fold, StagedRecord, TurnTaker } from "./lane.ts";
import type { NodeServices } from "./node.ts";
import type { Refused } from "./outcome.ts";
import { Replay, type OpenCall } from "./replay.ts";
import { noEntries, noMembers, withEntry, withMember, withoutMember } from "./scarce.ts";
import { acceptedAgain, type Accepted, type Out, type Schema } from "./schema.ts";

export interface InvocationFrame {
  readonly node: NodeServices;
  readonly mode: Mode;
  /** Equal on every attempt. A UUID where a job or a key names it. */
  readonly id: string;
  /** The component whose handler this is. */
  readonly component: Component;
  readonly operation: string;
  readonly tenant: string | undefined;
  /** Of what set it off; absent: it set itself off. */
  readonly correlation?: string | undefined;
  /** The message or event it answers to; absent: what its own id names. */
  readonly cause?: string | undefined;
  readonly principal: Principal | undefined;
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  /** Of an earlier run of this invocation. */
  readonly journal?: Journal | undefined;
  /** What else a recovery point writes and expects: the claim of a job, the key of a request. Asked before each. */
  readonly guard?: ((first: boolean) => { readonly expects: readonly Expectation[]; readonly writes: readonly Write[] }) | undefined;
  /** A `read` whose answer must be of one moment: `changedMeanwhile` is asked before it is believed. */
  readonly consistent?: boolean | undefined;
  /** What the door that the handler is called through has let through. */
  readonly accepted?: Accepted | undefined;
  /** Where a resumable read left off (SSE's Last-Event-ID). */
  readonly resumeAfter?: string | undefined;
  /** Nobody has run this invocation before: what its ids name is new. */
  readonly first?: boolean;
  /** What was done once and for all by runs of this attempt in this process, by name: a run after a conflict does not do it again. */
  readonly done?: Map<string, unknown> | undefined;
}

/** A call to the outside, as the kinds `external`, `service` and `context.step` make it. */
export interface RecoveryPoint<T> extends CallIdentity {
  /** `resumed`: an earlier run may already have made this call. Throws a definite fault, or one of `isUnknown`. */
  run(resumed: boolean): Promise<T>;
  /** The call may have happened: the invocation must not go on, nor be compensated blindly (FINDINGS F16). */
  isUnknown(fault: unknown): boolean;
}

export interface CommitEnd {
  readonly keep: boolean;
  readonly judge: boolean;
  readonly writes: readonly Write[];
  readonly expects: readonly Expectation[];
  readonly journal: "drop" | "save";
}

export interface Superseded {
  readonly why: CommitRefused | { readonly ok: false; readonly refused: "overran" };
}

export interface StreamRead {
  readonly version: number;
  /** The state of exactly that version. */
  readonly fold: Fold | undefined;
}
interface ReadRecord {
  readonly value: Uint8Array | undefined;
  readonly version: Version;
  readonly precondition: boolean;
}
interface ReadVersion extends StreamRead {
  readonly precondition: boolean;
  /** The commit, on its way, whose staged state this is. */
  readonly base: string | undefined;
  /** As the store had it when it was asked; otherwise as this process remembers it. */
  readonly fresh: boolean;
}

type NewestVersion = Omit<ReadVersion, "precondition">;
/** Of a stream that is named by a new id. */
const unread: NewestVersion = { version: 0, fold: undefined, base: undefined, fresh: false };

const reactionRoundsMax = 16;
/** As many as are looked at one after the other; what was let through before them is checked again. */
const acceptedMax = 8;
/** Bytes of writes that may be left out, in one commit. */
const spareBytesMax = 262_144;
/** Inside a reaction to an event: to what it reacts, and how deep. */
const insideReaction = new AsyncLocalStorage<{ readonly invocation: Invocation; readonly round: number }>();

export class Invocation implements TurnTaker {
  readonly frame: InvocationFrame;
  readonly node: NodeServices;
  readonly mode: Mode;
  waitsFor: StoreKey | undefined;

  #state: "open" | "superseded" | "settled" = "open";
  #superseded: Superseded | undefined;
  #unknown: unknown;
  #reads: ReadonlyMap<StoreKey, ReadRecord> = noEntries;
  #versions: ReadonlyMap<StoreKey, ReadVersion> = noEntries;
  #overlay: ReadonlyMap<StoreKey, Uint8Array | undefined> = noEntries;
  #records: ReadonlyMap<StoreKey, Write> = noEntries;
  #merged: ReadonlySet<StoreKey> = noMembers;
  #streams: ReadonlyMap<StoreKey, NewEvent[]> = noEntries;
  #folds: ReadonlyMap<StoreKey, Fold> = noEntries;
  #spare: ReadonlyMap<StoreKey, { readonly write: Write; readonly sizeBytes: number }> = noEntries;
  #snapshot: number | undefined;
  #others: Write[] | undefined;
  #expects: Expectation[] | undefined;
  /** Events that somebody reacts to in-commit, and has not yet. */
  #reactions: StagedEvent[] | undefined;
  #reacting: Promise<void> | undefined;
  #running: ReadonlySet<Promise<void>> = noMembers;
  #reactionFault: { readonly fault: unknown } | undefined;
  #turns: ReadonlySet<StoreKey> = noMembers;
  /** Of those, and of those before, the keys that this process holds against others until the outcome is known. */
  #storeTurns: ReadonlySet<StoreKey> = noMembers;
  #unread: ReadonlyMap<Refused, { readonly from: string; readonly decides: boolean }> = noEntries;
  #handles: ReadonlyMap<Component, object> = noEntries;
  #accepted: Accepted[] | undefined;

  // Replay and recovery.
  readonly #replay: Replay;
  /** What has to be durable before the next commit of this run; `undefined`: nothing. */
  #gate: Promise<unknown> | undefined;
  #saving = false;
  #ending = false;
  #occurrences: ReadonlyMap<string, number> = noEntries;
  /** What `now()` says beside an open call: on the next run the segments have turned by then. */
  #besideAtMs = 0;
  #minted = 0;
  #ids: (at: number) => string = String;
  #random: Random | undefined;

  constructor(frame: InvocationFrame) {
    this.frame = frame;
    this.node = frame.node;
    this.mode = frame.mode;
    this.#replay = new Replay(frame.journal ?? newJournal(), frame.node.clock, frame.startedAtMs, () => this.#clear());
    if (this.#unsaved) this.#saveSoon(); // learned by a run of this process that a conflict ended
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
    if (this.#state === "open") return;
    if (this.#state === "superseded")
      throw Fault.create(
        "handler.superseded",
        `this run of ${this.#name()} cannot commit any more (${this.#superseded?.why.refused}); it ends here`,
        "Let the fault pass: the runtime runs the handler again where that is right.",
      );
    throw Fault.create(
      "handle.outlived-its-handler",
      `a handle of ${this.#name()} was used after its handler had ended`,
      "Await everything the handler starts; handles cannot be kept for later.",
    );
  }

  /**
   * Before everything that reads, stages or mints. While a call is open the handler does nothing but call: which of several
   * branches comes first is chance, so the next run could not tell what was committed before the call and what was not.
   */
  #assertFree(): void {
    this.assertOpen();
    if (this.#replay.open.size > 0)
      for (const call of this.#replay.open) throw this.#overlapping(`used a handle while ${call.operation} had not been answered`);
  }

  get tenant(): string | undefined {
    return this.frame.tenant;
  }

  /** True while the handler goes again through what an earlier run has committed. */
  get replaying(): boolean {
    return this.#replay.replayed !== undefined;
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
    return this.#replay.open.size > 0 ? this.#besideAtMs : this.#replay.segment.atMs;
  }

  random(): number {
    this.#assertFree();
    this.#random ??= seededRandom(this.frame.id);
    return this.#random.next();
  }

  /** A UUIDv7, the same on every attempt: from the invocation's id, its start and a count. */
  newId(): string {
    this.#assertFree();
    const at = this.#minted++ % seriesLength;
    if (at === 0) this.#ids = uuidv7Series(Math.floor(this.#replay.startedAtMs), `${this.frame.id}#${this.#minted}`);
    return this.#ids(at);
  }

  // ---- reading ------------------------------------------------------------------------------------------------------

  /** A record's bytes: staged here, else staged in this process, else durable. In `write` and `durable` a precondition. */
  async record(key: StoreKey, options: { readonly precondition?: boolean } = {}): Promise<Uint8Array | undefined> {
    this.#assertFree();
    if (this.#overlay.has(key)) return this.#overlay.get(key);
    if (this.mode === "read" && !this.frame.consistent) return (await this.node.store.read.records([key]))[0]?.value;
    if (this.#merged.has(key))
      throw Fault.create(
        "records.read-after-merge",
        `${this.#name()} read a record it has merged into in the same commit`,
        "Read before you merge, or read in a commit of its own.",
      );
    const precondition = options.precondition ?? true;
    const known = this.#knownRecord(key, precondition);
    if (known) return known.value;
    const { replayed } = this.#replay;
    if (replayed) {
      const value = replayed.reads.get(key);
      if (value === undefined) throw this.#diverged(`read ${key}`);
      this.#reads = withEntry(this.#reads, key, { value: value ?? undefined, version: 0, precondition: false });
      return value ?? undefined;
    }
    const { segment } = this.#replay;
    let staged: StagedRecord | undefined;
    if (this.mode !== "read") {
      await this.#takeTurn(key);
      staged = this.node.lane.stagedRecord(key);
      if (staged?.unknownUntil) {
        await staged.unknownUntil.catch(() => undefined);
        staged = this.node.lane.stagedRecord(key);
      }
    }
    const row = staged && !staged.unknownUntil ? { value: staged.value, version: staged.commit } : (await this.node.store.read.records([key]))[0];
    this.#assertFree();
    const again = this.#knownRecord(key, precondition);
    if (again) return again.value;
    this.#reads = withEntry(this.#reads, key, { value: row?.value, version: row?.version ?? 0, precondition });
    segment.reads = withEntry(segment.reads, key, row?.value ?? null);
    return row?.value;
  }

  /** Read before; a precondition from now on if this read wants to be one. */
  #knownRecord(key: StoreKey, precondition: boolean): ReadRecord | undefined {
    const known = this.#reads.get(key);
    if (!known || known.precondition || !precondition || this.replaying) return known;
    const strict = { ...known, precondition };
    this.#reads = withEntry(this.#reads, key, strict);
    return strict;
  }

  /** What a read of this key would answer, when that is known without asking: for folds that must not be torn by an await. */
  peek(key: StoreKey): Uint8Array | undefined {
    return this.#overlay.has(key) ? this.#overlay.get(key) : this.#reads.get(key)?.value;
  }

  /** A snapshot, not a precondition. Sees only what is durable. */
  async list(query: ListQuery): Promise<readonly RecordRow[]> {
    this.#assertFree();
    if (this.mode !== "read" && !this.replaying) {
      // The head before the first list: what `expectUnchanged` counts from.
      const { n } = await this.node.store.read.head();
      this.#snapshot = Math.min(this.#snapshot ?? n, n);
    }
    return this.#recalled(this.#named(`list ${JSON.stringify(query)}`), () => this.node.store.read.list(query), false);
  }

  /**
   * The version of a stream this invocation decides on, with the state of that version when this process has it folded
   * (perhaps staged). The first answer holds until the next recovery point, and is a precondition in `write` and `durable`.
   * `of`: the user's key of the stream. Of one that `newId` has just made nothing is read: the stream is new, and the precondition says so.
   */
  stream(stream: StoreKey, options?: { readonly precondition?: boolean; readonly of?: string | number }): StreamRead | Promise<StreamRead> {
    this.#assertFree();
    const precondition = options?.precondition ?? true;
    const known = this.#knownVersion(stream, precondition);
    if (known) return known;
    const { replayed, segment } = this.#replay;
    if (replayed) {
      const version = replayed.streams.get(stream);
      if (version === undefined) throw this.#diverged(`read stream ${stream}`);
      const read: ReadVersion = { version, fold: undefined, precondition: false, base: undefined, fresh: true };
      this.#versions = withEntry(this.#versions, stream, read);
      return read;
    }
    if (this.mode === "read") return this.#versionForReading(stream, precondition);
    if (options?.of !== undefined && this.#isNew(options.of)) return this.#decideOn(stream, segment, unread, precondition);
    const newest = this.node.lane.isContended(stream) ? undefined : this.#newestKnown(stream);
    return newest ? this.#decideOn(stream, segment, newest, precondition) : this.#askVersion(stream, segment, precondition);
  }

  /** Was this id minted here, in the first run that this invocation ever had? Then nobody else can have used it, as its commit will find out. */
  #isNew(id: string | number): boolean {
    if (this.frame.first !== true || this.#minted === 0 || typeof id !== "string" || id.length !== 36) return false;
    const at = Number.parseInt(id.slice(15, 18), 16);
    return at < this.#minted && this.#ids(at) === id;
  }

  async #versionForReading(stream: StoreKey, precondition: boolean): Promise<StreamRead> {
    const version = await this.node.store.read.streamVersion(stream);
    const first = this.#knownVersion(stream, precondition);
    if (first) return first;
    const fold = this.node.lane.durableFold(stream);
    const read: ReadVersion = { version, fold: fold?.version === version ? fold : undefined, precondition, base: undefined, fresh: true };
    if (this.frame.consistent) this.#versions = withEntry(this.#versions, stream, read);
    return read;
  }

  async #askVersion(stream: StoreKey, segment: Segment, precondition: boolean): Promise<StreamRead> {
    await this.#takeTurn(stream);
    const newest = await this.#newestVersion(stream);
    this.#assertFree();
    return this.#knownVersion(stream, precondition) ?? this.#decideOn(stream, segment, newest, precondition);
  }

  #decideOn(stream: StoreKey, segment: Segment, { version, fold, base, fresh }: NewestVersion, precondition: boolean): ReadVersion {
    const read: ReadVersion = { version, fold, base, fresh, precondition };
    this.#versions = withEntry(this.#versions, stream, read);
    segment.streams = withEntry(segment.streams, stream, version);
    return read;
  }

  #knownVersion(stream: StoreKey, precondition: boolean): ReadVersion | undefined {
    const known = this.#versions.get(stream);
    if (!known || known.precondition || !precondition || this.replaying) return known;
    const strict = { ...known, precondition };
    this.#versions = withEntry(this.#versions, stream, strict);
    return strict;
  }

  /** What this process knows without asking. */
  #newestKnown(stream: StoreKey): NewestVersion | undefined {
    const { lane } = this.node;
    const staged = lane.stagedStream(stream);
    if (staged) return { version: staged.fold.version, fold: staged.fold, base: staged.commit, fresh: false };
    const kept = lane.tailFold(stream);
    return kept && { version: kept.version, fold: kept, base: undefined, fresh: false };
  }

  async #newestVersion(stream: StoreKey): Promise<NewestVersion> {
    const { lane, store } = this.node;
    for (;;) {
      const known = this.#newestKnown(stream);
      if (known) return known;
      const version = await store.read.streamVersion(stream);
      if (lane.stagedStream(stream)) continue;
      const since = lane.tailFold(stream);
      if (since && since.version > version) return { version: since.version, fold: since, base: undefined, fresh: false };
      const fold = lane.durableFold(stream);
      if (fold?.version !== version) return { version, fold: undefined, base: undefined, fresh: true };
      lane.keepFold(stream, fold, true);
      return { version, fold, base: undefined, fresh: true };
    }
  }

  /** The fold this invocation has made of a stream by its own appends. */
  ownFold(stream: StoreKey): Fold | undefined {
    return this.#folds.get(stream);
  }

  /**
   * Something learned from elsewhere (a list, rows, a query to the outside): asked once, the same when the handler is run
   * again. `identity` names question and parameters; the n-th time a question is asked is the n-th answer.
   */
  recall<T>(identity: string, ask: () => Promise<T>): Promise<T> {
    return this.#recalled(this.#named(identity), ask, true);
  }

  /** Something done once for this attempt of the invocation, however often a conflict runs its handler. */
  once<T>(identity: string, act: () => Promise<T>): Promise<T> {
    const name = this.#named(identity);
    const { done } = this.frame;
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
    const occurrence = this.#occurrences.get(identity) ?? 0;
    this.#occurrences = withEntry(this.#occurrences, identity, occurrence + 1);
    return `${identity} #${occurrence}`;
  }

  async #recalled<T>(name: string, ask: () => Promise<T>, shared: boolean): Promise<T> {
    this.#assertFree();
    if (this.mode !== "durable") return ask();
    const { replayed, segment } = this.#replay;
    if (replayed) {
      const answer = replayed.recalls.get(name);
      if (!answer) throw this.#diverged(name);
      return this.#delivered(answer) as T;
    }
    let value: T;
    try {
      value = await ask();
    } catch (fault) {
      // What the handler does about it may be committed, and is then the same on every run.
      if (this.#state === "open" && !this.frame.signal.aborted) segment.recalls = withEntry(segment.recalls, name, thrownAnswer(fault));
      throw fault;
    }
    this.#assertFree();
    segment.recalls = withEntry(segment.recalls, name, { kind: "value", value: shared && isStorable(value) ? copyOf(value) : value });
    return value;
  }

  /** Opts a snapshot read in as a precondition. */
  expect(expectation: Expectation): void {
    this.#assertFree();
    if (!this.replaying) (this.#expects ??= []).push(expectation);
  }

  /** No record under `prefix` may have changed between the start of this segment's reading and the commit. */
  async expectUnchanged(prefix: string): Promise<void> {
    this.#assertFree();
    if (this.replaying) return;
    this.expect({ kind: "unchanged", prefix, since: this.#snapshot ?? (await this.node.store.read.head()).n });
  }

  // ---- staging ------------------------------------------------------------------------------------------------------

  put(key: StoreKey, value: Uint8Array, options: { readonly expiresAtMs?: number | undefined; readonly index?: readonly IndexEntry[] } = {}): void {
    this.#assertWrites();
    this.#assertNotMerged(key, "put");
    this.#overlay = withEntry(this.#overlay, key, value);
    const { expiresAtMs, index } = options;
    if (!this.replaying)
      this.#records = withEntry(this.#records, key, {
        kind: "put",
        key,
        value,
        ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
        ...(index === undefined ? {} : { index }),
      });
  }

  remove(key: StoreKey): void {
    this.#assertWrites();
    this.#assertNotMerged(key, "removed");
    this.#overlay = withEntry(this.#overlay, key, undefined);
    if (!this.replaying) this.#records = withEntry(this.#records, key, { kind: "remove", key });
  }

  #assertNotMerged(key: StoreKey, how: string): void {
    if (this.#merged.has(key))
      throw Fault.create(
        "records.put-after-merge",
        `${this.#name()} ${how} a record it has merged into in the same commit`,
        "Put the value you mean, or merge only.",
      );
  }

  merge(key: StoreKey, merge: Merge): void {
    this.#assertWrites();
    if (this.#overlay.has(key))
      throw Fault.create(
        "records.merge-after-put",
        `${this.#name()} merged into a record it has put in the same commit`,
        "Put the value you mean, or merge only.",
      );
    this.#merged = withMember(this.#merged, key);
    if (!this.replaying) (this.#others ??= []).push({ kind: "merge", key, merge });
  }

  /** `after`: the fold behind these events, for streams whose version this invocation has read. */
  append(events: readonly StagedEvent[], encoded: readonly NewEvent[], after?: Fold): void {
    this.#assertWrites();
    const stream = events[0]?.stream;
    if (stream === undefined) return;
    if (after) this.#folds = withEntry(this.#folds, stream, after);
    for (const event of events) if (this.node.inCommit(event.source).length > 0) (this.#reactions ??= []).push(event);
    if (this.replaying) return;
    const staged = this.#streams.get(stream);
    if (staged) staged.push(...encoded);
    else this.#streams = withEntry(this.#streams, stream, [...encoded]);
  }

  enqueue(job: NewJob): void {
    this.#assertWrites();
    if (!this.replaying) (this.#others ??= []).push({ kind: "enqueue", job });
  }

  /** Any other write of the port. */
  write(write: Write): void {
    this.#assertWrites();
    if (!this.replaying) (this.#others ??= []).push(write);
  }

  /** A write that only saves time later: left out where there is no room for it. The last one of a key counts. */
  writeSpare(key: StoreKey, write: Write, sizeBytes: number): void {
    this.#assertWrites();
    if (!this.replaying) this.#spare = withEntry(this.#spare, key, { write, sizeBytes });
  }

  sql(statement: Statement): void {
    this.write({ kind: "sql", statement });
  }

  /**
   * Runs what reacts in-commit to events staged so far. Kinds await it where their caller may read the result. One reaction
   * after the other; what a reaction itself records is reacted to before it goes on. `undefined`: there is nothing to wait for.
   */
  react(): Promise<void> | undefined {
    if (!this.#reactions && !this.#reacting) return undefined;
    const inside = insideReaction.getStore();
    if (inside?.invocation === this) return this.#track(this.#reactFrom(inside.round + 1));
    if (!this.#reactions) return this.#reacting;
    this.#reacting = this.#track((this.#reacting ?? Promise.resolve()).then(() => this.#reactFrom(0)));
    return this.#reacting;
  }

  #track(running: Promise<void>): Promise<void> {
    this.#running = withMember(this.#running, running);
    const ended = () => withoutMember(this.#running, running);
    running.then(ended, ended);
    return running;
  }

  async #reactFrom(first: number): Promise<void> {
    try {
      for (let round = first; this.#reactions; round++) {
        if (round >= reactionRoundsMax)
          throw Fault.create(
            "subscription.endless",
            `in-commit subscriptions of ${this.#name()} keep causing events, ${reactionRoundsMax} rounds deep`,
            "Make one of them `following`.",
          );
        const events = this.#reactions;
        this.#reactions = undefined;
        for (const event of events)
          for (const follower of this.node.inCommit(event.source))
            await insideReaction.run({ invocation: this, round }, async () => follower.react(event, this));
      }
    } catch (fault) {
      // An event without its reaction must not be committed, whoever catches this.
      this.#reactionFault ??= { fault };
      throw fault;
    }
  }

  /** Resolves when everything staged so far has been reacted to; `undefined` when it has. */
  reacted(): Promise<void> | undefined {
    return this.#reactions || this.#running.size > 0 || this.#reactionFault ? this.#reactAll() : undefined;
  }

  async #reactAll(): Promise<void> {
    while (!this.#reactionFault && (this.#reactions || this.#running.size > 0)) {
      if (this.#running.size === 0) void this.react();
      await Promise.allSettled(this.#running);
    }
    if (this.#reactionFault) throw this.#reactionFault.fault as Error;
  }

  /**
   * Wraps a refusal so that the runtime knows whether the handler looked at it: at its end, and with `decides` (what is refused
   * would have been part of the commit) before it calls anybody.
   */
  watchRefusal<R extends Refused>(refusal: R, from: string, decides = false): R {
    const looked = () => void (this.#unread as Map<Refused, unknown>).delete(watched);
    const watched: R = Object.defineProperties(
      { ...refusal },
      {
        ok: { enumerable: true, get: () => (looked(), false) },
        refused: { enumerable: true, get: () => (looked(), refusal.refused) },
      },
    );
    this.#unread = withEntry(this.#unread, watched, { from: `${from} refused with "${refusal.refused}"`, decides });
    return watched;
  }

  /**
   * The key of a call that names none: of this invocation, of what is called and with what. Branches that run at once may come to
   * their calls in another order on the next run, and each finds its own; of calls that are alike, either is as good as the other.
   */
  callKey(operation: string, input: unknown): string {
    const text = JSON.stringify(input, (_name, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)) ?? "";
    const digest = createHash("sha256").update(text).digest("base64url").slice(0, 16);
    const named = `${operation}:${digest}`;
    const occurrence = this.#occurrences.get(named) ?? 0;
    this.#occurrences = withEntry(this.#occurrences, named, occurrence + 1);
    return `${this.frame.id}:${named}${occurrence === 0 ? "" : `:${occurrence}`}`;
  }

  // ---- recovery points ----------------------------------------------------------------------------------------------

  /**
   * Commits what is staged together with the intent to call, calls, and remembers the answer. On a later run the answer
   * is given without calling; a call whose answer was lost is made again under the same key.
   */
  async recoveryPoint<T>(point: RecoveryPoint<T>): Promise<T> {
    this.assertOpen();
    if (this.mode !== "durable")
      throw Fault.create(
        "handler.not-durable",
        `${this.#name()} called ${point.operation} from a handler that will not be finished if this process dies`,
        "Make the route `idempotent`, or call from a queue, a subscription or a schedule.",
      );
    if (insideReaction.getStore()?.invocation === this)
      throw Fault.create(
        "handler.not-durable",
        `an in-commit reaction in ${this.#name()} called ${point.operation}, in the middle of the commit it belongs to`,
        "Make the subscription `following`.",
      );
    for (let reacting = this.reacted(); reacting; reacting = this.reacted()) await reacting;
    for (const { from, decides } of this.#unread.values()) {
      if (decides)
        throw Fault.create(
          "outcome.refusal-unread",
          `${this.#name()} was about to call ${point.operation} without having looked at a refusal: ${from}`,
          "Look at `.ok` of what the command answered, and say what then.",
        );
    }
    const { operation, key } = point;
    const call: OpenCall = { operation, key, segment: undefined };
    const replay = this.#replay;
    const diverged = () => this.#diverged(`call ${operation} with key ${key}`);
    this.#besideAtMs = this.now();
    replay.begin(call);
    try {
      const known = await replay.pass(call, this.#goesOn, diverged);
      const segment = known ?? (await this.#passLive(call));
      const thrown = segment.answer ? undefined : await this.#ask(point, segment, known !== undefined);
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
    this.assertOpen();
    if (this.#ending) throw this.#overlapping("called after it had ended");
    this.frame.signal.throwIfAborted();
  };

  #passLive(call: OpenCall): Promise<Segment> {
    const passing = (this.#gate ?? Promise.resolve()).then(() => this.#commitPoint(call));
    this.#gate = passing.catch(() => undefined);
    return passing;
  }

  async #commitPoint(call: OpenCall): Promise<Segment> {
    this.#goesOn();
    const { journal, segment } = this.#replay;
    segment.call = { operation: call.operation, key: call.key };
    segment.open = this.#replay.openNumbers();
    const segments = [...journal.segments, segment];
    const guard = this.frame.guard?.(journal.segments.length === 0);
    const { learned } = journal;
    const outcome = await this.#submit([...(guard?.expects ?? []), this.#journalExpectation()], [...(guard?.writes ?? []), this.#journalWrite(segments)], true);
    if (!outcome.ok) throw this.supersede(outcome);
    journal.saved = learned;
    call.segment = segment;
    this.#replay.append(segment, outcome.n);
    return segment;
  }

  /** Makes the call, or joins the one that an earlier run in this process has under way. What it threw, unless it is remembered. */
  async #ask<T>(point: RecoveryPoint<T>, segment: Segment, resumed: boolean): Promise<{ readonly fault: unknown } | undefined> {
    this.#goesOn();
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
      this.#remember(segment, valueAnswer(end.value, point.operation, this.#name()));
      return undefined;
    }
    if (point.isUnknown(end.fault)) this.#unknown = end.fault;
    // When the run was cut short, so was the call: nothing was learned.
    else if (!this.frame.signal.aborted) {
      this.#replay.threw(end.fault, segment);
      this.#remember(segment, thrownAnswer(end.fault));
    }
    return { fault: end.fault };
  }

  #delivered(answer: Answer, segment?: Segment): unknown {
    const delivered = deliver(answer);
    if ("value" in delivered) return delivered.value;
    if (segment) this.#replay.threw(delivered.thrown, segment);
    throw delivered.thrown;
  }

  get #unsaved(): boolean {
    const { learned, saved } = this.#replay.journal;
    return learned > saved;
  }

  // The answer goes with the next commit; when none comes in this turn of the loop, it gets one of its own, so that a long
  // handler does not ask twice after a crash. The shop's jobs finish in the same turn and pay nothing for it.
  #remember(segment: Segment, answer: Answer): void {
    this.#replay.learn(segment, answer);
    this.#saveSoon();
  }

  #saveSoon(): void {
    if (this.#saving) return;
    this.#saving = true;
    this.node.clock.soon(() => {
      this.#saving = false;
      if (!this.#unsaved || this.#ending || this.#state !== "open") return;
      this.#gate = (this.#gate ?? Promise.resolve())
        .then(() => this.#saveAnswers())
        .catch((fault: unknown) =>
          this.node
            .log(this.frame.component.name, { traceparent: undefined, tenant: this.tenant, invocation: this.frame.id })
            .warn("an answer could not be journalled", { fault: String(fault) }),
        );
    });
  }

  async #saveAnswers(): Promise<void> {
    if (!this.#unsaved || this.#ending || this.#state !== "open") return;
    const { journal } = this.#replay;
    const { learned } = journal;
    const outcome = await this.node.lane.submit({
      id: this.node.ids.next(),
      expects: [this.#journalExpectation()],
      writes: [this.#journalWrite(journal.segments)],
    });
    if (outcome.ok) {
      journal.version = outcome.n;
      journal.saved = learned;
    } else this.supersede(outcome);
  }

  #journalExpectation(): Expectation {
    return { kind: "record", key: journalKey(this.frame.id), version: this.#replay.journal.version };
  }

  #journalWrite(segments: readonly Segment[]): Write {
    return { kind: "put", key: journalKey(this.frame.id), value: encodeJournal(segments, this.#name()) };
  }

  #diverged(what: string): Fault {
    const expected = this.#replay.replayed?.call;
    return Fault.create(
      "handler.diverged",
      `${this.#name()} took another way when it was run again: it tried to ${what}, which its earlier run had not done before ${expected ? `calling ${expected.operation} with key ${expected.key}` : "its recovery point"}`,
      "Make the code before a recovery point depend only on its message, its handles and its context.",
    );
  }

  #overlapping(what: string): Fault {
    return Fault.create(
      "handler.overlapping-call",
      `${this.#name()} ${what}`,
      "Await every call that was begun (`await Promise.all([...])`), and read and write before or after them, not in between.",
    );
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** From here on this run cannot commit. Answers the fault to throw out of the handler. */
  supersede(why: Superseded["why"]): Fault {
    if (this.#state === "open") {
      this.#state = "superseded";
      this.#superseded = { why };
      this.#endTurns();
      this.#replay.end();
    }
    return Fault.create(
      "handler.superseded",
      `this run of ${this.#name()} cannot commit any more (${why.refused})`,
      "Let the fault pass: the runtime runs the handler again where that is right.",
    );
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
    return this.#replay.journal.segments.find((segment) => segment.answer === undefined)?.call;
  }

  /** The next run makes these steps again, under their keys. Fault: `job.step-kept` where something rests on an answer. */
  askAgain(steps: readonly string[]): void {
    for (const { segment, kept } of this.#replay.answeredCalls()) {
      const step = steps.find((name) => segment.call?.operation === `step ${name}`);
      if (step === undefined) continue;
      if (kept)
        throw Fault.create(
          "job.step-kept",
          `${this.#name()} asked for step ${JSON.stringify(step)} to be made again, and has called others since it had its answer`,
          "Ask last: what was called in between rests on what the step answered.",
        );
      this.#replay.learn(segment, undefined);
    }
  }

  /** The run ends with this fault, and will be run again. See `Replay.forget`. */
  forgetFault(fault: unknown): void {
    this.#replay.forget(fault);
  }

  /** The journal as it stands, for another run in this process. */
  get journal(): Journal | undefined {
    return this.#replay.journal.segments.length > 0 ? this.#replay.journal : undefined;
  }

  /** Refusals that the handler got and never looked at. */
  unreadRefusal(): string | undefined {
    return this.#unread.size === 0 ? undefined : this.#unread.values().next().value?.from;
  }

  /**
   * Is what this run has read reason enough to check it before its refusal or fault is believed (FINDINGS F9)? Two keys may never
   * have stood together; one that is staged may fall; one that this process remembers may have been passed by.
   */
  get restsOnReads(): boolean {
    if (this.#reads.size + this.#versions.size >= 2) return true;
    return [...this.#reads.values()].some(({ version }) => typeof version === "string") || [...this.#versions.values()].some(({ fresh }) => !fresh);
  }

  /**
   * Which of the keys and streams that this run has read are otherwise by now. None: all of it stood together when the records were
   * looked at again, in one snapshot; for a stream whose version is the same before and after has had no other in between.
   */
  async changedMeanwhile(): Promise<readonly StoreKey[]> {
    const { read } = this.node.store;
    const records = [...this.#reads].filter(([, { precondition }]) => precondition);
    const streams = [...this.#versions].filter(([, { precondition }]) => precondition);
    if (records.length + streams.length < 2) return [];
    const rows = await read.records(records.map(([key]) => key));
    const changed = records.filter(([, { version }], at) => (rows[at]?.version ?? 0) !== version).map(([key]) => key);
    for (const [stream, { version }] of streams) if ((await read.streamVersion(stream)) !== version) changed.push(stream);
    return changed;
  }

  /**
   * Commits: with `keep` what the handler staged, and in any case `writes`. `judge` says whether its reads are judged.
   * Afterwards the invocation is settled, unless the commit was refused: then it is superseded.
   */
  async commit(end: CommitEnd): Promise<CommitOutcome> {
    this.#ending = true; // answers go with this commit
    const reacting = end.keep ? this.reacted() : undefined;
    if (reacting) await reacting;
    for (let gate: unknown; gate !== this.#gate;) await (gate = this.#gate);
    if (end.keep || end.journal === "drop") {
      if (this.#replay.open.size > 0) for (const call of this.#replay.open) throw this.#overlapping(`ended while ${call.operation} had not been answered`);
      if (this.replaying) throw this.#diverged("end");
    }
    const { journal } = this.#replay;
    const { learned } = journal;
    const writes = [...end.writes];
    const expects = [...end.expects];
    if (journal.segments.length > 0) {
      if (end.journal === "drop") writes.push({ kind: "remove", key: journalKey(this.frame.id) });
      else if (this.#unsaved) writes.push(this.#journalWrite(journal.segments));
      expects.push(this.#journalExpectation());
    }
    const outcome = await this.#submit(expects, writes, end.keep, end.judge);
    if (outcome.ok) {
      journal.saved = learned;
      this.settle();
    } else this.supersede(outcome);
    return outcome;
  }

  /** Ends without a commit. */
  settle(): void {
    if (this.#state === "open") this.#state = "settled";
    this.#endTurns();
    this.#replay.end();
  }

  /** What is staged and expected, as a value: for a transaction, whose end applies it. */
  async staged(): Promise<Commit> {
    await this.reacted();
    return this.#build([], [], true, true);
  }

  #build(expects: readonly Expectation[], writes: readonly Write[], keep: boolean, judge: boolean): Commit {
    const all: Expectation[] = [...expects];
    if (judge && !this.replaying) {
      for (const [key, { version, precondition }] of this.#reads) if (precondition) all.push({ kind: "record", key, version });
      for (const [stream, { version, precondition, base }] of this.#versions) {
        if (precondition) all.push(base === undefined ? { kind: "stream", stream, version } : { kind: "stream", stream, version, after: base });
      }
      if (this.#expects) all.push(...this.#expects);
    }
    const staged: Write[] = keep ? [...this.#records.values(), ...(this.#others ?? [])] : [];
    if (keep) {
      for (const [stream, events] of this.#streams) staged.push({ kind: "append", stream, events });
      let roomBytes = spareBytesMax;
      for (const { write, sizeBytes } of this.#spare.values()) if ((roomBytes -= sizeBytes) >= 0) staged.push(write);
    }
    staged.push(...writes);
    return { id: this.node.ids.next(), expects: all, writes: staged };
  }

  #submit(expects: readonly Expectation[], writes: readonly Write[], keep: boolean, judge = keep): Promise<CommitOutcome> {
    const commit = this.#build(expects, writes, keep, judge);
    if (commit.writes.length === 0 && commit.expects.length === 0) return Promise.resolve({ ok: true, epoch: this.node.store.epoch, n: 0 });
    // Not changed any more: the next segment starts with none.
    const answer = this.node.lane.submit(commit, keep ? this.#folds : noEntries);
    const entered = this.#storeTurns;
    if (entered !== noMembers) {
      this.#storeTurns = noMembers;
      const leave = () => this.#leave(entered);
      answer.then(leave, leave);
    }
    this.#endTurns(); // staged: the next one may decide on it
    return answer;
  }

  async #takeTurn(key: StoreKey): Promise<void> {
    const { lane } = this.node;
    if (!lane.isContended(key) || !(await lane.takeTurn(key, this))) return;
    if (this.#state !== "open") return lane.endTurn(key, this); // it ended while it waited: nobody would give the turn on
    this.#turns = withMember(this.#turns, key);
    const { between } = lane;
    if (!between?.isFoughtOver(key) || this.#storeTurns.has(key) || !(await between.enter(key, this.#storeTurns, this.frame.deadlineMs))) return;
    if (this.#state === "open") this.#storeTurns = withMember(this.#storeTurns, key);
    else between.leave(key);
  }

  #leave(entered: ReadonlySet<StoreKey>): void {
    for (const key of entered) this.node.lane.between?.leave(key);
  }

  #endTurns(): void {
    if (this.#storeTurns !== noMembers) {
      this.#leave(this.#storeTurns);
      this.#storeTurns = noMembers;
    }
    if (this.#turns === noMembers) return;
    for (const key of this.#turns) this.node.lane.endTurn(key, this);
    this.#turns = noMembers;
  }

  #clear(): void {
    this.#reads = noEntries;
    this.#versions = noEntries;
    this.#overlay = noEntries;
    this.#records = noEntries;
    this.#merged = noMembers;
    this.#streams = noEntries;
    this.#folds = noEntries;
    this.#spare = noEntries;
    this.#others = undefined;
    this.#expects = undefined;
    this.#snapshot = undefined;
  }

  #assertWrites(): void {
    this.#assertFree();
    if (this.mode === "read")
      throw Fault.create("handler.read-only", `${this.#name()} only looks; it cannot write`, "Write in a POST, a queue, a subscription or a schedule.");
  }

  #name(): string {
    return `${this.frame.component.kind} "${this.frame.component.name}"${this.frame.operation === "" ? "" : `, ${this.frame.operation}`}`;
  }
}

/** Calls under way, by the segment that ended with them: a run after a conflict waits for the call instead of repeating it. */
const asking = new WeakMap<Segment, Promise<{ readonly value: unknown } | { readonly fault: unknown }>>();
