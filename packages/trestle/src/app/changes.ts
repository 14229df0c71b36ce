/**
 * The change feed: what each commit wrote, in the order of their numbers, of every kind of state (FINDINGS F10). It tells that something was
 * written, not what it is now: read it, and it is at least as new. A reader keeps the position of the last commit it has seen and goes on
 * after it, in another process too. What lies in tokens is Trestle's own (idempotency keys), and left out like its records.
 *
 * Kept for 24 hours at least. `log.trimmed`: the reader has been away for longer; `log.diverged`: the history was cut (restore, promotion).
 */
import { changesOf, type Component } from "../component/index.ts";
import { Fault, linkSignals, type Instant } from "../kernel/index.ts";
import { limits, parseKey, type CommitPosition, type Store, type Written } from "../store/index.ts";

export interface ChangesOptions {
  /** `start` (as far back as it is kept), `now`, or the `position` of the last commit seen. Default `now`. */
  readonly after?: "start" | "now" | (string & {});
  /** Only what was written to these. Jobs are told by their ids, whatever their queue, where a queue is among them. Default: the whole app. */
  readonly of?: readonly Component[];
  readonly signal?: AbortSignal;
}

/** One commit. */
export interface CommitChange {
  /** `epoch-number`: where to go on. */
  readonly position: string;
  readonly id: string;
  readonly at: Instant;
  readonly changes: readonly Change[];
}
export interface Change {
  readonly kind: Written["kind"];
  /** `undefined` for a job: its queue is not told. */
  readonly component: string | undefined;
  readonly tenant: string | undefined;
  /** The record's or token's key, the stream's (an aggregate's id, a topic's key), or the job's id. */
  readonly key: string;
}

export function followChanges(
  store: Store,
  components: readonly Component[],
  ends: AbortSignal,
  { after = "now", of, signal }: ChangesOptions,
): AsyncIterable<CommitChange> {
  const names = new Set((of ?? components).map(({ name }) => name));
  const jobs = (of ?? components).some(({ kind }) => ["queue", "subscription", "schedule"].includes(kind));
  // Now, and not when the reader first looks.
  const begin = placeOf(after, store);
  begin.catch(() => undefined); // thrown to the reader
  return {
    async *[Symbol.asyncIterator]() {
      let place = await begin;
      using ended = linkSignals(ends, signal);
      for await (const _ of changesOf(store, "any", ended.signal)) {
        for (let atEnd = false; !atEnd && !ended.signal.aborted;) {
          const rows = await store.read.commits({ after: place, limit: limits.pageRowsMax });
          for (const { epoch, n, id, atMs, wrote } of rows) {
            const changes = wrote.flatMap((written) => changeOf(written, names, jobs));
            if (changes.length > 0) yield { position: `${epoch}-${n}`, id, at: atMs, changes };
          }
          const last = rows.at(-1);
          if (last) place = { epoch: place.epoch, n: last.n };
          atEnd = rows.length < limits.pageRowsMax;
        }
      }
    },
  };
}

function changeOf({ kind, key }: Written, names: ReadonlySet<string>, jobs: boolean): readonly Change[] {
  if (kind === "job") return jobs ? [{ kind, component: undefined, tenant: undefined, key }] : [];
  const { component, tenant, key: own } = parseKey(key);
  return names.has(component) ? [{ kind, component, tenant, key: own }] : [];
}

async function placeOf(after: string, store: Store): Promise<CommitPosition> {
  if (after === "start") return { epoch: store.epoch, n: 0 };
  if (after === "now") {
    const { epoch, n } = await store.read.head();
    return { epoch, n };
  }
  const [, epoch, n] = /^(\d{1,15})-(\d{1,15})$/.exec(after) ?? [];
  if (epoch === undefined || n === undefined)
    throw Fault.create(
      "changes.bad-position",
      `after must be "start", "now" or the position of a commit, got ${JSON.stringify(after.slice(0, 80))}`,
      "Pass on `change.position` as it came.",
    );
  return { epoch: Number(epoch), n: Number(n) };
}
