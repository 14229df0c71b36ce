/**
 * What a run has read by key since its last recovery point: records and versions of streams, each once. The first answer holds, and is a
 * precondition of its commit unless the reader wants none.
 */
import { Fault } from "../kernel/index.ts";
import type { Expectation, StoreKey, Version } from "../store/index.ts";
import type { Draft } from "./draft.ts";
import type { Segment } from "./journal.ts";
import type { Fold, StagedRecord } from "./lane.ts";
import type { Run } from "./run.ts";
import { noEntries, withEntry } from "./scarce.ts";

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

export class Reading {
  readonly #run: Run;
  readonly #draft: Draft;
  #records: ReadonlyMap<StoreKey, ReadRecord> = noEntries;
  #versions: ReadonlyMap<StoreKey, ReadVersion> = noEntries;
  #snapshot: number | undefined;
  #expects: Expectation[] | undefined;

  constructor(run: Run, draft: Draft) {
    this.#run = run;
    this.#draft = draft;
  }

  // ---- records --------------------------------------------------------------------------------------------------------

  /** A record's bytes: staged here, else staged in this process, else durable. */
  async record(key: StoreKey, precondition: boolean): Promise<Uint8Array | undefined> {
    const { node, mode, replay } = this.#run;
    this.#run.assertFree();
    if (this.#draft.has(key)) return this.#draft.record(key);
    if (mode === "read" && !this.#run.frame.consistent) return (await node.store.read.records([key]))[0]?.value;
    if (this.#draft.isMerged(key))
      throw Fault.create(
        "records.read-after-merge",
        `${this.#run.name} read a record it has merged into in the same commit`,
        "Read before you merge, or read in a commit of its own.",
      );
    const known = this.#knownRecord(key, precondition);
    if (known) return known.value;
    const { replayed, segment } = replay;
    if (replayed) {
      const value = replayed.reads.get(key);
      if (value === undefined) throw this.#run.diverged(`read ${key}`);
      this.#records = withEntry(this.#records, key, { value: value ?? undefined, version: 0, precondition: false });
      return value ?? undefined;
    }
    let staged: StagedRecord | undefined;
    if (mode !== "read") {
      await this.#run.turns.take(key);
      staged = node.lane.stagedRecord(key);
      if (staged?.unknownUntil) {
        await staged.unknownUntil.catch(() => undefined);
        staged = node.lane.stagedRecord(key);
      }
    }
    const row = staged && !staged.unknownUntil ? { value: staged.value, version: staged.commit } : (await node.store.read.records([key]))[0];
    this.#run.assertFree();
    const again = this.#knownRecord(key, precondition);
    if (again) return again.value;
    this.#records = withEntry(this.#records, key, { value: row?.value, version: row?.version ?? 0, precondition });
    segment.reads = withEntry(segment.reads, key, row?.value ?? null);
    return row?.value;
  }

  /** Read before; a precondition from now on if this read wants to be one. */
  #knownRecord(key: StoreKey, precondition: boolean): ReadRecord | undefined {
    const known = this.#records.get(key);
    if (!known || known.precondition || !precondition || this.#run.isReplaying) return known;
    const strict = { ...known, precondition };
    this.#records = withEntry(this.#records, key, strict);
    return strict;
  }

  /** What `record` would answer, when that is known without asking. */
  peek(key: StoreKey): Uint8Array | undefined {
    return this.#draft.has(key) ? this.#draft.record(key) : this.#records.get(key)?.value;
  }

  // ---- streams --------------------------------------------------------------------------------------------------------

  /**
   * The version of a stream this run decides on, with the state of that version when this process has it folded (perhaps staged). `isNew`: the
   * stream is named by an id that nobody else can have used; nothing is read.
   */
  stream(stream: StoreKey, precondition: boolean, isNew: boolean): StreamRead | Promise<StreamRead> {
    const { node, mode, replay } = this.#run;
    this.#run.assertFree();
    const known = this.#knownVersion(stream, precondition);
    if (known) return known;
    const { replayed, segment } = replay;
    if (replayed) {
      const version = replayed.streams.get(stream);
      if (version === undefined) throw this.#run.diverged(`read stream ${stream}`);
      const read: ReadVersion = { version, fold: undefined, precondition: false, base: undefined, fresh: true };
      this.#versions = withEntry(this.#versions, stream, read);
      return read;
    }
    if (mode === "read") return this.#versionForReading(stream, precondition);
    if (isNew) return this.#decideOn(stream, segment, unread, precondition);
    const newest = node.lane.isContended(stream) ? undefined : this.#newestKnown(stream);
    return newest ? this.#decideOn(stream, segment, newest, precondition) : this.#askVersion(stream, segment, precondition);
  }

  async #versionForReading(stream: StoreKey, precondition: boolean): Promise<StreamRead> {
    const { node, frame } = this.#run;
    const version = await node.store.read.streamVersion(stream);
    const first = this.#knownVersion(stream, precondition);
    if (first) return first;
    const fold = node.lane.durableFold(stream);
    const read: ReadVersion = { version, fold: fold?.version === version ? fold : undefined, precondition, base: undefined, fresh: true };
    if (frame.consistent) this.#versions = withEntry(this.#versions, stream, read);
    return read;
  }

  async #askVersion(stream: StoreKey, segment: Segment, precondition: boolean): Promise<StreamRead> {
    await this.#run.turns.take(stream);
    const newest = await this.#newestVersion(stream);
    this.#run.assertFree();
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
    if (!known || known.precondition || !precondition || this.#run.isReplaying) return known;
    const strict = { ...known, precondition };
    this.#versions = withEntry(this.#versions, stream, strict);
    return strict;
  }

  /** What this process knows without asking. */
  #newestKnown(stream: StoreKey): NewestVersion | undefined {
    const { lane } = this.#run.node;
    const staged = lane.stagedStream(stream);
    if (staged) return { version: staged.fold.version, fold: staged.fold, base: staged.commit, fresh: false };
    const kept = lane.tailFold(stream);
    return kept && { version: kept.version, fold: kept, base: undefined, fresh: false };
  }

  async #newestVersion(stream: StoreKey): Promise<NewestVersion> {
    const { lane, store } = this.#run.node;
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

  // ---- expectations ---------------------------------------------------------------------------------------------------

  /** Before a list, or whatever else shows a moment: `expectUnchanged` counts from the first of them in a segment. */
  async snapshot(): Promise<void> {
    const { n } = await this.#run.node.store.read.head();
    this.#snapshot = Math.min(this.#snapshot ?? n, n);
  }

  expect(expectation: Expectation): void {
    this.#run.assertFree();
    if (!this.#run.isReplaying) (this.#expects ??= []).push(expectation);
  }

  async expectUnchanged(prefix: string): Promise<void> {
    this.#run.assertFree();
    if (this.#run.isReplaying) return;
    this.expect({ kind: "unchanged", prefix, since: this.#snapshot ?? (await this.#run.node.store.read.head()).n });
  }

  /** What a commit that judges all of this expects, behind `others`. */
  expectations(others: readonly Expectation[]): readonly Expectation[] {
    if (this.#run.isReplaying) return others;
    const all = [...others];
    for (const [key, { version, precondition }] of this.#records) if (precondition) all.push({ kind: "record", key, version });
    for (const [stream, { version, precondition, base }] of this.#versions) {
      if (precondition) all.push(base === undefined ? { kind: "stream", stream, version } : { kind: "stream", stream, version, after: base });
    }
    if (this.#expects) all.push(...this.#expects);
    return all;
  }

  /** See `Invocation.restsOnReads`. */
  get mayBeStale(): boolean {
    if (this.#records.size + this.#versions.size >= 2) return true;
    return [...this.#records.values()].some(({ version }) => typeof version === "string") || [...this.#versions.values()].some(({ fresh }) => !fresh);
  }

  /** See `Invocation.changedMeanwhile`. */
  async changed(): Promise<readonly StoreKey[]> {
    const { read } = this.#run.node.store;
    const records = [...this.#records].filter(([, { precondition }]) => precondition);
    const streams = [...this.#versions].filter(([, { precondition }]) => precondition);
    if (records.length + streams.length < 2) return [];
    const rows = await read.records(records.map(([key]) => key));
    const changed = records.filter(([, { version }], at) => (rows[at]?.version ?? 0) !== version).map(([key]) => key);
    for (const [stream, { version }] of streams) if ((await read.streamVersion(stream)) !== version) changed.push(stream);
    return changed;
  }

  clear(): void {
    this.#records = noEntries;
    this.#versions = noEntries;
    this.#expects = undefined;
    this.#snapshot = undefined;
  }
}
