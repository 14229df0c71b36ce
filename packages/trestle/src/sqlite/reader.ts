/**
 * The port's reads over one connection. Each method is one statement, or one read transaction: one snapshot. Over 400 lines because they
 * share connection, statements and the forms of rows.
 */
import type { DatabaseSync } from "node:sqlite";
import { Fault, type Clock } from "../kernel/index.ts";
import {
  limits,
  type CommitRow,
  type EventRow,
  type GroupDepth,
  type JobRow,
  type JobState,
  type QueueDepth,
  type Reader,
  type RecordRow,
  type StoreKey,
  type TokenRow,
  type Written,
} from "../store/index.ts";
import { KnownTokens } from "./known-tokens.ts";
import { headRow, tailVersion } from "./log-part.ts";
import { jobStates, keptStates } from "./schema.ts";
import { afterPrefix, homeOf, idBytes, idText, keysOf, preparing, type Row } from "./statements.ts";
import { findToken, tokenWindows, type TokenWindow } from "./tokens-part.ts";
import { userSql, type UserSql } from "./user-sql.ts";

export interface ReaderOptions {
  readonly db: DatabaseSync;
  readonly clock: Clock;
  readonly epoch: number;
  /** The user's SQL, when the connection has its authorizer already (inline: the lane's). */
  readonly user?: UserSql;
  /** Resolves when the state may be read. Inline, an open transaction is seen by its own connection only. */
  readonly whenReadable?: () => Promise<void> | undefined;
}

/** Events that one page of `log` looks at, when a filter lets few of them through. */
const scannedEventsMax = 10_000;

const recordColumns = "key, value, n, created, expires";
const eventColumns = "position, stream, version, id, type, data, meta, at, n";
const stateNames = new Map<number, JobState>([
  [jobStates.ready, "waiting"],
  [jobStates.behind, "waiting"],
  [jobStates.retrying, "waiting"],
  [jobStates.scheduled, "waiting"],
  [jobStates.running, "running"],
  [jobStates.dead, "dead"],
  [jobStates.parked, "parked"],
  [jobStates.undetermined, "undetermined"],
  [jobStates.done, "done"],
]);
const statesOf = (name: JobState): string =>
  [...stateNames]
    .filter(([, of]) => of === name)
    .map(([state]) => state)
    .join(", ");

