/**
 * The tables of a store in one SQLite file, and how a file of an older format becomes one of this format.
 *
 * Every table of Trestle's starts with `trestle_`; the user's own tables live beside them. `application_id` says that the
 * file is a store, `user_version` which format it has. A file of a newer format is refused, never guessed at.
 *
 * Tokens live in tables that are made as time passes (`trestle_tokens_<class>_<window>`): see tokens.ts.
 */
import type { DatabaseSync } from "node:sqlite";
import { Fault } from "../kernel/index.ts";

/** "Trst" as a big-endian integer: what `file` and `PRAGMA application_id` show. */
export const applicationId = 0x54727374;

/**
 * States of a job. Those up to `undetermined` are *heads*: at most one job of a key is in one of them, and the others of
 * its key wait behind it (`behind`) or have not joined their key yet (`scheduled`).
 */
export const jobStates = { ready: 1, running: 2, retrying: 3, parked: 4, undetermined: 5, behind: 6, scheduled: 7, dead: 8, done: 9 } as const;
/** Parked, undetermined, dead, as their index has it: a statement finds an index by the same words. */
export const keptStates = "state >= 4 and state <= 8 and state not in (6, 7)";

const formats: readonly string[] = [
  `
  create table trestle_meta (name text primary key, value) without rowid;

  -- One row per commit that wrote something, and per batch of claims (these have no id). Keys are joined by NUL; see keysText.
  create table trestle_commits (n integer primary key, epoch integer not null, id blob, at integer not null, keys text not null);
  create unique index trestle_commits_id on trestle_commits (id);
  -- Ids that were resolved as not committed.
  create table trestle_resolved (id blob primary key, at integer not null) without rowid;
  create index trestle_resolved_at on trestle_resolved (at);

  create table trestle_events (position integer primary key, stream text not null, version integer not null, n integer not null, at integer not null,
    id blob not null, type text not null, data blob not null, meta blob);
  create unique index trestle_events_stream on trestle_events (stream, version);
  create trigger trestle_events_keep_update before update on trestle_events when not exists (select 1 from trestle_meta where name = 'maintenance')
    begin select raise(abort, 'events are immutable'); end;
  create trigger trestle_events_keep_delete before delete on trestle_events when not exists (select 1 from trestle_meta where name = 'maintenance')
    begin select raise(abort, 'events are immutable'); end;

  -- A rowid table with an index on the key: keys that clients mint are random, and a table clustered by them costs twice the writes (FINDINGS F12).
  -- home is the component and tenant of the key; indexed says whether trestle_entries has, or had, rows of it.
  create table trestle_records (id integer primary key, key text not null, home text not null, n integer not null, created integer not null,
    expires integer, indexed integer not null, value blob not null);
  create unique index trestle_records_key on trestle_records (key);
  create index trestle_records_newest on trestle_records (home, created);
  create index trestle_records_expires on trestle_records (expires) where expires is not null;
  create table trestle_entries (home text not null, field text not null, value not null, created integer not null, record integer not null,
    primary key (home, field, value, created, record)) without rowid;
  create index trestle_entries_record on trestle_entries (record);

  -- seq is the order of sending; place the order of joining the line (0 until it has joined); see jobs.ts.
  create table trestle_jobs (seq integer primary key, id blob not null, queue text not null, state integer not null, priority integer not null, place integer not null,
    due integer not null, sent integer not null, attempt integer not null, key text, uniq text, cancelled integer not null default 0,
    epoch integer, n integer, lease integer, holder text, error text, payload blob not null);
  create unique index trestle_jobs_id on trestle_jobs (id);
  create index trestle_jobs_ready on trestle_jobs (queue, priority, place) where state = 1;
  create index trestle_jobs_lease on trestle_jobs (lease) where state = 2;
  create index trestle_jobs_due on trestle_jobs (queue, due, seq) where state in (3, 7);
  create index trestle_jobs_kept on trestle_jobs (queue, state) where state in (4, 5, 8);
  create index trestle_jobs_behind on trestle_jobs (queue, key, place) where state = 6;
  create index trestle_jobs_place on trestle_jobs (place) where place <> seq;
  create unique index trestle_jobs_head on trestle_jobs (queue, key) where key is not null and state <= 5;
  create index trestle_jobs_joining on trestle_jobs (queue, key, due, seq) where key is not null and state = 7;
  create index trestle_jobs_uniq on trestle_jobs (queue, uniq) where uniq is not null;

  create table trestle_migrations (component text not null, name text not null, digest text not null, at integer not null, primary key (component, name)) without rowid;
  `,
  // The version of a stream of which retention has left nothing: it goes on from there (FINDINGS F10).
  `
  create table trestle_heads (stream text primary key, version integer not null, n integer not null) without rowid;
  `,
  // Groups, deadlines, what is kept for a time, pauses and rates.
  `
  -- grp is whose share a job takes; until, for a job that waits, when it is too late to start it, and for one that has ended, how long it is kept.
  alter table trestle_jobs add column grp text;
  alter table trestle_jobs add column until integer;
  -- Ready jobs are in one of these two, so that those of nobody's group cost one entry, as before.
  drop index trestle_jobs_ready;
  create index trestle_jobs_ready on trestle_jobs (queue, priority, place) where state = 1 and grp is null;
  create index trestle_jobs_turns on trestle_jobs (queue, grp, priority, place) where state = 1 and grp is not null;
  create index trestle_jobs_held on trestle_jobs (queue, grp) where state = 2 and grp is not null;
  create index trestle_jobs_until on trestle_jobs (until) where state in (8, 9) and until is not null;
  create table trestle_paused (queue text primary key, at integer not null) without rowid;
  -- When the next job of a limited rate may be handed out: of a queue ('') or of one of its groups ('.' and its name).
  create table trestle_rates (queue text not null, scope text not null, next real not null, primary key (queue, scope)) without rowid;
  create index trestle_rates_next on trestle_rates (next);
  `,
  // The same jobs (4, 5, 8) without a list of three. SQLite builds a table in memory to look into such a list, for every job that is written:
  // 7 of the 16 µs that inserting, claiming and deleting a job took.
  `
  drop index trestle_jobs_kept;
  create index trestle_jobs_kept on trestle_jobs (queue, state) where state >= 4 and state <= 8 and state not in (6, 7);
  `,
];

