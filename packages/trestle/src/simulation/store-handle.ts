/**
 * The store as a node has it: every operation is a call over the network to the host of the store.
 *
 * What a broken connection means is the port's to say. A read is asked again. A commit whose answer was lost has an unknown outcome: the
 * handle submits it again under its id, as an engine's client does, or tells `commit.unknown`; the world's chance decides which, so that both are
 * met. What cannot be asked again (a claim whose answer was lost) ends with its lease.
 *
 * Of SQLite the notices are the writer's, and arrive. Of PostgreSQL they are hints, connections are counted, and transactions end as there
 * (hinted-notices.ts, postgres-client.ts).
 */
import { Fault, sleep } from "../kernel/index.ts";
import { limits, type Change, type Commit, type CommitOutcome, type Reader, type SqlConnection, type Store } from "../store/index.ts";
import type { ConnectionSlots } from "./connection-slots.ts";
import { hintedNotices } from "./hinted-notices.ts";
import { BrokenCall, type Network } from "./network.ts";
import { postgresClient } from "./postgres-client.ts";
import { transactionWork } from "./transaction-work.ts";
import type { StoreHost } from "./store-host.ts";
import type { Life } from "./world.ts";

export interface StoreHandleOptions {
  readonly network: Network;
  readonly at: StoreHost;
}

/** This part of the commits whose answer was lost is told as `commit.unknown` at once. */
const unknownShare = 0.5;
/** Between two tries, doubled up to ten times as much. */
const retryMs = 20;
/** After so many tries the fault is the caller's. */
const triesMax = 12;

const readerMethods = ["records", "list", "token", "stream", "streamVersion", "log", "commits", "head", "queue", "queues", "jobs", "groups", "rows"] as const;

