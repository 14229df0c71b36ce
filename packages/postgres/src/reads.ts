/**
 * Reads of the durable state. Each is one function of sql/reads.sql, so one snapshot, which answers after its rows the newest commit
 * it could have seen; when that one may not be on disk yet, the answer waits for the flush barrier (FINDINGS F1).
 */
import { Fault } from "trestle/kernel";
import { limits, type CommitPosition, type CommitRow, type EventRow, type ListQuery, type Reader, type RecordRow, type Written } from "trestle/store";
import type { FlushBarrier } from "./barrier.ts";
import { wasRolledBack, type Pool } from "./sessions.ts";

export type StoreReads = Pick<Reader, "records" | "list" | "token" | "stream" | "streamVersion" | "log" | "commits" | "head">;

export interface ReadsOptions {
  readonly schema: string;
  readonly pool: Pool;
  readonly barrier: FlushBarrier;
  /** The store's clock, when it is not the server's. */
  readonly nowMs: () => number | null;
  /** Told the newest number of every read. */
  readonly seen: (epoch: number, head: number) => void;
}

/** What the last row of every read says. */
interface Seen {
  readonly epoch: number;
  readonly newest: string;
  readonly life: string | null;
}
/** 64-bit numbers arrive as text; ours stay far below 2^53. */
interface RecordCells {
  readonly key: string | null;
  readonly value: Buffer;
  readonly version: string;
  readonly created: string;
  readonly expires_at_ms: string | null;
}
interface EventCells {
  readonly position: string;
  readonly stream: string;
  readonly version: string;
  readonly id: string;
  readonly type: string;
  readonly data: Buffer;
  readonly meta: Buffer | null;
  readonly at_ms: string;
  readonly n: string;
}
interface CommitCells {
  readonly n: string;
  readonly epoch: number;
  readonly id: string;
  readonly at_ms: string;
  readonly keys: readonly string[];
}

/** Events that one page of `log` looks at, when a filter lets few of them through. */
const scannedEventsMax = 10_000;
/** Above every key: keys have at most 512 bytes. */
const aboveAllKeys = "\u{10ffff}".repeat(limits.keyBytesMax / 4 + 1);
/** Above every number. */
const aboveAllNumbers = Number.MAX_SAFE_INTEGER;

export function storeReads(options: ReadsOptions): StoreReads & { feed(after: CommitPosition, limit: number): Promise<readonly FeedRow[]> } {
  const { schema, pool, barrier, nowMs } = options;

  /** The rows, and what the last one says. A connection lost while reading is no news to the caller: the question is asked again. */
  async function ask<Row extends object>(name: string, values: readonly unknown[]): Promise<{ readonly rows: readonly Row[]; readonly last: Row & Seen }> {
    const text = `select * from "${schema}".${name}_v1(${values.map((_, at) => `$${at + 1}`).join(", ")})`;
    for (let attempt = 1; ; attempt++) {
      try {
        const all = await pool.query<Row & Seen>({ name, text, values });
        const last = all.at(-1) as Row & Seen;
        const newest = Number(last.newest);
        await barrier.pass({ epoch: last.epoch, n: newest, life: last.life });
        options.seen(last.epoch, newest);
        return { rows: all.slice(0, -1), last };
      } catch (error) {
        if (Fault.is(error)) throw error;
        if (wasRolledBack(error) || attempt >= 3) throw readFault(error);
      }
    }
  }
  const page = (limit: number) => Math.max(0, Math.min(limit, limits.pageRowsMax));

  async function feed(after: CommitPosition, limit: number): Promise<readonly FeedRow[]> {
    const { rows, last } = await ask<CommitCells>("read_commits", [after.n, page(limit)]);
    const end = Number(last.newest);
    if (after.epoch !== last.epoch || after.n > end)
      throw diverged(`commit ${after.epoch}-${after.n}`, `${last.epoch}-${end}`, { asked: after, epoch: last.epoch, end });
    const trimmed = Number(last.at_ms);
    if (after.n > 0 && after.n < trimmed)
      throw Fault.create(
        "log.trimmed",
        `commits after ${after.n} were asked for; the change feed is kept from ${trimmed + 1} on`,
        "Read the state itself once, then follow the feed from the head you had before it.",
        { details: { asked: after, kept: trimmed + 1 } },
      );
    return rows.map((row) => ({ epoch: row.epoch, n: Number(row.n), id: row.id, atMs: Number(row.at_ms), keys: row.keys }));
  }

  return {
    feed,
    async records(keys) {
      const { rows } = await ask<RecordCells>("read_records", [nowMs(), keys]);
      return rows.map((row) => (row.key === null ? undefined : recordRow(row as RecordCells & { key: string })));
    },
    async list(query) {
      const { rows } = await ask<RecordCells>("list_records", listing(query, nowMs(), page(query.limit)));
      return rows.map((row) => recordRow(row as RecordCells & { key: string }));
    },
    async token(key) {
      const { rows } = await ask<{ value: Buffer; version: string }>("read_token", [nowMs(), key]);
      return rows[0] && { value: rows[0].value, version: Number(rows[0].version) };
    },
    async stream(stream, { after, before = aboveAllNumbers, order, limit }) {
      return (await ask<EventCells>("read_stream", [stream, after, before, order === "newest", page(limit)])).rows.map(eventRow);
    },
    async streamVersion(stream) {
      return Number((await ask<{ version: string | null }>("read_stream_version", [stream])).rows[0]?.version ?? 0);
    },
    async log({ after, components, types, limit }) {
      const wanted = page(limit);
      const { rows, last } = await ask<EventCells>("read_log", [after.position, components ?? null, types ?? null, wanted, scannedEventsMax]);
      const { epoch } = last;
      const end = Number(last.position);
      if (after.epoch !== epoch || after.position > end)
        throw diverged(`position ${after.epoch}-${after.position}`, `${epoch}-${end}`, { asked: after, epoch, end });
      const events = rows.map(eventRow);
      const position = events.length === wanted ? (events.at(-1)?.position ?? after.position) : Number(last.n);
      return { events, next: { epoch, position }, atEnd: position >= end };
    },
    async commits({ after, limit }) {
      return (await feed(after, limit)).map(({ keys, ...row }): CommitRow => ({
        ...row,
        wrote: keys.flatMap((key): Written[] => {
          const kind = writtenKinds[key[0] as string];
          return kind ? [{ kind, key: key.slice(1) }] : [];
        }),
      }));
    },
    async head() {
      const { last } = await ask<{ position: string }>("read_head", []);
      return { epoch: last.epoch, n: Number(last.newest), position: Number(last.position) };
    },
  };
}

