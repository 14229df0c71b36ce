-- Jobs: written by commits, claimed beside them.
create table job (
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
create unique index job_unique on job (queue, unique_key) where unique_key is not null;