export function storeHandle(life: Life, { network, at }: StoreHandleOptions): Store {
  const known = at.store;
  if (!known) throw Fault.create("store.unreachable", "the store's host is down", "Boot it first.");
  const { engine, dialect, guarantees } = known;
  /** As the last answer told it: a fail-over opens another. */
  let { epoch } = known;
  const listeners = new Set<(change: Change) => void>();
  let waiting = 0;
  let closed = false;

  const there = (): Store => {
    const { store } = at;
    if (!store) throw Fault.create("store.unreachable", "the store is opening", "Try again in a moment.");
    return store;
  };
  const call = <T>(label: string, ask: (store: Store) => Promise<T>, mayComeTwice = false): Promise<T> => {
    if (closed) return Promise.reject(Fault.create("store.closed", "the store is closed", "Start the node again, or stop using it before it closes."));
    const options = { label, mayComeTwice };
    if (at.kind === "sqlite") return network.call(life, at.host, options, async () => ask(there()));
    const told = network.call(life, at.host, options, async () => {
      const store = there();
      return { answer: await ask(store), of: store.epoch };
    });
    return told.then(({ answer, of }) => {
      epoch = Math.max(epoch, of);
      return answer;
    });
  };
  /** Asked again as long as the connection breaks: safe for whoever asks the same thing. */
  async function surely<T>(label: string, ask: (store: Store) => Promise<T>, mayComeTwice = false, slots: ConnectionSlots = (work) => work()): Promise<T> {
    for (let tries = 1, waitMs = retryMs; ; tries++, waitMs = Math.min(10 * retryMs, waitMs * 2)) {
      try {
        return await slots(() => call(label, ask, mayComeTwice));
      } catch (error) {
        if (!(error instanceof BrokenCall) && !Fault.is(error, "store.unreachable")) throw error;
        if (tries === triesMax) throw unreachable(error);
      }
      await sleep(life.clock, waitMs);
    }
  }

  const work = transactionWork(life);
  const resolve: Store["resolve"] = (id) => surely("resolve", (store) => store.resolve(id), true);
  const postgres = at.kind === "postgres" ? postgresClient(life, { at, call, resolve, work }) : undefined;

  async function commit(commit: Commit): Promise<CommitOutcome> {
    waiting++;
    try {
      if (!postgres) return await submit(commit);
      const outcome = await postgres.commit(commit);
      if (outcome.ok) hints?.committed(outcome.n, commit);
      return outcome;
    } finally {
      waiting--;
    }
  }
  async function submit(commit: Commit): Promise<CommitOutcome> {
    try {
      // Not twice by the network: no connection to a store repeats a message, and what was refused and told may not be judged once more behind its sender's back.
      return await call("commit", (store) => store.commit(commit));
    } catch (error) {
      if (!(error instanceof BrokenCall)) throw error;
      if (error.how === "lost" && life.random.next() < unknownShare) {
        throw Fault.create("commit.unknown", "the connection broke before the store answered", "Ask again with `resolve`, or submit the same commit again.", {
          cause: error,
        });
      }
      return await surely("commit again", (store) => store.commit(commit)).catch((later: unknown) => {
        throw Fault.is(later, "store.unreachable")
          ? Fault.create("commit.unknown", "the store did not answer", "Ask again with `resolve`, or submit the same commit again.", { cause: later })
          : later;
      });
    }
  }

  const read = Object.fromEntries(
    readerMethods.map((method) => [
      method,
      (...given: readonly unknown[]) => {
        const ask = work.asked((store: Store) => (store.read[method] as (...all: readonly unknown[]) => Promise<unknown>)(...given));
        return surely(method, ask, false, postgres?.reads);
      },
    ]),
  ) as unknown as Reader;

  const transaction: Store["transaction"] = (callback, withinMs) =>
    call("transaction", (store) => {
      const server = at.host.life as Life;
      return store.transaction((connection) => {
        const execute: SqlConnection["execute"] = (statement) =>
          call("statement", (now) => {
            // Its server is gone, and its transaction with it.
            if (now !== store) throw Fault.create("transaction.lost", "the store ended during the transaction; nothing of it was applied", "Run it again.");
            return connection.execute(statement);
          });
        return work.run(server, () => callback({ execute }));
      }, withinMs);
    }).catch(asUnreachable);

  const hints = at.kind === "postgres" ? hintedNotices({ clock: life.clock, read, epoch: () => epoch }) : undefined;
  function subscribe(server: Life, store: Store): void {
    store.onChange((change) => {
      if (closed) return;
      if (!hints) return network.sendSurely(server, life, "notice", () => tell(change));
      network.send(server.host, life.host, "hint", (now) => {
        if (now === life) hints.hinted(change);
      });
    });
  }
  function tell(change: Change): void {
    for (const listener of listeners) listener(change);
  }
  at.onOpen((server, store) => {
    if (!life.alive || closed) return;
    subscribe(server, store);
    if (hints) return; // its own look finds what was missed
    // What became durable while nobody told: everybody looks again.
    network.sendSurely(server, life, "catch up", () => void catchUp().catch(() => undefined));
  });
  /** Up to this commit nothing was missed. Of what came later some notices may have arrived, and others died with the store. */
  let caughtUpN = 0;
  async function catchUp(): Promise<void> {
    const keys = new Set<string>();
    for (let full = true; full;) {
      const commits = await read.commits({ after: { epoch, n: caughtUpN }, limit: limits.pageRowsMax });
      for (const { wrote } of commits) for (const { kind, key } of wrote) if (kind === "record" || kind === "stream") keys.add(key);
      caughtUpN = commits.at(-1)?.n ?? caughtUpN;
      full = commits.length === limits.pageRowsMax;
    }
    const [head, queues] = await Promise.all([read.head(), read.queues()]);
    tell({ n: head.n, keys: [...keys], queues: queues.map(({ queue }) => queue) });
  }
  subscribe(at.host.life as Life, known);

  return {
    engine,
    dialect,
    guarantees,
    get epoch() {
      return epoch;
    },
    read,
    commit,
    resolve,
    claim: (request) => call("claim", (store) => store.claim(request)).catch(asUnreachable),
    extend: (claims, leaseMs) => surely("extend", (store) => store.extend(claims, leaseMs)),
    heartbeat: () => undefined,
    transaction: postgres?.transaction ?? transaction,
    onChange(listener) {
      if (hints) return hints.onChange(listener);
      const own = (change: Change) => listener(change);
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    migrate: (component, files) => surely("migrate", (store) => store.migrate(component, files)),
    backup: (path) => call("backup", (store) => store.backup(path)),
    stats: () => ({ commits: 0, refused: 0, batches: 0, ...at.store?.stats(), waiting }),
    close: () => {
      closed = true;
      listeners.clear();
      hints?.close();
      return Promise.resolve();
    },
  };
}

function asUnreachable(error: unknown): never {
  throw error instanceof BrokenCall ? unreachable(error) : error;
}

function unreachable(cause: unknown): Fault {
  return Fault.create("store.unreachable", "the store did not answer", "Read the cause; what was lost with the connection ends by itself.", { cause });
}
