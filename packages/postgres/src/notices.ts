/**
 * Change notices over processes. A batch of this process is told at once. What other processes commit is read from the change feed, up to
 * the durable position, so that nothing is told that a crash could take back; and nothing is left out, because the feed is read on from
 * where the last notice ended, and after a fail-over from where the new epoch begins.
 *
 * When to look is only a hint: NOTIFY, at most once in 25 ms and process (each takes a lock of the whole database at its commit), and a
 * poll behind it. A session behind a transaction pooler cannot LISTEN: whether hints arrive is tried out when the first listener comes, and where
 * they do not, the poll is faster.
 *
 * States of the ear: *deaf* (no connection, or hints do not arrive: polls every 100 ms) → *hearing* (a hint of our own has arrived: polls every
 * second) → *deaf* when the connection is lost, and so on.
 */
import { Fault, type Clock, type Ids, type Random } from "trestle/kernel";
import { beforeEpoch, type Change, type CommitPosition } from "trestle/store";
import type { Applied } from "./lane.ts";
import { periodic, type Periodic } from "./periodic.ts";
import type { FeedRow } from "./reads.ts";
import type { Pool, Session } from "./sessions.ts";

export interface Notices {
  onChange(listener: (change: Change) => void): () => void;
  /** A durable batch of this process. */
  applied(batch: Applied): void;
  /** Told the newest number of every read: whoever begins to listen hears of all that is newer. */
  seen(epoch: number, n: number): void;
  close(): Promise<void>;
}

export interface NoticesOptions {
  readonly schema: string;
  readonly side: Pool;
  /** One connection that only listens. */
  readonly ear: Pool;
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly from: CommitPosition;
  readonly feed: (after: CommitPosition, limit: number) => Promise<readonly FeedRow[]>;
  readonly head: () => Promise<CommitPosition>;
}

const hintEveryMs = 25;
const pollMs = { deaf: 100, hearing: 1_000 } as const;
const tryOutMs = 1_000;
const pageRows = 1_000;

export function openNotices(options: NoticesOptions): Notices {
  const { schema, side, ear, clock, random } = options;
  const me = options.ids.next();
  const listeners = new Set<(change: Change) => void>();
  /** Everything up to here has been told, or was there before anybody listened. */
  let told: CommitPosition = options.from;
  /** Own commits beyond `told`, which were told at once. */
  let ahead = new Set<number>();
  let hearing = false;
  let looking: Periodic | undefined;
  let listening: Periodic | undefined;
  let leave: (() => void) | undefined;
  let closed = false;
  let hinted = -Infinity;
  let hinting = false;

  function tell(n: number, rows: readonly { readonly keys: readonly string[] }[]): void {
    const keys = new Set<string>();
    const queues = new Set<string>();
    for (const row of rows)
      for (const key of row.keys) {
        if (key[0] === "r" || key[0] === "s") keys.add(key.slice(1));
        else if (key[0] === "q") queues.add(key.slice(1));
      }
    if (keys.size === 0 && queues.size === 0) return;
    const change: Change = { n, keys: [...keys], queues: [...queues] };
    for (const listener of listeners) listener(change);
  }

  async function look(): Promise<number> {
    for (let more = true; more && listeners.size > 0;) {
      let rows: readonly FeedRow[];
      try {
        rows = await options.feed(told, pageRows);
      } catch (error) {
        if (!Fault.is(error, "log.diverged") && !Fault.is(error, "log.trimmed")) throw error;
        const head = await options.head();
        ahead = new Set();
        // In an epoch that began meanwhile everything is news. Who slept through what is kept cannot tell any more what he missed.
        if (head.epoch !== told.epoch) {
          told = await beforeEpoch(options.feed, head);
          continue;
        }
        told = head;
        return 0;
      }
      const last = rows.at(-1);
      if (last) {
        tell(
          last.n,
          rows.filter(({ n }) => !ahead.has(n)),
        );
        if (last.n > told.n) told = { epoch: last.epoch, n: last.n };
        for (const n of ahead) if (n <= told.n) ahead.delete(n);
      }
      more = rows.length === pageRows;
    }
    return hearing ? pollMs.hearing : pollMs.deaf;
  }

  /** Listens for as long as the connection holds. */
  async function listen(): Promise<number> {
    await ear.use(async (session) => {
      if (session.pooled || closed) return;
      const ended = new Promise<void>((resolve) => {
        leave = resolve;
        session.onEnd(resolve);
      });
      await attend(session, ended);
      await ended;
      session.destroy();
    });
    hearing = false;
    return pollMs.hearing;
  }

  async function attend(session: Session, ended: Promise<void>): Promise<void> {
    const [row] = (await session.query<{ channel: string }>({ text: `select "${schema}".hint_channel_v1() as channel` })).rows;
    const probe = options.ids.next();
    const arrived = new Promise<boolean>((resolve) => {
      session.onNotice((_channel, payload) => {
        if (payload === probe) resolve(true);
        else if (payload !== me) looking?.soon();
      });
      void ended.then(() => resolve(false));
      clock.after(tryOutMs, () => resolve(false));
    });
    await session.query({ text: `listen "${row?.channel}"` });
    await hint(probe);
    hearing = await arrived;
    looking?.soon(); // what was committed before we heard
  }

  const hint = (payload: string) => side.query({ name: "hint", text: `select "${schema}".hint_v1($1)`, values: [payload] });

  /** The first of a burst at once, the rest together at the end of the interval. */
  function hintOthers(): void {
    if (hinting || closed) return;
    hinting = true;
    clock.after(Math.max(0, hinted + hintEveryMs - clock.monotonicMs()), () => {
      hinting = false;
      hinted = clock.monotonicMs();
      if (!closed) hint(me).catch(() => undefined); // they poll
    });
  }

  return {
    onChange(listener) {
      const own = (change: Change) => listener(change); // the same function twice is two listeners
      listeners.add(own);
      looking ??= periodic({ clock, random, firstMs: pollMs.deaf, round: look });
      listening ??= periodic({ clock, random, firstMs: 0, round: listen });
      return () => void listeners.delete(own);
    },
    applied({ epoch, head, commits }) {
      if (commits.length === 0) return;
      hintOthers();
      const newest = commits.at(-1)?.n ?? 0;
      if (listeners.size === 0) {
        told = { epoch, n: Math.max(told.epoch === epoch ? told.n : 0, head) };
        return;
      }
      tell(newest, commits);
      if (epoch === told.epoch && commits[0]?.n === told.n + 1 && newest === told.n + commits.length) {
        told = { epoch, n: newest };
        return;
      }
      for (const { n } of commits) if (epoch !== told.epoch || n > told.n) ahead.add(n);
      looking?.soon();
    },
    seen(epoch, n) {
      if (listeners.size === 0 && (epoch > told.epoch || n > told.n)) told = { epoch, n };
    },
    async close() {
      closed = true;
      leave?.();
      await Promise.all([looking?.stop(), listening?.stop()]);
    },
  };
}
