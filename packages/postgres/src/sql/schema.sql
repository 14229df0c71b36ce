-- What a commit writes, on PostgreSQL. Run inside the store's schema (search_path), safe to run again.
-- Payloads are opaque bytes. Texts compare by their bytes (collate "C"), as on every engine.

-- One row. `epoch` changes when the history may have been cut.
create table if not exists store (
  one boolean primary key default true check (one),
  epoch integer not null
);
insert into store (epoch) values (1) on conflict do nothing;

-- Commit n, and the feed of the keys it wrote. `n` is null where an id was resolved as not committed.
-- The newest n is the tail of commit_number: insert-only, so an old snapshot elsewhere does not slow it down.
create table if not exists commit (
  id uuid primary key,
  epoch integer not null,
  n bigint,
  at_ms bigint not null,
  -- what it wrote: a letter (r record, t token, s stream, j job), then the key
  keys text[] collate "C" not null default '{}'
);
create unique index if not exists commit_number on commit (n) where n is not null;

create table if not exists event (
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
-- A stream's version is the tail of this index; there is no row of stream heads.
create unique index if not exists event_stream on event (stream, version);

create table if not exists record (
  key text collate "C" primary key,
  value bytea not null,
  version bigint not null,
  created bigint not null,
  expires_at_ms bigint
) with (fillfactor = 85);

create table if not exists token (
  key text collate "C" primary key,
  value bytea not null,
  version bigint not null,
  keep_until_ms bigint not null
) with (fillfactor = 85);

-- Written by commits here; claimed by an engine, which this package is not yet.
create table if not exists job (
  id uuid primary key,
  queue text collate "C" not null,
  payload bytea not null,
  due_at_ms bigint not null,
  sent_at_ms bigint not null,
  priority integer not null,
  key text collate "C",
  unique_key text collate "C",
  n bigint not null
);
create unique index if not exists job_unique on job (queue, unique_key) where unique_key is not null;
