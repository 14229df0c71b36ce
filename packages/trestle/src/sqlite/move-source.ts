/**
 * The store in a SQLite file as what is left in a live move (store/move.ts). It reads over a connection of its own, while others use the store,
 * and asks the store itself for the three steps that write. Every method is one snapshot.
 */
import { realpathSync } from "node:fs";
import { Fault, type Clock } from "../kernel/index.ts";
import type { Gone, Head, IndexEntry, Moved, MovedJobState, MovePage, MovePart, MoveRow, MoveSource } from "../store/index.ts";
import { openForReading } from "./connection.ts";
import type { SqliteStore } from "./engine.ts";
import { laneState } from "./lane-state.ts";
import { movedTo } from "./moving-part.ts";
import { idBytes, idText, keysOf, type Row } from "./statements.ts";
import { jobStates } from "./schema.ts";
import { findToken, tokenWindows, type TokenWindow } from "./tokens-part.ts";

const stateNames = new Map(Object.entries(jobStates).map(([name, number]) => [number as number, name as MovedJobState]));
const eventColumns = "position, stream, version, n, id, type, data, meta, at";
const recordColumns = "id, key, value, n, created, expires, indexed";
const jobColumns = "seq, id, queue, state, priority, place, due, sent, attempt, key, uniq, grp, cancelled, epoch, n, lease, holder, error, until, payload";

