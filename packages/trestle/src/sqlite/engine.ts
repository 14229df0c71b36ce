/**
 * The store over a writer: batches what callers commit, hands results back, tells listeners. It holds no state of the store
 * but what is on its way.
 *
 * A burst of callers becomes one batch: the first of them asks the clock for a moment "after everything that is ready now".
 * While a batch is with the writer the next one collects. An interactive transaction is a batch of one (FINDINGS F19): it starts when nothing is on
 * its way, so that nobody hears of an earlier commit while it is open, and what comes after it waits.
 * Over 400 lines because batches and transactions take turns in one line of waiting.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { createHash } from "node:crypto";
import { Fault, type Clock, type Ids, type Timer } from "../kernel/index.ts";
import {
  addKeys,
  beating,
  checkAbove0,
  checkClaim,
  checkCommit,
  checkId,
  limits,
  type Change,
  type Commit,
  type CommitOutcome,
  type Reader,
  type SqlConnection,
  type Store,
  type StoreStats,
} from "../store/index.ts";
import { isFailure, toFault, type BatchReply, type MoveStep, type Operation, type Result } from "./operation.ts";
import { overran, type TransactionEnd, type Writer } from "./writer.ts";

export interface EngineOptions {
  readonly engine: "sqlite" | "memory";
  readonly guarantees: ReadonlySet<string>;
  readonly writer: Writer;
  readonly reader: Reader;
  readonly clock: Clock;
  /** Of transactions that name no commit. */
  readonly ids: Ids;
  readonly backup: (path: string) => Promise<void>;
  /** Connections of the main thread: before the writer's, which as the last one folds the log into the file. */
  readonly beforeClose: () => void;
}

/** What is the engine's own, beside the port. */
export interface SqliteStore extends Store {
  /** Resolves when no interactive transaction is open; `undefined` when none is, and inside the work of the one that is. */
  whenNoTransaction(): Promise<void> | undefined;
  /** A step of a live move (store/move.ts). `seal` is the last commit of this store. */
  move(step: MoveStep, url?: string): Promise<void>;
}

interface Waiting {
  readonly operation: Operation;
  readonly sizeBytes: number;
  readonly resolve: (result: never) => void;
  readonly reject: (fault: unknown) => void;
}
interface WaitingTransaction {
  readonly start: () => Promise<void>;
}

const defaultTransactionMs = 250;
/**
 * So many callers hear of a batch in one turn of the loop. Each goes on at once, with its answer and its next commit, and whoever has nothing to
 * do with the store waits meanwhile.
 */
const toldAtOnceMax = 16;
/** How long after the last batch an idle store tidies up once. */
const idleTendMs = 60_000;