export function openReader({ db, clock, epoch, user: shared, whenReadable }: ReaderOptions): Reader {
  const sql = preparing(db);
  const user = shared ?? userSql(db);
  // The lane's own connection keeps its pages, and sees rows that may be taken back.
  const knowsTokens = shared === undefined;
  let windows: readonly TokenWindow[] = [];
  let windowsOf = -1;
  let knownTokens: ReadonlyMap<string, KnownTokens> = new Map();
  let askedTokens: { readonly key: StoreKey; readonly resolve: (found: TokenRow | undefined) => void; readonly reject: (error: unknown) => void }[] = [];

  const page = (limit: number): number => Math.max(0, Math.min(limit, limits.pageRowsMax));

  async function reading<T>(work: () => T): Promise<T> {
    // When one transaction has ended the next one may have begun.
    for (let busy = whenReadable?.(); busy; busy = whenReadable?.()) await busy;
    return work();
  }

  /** Several statements over one snapshot. */
  function snapshot<T>(work: () => T): T {
    if (db.isTransaction) return work();
    sql("begin").run();
    try {
      return work();
    } finally {
      sql("commit").run();
    }
  }

  function currentWindows(): readonly TokenWindow[] {
    const version = Number(sql("pragma schema_version").get()?.[0]);
    if (version !== windowsOf) {
      windows = tokenWindows(sql);
      windowsOf = version;
      if (knowsTokens)
        knownTokens = new Map(
          windows.map(({ table }) => {
            const known = knownTokens.get(table);
            return [table, known?.isStill(sql) ? known : new KnownTokens(table)];
          }),
        );
    }
    return windows;
  }

  /**
   * Requests come in bursts, and an idempotent one begins by looking for its token. SQLite drops its pages at each snapshot behind a commit, so a
   * snapshot for each token costs three times the look itself: a burst looks together, and only for what may be there (known-tokens.ts).
   */
  async function findTokens(): Promise<void> {
    const asked = askedTokens;
    askedTokens = [];
    try {
      const found = await reading(() =>
        snapshot(() => {
          const all = currentWindows().map((window) => {
            const known = knownTokens.get(window.table);
            return { window, known: known?.catchUp(sql) ? known : undefined };
          });
          return asked.map(({ key }) => {
            let may: TokenWindow[] | undefined;
            for (const { window, known } of all) if (known?.mayHave(key) ?? true) (may ??= []).push(window);
            return may && findToken(sql, may, key);
          });
        }),
      );
      asked.forEach(({ resolve }, at) => resolve(found[at]));
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }

  function depth(queue: string): QueueDepth {
    const one = (text: string): Row => sql(text).get(queue) as Row;
    const ready =
      Number(one("select count(*) from trestle_jobs indexed by trestle_jobs_ready where queue = ? and state = 1 and grp is null")[0]) +
      Number(one("select count(*) from trestle_jobs indexed by trestle_jobs_turns where queue = ? and state = 1 and grp is not null")[0]);
    const [behind, behindPlace] = one(
      "select count(*), min(place) from trestle_jobs indexed by trestle_jobs_behind where queue = ? and state = 6",
    ) as unknown as [number, number | null];
    const later = Number(one("select count(*) from trestle_jobs indexed by trestle_jobs_due where queue = ? and state in (3, 7)")[0]);
    const kept = new Map(
      sql(`select state, count(*) from trestle_jobs indexed by trestle_jobs_kept where queue = ? and ${keptStates} group by state order by state`).all(
        queue,
      ) as unknown as [number, number][],
    );
    const running = Number(one("select count(*) from trestle_jobs indexed by trestle_jobs_lease where queue = ? and state = 2")[0]);
    const dues: number[] = [];
    // The oldest of each priority is the first of its part of the index.
    const firsts = (index: string, where: string, ...of: readonly string[]) => {
      const text = (more: string) =>
        `select priority, due from trestle_jobs indexed by ${index} where queue = ? and state = 1 and ${where}${more} order by priority, place, seq limit 1`;
      for (let at = sql(text("")).get(queue, ...of); at; at = sql(text(" and priority > ?")).get(queue, ...of, at[0] as number)) dues.push(at[1] as number);
    };
    firsts("trestle_jobs_ready", "grp is null");
    for (const group of groupsOf("trestle_jobs_turns where state = 1", queue)) firsts("trestle_jobs_turns", "grp = ?", group);
    if (behindPlace !== null)
      dues.push(sql("select min(due) from trestle_jobs where queue = ? and state = 6 and place = ?").get(queue, behindPlace)?.[0] as number);
    const nowMs = clock.wallMs();
    const joining = sql("select due from trestle_jobs indexed by trestle_jobs_due where queue = ? and state in (3, 7) order by due limit 1").get(queue)?.[0] as
      number | undefined;
    if (joining !== undefined && joining <= nowMs) dues.push(joining);
    return {
      queue,
      waiting: ready + behind + later,
      running,
      dead: kept.get(jobStates.dead) ?? 0,
      parked: kept.get(jobStates.parked) ?? 0,
      undetermined: kept.get(jobStates.undetermined) ?? 0,
      oldestAgeMs: Math.max(0, nowMs - dues.reduce((oldest, due) => Math.min(oldest, due), nowMs)),
      paused: sql("select 1 from trestle_paused where queue = ?").get(queue) !== undefined,
    };
  }

  /** Names of the groups in one of the indexes that hold them, by one seek each. */
  function* groupsOf(part: string, queue: string, from?: string): Generator<string> {
    const next = (than: string) => `select grp from trestle_jobs indexed by ${part} and queue = ? and grp ${than} order by grp limit 1`;
    let row = from === undefined ? sql(next("is not null")).get(queue) : sql(next("> ?")).get(queue, from);
    for (; row; row = sql(next("> ?")).get(queue, row[0] as string)) yield row[0] as string;
  }

  function groups(queue: string, after: string | undefined, limit: number): readonly GroupDepth[] {
    const names = new Set<string>();
    for (const part of ["trestle_jobs_turns where state = 1", "trestle_jobs_held where state = 2"]) {
      let left = limit;
      for (const group of groupsOf(part, queue, after)) {
        if (left-- === 0) break;
        names.add(group);
      }
    }
    const count = (index: string, state: number, group: string) =>
      Number(sql(`select count(*) from trestle_jobs indexed by ${index} where queue = ? and state = ${state} and grp = ?`).get(queue, group)?.[0]);
    return [...names]
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .slice(0, limit)
      .map((group) => ({ group, ready: count("trestle_jobs_turns", 1, group), running: count("trestle_jobs_held", 2, group) }));
  }

  /** Distinct queues, by one seek each over the partial indexes; running jobs are few. */
  function queueNames(): string[] {
    const names = new Set(
      sql("select distinct queue from trestle_jobs indexed by trestle_jobs_lease where state = 2 order by queue")
        .all()
        .map(([name]) => name as string),
    );
    for (const [name] of sql("select queue from trestle_paused order by queue").all()) names.add(name as string);
    for (const part of [
      "trestle_jobs_ready where state = 1 and grp is null",
      "trestle_jobs_turns where state = 1 and grp is not null",
      "trestle_jobs_behind where state = 6",
      "trestle_jobs_due where state in (3, 7)",
      `trestle_jobs_kept where ${keptStates}`,
    ]) {
      const text = `select min(queue) from trestle_jobs indexed by ${part} and queue > ?`;
      for (let row = sql(text).get(""); row && row[0] !== null; row = sql(text).get(row[0] as string)) names.add(row[0] as string);
    }
    return [...names].sort();
  }

  function list(query: Parameters<Reader["list"]>[0]): readonly RecordRow[] {
    const { prefix, where, order, after } = query;
    const limit = page(query.limit);
    const upper = afterPrefix(prefix);
    const home = homeOf(prefix);
    const nowMs = clock.wallMs();
    const conditions: string[] = ["(r.expires is null or r.expires > ?)", "r.key >= ?"];
    const parameters: (string | number)[] = [nowMs, prefix];
    if (upper !== undefined) (conditions.push("r.key < ?"), parameters.push(upper));
    // The home's own index gives `newest` without a sort; a prefix shorter than a home has none.
    const ofHome = home.split("/").length === 3 && home.endsWith("/");
    if (order === "newest" && ofHome) (conditions.push("r.home = ?"), parameters.push(home));
    if (after && order === "key") (conditions.push("r.key > ?"), parameters.push(after.key));
    if (after && order === "newest")
      (conditions.push("r.created <= ?", "(r.created < ? or r.key > ?)"), parameters.push(after.created, after.created, after.key));
    let from = `trestle_records r indexed by ${order === "newest" && ofHome ? "trestle_records_newest" : "trestle_records_key"}`;
    if (where) {
      // CROSS JOIN fixes which one leads: the entries of the home, or else the keys.
      from = ofHome
        ? "trestle_entries e cross join trestle_records r on r.id = e.record"
        : "trestle_records r indexed by trestle_records_key cross join trestle_entries e indexed by trestle_entries_record on r.id = e.record";
      conditions.push("e.field = ?", "e.value = ?");
      parameters.push(where.field, where.value);
      if (ofHome) (conditions.push("e.home = ?"), parameters.push(home));
      if (after && order === "newest") (conditions.push("e.created <= ?"), parameters.push(after.created));
    }
    const by = order === "key" ? "r.key" : where ? "e.created desc, r.key" : "r.created desc, r.key";
    const text = `select r.key, r.value, r.n, r.created, r.expires from ${from} where ${conditions.join(" and ")} order by ${by} limit ? + 0`;
    return sql(text)
      .all(...parameters, limit)
      .map(recordRow);
  }

  return {
    records: (keys) =>
      reading(() => {
        const nowMs = clock.wallMs();
        const find = (key: StoreKey): RecordRow | undefined => {
          const row = sql(`select ${recordColumns} from trestle_records where key = ?`).get(key);
          return row && (row[4] === null || (row[4] as number) > nowMs) ? recordRow(row) : undefined;
        };
        return keys.length === 1 ? [find(keys[0] as StoreKey)] : snapshot(() => keys.map(find));
      }),
    list: (query) => reading(() => list(query)),
    token: (key) =>
      new Promise((resolve, reject) => {
        if (askedTokens.push({ key, resolve, reject }) === 1) clock.soon(() => void findTokens());
      }),
    stream: (stream, { after, before = Number.MAX_SAFE_INTEGER, order = "oldest", limit }) =>
      reading(() =>
        sql(
          `select ${eventColumns} from trestle_events where stream = ? and version > ? and version < ? order by version ${order === "newest" ? "desc" : "asc"} limit ? + 0`,
        )
          .all(stream, after, before, page(limit))
          .map(eventRow),
      ),
    streamVersion: (stream) => reading(() => snapshot(() => Number((sql(tailVersion).get(stream) ?? sql(headRow).get(stream))?.[0] ?? 0))),

    log: ({ after, components, types, limit }) =>
      reading(() =>
        snapshot(() => {
          const end = headPosition();
          if (after.epoch !== epoch || after.position > end)
            throw diverged(`position ${after.epoch}-${after.position}`, `${epoch}-${end}`, { asked: after, epoch, end });
          const rows = page(limit);
          if (!components && !types) {
            const events = sql(`select ${eventColumns} from trestle_events where position > ? order by position limit ? + 0`)
              .all(after.position, rows)
              .map(eventRow);
            const last = events.length < rows ? end : (events.at(-1)?.position ?? after.position);
            return { events, next: { epoch, position: last }, atEnd: last >= end };
          }
          // Plan: SEARCH trestle_events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?). Stream and type lie before the payload, so
          // rows that do not match cost neither their overflow pages nor a JavaScript object. An index by type would cost every append.
          const until = Math.min(end, after.position + scannedEventsMax);
          // Of one component, which is nearly always: a range of its text, with a + that keeps the index of streams out of it.
          const of = components?.length === 1 ? `${components[0]}/` : undefined;
          const filters = [
            of !== undefined ? "+stream >= ? and +stream < ?" : components && "substr(stream, 1, instr(stream, '/') - 1) in (select value from json_each(?))",
            types && "type in (select value from json_each(?))",
          ].filter(Boolean);
          const named = of !== undefined ? [of, afterPrefix(of) as string] : components ? [JSON.stringify(components)] : [];
          const events = sql(
            `select ${eventColumns} from trestle_events where position > ? and position <= ? and ${filters.join(" and ")} order by position limit ? + 0`,
          )
            .all(after.position, until, ...named, ...(types ? [JSON.stringify(types)] : []), rows)
            .map(eventRow);
          const last = events.length === rows && rows > 0 ? (events.at(-1) as EventRow).position : until;
          return { events, next: { epoch, position: last }, atEnd: last >= end };
        }),
      ),
    commits: ({ after, limit }) =>
      reading(() =>
        snapshot(() => {
          const end = headNumber();
          if (after.epoch !== epoch || after.n > end) throw diverged(`commit ${after.epoch}-${after.n}`, `${epoch}-${end}`, { asked: after, epoch, end });
          const trimmed = meta("trimmed_n");
          if (after.n > 0 && after.n < trimmed)
            throw Fault.create(
              "log.trimmed",
              `commits after ${after.n} were asked for; the change feed is kept from ${trimmed + 1} on`,
              "Read the state itself once, then follow the feed from the head you had before it.",
              { details: { asked: after, kept: trimmed + 1 } },
            );
          return sql("select n, epoch, id, at, keys from trestle_commits where n > ? and +id is not null order by n limit ? + 0")
            .all(after.n, page(limit))
            .map(commitRow);
        }),
      ),
    head: () => reading(() => snapshot(() => ({ epoch, n: headNumber(), position: headPosition() }))),

    queue: (queue) => reading(() => snapshot(() => depth(queue))),
    queues: () => reading(() => snapshot(() => queueNames().map(depth))),
    jobs: ({ queue, state, limit, after }) =>
      reading(() => {
        const conditions = ["1"];
        const parameters: (string | Uint8Array)[] = [];
        if (queue !== undefined) (conditions.push("queue = ?"), parameters.push(queue));
        if (state !== undefined) conditions.push(`state in (${statesOf(state)})`);
        if (after !== undefined) (conditions.push("id > ?"), parameters.push(idBytes(after)));
        return sql(
          `select id, queue, state, key, grp, attempt, due, sent, error, payload from trestle_jobs where ${conditions.join(" and ")} order by id limit ? + 0`,
        )
          .all(...parameters, page(limit))
          .map(jobRow);
      }),
    groups: ({ queue, limit, after }) => reading(() => snapshot(() => groups(queue, after, page(limit)))),
    rows: (statement) =>
      reading(() => {
        try {
          return user.run(statement).rows;
        } catch (error) {
          if (Fault.is(error)) throw error;
          if ((error as { errcode?: number }).errcode === 8) throw notReading(statement.text, error);
          throw Fault.create("sql.failed", `the query failed: ${(error as Error).message}`, "Correct the statement.", {
            cause: error,
            details: { text: statement.text },
          });
        }
      }),
  };

  function meta(name: string): number {
    return Number(sql("select value from trestle_meta where name = ?").get(name)?.[0] ?? 0);
  }
  function headNumber(): number {
    return Math.max(Number(sql("select max(n) from trestle_commits").get()?.[0] ?? 0), meta("head_n"));
  }
  function headPosition(): number {
    return Math.max(Number(sql("select max(position) from trestle_events").get()?.[0] ?? 0), meta("head_position"));
  }
}

function diverged(asked: string, head: string, details: Readonly<Record<string, unknown>>): Fault {
  return Fault.create(
    "log.diverged",
    `${asked} is not of this log, which is at ${head}`,
    "The history was cut (restore, promotion, move): start again from a position this store gave.",
    { details },
  );
}

function notReading(text: string, cause?: unknown): Fault {
  return Fault.create("sql.not-a-query", "read.rows takes a query; this statement writes", "Put writes into a commit.", { cause, details: { text } });
}

function recordRow(row: Row): RecordRow {
  const [key, value, version, created, expires] = row as unknown as [string, Uint8Array, number, number, number | null];
  return { key, value, version, created, expiresAtMs: expires ?? undefined };
}
function eventRow(row: Row): EventRow {
  const [position, stream, version, id, type, bytes, meta, atMs, commit] = row as unknown as [
    number,
    string,
    number,
    Uint8Array,
    string,
    Uint8Array,
    Uint8Array | null,
    number,
    number,
  ];
  return { position, stream, version, id: idText(id), type, data: bytes, meta: meta ?? undefined, atMs, commit };
}
const writtenKinds: Readonly<Record<string, Written["kind"]>> = { r: "record", s: "stream", t: "token", j: "job" };
function commitRow(row: Row): CommitRow {
  const [n, epoch, id, atMs, keys] = row as unknown as [number, number, Uint8Array, number, string];
  const wrote = keysOf(keys).flatMap((key): Written[] => {
    const kind = writtenKinds[key[0] as string];
    return kind ? [{ kind, key: key.slice(1) }] : [];
  });
  return { epoch, n, id: idText(id), atMs, wrote };
}
function jobRow(row: Row): JobRow {
  const [id, queue, state, key, group, attempt, dueAtMs, sentAtMs, error, payload] = row as unknown as [
    Uint8Array,
    string,
    number,
    string | null,
    string | null,
    number,
    number,
    number,
    string | null,
    Uint8Array,
  ];
  return {
    id: idText(id),
    queue,
    state: stateNames.get(state) as JobState,
    key: key ?? undefined,
    group: group ?? undefined,
    attempt,
    dueAtMs,
    sentAtMs,
    error: error ?? undefined,
    payload,
  };
}