/** `store` is the same file, opened; it is closed with the source. */
export function moveSource(path: string, store: SqliteStore, clock: Clock): MoveSource {
  const db = openForReading(path);
  const { sql } = laneState(db);
  const present = <T>(value: T | null | undefined): value is T => value !== null && value !== undefined;

  /** One snapshot over several statements. */
  function snapshot<T>(work: () => T): T {
    sql("begin").run();
    try {
      return work();
    } finally {
      sql("commit").run();
    }
  }

  const indexOf = (record: number): IndexEntry[] =>
    sql("select field, value from trestle_entries indexed by trestle_entries_record where record = ? order by field, value")
      .all(record)
      .map(([field, value]) => ({ field: field as string, value: value as string | number }));

  const rowOf: { readonly [P in MovePart]: (row: Row) => MoveRow } = {
    commit([n, epoch, id, at, keys]) {
      return {
        part: "commit",
        id: `n${String(n).padStart(16, "0")}`,
        n: n as number,
        ...(present(id) ? { commit: idText(id as Uint8Array) } : {}),
        epoch: epoch as number,
        atMs: at as number,
        keys: keysOf(keys as string),
      };
    },
    event([position, stream, version, n, id, type, bytes, meta, at]) {
      return {
        part: "event",
        id: position as number,
        stream: stream as string,
        version: version as number,
        n: n as number,
        event: idText(id as Uint8Array),
        type: type as string,
        data: bytes as Uint8Array,
        ...(present(meta) ? { meta: meta as Uint8Array } : {}),
        atMs: at as number,
      };
    },
    stream: ([stream, version, n]) => ({ part: "stream", id: stream as string, version: version as number, n: n as number }),
    record([id, key, value, n, created, expires, indexed]) {
      return {
        part: "record",
        id: key as string,
        value: value as Uint8Array,
        version: n as number,
        created: created as number,
        ...(present(expires) ? { expiresAtMs: expires as number } : {}),
        index: indexed ? indexOf(id as number) : [],
      };
    },
    token: ([key, value, n, keepUntil]) => ({
      part: "token",
      id: key as string,
      value: value as Uint8Array,
      version: n as number,
      keepUntilMs: keepUntil as number,
    }),
    job([seq, id, queue, state, priority, place, due, sent, attempt, key, uniq, grp, cancelled, epoch, n, lease, holder, error, until, payload]) {
      return {
        part: "job",
        id: idText(id as Uint8Array),
        seq: seq as number,
        queue: queue as string,
        state: stateNames.get(state as number) as MovedJobState,
        priority: priority as number,
        place: place as number,
        dueAtMs: due as number,
        sentAtMs: sent as number,
        attempt: attempt as number,
        ...(present(key) ? { key: key as string } : {}),
        ...(present(uniq) ? { unique: uniq as string } : {}),
        ...(present(grp) ? { group: grp as string } : {}),
        cancelled: cancelled === 1,
        ...(present(epoch) ? { epoch: epoch as number } : {}),
        ...(present(n) ? { n: n as number } : {}),
        ...(present(lease) ? { leaseUntilMs: lease as number } : {}),
        ...(present(holder) ? { holder: holder as string } : {}),
        ...(present(error) ? { error: error as string } : {}),
        ...(present(until) ? { untilMs: until as number } : {}),
        payload: payload as Uint8Array,
      };
    },
    queue: ([queue]) => queueRow(queue as string) as MoveRow,
  };

  function queueRow(queue: string): MoveRow | undefined {
    const paused = sql("select 1 from trestle_paused where queue = ?").get(queue) !== undefined;
    const rates = sql("select scope, next from trestle_rates where queue = ? order by scope").all(queue) as unknown as [string, number][];
    return paused || rates.length > 0 ? { part: "queue", id: queue, paused, rates } : undefined;
  }

  /** The pages of a part: rows after an id, in its order. */
  const pages: { readonly [P in Exclude<MovePart, "token" | "commit">]: (after: string | number | undefined, limit: number) => readonly Row[] } = {
    event: (after, limit) => sql(`select ${eventColumns} from trestle_events where position > ? order by position limit ? + 0`).all(after ?? 0, limit),
    stream: (after, limit) => sql("select stream, version, n from trestle_heads where stream > ? order by stream limit ? + 0").all(after ?? "", limit),
    record: (after, limit) =>
      sql(`select ${recordColumns} from trestle_records indexed by trestle_records_key where key > ? order by key limit ? + 0`).all(after ?? "", limit),
    job: (after, limit) =>
      sql(`select ${jobColumns} from trestle_jobs where id > ? order by id limit ? + 0`).all(
        after === undefined ? new Uint8Array(0) : idBytes(after as string),
        limit,
      ),
    queue: (after, limit) =>
      sql("select queue from trestle_paused where queue > ?1 union select queue from trestle_rates where queue > ?1 order by 1 limit ?2 + 0").all(
        after ?? "",
        limit,
      ),
  };

  /** Numbered commits first, then ids that were resolved. */
  function commitPage(after: string | undefined, limit: number): MoveRow[] {
    const rows: MoveRow[] = [];
    if (after === undefined || after.startsWith("n"))
      rows.push(
        ...sql("select n, epoch, id, at, keys from trestle_commits where n > ? order by n limit ? + 0")
          .all(after === undefined ? 0 : Number(after.slice(1)), limit)
          .map(rowOf.commit),
      );
    if (rows.length < limit) {
      const id = after?.startsWith("r") ? idBytes(after.slice(1)) : new Uint8Array(0);
      for (const [resolved, at] of sql("select id, at from trestle_resolved where id > ? order by id limit ? + 0").all(id, limit - rows.length))
        rows.push(resolvedRow(resolved as Uint8Array, at as number));
    }
    return rows;
  }
  const resolvedRow = (id: Uint8Array, atMs: number): MoveRow => ({
    part: "commit",
    id: `r${idText(id)}`,
    commit: idText(id),
    epoch: store.epoch,
    atMs,
    keys: [],
  });

  const keepUntil = ({ number, classMs }: TokenWindow): number => (number + 2) * classMs;

  /** Over all windows in the order of the key; where two have one, the newer. */
  function tokenPage(after: string, limit: number): MoveRow[] {
    const windows = tokenWindows(sql);
    const found = new Map<string, MoveRow & { part: "token" }>();
    for (const window of windows)
      for (const row of sql(`select key, value, n, ? from ${window.table} where key > ? order by key limit ? + 0`).all(keepUntil(window), after, limit)) {
        const token = rowOf.token(row) as MoveRow & { part: "token" };
        const known = found.get(token.id);
        if (!known || known.version < token.version) found.set(token.id, token);
      }
    return [...found.values()].sort((a, b) => Buffer.compare(Buffer.from(a.id), Buffer.from(b.id))).slice(0, limit);
  }

  function page(part: MovePart, after: string | number | undefined, limit: number): MovePage {
    return snapshot(() => {
      const rows =
        part === "token"
          ? tokenPage((after ?? "") as string, limit)
          : part === "commit"
            ? commitPage(after as string | undefined, limit)
            : pages[part](after, limit).map(rowOf[part]);
      return { rows, next: rows.length < limit ? undefined : rows.at(-1)?.id };
    });
  }

  function tokenNow(key: string): MoveRow | undefined {
    const windows = tokenWindows(sql);
    const newest = findToken(sql, windows, key);
    if (!newest) return undefined;
    const window = windows.find(({ table }) => sql(`select 1 from ${table} where key = ? and n = ?`).get(key, newest.version)) as TokenWindow;
    return rowOf.token([key, newest.value, newest.version, keepUntil(window)]);
  }

  function one(part: MovePart, id: string | number): Moved {
    const gone: Gone = { part, id, gone: true };
    const row = (text: string, ...parameters: (string | number | Uint8Array)[]) => {
      const found = sql(text).get(...parameters);
      return found ? rowOf[part](found) : gone;
    };
    switch (part) {
      case "event":
        return row(`select ${eventColumns} from trestle_events where position = ?`, id);
      case "stream":
        return row("select stream, version, n from trestle_heads where stream = ?", id);
      case "record":
        return row(`select ${recordColumns} from trestle_records where key = ?`, id);
      case "token":
        return tokenNow(id as string) ?? gone;
      case "job":
        return row(`select ${jobColumns} from trestle_jobs where id = ?`, idBytes(id as string));
      case "queue":
        return queueRow(id as string) ?? gone;
      case "commit": {
        const text = id as string;
        if (text.startsWith("n")) return row("select n, epoch, id, at, keys from trestle_commits where n = ?", Number(text.slice(1)));
        const at = sql("select at from trestle_resolved where id = ?").get(idBytes(text.slice(1)))?.[0];
        return present(at) ? resolvedRow(idBytes(text.slice(1)), at as number) : gone;
      }
    }
  }

  function head(): Head {
    const { epoch, n, position } = laneState(db);
    return { epoch, n, position };
  }

  return {
    identity: `sqlite:${realpathSync(path)}`,
    epoch: store.epoch,
    nowMs: () => clock.wallMs(),
    head: () => snapshot(head),
    userTables: () =>
      sql(
        "select name from sqlite_schema where type = 'table' and name not like 'trestle\\_%' escape '\\' and name not like 'sqlite\\_%' escape '\\' order by name",
      )
        .all()
        .map(([name]) => name as string),
    rows: (statement) => store.read.rows(statement),
    async capture() {
      await store.move("capture");
    },
    async release() {
      await store.move("release");
    },
    page,
    count(part, nowMs) {
      const number = (text: string, ...parameters: number[]) => Number(sql(text).get(...parameters)?.[0]);
      switch (part) {
        case "commit":
          return snapshot(() => number("select count(*) from trestle_commits") + number("select count(*) from trestle_resolved"));
        case "event":
          return number("select count(*) from trestle_events");
        case "stream":
          return number("select count(*) from trestle_heads");
        case "record":
          return snapshot(
            () =>
              number("select count(*) from trestle_records") -
              number("select count(*) from trestle_records indexed by trestle_records_expires where expires is not null and expires <= ?", nowMs),
          );
        case "token":
          return snapshot(() => {
            const union = tokenWindows(sql)
              .filter((window) => keepUntil(window) > nowMs)
              .map(({ table }) => `select key from ${table}`);
            return union.length === 0 ? 0 : number(`select count(*) from (${union.join(" union ")})`);
          });
        case "job":
          return number("select count(*) from trestle_jobs");
        case "queue":
          return number("select count(*) from (select queue from trestle_paused union select queue from trestle_rates)");
      }
    },

    changes(after, limit) {
      return snapshot(() => {
        const commits = sql("select n, epoch, id, at, keys from trestle_commits where n > ? order by n limit ? + 0").all(after.n, limit);
        const jobs = sql("select at, job from trestle_moving where at > ? order by at limit ? + 0").all(after.jobChange, 4 * limit);
        const events = sql(`select ${eventColumns} from trestle_events where position > ? order by position limit ? + 0`).all(after.position, 4 * limit);
        const touched = new Map<string, Moved>();
        const queues = new Set<string>();
        for (const [, , , , keys] of commits) {
          for (const key of keysOf(keys as string)) {
            const rest = key.slice(1);
            if (key.startsWith("r")) touched.set(key, one("record", rest));
            else if (key.startsWith("t")) touched.set(key, one("token", rest));
            else if (key.startsWith("s")) {
              touched.set(key, one("stream", rest));
              const first = sql("select version from trestle_events where stream = ? order by version limit 1").get(rest)?.[0] as number | undefined;
              const trimmedTo =
                first === undefined ? (sql("select version from trestle_heads where stream = ?").get(rest)?.[0] as number | undefined) : first - 1;
              if (trimmedTo) touched.set(`trim ${key}`, { part: "event", stream: rest, trimmedTo });
            }
          }
        }
        for (const [, job] of jobs) {
          const id = idText(job as Uint8Array);
          touched.set(`job ${id}`, one("job", id));
        }
        for (const row of touched.values()) if (row.part === "job" && "queue" in row) queues.add(row.queue);
        const more = commits.length === limit || jobs.length === 4 * limit || events.length === 4 * limit;
        return {
          rows: [...commits.map(rowOf.commit), ...events.map(rowOf.event), ...touched.values(), ...[...queues].map((queue) => one("queue", queue))],
          next: {
            n: (commits.at(-1)?.[0] as number | undefined) ?? after.n,
            position: (events.at(-1)?.[0] as number | undefined) ?? after.position,
            jobChange: (jobs.at(-1)?.[0] as number | undefined) ?? after.jobChange,
          },
          atEnd: !more,
        };
      });
    },

    look: (part, ids) => snapshot(() => ids.map((id) => one(part, id))),

    async seal(url) {
      const known = this.sealed();
      if (known) {
        if (known.url === url) return known.head;
        throw Fault.create("move.already-moved", `the store has moved to ${known.url} already`, "Continue that move, or open the store there.");
      }
      await store.move("seal", url);
      return snapshot(head);
    },
    async unseal() {
      await store.move("unseal");
    },
    sealed() {
      const url = movedTo({ sql });
      return url === undefined ? undefined : { url, head: head() };
    },
    async close() {
      db.close();
      await store.close();
    },
  };
}