const writtenKinds: Readonly<Record<string, Written["kind"]>> = { r: "record", s: "stream", t: "token", j: "job" };

function diverged(asked: string, head: string, details: Readonly<Record<string, unknown>>): Fault {
  return Fault.create(
    "log.diverged",
    `${asked} is not of this log, which is at ${head}`,
    "The history was cut (restore, promotion, move): start again from a position this store gave.",
    { details },
  );
}

/** A row of the feed with the letters before its keys: what was written, and which queues have work. */
export interface FeedRow extends CommitPosition {
  readonly id: string;
  readonly atMs: number;
  readonly keys: readonly string[];
}

function listing({ prefix, where, order, after }: ListQuery, nowMs: number | null, limit: number): readonly unknown[] {
  const second = prefix.indexOf("/", prefix.indexOf("/") + 1);
  const home = prefix.includes("/") && second > 0 ? prefix.slice(0, second + 1) : null;
  const newest = order === "newest";
  return [
    nowMs,
    home,
    prefix,
    above(prefix),
    where?.field ?? null,
    where === undefined ? null : JSON.stringify(where.value),
    newest,
    after && newest ? after.created : aboveAllNumbers,
    after?.key ?? "",
    limit,
  ];
}

/**
 * The smallest text above every text that starts with `prefix`. Code points order as their UTF-8 bytes do, so it is enough to
 * raise the last one; surrogates are stepped over.
 */
function above(prefix: string): string {
  const points = Array.from(prefix, (point) => point.codePointAt(0) as number);
  for (let last = points.pop(); last !== undefined; last = points.pop()) {
    if (last < 0x10_ffff) return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
  }
  return aboveAllKeys;
}

function recordRow(row: RecordCells & { readonly key: string }): RecordRow {
  return {
    key: row.key,
    value: row.value,
    version: Number(row.version),
    created: Number(row.created),
    expiresAtMs: row.expires_at_ms === null ? undefined : Number(row.expires_at_ms),
  };
}

function eventRow(cells: EventCells): EventRow {
  return {
    position: Number(cells.position),
    stream: cells.stream,
    version: Number(cells.version),
    id: cells.id,
    type: cells.type,
    data: cells.data,
    meta: cells.meta ?? undefined,
    atMs: Number(cells.at_ms),
    commit: Number(cells.n),
  };
}

function readFault(cause: unknown): Fault {
  return Fault.create("store.unreachable", `PostgreSQL did not answer a read: ${(cause as Error).message}`, "Read the cause; reading again is safe.", {
    cause,
  });
}
