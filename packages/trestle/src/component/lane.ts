/**
 * The lane as one process sees it: what it has staged but not yet heard back about. Handlers here read the newest staged
 * value of a key, and their commit names the commit it rests on, so a hot key moves at the speed of the batch and not of
 * the flush (FINDINGS F2, chains). If the commit below falls, those above fall with it, by their expectations.
 *
 * A key that was fought over is taken in turns for a while: the next handler waits until the one before has staged (not:
 * until it is durable). Turns are only a schedule; correctness rests on the expectations alone. So a wait that would close
 * a circle, or lasts longer than `turnWaitMsMax`, is simply not made.
 */
import { Fault, type Clock } from "../kernel/index.ts";
import type { Commit, CommitId, CommitOutcome, Store, StoreKey } from "../store/index.ts";

const turnWaitMsMax = 50;
const contendedForMs = 1_000;
const foldsMax = 10_000;

/** The state of a stream at a version, as its kind folds it. */
export interface Fold {
  readonly version: number;
  readonly state: unknown;
}
export interface StagedRecord {
  readonly commit: CommitId;
  readonly value: Uint8Array | undefined;
  /** A merge's result is not known before its commit is. */
  readonly unknownUntil: Promise<unknown> | undefined;
}

/** Whoever may hold turns: an invocation. */
export interface TurnTaker {
  waitsFor: StoreKey | undefined;
}
interface Turn {
  holder: TurnTaker;
  readonly waiting: { readonly taker: TurnTaker; readonly wake: (got: boolean) => void }[];
}

export class Lane {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #records = new Map<StoreKey, StagedRecord>();
  readonly #streams = new Map<StoreKey, { readonly commit: CommitId; readonly version: number }>();
  readonly #newest = new Map<StoreKey, Fold>();
  readonly #durable = new Map<StoreKey, Fold>();
  /** Those of `#durable` that were the last of their stream. A replay folds old versions too: to chain on one of these would rest on a commit that is bound to fall. */
  readonly #tails = new WeakSet<Fold>();
  readonly #contended = new Map<StoreKey, number>();
  readonly #turns = new Map<StoreKey, Turn>();

