/**
 * The lane as one process sees it: what it has staged but not yet heard back about. Handlers here read the newest staged
 * value of a key, and their commit names the commit it rests on, so a hot key moves at the speed of the batch and not of
 * the flush (FINDINGS F2, chains). If the commit below falls, those above fall with it, by their expectations.
 *
 * A key that was fought over is taken in turns for a while: the next handler waits until the one before has staged (not:
 * until it is durable). Turns are only a schedule; correctness rests on the expectations alone. So a wait that would close
 * a circle, or lasts longer than `turnWaitMsMax`, is simply not made. Where other processes fight for the key as well, its
 * holder also queues for it in the store (store-turns.ts), and those behind it wait as long as that may take.
 */
import { Fault, PassingMap, type Clock, type Ids } from "../kernel/index.ts";
import type { Commit, CommitId, CommitOutcome, Store, StoreKey } from "../store/index.ts";
import { KeptFolds, type Fold } from "./kept-folds.ts";
import type { StoreClock } from "./store-clock.ts";
import { StoreTurns } from "./store-turns.ts";

export type { Fold };

const turnWaitMsMax = 50;
const storeTurnWaitMsMax = 1_000;
const contendedForMs = 1_000;
const foldsMax = 10_000;

interface Staged {
  readonly commit: CommitId;
  /** The same for every staged value that rests on this one, or on which it rests: they fall together. */
  readonly chain: object;
}
export interface StagedRecord extends Staged {
  readonly value: Uint8Array | undefined;
  /** A merge's result is not known before its commit is; nor can a commit rest on a removal. */
  readonly unknownUntil: Promise<unknown> | undefined;
}
export interface StagedStream extends Staged {
  readonly fold: Fold;
}

/** What one commit has staged. */
interface Staging {
  readonly records: ReadonlyMap<StoreKey, StagedRecord>;
  readonly streams: ReadonlyMap<StoreKey, StagedStream>;
  /** Keys it rests on that were taken in turns when it was made: nobody here came in between. */
  turned: readonly StoreKey[] | undefined;
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
  readonly #records = new PassingMap<StoreKey, StagedRecord>();
  readonly #streams = new PassingMap<StoreKey, StagedStream>();
  /** A replay folds old versions too: to chain on one of these would rest on a commit that is bound to fall, so tails are told apart. */
  readonly #folds = new KeptFolds(foldsMax);
  readonly #contended = new Map<StoreKey, number>();
  readonly #turns = new PassingMap<StoreKey, Turn>();

  /** Turns between processes; without it, there are none. */
  readonly between: StoreTurns | undefined;

  #sending: ((queue: string) => void) | undefined;

