-- The tables of a store. Run inside the store's schema (search_path), once.
-- Payloads are opaque bytes. Texts compare by their bytes (collate "C"), as on every engine.

-- One row. `epoch` changes when the history may have been cut: `system` (the cluster) and `home` (its timeline and the database) say
-- where it was written last, and are another after a promotion, a restored backup, or a copy.
create table store (
  one boolean primary key default true check (one),
  format integer not null,
  epoch integer not null,
  system bigint not null,
  home text not null,
  -- what retention has removed: the log's end then, and the newest commit that the feed no longer has
  head_position bigint not null default 0,
  trimmed_n bigint not null default 0
);

-- One row, made by the first commit of each life of the server. The table is unlogged: a crash empties it, and so does a promotion. As long
-- as the same id stands, nothing that was visible has been taken back.
create unlogged table life (
  one boolean primary key default true check (one),
  id uuid not null
);

-- Commit n, and the feed of the keys it wrote. `n` is null where an id was resolved as not committed.
-- The newest n is the tail of commit_number: insert-only, so an old snapshot elsewhere does not slow it down (FINDINGS F8).
create table commit (
  -- null for a batch of claims, which has a number as a commit has, and no caller who could ask for it
  id uuid unique,
  epoch integer not null,
  n bigint,
  at_ms bigint not null,
  -- what it wrote: a letter (r record, t token, s stream, j job, q a queue that has work), then the key
  keys text[] collate "C" not null default '{}'
);
create unique index commit_number on commit (n) where n is not null;
create index commit_resolved on commit (at_ms) where n is null;

create table event (
  position bigint primary key,
  stream text collate "C" not null,
  version bigint not null,
  n bigint not null,
  id uuid not null,
  type text not null,
  data bytea not null,
  meta bytea,
  at_ms bigint not null
);
-- A stream's version is the tail of this index; only a stream of which retention has left nothing has a row.
create unique index event_stream on event (stream, version);
create table stream_head (
  stream text collate "C" primary key,
  version bigint not null,
  n bigint not null
);

-- Nobody changes or deletes an event: the store itself refuses. Retention says that it is retention.
create function keep_event() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('trestle.maintenance', true) = 'on' then return old; end if;
  raise exception 'events are immutable' using errcode = 'TR003';
end $$;
create trigger event_keep before update or delete on event for each row execute function keep_event();
create trigger event_keep_all before truncate on event for each statement execute function keep_event();

-- A record is its newest version. A write inserts a version and deletes the one before it, instead of changing a row: under an old
-- snapshot somewhere, a changed row is found behind all its dead versions (4 ms after ten minutes), the newest version before them.
-- A removed record is a version whose expiry is the negative time of its removal: expired by any clock, and swept with the others.
create table record (
  key text collate "C" not null,
  version bigint not null,
  -- component and tenant: the key up to its second slash
  home text collate "C" not null,
  created bigint not null,
  expires_at_ms bigint,
  -- its index entries as JSON [[field, value], …], as the client wrote them; the rows of `entry` follow from it
  entries text,
  value bytea not null,
  primary key (key, version)
);
create index record_newest on record (home, created desc, key);
create index record_expires on record (expires_at_ms) where expires_at_ms is not null;

-- What `list` finds by a field. `value` is JSON, so that 1 and "1" are two.
create table entry (
  home text collate "C" not null,
  field text collate "C" not null,
  value text collate "C" not null,
  key text collate "C" not null,
  created bigint not null,
  primary key (home, field, value, key)
);
-- By another expression than the primary key, so that no statement can choose between the two: with wrong statistics it chooses wrong.
create function entry_list(p_home text, p_field text, p_value text) returns text language sql immutable parallel safe as $$
  select (p_value || E'\x1f' || char_length(p_home)::text || ':' || p_home || p_field) collate "C" -- JSON holds no raw control character
$$;
create index entry_newest on entry (entry_list(home, field, value), created desc, key);

create table token (
  key text collate "C" primary key,
  value bytea not null,
  version bigint not null,
  keep_until_ms bigint not null
) with (fillfactor = 85);
create index token_keep on token (keep_until_ms);

-- What was staged inside a transaction of somebody else's, until a commit has moved it into the lane. `tx` is that transaction. `facts` is
-- the write of the port as JSON, without its bytes.
create table staged (
  tx bigint not null,
  seq bigint generated always as identity,
  facts text not null,
  body bytea not null,
  meta bytea,
  primary key (tx, seq)
);

-- The user's own migrations that were applied.
create table migration (
  component text collate "C" not null,
  name text collate "C" not null,
  digest text not null,
  at_ms bigint not null,
  primary key (component, name)
);

-- How far a move to this store has come, or that it is over.
create table moving (
  one boolean primary key default true check (one),
  progress text not null,
  -- the latest to have taken it up: an earlier one may only be asleep
  mover uuid not null
);
