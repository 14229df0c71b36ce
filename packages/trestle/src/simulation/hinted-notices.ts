/**
 * Change notices as a client of PostgreSQL has them. What it committed itself it tells at once; that others committed reaches it as a hint, which may be lost; so
 * it also reads the change feed every second, on from where it read last; after a fail-over from where the new epoch begins.
 */
import { Fault, type Clock } from "../kernel/index.ts";
import { addKeys, beforeEpoch, type Change, type Commit, type CommitPosition, type Reader } from "../store/index.ts";

export interface HintedNotices {
  onChange(listener: (change: Change) => void): () => void;
  /** A hint arrived. */
  hinted(change: Change): void;
  /** A commit of this client is durable. */
  committed(n: number, commit: Commit): void;
  close(): void;
}

const pollMs = 1_000;
const pageRows = 1_000;

export function hintedNotices({ clock, read, epoch }: { readonly clock: Clock; readonly read: Reader; readonly epoch: () => number }): HintedNotices {
  const listeners = new Set<(change: Change) => void>();
  /** From the beginning: what was told before is told late, which is allowed. */
  let looked: CommitPosition | undefined;
  let polling = false;
  let closed = false;

  function tell(change: Change): void {
    if (closed || (change.keys.length === 0 && change.queues.length === 0)) return;
    for (const listener of listeners) listener(change);
  }

  async function look(): Promise<void> {
    for (let more = true; more && !closed;) {
      const after = (looked ??= { epoch: epoch(), n: 0 });
      try {
        const rows = await read.commits({ after, limit: pageRows });
        const last = rows.at(-1);
        if (!last) return;
        const wrote = rows.flatMap((row) => row.wrote);
        const keys = new Set(wrote.filter(({ kind }) => kind === "record" || kind === "stream").map(({ key }) => key));
        const queues = wrote.some(({ kind }) => kind === "job") ? (await read.queues()).filter(({ waiting }) => waiting > 0) : [];
        tell({ n: last.n, keys: [...keys], queues: queues.map(({ queue }) => queue) });
        looked = { epoch: after.epoch, n: last.n };
        more = rows.length === pageRows;
      } catch (error) {
        if (!Fault.is(error, "log.diverged") && !Fault.is(error, "log.trimmed")) throw error;
        const head = await read.head();
        looked = head.epoch === after.epoch ? head : await beforeEpoch((from, limit) => read.commits({ after: from, limit }), head);
      }
    }
  }

  function poll(): void {
    clock.after(pollMs, () => {
      if (closed) return;
      if (listeners.size === 0) {
        polling = false;
        return;
      }
      // The store may be away: the next look comes anyway.
      void look()
        .catch(() => undefined)
        .then(poll);
    });
  }

  return {
    onChange(listener) {
      const own = (change: Change) => listener(change); // the same function twice is two listeners
      listeners.add(own);
      if (!polling) poll();
      polling = true;
      return () => void listeners.delete(own);
    },
    hinted: tell,
    committed(n, commit) {
      const keys = new Set<string>();
      addKeys(keys, commit);
      const queues = new Set(commit.writes.flatMap((write) => (write.kind === "enqueue" ? [write.job.queue] : [])));
      tell({ n, keys: [...keys], queues: [...queues] });
    },
    close() {
      closed = true;
      listeners.clear();
    },
  };
}