export const formatVersion = formats.length;

/** Makes or upgrades the tables, in one transaction. `source` names the file in faults; `format` is the newest but for tests, which make files of older ones. */
export function prepareSchema(db: DatabaseSync, source: string, format = formatVersion): void {
  const pragma = (name: string): number => Number((db.prepare(`pragma ${name}`).get() as Record<string, unknown>)[name]);
  const id = pragma("application_id");
  const version = pragma("user_version");
  if (id !== applicationId && (id !== 0 || version !== 0)) {
    throw Fault.create(
      "store.not-a-store",
      `${source} is a SQLite file of another program (application_id ${id}, user_version ${version})`,
      "Name another path, or an empty one.",
      { details: { source } },
    );
  }
  if (version > formatVersion) {
    throw Fault.create(
      "store.newer-format",
      `${source} has store format ${version}; this version of Trestle reads up to ${formatVersion}`,
      "Upgrade Trestle, or restore a backup made by this version.",
      { details: { source, format: version, supported: formatVersion } },
    );
  }
  if (version === format) return;
  db.exec("begin immediate");
  try {
    for (const text of formats.slice(version, format)) db.exec(text);
    if (version === 0) {
      const meta = db.prepare("insert into trestle_meta (name, value) values (?, ?)");
      for (const [name, value] of [
        ["epoch", 1],
        ["head_n", 0],
        ["head_position", 0],
      ] as const)
        meta.run(name, value);
    }
    db.exec(`pragma application_id = ${applicationId}; pragma user_version = ${format}`);
    db.exec("commit");
  } catch (error) {
    if (db.isTransaction) db.exec("rollback");
    throw error;
  }
}