  #sending: ((queue: string) => void) | undefined;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /**
   * Stages the commit at once and answers when it is durable. A commit that is already known to rest on a stale value is
   * refused here, without a trip to the engine. An unknown outcome is resolved by writing (FINDINGS F6). `restsOn`: the staged
   * folds it decided on.
   */
  submit(commit: Commit, folds?: ReadonlyMap<StoreKey, Fold>, restsOn?: ReadonlyMap<StoreKey, Fold>): Promise<CommitOutcome> {
    const stale = [...this.#knownStale(commit), ...this.fallen(restsOn)];
    if (stale.length > 0) {
      this.#conflicted(stale);
      return Promise.resolve({ ok: false, refused: "conflict", keys: stale });
    }
    const answer = this.#commit(commit);
    this.#stage(commit, folds, answer);
    return answer.then((outcome) => {
      this.#settle(commit, folds, outcome.ok);
      if (!outcome.ok && outcome.refused === "conflict") this.#conflicted(outcome.keys);
      return outcome;
    }, (fault: unknown) => {
      this.#settle(commit, folds, false);
      throw fault;
    });
  }

  /**
   * Told of each job that is due at once, when its commit is on the way to the store and before its outcome: a claim made in the
   * same turn is applied behind it in the same batch, and the job's handler begins without another flush in between. One listener.
   */
  onSend(listener: (queue: string) => void): void {
    this.#sending = listener;
  }

  /** The newest value of a record that this process has staged and not heard back about. */
  stagedRecord(key: StoreKey): StagedRecord | undefined {
    return this.#records.get(key);
  }

  /** The newest known fold of a stream, staged ones included: for handlers that will commit. */
  newestFold(stream: StoreKey): Fold | undefined {
    const newest = this.#newest.get(stream);
    if (newest) return newest;
    const durable = this.#durable.get(stream);
    return durable && this.#tails.has(durable) ? durable : undefined;
  }

  /** The fold of a stream that is staged and not heard back about. */
  stagedFold(stream: StoreKey): Fold | undefined {
    return this.#newest.get(stream);
  }

  /**
   * Those of these staged folds whose commit has fallen. A version is only a count: when a commit falls, another may give the
   * stream the same version with other events, and whoever decided on the first must not pass for having read the second.
   */
  fallen(folds: ReadonlyMap<StoreKey, Fold> | undefined): readonly StoreKey[] {
    const fallen: StoreKey[] = [];
    for (const [stream, fold] of folds ?? []) if (this.#newest.get(stream) !== fold && this.#durable.get(stream) !== fold) fallen.push(stream);
    return fallen;
  }

  /** A durable fold of a stream, perhaps not the last: for readers, who look at the version first. */
  durableFold(stream: StoreKey): Fold | undefined {
    return this.#durable.get(stream);
  }

  /** `isTail`: it was the state behind the last event when it was folded. Only then may a handler take it for the newest without asking the store. */
  keepFold(stream: StoreKey, fold: Fold, isTail: boolean): void {
    const known = this.#durable.get(stream);
    if (known && known.version >= fold.version) {
      if (isTail && known.version === fold.version) this.#tails.add(known);
      return;
    }
    if (isTail) this.#tails.add(fold);
    this.#durable.delete(stream); // a Map keeps the order of insertion, so the first is the one not used for longest
    this.#durable.set(stream, fold);
    if (this.#durable.size > foldsMax) this.#durable.delete(this.#durable.keys().next().value as StoreKey);
  }

  // ---- turns --------------------------------------------------------------------------------------------------------

  isContended(key: StoreKey): boolean {
    const until = this.#contended.get(key);
    if (until === undefined) return false;
    if (until > this.#clock.monotonicMs() || this.#turns.has(key)) return true;
    this.#contended.delete(key);
    return false;
  }

  /** Waits for the turn on a contended key. `false`: go on without it. */
  takeTurn(key: StoreKey, taker: TurnTaker): Promise<boolean> | boolean {
    const turn = this.#turns.get(key);
    if (!turn) {
      this.#turns.set(key, { holder: taker, waiting: [] });
      return true;
    }
    if (turn.holder === taker) return true;
    if (this.#closesACircle(turn, taker)) return false;
    taker.waitsFor = key;
    return new Promise((resolve) => {
      const entry = {
        taker,
        wake: (got: boolean) => {
          timer.cancel();
          taker.waitsFor = undefined;
          resolve(got);
        },
      };
      const timer = this.#clock.after(turnWaitMsMax, () => {
        const at = turn.waiting.indexOf(entry);
        if (at >= 0) turn.waiting.splice(at, 1);
        entry.wake(false);
      });
      turn.waiting.push(entry);
    });
  }

  endTurn(key: StoreKey, taker: TurnTaker): void {
    const turn = this.#turns.get(key);
    if (turn?.holder !== taker) return;
    const next = turn.waiting.shift();
    if (!next) return void this.#turns.delete(key);
    turn.holder = next.taker;
    next.wake(true);
  }

  #closesACircle(turn: Turn, taker: TurnTaker): boolean {
    let holder: TurnTaker | undefined = turn.holder;
    while (holder?.waitsFor !== undefined) {
      holder = this.#turns.get(holder.waitsFor)?.holder;
      if (holder === taker) return true;
    }
    return false;
  }

  // ---- staging ------------------------------------------------------------------------------------------------------

  async #commit(commit: Commit): Promise<CommitOutcome> {
    try {
      return await this.#store.commit(commit);
    } catch (fault) {
      if (Fault.is(fault, "commit.unknown")) return this.#store.resolve(commit.id);
      throw fault;
    }
  }

  #knownStale(commit: Commit): readonly StoreKey[] {
    const stale: StoreKey[] = [];
    for (const expectation of commit.expects) {
      if (expectation.kind === "record") {
        const staged = this.#records.get(expectation.key);
        if (staged && staged.commit !== expectation.version) stale.push(expectation.key);
      } else if (expectation.kind === "stream") {
        const staged = this.#streams.get(expectation.stream);
        if (staged && staged.version !== expectation.version) stale.push(expectation.stream);
      }
    }
    return stale;
  }

  #stage(commit: Commit, folds: ReadonlyMap<StoreKey, Fold> | undefined, answer: Promise<unknown>): void {
    for (const write of commit.writes) {
      if (write.kind === "put") this.#records.set(write.key, { commit: commit.id, value: write.value, unknownUntil: undefined });
      else if (write.kind === "remove") this.#records.set(write.key, { commit: commit.id, value: undefined, unknownUntil: undefined });
      else if (write.kind === "merge") this.#records.set(write.key, { commit: commit.id, value: undefined, unknownUntil: answer });
      else if (write.kind === "enqueue" && write.job.dueAtMs === undefined) this.#sending?.(write.job.queue);
    }
    for (const [stream, fold] of folds ?? []) {
      this.#streams.set(stream, { commit: commit.id, version: fold.version });
      this.#newest.set(stream, fold);
    }
  }

  #settle(commit: Commit, folds: ReadonlyMap<StoreKey, Fold> | undefined, applied: boolean): void {
    for (const write of commit.writes) {
      if ((write.kind === "put" || write.kind === "remove" || write.kind === "merge") && this.#records.get(write.key)?.commit === commit.id) this.#records.delete(write.key);
    }
    for (const [stream, fold] of folds ?? []) {
      if (applied) this.keepFold(stream, fold, true);
      else {
        this.#newest.delete(stream);
        this.#streams.delete(stream);
      }
      if (this.#streams.get(stream)?.commit === commit.id) {
        this.#streams.delete(stream);
        this.#newest.delete(stream);
      }
    }
  }

  #conflicted(keys: readonly StoreKey[]): void {
    const until = this.#clock.monotonicMs() + contendedForMs;
    for (const key of keys) {
      this.#contended.set(key, until);
      // What rests in the cache may be why: somebody else has written since.
      this.#durable.delete(key);
    }
    if (this.#contended.size > foldsMax) for (const [key, end] of this.#contended) if (end < until - contendedForMs) this.#contended.delete(key);
  }
}