  constructor(store: Store, clock: Clock, as?: { readonly ids: Ids; readonly holder: string; readonly storeClock: StoreClock }) {
    this.#store = store;
    this.#clock = clock;
    this.between = as && new StoreTurns({ store, clock, ...as, got: (key) => this.#folds.forget(key) });
  }

  /**
   * Stages the commit at once and answers when it is durable. A commit that is already known to rest on a stale value is
   * refused here, without a trip to the engine. An unknown outcome is resolved by writing (FINDINGS F6).
   */
  submit(commit: Commit, folds: ReadonlyMap<StoreKey, Fold> = nothing): Promise<CommitOutcome> {
    const stale = this.#knownStale(commit);
    if (stale) {
      this.#conflicted(stale);
      return Promise.resolve({ ok: false, refused: "conflict", keys: stale });
    }
    const answer: Promise<CommitOutcome> = this.#store.commit(commit).then(
      (outcome) => this.#ended(staging, outcome),
      (fault: unknown) => {
        if (Fault.is(fault, "commit.unknown")) return this.#resolve(staging, commit.id);
        this.#settle(staging, false);
        throw fault;
      },
    );
    const staging = this.#stage(commit, folds, answer);
    if (this.between && (this.#contended.size > 0 || this.between.isAtWork)) staging.turned = this.#turned(commit);
    return answer;
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

  /** The newest state of a stream that this process has staged and not heard back about. */
  stagedStream(stream: StoreKey): StagedStream | undefined {
    return this.#streams.get(stream);
  }

  /** A durable fold of a stream, perhaps not the last: for readers, who look at the version first. */
  durableFold(stream: StoreKey): Fold | undefined {
    return this.#folds.get(stream);
  }

  /** The last state this process knows of a stream; others may have gone on since. */
  tailFold(stream: StoreKey): Fold | undefined {
    return this.#folds.tail(stream);
  }

  /** `isTail`: it was the state behind the last event when it was folded. Only then may a handler take it for the newest without asking the store. */
  keepFold(stream: StoreKey, fold: Fold, isTail: boolean): void {
    this.#folds.keep(stream, fold, isTail);
  }

  // ---- turns --------------------------------------------------------------------------------------------------------

  /** Is this key, which was fought over, taken in turns for a while? */
  isContended(key: StoreKey): boolean {
    if (this.between?.isFoughtOver(key)) return true;
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
      const timer = this.#clock.after(this.between?.isFoughtOver(key) ? storeTurnWaitMsMax : turnWaitMsMax, () => {
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

  async #resolve(staging: Staging, id: CommitId): Promise<CommitOutcome> {
    let outcome: CommitOutcome;
    try {
      outcome = await this.#store.resolve(id);
    } catch (fault) {
      this.#settle(staging, false);
      throw fault;
    }
    return this.#ended(staging, outcome);
  }

  #ended(staging: Staging, outcome: CommitOutcome): CommitOutcome {
    this.#settle(staging, outcome.ok);
    if (!outcome.ok && outcome.refused === "conflict") {
      if (staging.turned) for (const key of outcome.keys) if (staging.turned.includes(key)) this.between?.lost(key);
      this.#conflicted(outcome.keys);
    }
    return outcome;
  }

  #turned(commit: Commit): readonly StoreKey[] {
    return commit.expects.flatMap((expects) => {
      const key = expects.kind === "record" ? expects.key : expects.kind === "stream" ? expects.stream : undefined;
      return key !== undefined && this.isContended(key) ? [key] : [];
    });
  }

  #knownStale(commit: Commit): readonly StoreKey[] | undefined {
    let stale: StoreKey[] | undefined;
    for (const expectation of commit.expects) {
      if (expectation.kind === "record") {
        const staged = this.#records.get(expectation.key);
        if (staged && staged.commit !== expectation.version) (stale ??= []).push(expectation.key);
      } else if (expectation.kind === "stream") {
        const staged = this.#streams.get(expectation.stream);
        if (staged && (staged.fold.version !== expectation.version || (expectation.after !== undefined && expectation.after !== staged.commit)))
          (stale ??= []).push(expectation.stream);
      }
    }
    return stale;
  }

  #stage(commit: Commit, folds: ReadonlyMap<StoreKey, Fold>, answer: Promise<unknown>): Staging {
    let records: Map<StoreKey, StagedRecord> | undefined;
    let streams: Map<StoreKey, StagedStream> | undefined;
    for (const write of commit.writes) {
      if (write.kind === "put" || write.kind === "remove" || write.kind === "merge") {
        const chain: object = records?.get(write.key)?.chain ?? chainOf(commit, write.key, this.#records.get(write.key));
        (records ??= new Map()).set(write.key, {
          commit: commit.id,
          chain,
          value: write.kind === "put" ? write.value : undefined,
          unknownUntil: write.kind === "put" ? undefined : answer,
        });
      } else if (write.kind === "enqueue" && write.job.dueAtMs === undefined) this.#sending?.(write.job.queue);
    }
    for (const [stream, fold] of folds)
      (streams ??= new Map()).set(stream, { commit: commit.id, chain: chainOf(commit, stream, this.#streams.get(stream)), fold });
    if (records) for (const [key, staged] of records) this.#records.set(key, staged);
    if (streams) for (const [stream, staged] of streams) this.#streams.set(stream, staged);
    return { records: records ?? nothing, streams: streams ?? nothing, turned: undefined };
  }

  #settle({ records, streams }: Staging, applied: boolean): void {
    forget(this.#records, records, applied);
    forget(this.#streams, streams, applied);
    if (applied) for (const [stream, { fold }] of streams) this.keepFold(stream, fold, true);
  }

  #conflicted(keys: readonly StoreKey[]): void {
    const until = this.#clock.monotonicMs() + contendedForMs;
    for (const key of keys) {
      this.#contended.set(key, until);
      // What rests in the cache may be why: somebody else has written since.
      this.#folds.forget(key);
    }
    if (this.#contended.size > foldsMax) for (const [key, end] of this.#contended) if (end < until - contendedForMs) this.#contended.delete(key);
  }
}

/** Forgets what was staged; when it fell, also what was staged on it since, so that nobody builds on a ruin any more. */
function forget<S extends Staged>(all: PassingMap<StoreKey, S>, own: ReadonlyMap<StoreKey, S>, applied: boolean): void {
  for (const [key, staged] of own) {
    const top = all.get(key);
    if (top && (top === staged || (!applied && top.chain === staged.chain))) all.delete(key);
  }
}
/** The chain of the staged value that this commit has decided on, or a new one. */
function chainOf(commit: Commit, key: StoreKey, below: Staged | undefined): object {
  const rests =
    below &&
    commit.expects.some((expects) => {
      if (expects.kind === "record") return expects.key === key && expects.version === below.commit;
      return expects.kind === "stream" && expects.stream === key && expects.after === below.commit;
    });
  return rests ? below.chain : {};
}
const nothing: ReadonlyMap<StoreKey, never> = new Map<StoreKey, never>();
