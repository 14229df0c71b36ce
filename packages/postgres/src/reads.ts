/**
 * Reads of the durable state. Each is one statement, so one snapshot, and answers beside its rows the newest commit that the
 * snapshot could see; when that one may not be on disk yet, the answer waits for the flush barrier (FINDINGS F1).
 */
import { Fault } from "trestle/kernel";
import { limits, type CommitRow, type EventRow, type Head, type Reader, type RecordRow, type TokenRow, type Written } from "trestle/store";
import type { FlushBarrier } from "./barrier.ts";
import type { Connection } from "./connection.ts";

export type CommitReader = Pick<Reader, "records" | "token" | "stream" | "streamVersion" | "log" | "commits" | "head">;

// Index: commit_number, read from its end.
const newest = "(select c.n from commit c where c.n is not null order by c.n desc limit 1)";
const storeNow = "floor(extract(epoch from clock_timestamp()) * 1000)";
const eventColumns = "e.position, e.stream, e.version, e.id, e.type, e.data, e.meta, e.at_ms, e.n";

const statements = {
  // Index: record_pkey, one probe for each key.
  records: `select x.i, r.key, r.value, r.version, r.created, r.expires_at_ms, ${newest} as newest
    from unnest($1::text[]) with ordinality x (key, i) left join record r on r.key = x.key and (r.expires_at_ms is null or r.expires_at_ms > ${storeNow}) order by x.i`,
  // Index: token_pkey.
  token: `select t.value, t.version, ${newest} as newest from (select 1) one left join token t on t.key = $1 and t.keep_until_ms > ${storeNow}`,
  // Index: event_stream, forwards from the version.
  stream: `select ${eventColumns}, ${newest} as newest from event e where e.stream = $1 and e.version > $2 order by e.version limit $3`,
  // Index: event_stream, one probe from its end.
  streamVersion: `select (select e.version from event e where e.stream = $1 order by e.version desc limit 1) as version, ${newest} as newest`,
  // Index: event_pkey, forwards from the position.
  log: `select ${eventColumns}, s.epoch, ${newest} as newest from store s left join lateral (select * from event e where e.position > $1 order by e.position limit $2) e on true order by e.position`,
  // Index: commit_number, forwards from the number.
  commits: `select c.n, c.epoch, c.id, c.at_ms, c.keys, ${newest} as newest from commit c where c.n > $1 order by c.n limit $2`,
  head: `select s.epoch, ${newest} as newest, (select e.position from event e order by e.position desc limit 1) as position from store s`,
} as const;

const writtenKinds: Readonly<Record<string, Written["kind"]>> = { r: "record", s: "stream", t: "token", j: "job" };

// 64-bit numbers arrive as text; ours stay far below 2^53.
interface Seen {
  readonly newest: string | null;
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

export function commitReader(connection: Connection, barrier: FlushBarrier): CommitReader {
  async function ask<Row extends object>(name: keyof typeof statements, values: readonly unknown[]): Promise<readonly (Row & Seen)[]> {
    const rows = await connection.query<Row & Seen>({ name, text: statements[name], values });
    const newest = rows[0]?.newest;
    if (newest) await barrier.pass(Number(newest));
    return rows;
  }

  return {
    async records(keys) {
      const rows = await ask<{ key: string | null; value: Buffer; version: string; created: string; expires_at_ms: string | null }>("records", [keys]);
      return rows.map((row): RecordRow | undefined =>
        row.key === null
          ? undefined
          : {
              key: row.key,
              value: row.value,
              version: Number(row.version),
              created: Number(row.created),
              expiresAtMs: row.expires_at_ms === null ? undefined : Number(row.expires_at_ms),
            },
      );
    },
    async token(key) {
      const [row] = await ask<{ value: Buffer | null; version: string }>("token", [key]);
      return row?.value ? ({ value: row.value, version: Number(row.version) } satisfies TokenRow) : undefined;
    },
    async stream(stream, { after, limit }) {
      return (await ask<EventCells>("stream", [stream, after, Math.min(limit, limits.pageRowsMax)])).map(eventRow);
    },
    async streamVersion(stream) {
      return Number((await ask<{ version: string | null }>("streamVersion", [stream]))[0]?.version ?? 0);
    },
    async log({ after, components, limit }) {
      const wanted = Math.min(limit, limits.pageRowsMax);
      const rows = await ask<{ [Cell in keyof EventCells]: EventCells[Cell] | null } & { epoch: number }>("log", [after.position, wanted]);
      const epoch = rows[0]?.epoch ?? 0;
      if (after.position > 0 && after.epoch !== epoch) {
        throw Fault.create(
          "log.diverged",
          `The log is in epoch ${epoch}, and the position asked for is of epoch ${after.epoch}.`,
          "Read from the start of this epoch; what was read before may have been undone.",
        );
      }
      const events = rows.filter((row): row is EventCells & Seen & { epoch: number } => row.position !== null).map(eventRow);
      const last = events.at(-1)?.position ?? after.position;
      return {
        events: components ? events.filter((event) => components.includes(event.stream.slice(0, event.stream.indexOf("/")))) : events,
        next: { epoch, position: last },
        atEnd: events.length < wanted,
      };
    },
    async commits({ after, limit }) {
      const rows = await ask<{ n: string; epoch: number; id: string; at_ms: string; keys: readonly string[] }>("commits", [
        after.n,
        Math.min(limit, limits.pageRowsMax),
      ]);
      return rows.map((row): CommitRow => ({
        epoch: row.epoch,
        n: Number(row.n),
        id: row.id,
        atMs: Number(row.at_ms),
        wrote: row.keys.map((key) => ({ kind: writtenKinds[key[0] as string] as Written["kind"], key: key.slice(1) })),
      }));
    },
    async head() {
      const [row] = await ask<{ epoch: number; position: string | null }>("head", []);
      return { epoch: row?.epoch ?? 0, n: Number(row?.newest ?? 0), position: Number(row?.position ?? 0) } satisfies Head;
    },
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
