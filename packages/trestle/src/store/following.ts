/**
 * A store that may move away while it is used (`trestle move`). The last commit of the old store says where its history goes on;
 * whatever is asked of it afterwards faults with `store.moved`, and this wrapper then opens the new store and asks there: once for all
 * callers, each under the id it had, so that a commit whose answer was on its way when the store was sealed is not applied twice.
 *
 * Not promised: a process that only reads learns of the move with its next claim, commit or notice; until then it reads the old
 * store as it was when it was sealed.
 */
import { Fault, sleep, type Clock } from "../kernel/index.ts";
import type { Commit, CommitOutcome } from "./commit.ts";
import type { Change, Store } from "./store.ts";

/** Between the old store's last commit and the opening of the new one lies what the move still copies: well under a second. */
const receivingMsMax = 30_000;
const lookAgainMs = 20;

export interface Following {
  readonly clock: Clock;
  /** Opens the store at a URL; asked at most once per move, and again when it failed. */
  readonly open: (url: string) => Promise<Store>;
}

export function followingStore(first: Store, { clock, open }: Following): Store {
  let current = first;
  let following: Promise<void> | undefined;
  let closed: Promise<void> | undefined;
  const listeners = new Map<(change: Change) => void, () => void>();

  /** Does it where the store is; where it has moved to, if it says so. One promise more than asking it directly. */
  function there<T>(ask: (store: Store) => Promise<T>): Promise<T> {
    const asked = current;
    return ask(asked).then(undefined, async (fault: unknown) => {
      const url = Fault.is(fault, "store.moved") && !closed ? (fault.details as { readonly url?: unknown }).url : undefined;
      if (typeof url !== "string") throw fault;
      if (asked === current) await (following ??= follow(url).finally(() => (following = undefined)));
      return there(ask);
    });
  }

  async function follow(url: string): Promise<void> {
    const left = current;
    const found = await openWhenReady(url);
    if (closed) return found.close();
    const queues = await found.read.queues();
    const { n } = await found.read.head();
    for (const [listener, forget] of listeners) {
      forget();
      listeners.set(listener, found.onChange(listener));
    }
    current = found;
    // Whoever waited for a notice of the old store waits in vain: all there is may be new.
    for (const listener of listeners.keys()) listener({ n, keys: [], queues: queues.map(({ queue }) => queue) });
    await left.close().catch(() => undefined); // it is sealed: nothing of it can be lost
  }

  async function openWhenReady(url: string): Promise<Store> {
    const untilMs = clock.monotonicMs() + receivingMsMax;
    for (;;) {
      try {
        return await open(url);
      } catch (fault) {
        if (!Fault.is(fault, "store.receiving") || clock.monotonicMs() >= untilMs) throw fault;
        await sleep(clock, lookAgainMs);
      }
    }
  }

  const read = Object.fromEntries(
    Object.keys(first.read).map((name) => {
      const method = name as keyof Store["read"];
      return [method, (...asked: never[]) => there((store) => (store.read[method] as (...asked: never[]) => Promise<unknown>)(...asked))];
    }),
  ) as unknown as Store["read"];

  return {
    get engine() {
      return current.engine;
    },
    get dialect() {
      return current.dialect;
    },
    get guarantees() {
      return current.guarantees;
    },
    get epoch() {
      return current.epoch;
    },
    commit(commit) {
      const { dialect } = current;
      return there((store) => (store.dialect === dialect ? store.commit(commit) : commitElsewhere(store, commit)));
    },
    resolve: (id) => there((store) => store.resolve(id)),
    claim: (request) => there((store) => store.claim(request)),
    extend: (claims, leaseMs) => there((store) => store.extend(claims, leaseMs)),
    heartbeat(holder, options) {
      let of = current;
      let kept = of.heartbeat(holder, options);
      if (!kept) return undefined;
      return {
        beat() {
          if (of !== current) {
            kept?.stop();
            of = current;
            kept = of.heartbeat(holder, options);
          }
          kept?.beat();
        },
        stop: () => kept?.stop(),
      };
    },
    read,
    transaction: (work, withinMs) => there((store) => store.transaction(work, withinMs)),
    onChange(listener) {
      // A wrapper of its own, so that one function listening twice is two listeners.
      const own = (change: Change) => listener(change);
      listeners.set(own, current.onChange(own));
      return () => {
        listeners.get(own)?.();
        listeners.delete(own);
      };
    },
    migrate: (component, files) => there((store) => store.migrate(component, files)),
    backup: (path) => there((store) => store.backup(path)),
    stats: () => current.stats(),
    close: () =>
      (closed ??= (async () => {
        await following?.catch(() => undefined);
        await current.close();
      })()),
  };
}

/** The user's statements in it are the old store's SQL: unless it was applied there, its handler decides again, in what the new one speaks. */
async function commitElsewhere(store: Store, commit: Commit): Promise<CommitOutcome> {
  const statements = [...commit.writes, ...commit.expects].flatMap((part) => (part.kind === "sql" || part.kind === "rows" ? [part.statement.text] : []));
  if (statements.length === 0) return store.commit(commit);
  const outcome = await store.resolve(commit.id);
  return outcome.ok ? outcome : { ok: false, refused: "conflict", keys: statements };
}
