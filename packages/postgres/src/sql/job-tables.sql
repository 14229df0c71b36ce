-- The tables of jobs. Run inside the store's schema, once; what states, marks, ranks and places mean is told in jobs.sql.

create table job (
  id uuid not null,
  queue text collate "C" not null,
  state smallint not null,
  share text collate "C" not null default '',
  priority bigint not null,
  -- the order of sending; of joining the lines; of claims (see above); of joining its key
  seq bigint not null,
  place bigint not null,
  rank bigint not null,
  line bigint not null,
  due_at_ms bigint not null,
  sent_at_ms bigint not null,
  attempt integer not null default 0,
  -- how often it was handed out
  claims integer not null default 0,
  cancelled boolean not null default false,
  key text collate "C",
  unique_key text collate "C",
  -- of its claim: the fence, the end of its lease, who holds it
  epoch integer,
  n bigint,
  lease_until_ms bigint,
  holder text,
  error text,
  -- of one that waits: too late to start it afterwards; of one that has ended: kept until then
  until_ms bigint,
  payload bytea not null
);
-- Payloads are bytes nobody looks into: compressing them would only hold the lane.
alter table job alter column payload set storage external;
create unique index job_id on job (id);
create index job_ready on job (queue, share, priority, rank, place) where state = 1;
-- What counts against limits, oldest claim first.
create index job_held on job (queue, n, share) where state = 2 and share <> '';
create index job_until on job (until_ms) where state in (8, 9) and until_ms is not null;
-- "is not null", so that only what asks for leases can use it: a count of what runs could walk it from its beginning otherwise.
create index job_lease on job (lease_until_ms) where state = 2 and lease_until_ms is not null;
create index job_due on job (queue, due_at_ms, seq) where state in (3, 7);
create index job_kept on job (queue, state, id) where state in (4, 5, 8);
create index job_head on job (queue, key, line desc) where key is not null and state <= 5;
create index job_behind on job (queue, key, line) where state = 6;
create index job_joining on job (queue, key, due_at_ms, seq) where key is not null and state = 7;
create index job_unique on job (queue, unique_key, seq desc) where unique_key is not null and state in (1, 3, 6, 7);

-- kind 1: no ready job of this queue, share and priority has a rank below `mark`; without a row there is no ready job at all
-- kind 2: no waiting job of this queue falls due before `mark`
-- kind 3: no lease of a running job ends before `mark` (queue '')
-- kind 4: no counted job of this queue that runs has a claim before number `mark`
-- kind 5: who was served last in this queue (`name`, a share), and how many it may still take in its turn (`mark`)
-- kind 6: when the next job of this queue or share may be handed out under a rate (`at_ms`); `share` '' is the queue
-- kind 7: nothing that was kept for a time is due to go before `mark` (queue '')
-- kind 8: there has been such a queue
-- kind 9: no head of this key (in `share`) has a line below `mark`
create table job_mark (
  kind smallint not null,
  queue text collate "C" not null,
  share text collate "C" not null default '',
  priority bigint not null default 0,
  turn bigint not null,
  mark bigint not null,
  name text collate "C",
  at_ms double precision
);
create unique index job_mark_newest on job_mark (kind, queue, share, priority, turn desc);
create index job_mark_rates on job_mark (at_ms) where kind = 6;
create index job_mark_keys on job_mark (mark) where kind = 9;

-- Nothing of these queues is handed out.
create table job_paused (queue text collate "C" primary key);
