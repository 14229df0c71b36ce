/** What a run has staged since its last recovery point, and how it becomes a commit. While the handler is replayed nothing is staged, for it was committed then; what it reads of its own it sees all the same. */
import { Fault } from "../kernel/index.ts";
import type { Commit, CommitOutcome, Expectation, IndexEntry, Merge, NewEvent, StoreKey, Write } from "../store/index.ts";
import type { Fold } from "./lane.ts";
import type { Run } from "./run.ts";
import { noEntries, noMembers, withEntry, withMember } from "./scarce.ts";

/** Bytes of writes that may be left out, in one commit. */
const spareBytesMax = 262_144;

export class Draft {
  readonly #run: Run;
  #overlay: ReadonlyMap<StoreKey, Uint8Array | undefined> = noEntries;
  #records: ReadonlyMap<StoreKey, Write> = noEntries;
  #merged: ReadonlySet<StoreKey> = noMembers;
  #streams: ReadonlyMap<StoreKey, NewEvent[]> = noEntries;
  #folds: ReadonlyMap<StoreKey, Fold> = noEntries;
  #spare: ReadonlyMap<StoreKey, { readonly write: Write; readonly sizeBytes: number }> = noEntries;
  #others: Write[] | undefined;

  constructor(run: Run) {
    this.#run = run;
  }

  /** The record is put or removed here. */
  has(key: StoreKey): boolean {
    return this.#overlay.has(key);
  }
  record(key: StoreKey): Uint8Array | undefined {
    return this.#overlay.get(key);
  }
  isMerged(key: StoreKey): boolean {
    return this.#merged.has(key);
  }
  /** The fold this run has made of a stream by its own appends. */
  fold(stream: StoreKey): Fold | undefined {
    return this.#folds.get(stream);
  }

  put(key: StoreKey, value: Uint8Array, { expiresAtMs, index }: { readonly expiresAtMs?: number | undefined; readonly index?: readonly IndexEntry[] }): void {
    this.#run.assertWrites();
    this.#assertNotMerged(key, "put");
    this.#overlay = withEntry(this.#overlay, key, value);
    if (!this.#run.isReplaying)
      this.#records = withEntry(this.#records, key, {
        kind: "put",
        key,
        value,
        ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
        ...(index === undefined ? {} : { index }),
      });
  }

  remove(key: StoreKey): void {
    this.#run.assertWrites();
    this.#assertNotMerged(key, "removed");
    this.#overlay = withEntry(this.#overlay, key, undefined);
    if (!this.#run.isReplaying) this.#records = withEntry(this.#records, key, { kind: "remove", key });
  }

  #assertNotMerged(key: StoreKey, how: string): void {
    if (this.#merged.has(key))
      throw Fault.create(
        "records.put-after-merge",
        `${this.#run.name} ${how} a record it has merged into in the same commit`,
        "Put the value you mean, or merge only.",
      );
  }

  merge(key: StoreKey, merge: Merge): void {
    this.#run.assertWrites();
    if (this.#overlay.has(key))
      throw Fault.create(
        "records.merge-after-put",
        `${this.#run.name} merged into a record it has put in the same commit`,
        "Put the value you mean, or merge only.",
      );
    this.#merged = withMember(this.#merged, key);
    if (!this.#run.isReplaying) (this.#others ??= []).push({ kind: "merge", key, merge });
  }

  /** `after`: the fold behind these events, for streams whose version this run has read. */
  append(stream: StoreKey, events: readonly NewEvent[], after: Fold | undefined): void {
    if (after) this.#folds = withEntry(this.#folds, stream, after);
    if (this.#run.isReplaying) return;
    const staged = this.#streams.get(stream);
    if (staged) staged.push(...events);
    else this.#streams = withEntry(this.#streams, stream, [...events]);
  }

  /** Any other write of the port. */
  write(write: Write): void {
    this.#run.assertWrites();
    if (!this.#run.isReplaying) (this.#others ??= []).push(write);
  }

  /** A write that only saves time later: left out where there is no room for it. The last one of a key counts. */
  writeSpare(key: StoreKey, write: Write, sizeBytes: number): void {
    this.#run.assertWrites();
    if (!this.#run.isReplaying) this.#spare = withEntry(this.#spare, key, { write, sizeBytes });
  }

  /** What is staged, if it is to be kept, and in any case `writes`. */
  commit(expects: readonly Expectation[], writes: readonly Write[], keep: boolean): Commit {
    const staged: Write[] = keep ? [...this.#records.values(), ...(this.#others ?? [])] : [];
    if (keep) {
      for (const [stream, events] of this.#streams) staged.push({ kind: "append", stream, events });
      let roomBytes = spareBytesMax;
      for (const { write, sizeBytes } of this.#spare.values()) if ((roomBytes -= sizeBytes) >= 0) staged.push(write);
    }
    staged.push(...writes);
    return { id: this.#run.node.ids.next(), expects, writes: staged };
  }

  submit(expects: readonly Expectation[], writes: readonly Write[], keep: boolean): Promise<CommitOutcome> {
    const { node, turns } = this.#run;
    const commit = this.commit(expects, writes, keep);
    if (commit.writes.length === 0 && commit.expects.length === 0) return Promise.resolve({ ok: true, epoch: node.store.epoch, n: 0 });
    // Not changed any more: the next segment starts with none.
    const answer = node.lane.submit(commit, keep ? this.#folds : noEntries);
    turns.staged(answer);
    return answer;
  }

  clear(): void {
    this.#overlay = noEntries;
    this.#records = noEntries;
    this.#merged = noMembers;
    this.#streams = noEntries;
    this.#folds = noEntries;
    this.#spare = noEntries;
    this.#others = undefined;
  }
}