export function engineStore(options: EngineOptions): SqliteStore {
  const { writer, clock, ids } = options;
  const waiting: (Waiting | WaitingTransaction)[] = [];
  const listeners = new Set<(change: Change) => void>();
  /** Batches whose callers have not all been told, in their order. */
  const telling: { readonly batch: readonly Waiting[]; readonly results: readonly Result[]; told: number }[] = [];
  let inFlight = 0;
  let waitingCommits = 0;
  let scheduled = false;
  let transacting: Promise<void> | undefined;
  /** In what a transaction's work does: which transaction. */
  const within = new AsyncLocalStorage<object>();
  let current: object | undefined;
  let closing: Promise<void> | undefined;
  let idle: Timer | undefined;
  let drained: (() => void) | undefined;
  const stats = { commits: 0, refused: 0, batches: 0 };

  function submit<T>(operation: Operation, sizeBytes: number): Promise<T> {
    if (closing) return Promise.reject(Fault.create("store.closed", "the store is closed", "Start the node again, or stop using it before it closes."));
    if (waitingCommits >= limits.waitingCommitsMax) {
      return Promise.reject(
        Fault.create("store.overloaded", `${limits.waitingCommitsMax} commits wait for the store already`, "Slow down, and try again after a moment.", {
          details: { waiting: waitingCommits, retryAfterMs: 100 },
        }),
      );
    }
    waitingCommits++;
    // A burst that is worth a flush leaves at once, so that the writer works on it while its later callers are still on their way; and
    // before the next commit, not behind the last one, so that a claim of what it sends can still come along. While the writer has another
    // batch there is no hurry: the burst leaves whole, or by twice as many. From 64 callers that makes 33 commits a flush instead of 25.
    if (operation.kind === "commit" && isWorthAFlush(inFlight === 0 ? 1 : 2)) flush();
    return new Promise<T>((resolve, reject) => {
      waiting.push({ operation, sizeBytes, resolve: resolve as (result: never) => void, reject });
      schedule();
    });
  }

  /**
   * May a batch leave now? Another one on its way saves the writer the wait for the first one's answers. But while it lies with the
   * writer nothing can join it, and where the flush is slow, small batches cost more than that wait: so it has to be worth a flush.
   */
  function mayFollow(): boolean {
    // Those who have not heard yet are about to come again, and share the flush.
    if (inFlight === 0) return telling.length === 0 || isWorthAFlush();
    return inFlight < writer.batchesInFlightMax && isWorthAFlush();
  }
  function isWorthAFlush(times = 1): boolean {
    return waiting.length >= times * writer.followersMin();
  }

  function schedule(): void {
    if (scheduled || transacting || !mayFollow()) return;
    scheduled = true;
    clock.soon(flush);
  }

  function flush(): void {
    scheduled = false;
    while (waiting.length && !transacting && mayFollow()) {
      const first = waiting[0] as Waiting | WaitingTransaction;
      if ("start" in first) {
        if (inFlight > 0 || telling.length > 0) return;
        waiting.shift();
        transacting = first.start().finally(() => {
          transacting = undefined;
          flush();
        });
        return;
      }
      send(takeBatch());
    }
    if (!waiting.length && inFlight === 0 && !transacting && telling.length === 0) {
      drained?.();
      // One look at what has expired after the last batch; an idle store has no timer of its own beyond that.
      if (!closing)
        idle ??= clock.after(
          idleTendMs,
          () =>
            void submit({ kind: "tend" }, 0)
              .then(() => (idle?.cancel(), (idle = undefined)))
              .catch(() => undefined),
        );
    }
  }

  function takeBatch(): Waiting[] {
    let count = 0;
    for (let sizeBytes = 0; count < waiting.length && count < limits.batchCommitsMax; count++) {
      const next = waiting[count] as Waiting | WaitingTransaction;
      if ("start" in next) break;
      sizeBytes += next.sizeBytes;
      if (count > 0 && sizeBytes > limits.batchBytesMax) break;
    }
    return waiting.splice(0, count) as Waiting[];
  }

  function send(batch: readonly Waiting[]): void {
    inFlight++;
    let reply: BatchReply | Promise<BatchReply>;
    try {
      reply = writer.apply(
        batch.map(({ operation }) => operation),
        clock.wallMs(),
      );
    } catch (error) {
      return failed(batch, error);
    }
    if (reply instanceof Promise)
      reply.then(
        (done) => settled(batch, done),
        (error: unknown) => failed(batch, error),
      );
    else settled(batch, reply);
  }

  function settled(batch: readonly Waiting[], reply: BatchReply): void {
    inFlight--;
    waitingCommits -= batch.length;
    stats.batches++;
    // The next batch is on its way before callers hear of this one: the writer need not wait for them.
    if (waiting.length && !("start" in (waiting[0] as Waiting | WaitingTransaction))) flush();
    const keys = listeners.size && !reply.told ? new Set<string>() : undefined;
    let wrote = false;
    for (let i = 0; i < batch.length; i++) {
      const { operation } = batch[i] as Waiting;
      const result = reply.results[i] as Result;
      if (operation.kind !== "commit" || isFailure(result)) continue;
      if ((result as CommitOutcome).ok) {
        stats.commits++;
        wrote ||= operation.commit.writes.length > 0;
        if (keys) addKeys(keys, operation.commit);
      } else stats.refused++;
    }
    if (!reply.told && (wrote || reply.queues.length)) notify({ n: reply.n, keys: keys ? [...keys] : [], queues: reply.queues });
    telling.push({ batch, results: reply.results, told: 0 });
    if (telling.length === 1) tellSome();
  }

  function tellSome(): void {
    let left = toldAtOnceMax;
    for (let first = telling[0]; first && left > 0; first = telling[0]) {
      for (; first.told < first.batch.length && left > 0; first.told++, left--) {
        const { resolve, reject } = first.batch[first.told] as Waiting;
        const result = first.results[first.told] as Result;
        if (isFailure(result)) reject(toFault(result));
        else resolve(result as never);
      }
      if (first.told === first.batch.length) telling.shift();
    }
    if (telling.length > 0) clock.soon(tellSome);
    else if (waiting.length) schedule();
    else flush();
  }

  function failed(batch: readonly Waiting[], error: unknown): void {
    inFlight--;
    waitingCommits -= batch.length;
    for (const { reject } of batch) reject(error);
    flush();
  }

  function notify(change: Change): void {
    for (const listener of listeners) {
      try {
        listener(change);
      } catch (error) {
        // Its own concern, and nobody's commit: it becomes an uncaught error, like any other in a callback.
        clock.soon(() => {
          throw error;
        });
      }
    }
  }

  writer.notices?.((notice) => {
    if ("change" in notice) notify(notice.change);
    else if (listeners.size) void catchUp(notice.missedSince).catch(() => undefined); // the store was closed meanwhile
  });

  /** Notices were missed while the writer changed: what they would have told is in the file. */
  async function catchUp(since: number): Promise<void> {
    const { read, epoch } = store;
    for (let after = { epoch, n: since }; !closing;) {
      const commits = await read.commits({ after, limit: limits.pageRowsMax });
      const last = commits.at(-1);
      if (!last) break;
      const keys = new Set<string>();
      for (const { wrote } of commits) for (const { kind, key } of wrote) if (kind === "record" || kind === "stream") keys.add(key);
      notify({ n: last.n, keys: [...keys], queues: [] });
      after = last;
    }
    if (closing) return;
    const queues = await read.queues();
    notify({ n: (await read.head()).n, keys: [], queues: queues.filter(({ waiting }) => waiting > 0).map(({ queue }) => queue) });
  }

  function transaction<T>(
    work: (connection: SqlConnection) => Promise<{ readonly result: T; readonly commit?: Commit }>,
    withinMs = defaultTransactionMs,
  ): Promise<T> {
    if (closing) return Promise.reject(Fault.create("store.closed", "the store is closed", "Start the node again, or stop using it before it closes."));
    return new Promise<T>((resolve, reject) => {
      checkAbove0(withinMs, "transaction.withinMs");
      // It begins when the lane is free, in whoever's turn that is; the work is the caller's all the same.
      const asTheCaller = AsyncLocalStorage.snapshot();
      const start = async () => {
        const own = (current = {});
        try {
          await writer.begin(clock.wallMs(), withinMs);
        } catch (error) {
          return reject(error);
        }
        let ended = false;
        let expire!: (fault: unknown) => void;
        const expired = new Promise<never>((_, refuse) => (expire = refuse));
        // The writer rolls back by its own clock; this one only tells a caller who never comes back.
        const timer = clock.after(withinMs, () => expire(overran(withinMs)));
        const connection: SqlConnection = {
          async execute(statement) {
            if (ended) throw Fault.create("transaction.ended", "this transaction has ended", "Use its connection only inside its callback.");
            try {
              return await writer.execute(statement);
            } catch (error) {
              if (Fault.is(error)) throw error;
              throw Fault.create("sql.failed", `the statement failed: ${(error as Error).message}`, "Correct the statement.", {
                cause: error,
                details: { text: statement.text },
              });
            }
          },
        };
        try {
          const { result, commit: given } = await Promise.race([asTheCaller(() => within.run(own, () => work(connection))), expired]);
          ended = true;
          timer.cancel();
          const commit = given ?? { id: ids.next(), expects: [], writes: [] };
          checkCommit(commit);
          const end = await endOf(commit);
          if (!end.outcome.ok) {
            stats.refused++;
            const { refused } = end.outcome;
            throw Fault.create(
              refused === "conflict" ? "commit.conflict" : "transaction.refused",
              `the commit of this transaction was refused (${refused}); everything in it was rolled back`,
              "Read again and decide again.",
              { details: { outcome: end.outcome } },
            );
          }
          stats.commits++;
          stats.batches++;
          const keys = new Set<string>();
          addKeys(keys, commit);
          notify({ n: end.n, keys: [...keys], queues: end.queues });
          resolve(result);
        } catch (error) {
          ended = true;
          timer.cancel();
          await writer.abandon();
          reject(error);
        }
      };
      waiting.push({ start });
      schedule();
    });
  }

  /** Ends a transaction. Where nobody knows what became of it, the fault names its commit's id, which may have been minted here. */
  async function endOf(commit: Commit): Promise<TransactionEnd> {
    try {
      return await writer.end(commit);
    } catch (error) {
      if (!Fault.is(error, "commit.unknown")) throw error;
      const { id } = commit;
      throw Fault.create(
        "commit.unknown",
        `the outcome of commit ${id}, with which a transaction ended, is not known: ${error.message}`,
        "Ask `resolve` with the id whether it was applied; run the transaction again if it was not.",
        { cause: error, details: { ...error.details, id } },
      );
    }
  }

  const store: SqliteStore = {
    engine: options.engine,
    dialect: "sqlite",
    guarantees: options.guarantees,
    epoch: writer.epoch,
    read: options.reader,

    commit(commit) {
      let sizeBytes: number;
      try {
        sizeBytes = checkCommit(commit);
      } catch (fault) {
        return Promise.reject(fault as Error);
      }
      return submit<CommitOutcome>({ kind: "commit", commit }, sizeBytes);
    },
    async resolve(id) {
      checkId(id, "id");
      return submit({ kind: "resolve", id }, 0);
    },
    async claim(request) {
      checkClaim(request);
      return submit({ kind: "claim", request }, 0);
    },
    async extend(claims, leaseMs) {
      checkAbove0(leaseMs, "extend.leaseMs");
      for (const claim of claims) checkId(claim.id, "claim.id");
      return submit({ kind: "extend", claims, leaseMs }, 0);
    },
    heartbeat: (holder, options) => (writer.heartbeat && !closing ? beating(holder, options, clock, writer.heartbeat) : undefined),
    transaction,
    onChange(listener) {
      // A function of its own for each call, so that one listener added twice is removed once.
      const own = (change: Change) => listener(change);
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    async migrate(component, files) {
      for (const { name, text } of [...files].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
        await submit({ kind: "migrate", component, name, text, digest: createHash("sha256").update(text).digest("hex") }, 0);
      }
    },
    backup: options.backup,
    move: async (step, url = "") => void (await submit({ kind: "move", step, url }, 0)),
    stats: (): StoreStats => ({ ...stats, waiting: waitingCommits }),
    whenNoTransaction: () => (transacting && within.getStore() !== current ? transacting : undefined),
    close() {
      closing ??= (async () => {
        idle?.cancel();
        if (waiting.length || inFlight || transacting || telling.length > 0) await new Promise<void>((resolve) => (drained = resolve));
        options.beforeClose();
        await writer.close();
        listeners.clear();
      })();
      return closing;
    },
  };

  return store;
}
