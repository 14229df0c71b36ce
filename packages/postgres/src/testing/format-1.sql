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
-- The parts of the functions. Run inside the store's schema, after tables.sql.
-- A function that the client calls carries the schema and its planner's settings with it: behind a transaction pooler a session has none.

-- The store's clock: the server's, unless a test brings its own.
create function store_now(p_now bigint) returns bigint language sql volatile as $$
  select coalesce(p_now, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
$$;

-- The lane of the store in the search_path, until the transaction ends. Waiters get it in the order they came.
create function lock_lane() returns void language sql volatile as $$
  select pg_advisory_xact_lock((1953657700::bigint << 32) | 'store'::regclass::oid::bigint)
$$;

-- A judgement is true only about the newest state, so every statement needs a snapshot of its own.
create function require_read_committed() returns void language plpgsql volatile as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a commit needs READ COMMITTED, not %', upper(current_setting('transaction_isolation')) using errcode = 'TR001';
  end if;
end $$;

-- Timeline and database: another one after a promotion or in a copy. Cheap enough for every batch.
create function current_home() returns text language sql volatile as $$
  select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '/' || (select oid from pg_database where datname = current_database())
$$;

-- The epoch, a new one when the store has moved to another timeline, cluster or database; 0 while another store is being moved here. Call it with
-- the lane locked.
create function current_epoch() returns integer language plpgsql volatile as $$
declare
  v_epoch integer; v_home text; v_now_home text := current_home();
begin
  select s.epoch, s.home into v_epoch, v_home from store s;
  if v_epoch = 0 then raise exception 'the store receives a move' using errcode = 'TR005'; end if;
  if v_home <> v_now_home then
    update store s set epoch = s.epoch + 1, home = v_now_home returning s.epoch into v_epoch;
  end if;
  return v_epoch;
end $$;

-- Which life of the server this is. Null: nothing was committed in it yet, so everything there is survived the end of the one before.
create function this_life() returns uuid language plpgsql volatile as $$
begin
  -- A standby has lost the right to look at an unlogged table, and nothing may rest on what it shows.
  if pg_is_in_recovery() then return null; end if;
  return (select l.id from life l where l.one);
end $$;

-- The same for whoever commits without waiting for the disk.
create function mark_life() returns uuid language plpgsql volatile as $$
declare
  v_life uuid := this_life();
begin
  if v_life is not null then return v_life; end if;
  insert into life (id) values (gen_random_uuid()) on conflict do nothing;
  return this_life();
end $$;

-- The milliseconds in a UUIDv7: its first 48 bits.
create function minted_at_ms(p_id uuid) returns bigint language sql immutable strict as $$
  select ('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint
$$;

-- The component and tenant of a key: up to its second slash.
create function home_of(p_key text) returns text language sql immutable strict as $$
  select split_part(p_key, '/', 1) || '/' || split_part(p_key, '/', 2) || '/'
$$;

-- The newest number there is.
create function newest_commit() returns bigint language sql volatile as $$
  select coalesce((select c.n from commit c where c.n is not null order by c.n desc limit 1), 0)
$$;

-- The position of the last event, also when retention has removed it.
create function end_of_log() returns bigint language sql volatile as $$
  select greatest((select e.position from event e order by e.position desc limit 1), s.head_position) from store s
$$;

-- The operations 14 of the commits that were applied: the one exception to the immutable log. A stream of which nothing is left keeps
-- its version in a row; there is none for the others.
create function trim_streams(p_last integer[], p_fresh bigint[], p_op_kind integer[], p_op_slot integer[], p_op_number bigint[], p_slot_key text[]) returns void language plpgsql volatile as $$
declare
  v_streams text[]; v_upto bigint[];
begin
  select array_agg(t.stream), array_agg(t.upto) into v_streams, v_upto from (
    select p_slot_key[o.slot] as stream, max(o.number) as upto
    from unnest(p_op_kind, p_op_slot, p_op_number) with ordinality o (kind, slot, number, i)
    where o.kind = 14 and exists (select from unnest(p_last, p_fresh) with ordinality l (last, fresh, i) where l.fresh is not null and o.i <= l.last and o.i > coalesce(p_last[l.i - 1], 0))
    group by 1) t;
  if v_streams is null then return; end if;
  update store set head_position = end_of_log();
  insert into stream_head (stream, version, n)
    select x.stream, e.version, e.n from unnest(v_streams, v_upto) x (stream, upto)
      join lateral (select t.version, t.n from event t where t.stream = x.stream order by t.version desc limit 1) e on e.version <= x.upto
    on conflict (stream) do update set version = excluded.version, n = excluded.n;
  perform set_config('trestle.maintenance', 'on', true);
  delete from event e using unnest(v_streams, v_upto) x (stream, upto) where e.stream = x.stream and e.version <= x.upto;
  perform set_config('trestle.maintenance', '', true);
end $$;

-- The JSON number that stands, or null when the text is something else.
create function merge_number(p_standing text) returns numeric language sql immutable strict as $$
  select case when p_standing ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$' then p_standing::numeric end
$$;

-- Two JSON arrays of strings as one: each member once, in the order of UTF-8 bytes; null when what stands has a member that is no
-- string. Members stay the JSON tokens they are, so that the bytes come out as JSON.stringify would write them.
create function merge_union(p_standing text, p_added text) returns text language sql immutable strict as $$
  select case when bool_and(left(token, 1) = '"') is not false then '[' || coalesce(string_agg(token, ',' order by (token::json #>> '{}') collate "C"), '') || ']' end
  from (select e::text as token from json_array_elements(p_standing::json) e union select e::text from json_array_elements(p_added::json) e) members
$$;

-- When a store is opened: the cluster too is compared, which costs a read of its control file.
create function open_store_v1() returns table (epoch integer, head bigint) language plpgsql volatile as $$
declare
  v_system bigint := (select c.system_identifier from pg_control_system() c);
begin
  perform require_read_committed();
  perform lock_lane();
  if exists (select from store s where s.system <> v_system and s.epoch > 0) then
    update store s set epoch = s.epoch + 1, system = v_system, home = current_home();
  end if;
  return query select current_epoch(), newest_commit();
end $$;
-- Jobs: the tables, and what commits and claims do to them. The order of hand-out is docs/concepts/queue.md (FINDINGS F17), as on SQLite.
-- Run inside the store's schema, after parts.sql and before commit-batch.sql. The functions without a version in their names run inside
-- one that has it, under the lane and its settings.
--
-- An old snapshot somewhere keeps every dead row version (FINDINGS F8), so no statement here may walk from the beginning of an index:
--   marks    Where a walk begins: everything below is known to be gone. A mark is a row that is replaced, never changed, and read from
--            the newest end of its index, so that its own dead versions do not matter either. Marks live in the table, not in processes:
--            one that starts now does not walk through the last ten minutes.
--   rank     The place in the order of claims. A job that becomes ready has its `place`, unless claims have passed it (the next of a
--            slow key, a lease that ran out): then it has the mark as rank, and comes first by its place among those. No ready
--            job is below the mark, so (rank, place) orders ready jobs as `place` alone would, and the mark only rises.
--   ctid     Rows that were found under the lane, or handed out by a claim, are addressed directly, with a check of the fence.
--   share    Whose share of the queue a job takes: '' nobody's, or '.' and the name of its group. Shares take turns; see claim_by_turns.
-- Places, like fences, come from the number of the commit or claim (20 bits lower: what one batch moves): there is no counter.
--
-- States: 1 ready, 2 running, 3 retrying, 4 parked, 5 undetermined, 6 behind, 7 scheduled, 8 dead, 9 done and kept; what enters and leaves each is told in
-- trestle/src/sqlite/jobs-part.ts. Up to 5 they are heads: at most one job of a key is in one of these.

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

create function mark_of(p_kind integer, p_queue text, p_share text, p_priority bigint) returns bigint language plpgsql volatile as $$
begin
  return (select m.mark from job_mark m where m.kind = p_kind and m.queue = p_queue and m.share = p_share and m.priority = p_priority
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1);
end $$;

create function move_mark(p_kind integer, p_queue text, p_share text, p_priority bigint, p_mark bigint, p_name text default null, p_at_ms double precision default null)
returns void language plpgsql volatile as $$
declare
  v_tid tid; v_turn bigint;
begin
  select m.ctid, m.turn into v_tid, v_turn from job_mark m where m.kind = p_kind and m.queue = p_queue and m.share = p_share and m.priority = p_priority
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
  insert into job_mark (kind, queue, share, priority, turn, mark, name, at_ms) values (p_kind, p_queue, p_share, p_priority, coalesce(v_turn, 0) + 1, p_mark, p_name, p_at_ms);
  if v_tid is not null then delete from job_mark m where m.ctid = v_tid; end if;
end $$;

-- The next priority of a share after this one, and its mark.
create function next_priority(p_queue text, p_share text, p_after bigint, out priority bigint, out mark bigint) language plpgsql volatile as $$
begin
  select m.priority, m.mark into priority, mark from job_mark m where m.kind = 1 and m.queue = p_queue and m.share = p_share and m.priority > p_after
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
end $$;

-- Jobs of these queues, shares and priorities, each named once or so, are about to be ready: each has a mark from here on. `p_base` is below
-- the places of this batch.
create function line_up(p_queue text[], p_share text[], p_priority bigint[], p_base bigint) returns void language plpgsql volatile as $$
declare
  v_mark bigint;
begin
  for v_at in 1 .. coalesce(cardinality(p_queue), 0) loop
    select m.mark into v_mark from job_mark m where m.kind = 1 and m.queue = p_queue[v_at] and m.share = p_share[v_at] and m.priority = p_priority[v_at]
      order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
    if v_mark is null then
      perform move_mark(1, p_queue[v_at], p_share[v_at], p_priority[v_at], p_base);
      if mark_of(8, p_queue[v_at], '', 0) is null then perform move_mark(8, p_queue[v_at], '', 0, 0); end if;
    end if;
  end loop;
end $$;

-- The same for the lines of these rows.
create function line_up_rows(p_tid tid[], p_base bigint) returns void language plpgsql volatile as $$
declare
  v_queue text[]; v_share text[]; v_priority bigint[];
begin
  select array_agg(d.queue), array_agg(d.share), array_agg(d.priority) into v_queue, v_share, v_priority
    from (select distinct j.queue, j.share, j.priority from unnest(p_tid) x (tid) join job j on j.ctid = x.tid) d;
  perform line_up(v_queue, v_share, v_priority, p_base);
end $$;

-- The line of a key's head, or null when it has none.
create function head_of(p_queue text, p_key text) returns bigint language plpgsql volatile as $$
declare
  v_from bigint := coalesce(mark_of(9, p_queue, p_key, 0), 0);
begin
  return (select h.line from job h where h.queue = p_queue and h.key = p_key and h.key is not null and h.state <= 5 and h.line >= v_from order by h.queue, h.key, h.line desc limit 1);
end $$;

-- Lets jobs of these queues join that have fallen due, in order of due time; at most 1,000 of a queue, the rest follows in the next
-- batch. Answers how many places it gave, from `p_place` on, and the queues in which more is due.
create function join_due(p_queues text[], p_now bigint, p_place bigint, out places integer, out backlog text[]) language plpgsql volatile as $$
declare
  v_queue text; v_mark bigint; v_moved integer;
begin
  places := 0;
  backlog := '{}';
  foreach v_queue in array coalesce(p_queues, '{}') loop
    select m.mark into v_mark from job_mark m where m.kind = 2 and m.queue = v_queue and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
    v_mark := coalesce(v_mark, 0);
    -- The server's clock went back: what waits falls due at or after the old mark, what is scheduled from now on may do so before it.
    if v_mark > p_now + 1 then perform move_mark(2, v_queue, '', 0, p_now + 1); end if;
    if (select j.due_at_ms from job j where j.queue = v_queue and j.state in (3, 7) and j.due_at_ms >= v_mark and j.due_at_ms <= p_now order by j.queue, j.due_at_ms limit 1) is null then
      -- Those that were cancelled left dead versions: not to be walked through for ever.
      if v_mark > 0 and v_mark < p_now - 10000 then perform move_mark(2, v_queue, '', 0, p_now + 1); end if;
      continue;
    end if;
    v_moved := join_jobs(array(
      select j.ctid from job j where j.queue = v_queue and j.state in (3, 7) and j.due_at_ms >= v_mark and j.due_at_ms <= p_now order by j.queue, j.due_at_ms, j.seq limit 1000), p_place + places);
    places := places + v_moved;
    v_mark := case when v_moved < 1000 then p_now + 1
      else coalesce((select j.due_at_ms from job j where j.queue = v_queue and j.state in (3, 7) and j.due_at_ms >= v_mark order by j.queue, j.due_at_ms limit 1), p_now + 1) end;
    perform move_mark(2, v_queue, '', 0, v_mark);
    if v_mark <= p_now then backlog := backlog || v_queue; end if;
  end loop;
end $$;

-- These jobs of one queue, which were scheduled or wait for a retry, join in this order.
create function join_jobs(p_tid tid[], p_place bigint) returns integer language plpgsql volatile as $$
begin
  perform line_up_rows(p_tid, p_place);
  update job j set place = p_place + m.i, rank = p_place + m.i, line = case when j.state = 7 then p_place + m.i else j.line end,
    state = case when j.state = 3 or j.key is null or m.nth = 1 and m.head is null then 1 else 6 end
  from (
    select x.tid, x.i, row_number() over (partition by d.state, d.key order by x.i) as nth,
      head_of(d.queue, d.key) as head
    from unnest(p_tid) with ordinality x (tid, i) join job d on d.ctid = x.tid) m
  where j.ctid = m.tid;
  return cardinality(p_tid);
end $$;

-- These jobs, which have waited in their lines, are ready: at their places, or at the mark where claims have passed those. Answers their queues.
create function make_ready(p_tid tid[], p_base bigint) returns text[] language plpgsql volatile as $$
declare
  v_queue text[];
begin
  select array_agg(j.queue order by x.i) into v_queue from unnest(p_tid) with ordinality x (tid, i) join job j on j.ctid = x.tid;
  if v_queue is null then return '{}'; end if;
  perform line_up_rows(p_tid, p_base);
  update job j set state = 1, lease_until_ms = null, holder = null,
    rank = greatest(j.place, (select m.mark from job_mark m where m.kind = 1 and m.queue = j.queue and m.share = j.share and m.priority = j.priority
      order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1))
  from unnest(p_tid) x (tid) where j.ctid = x.tid;
  return v_queue;
end $$;

-- The head at `line` of each key has gone: the next one behind it is ready. Answers which commit gave work to which queue.
create function advance(p_base bigint, p_commit integer[], p_queue text[], p_key text[], p_line bigint[], out commits integer[], out queues text[]) language plpgsql volatile as $$
declare
  v_tid tid[] := array(
    select (select b.ctid from job b where b.queue = x.queue and b.key = x.key and b.state = 6 and b.line > x.line order by b.queue, b.key, b.line limit 1)
    from unnest(p_queue, p_key, p_line) with ordinality x (queue, key, line, i) order by x.i);
begin
  -- Whose key is empty now leaves a dead head behind, which the next one of the key would be looked for among. A key that is empty often gets a
  -- mark, one time in 64; most keys are used once, and get none.
  if (p_base >> 20) % 64 = 0 then
    for v_at in 1 .. cardinality(v_tid) loop
      if v_tid[v_at] is null then perform move_mark(9, p_queue[v_at], p_key[v_at], 0, p_line[v_at] + 1); end if;
    end loop;
  end if;
  select coalesce(array_agg(x.commit order by x.i), '{}'), coalesce(array_agg(x.tid order by x.i), '{}') into commits, v_tid from unnest(p_commit, v_tid) with ordinality x (commit, tid, i) where x.tid is not null;
  queues := make_ready(v_tid, p_base);
end $$;

-- New jobs, in order; `p_fresh[commit]` is the number of its commit, and null when that was not applied. `p_base` is below all their places.
-- `p_shape`: see apply_jobs.
create function enqueue_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_base bigint, p_first bigint, p_backlog text[], p_shape integer,
  p_commit integer[], p_id uuid[], p_queue text[], p_from integer[], p_length integer[], p_due bigint[], p_priority bigint[], p_key text[], p_unique text[], p_share text[], p_until bigint[], p_sent bigint, p_replaces boolean default false)
returns void language plpgsql volatile as $$
declare
  v_queue text; v_key text;
begin
  -- Where more is due than one batch may move, what a key has due still joins before anything that is sent to it now.
  if cardinality(p_backlog) > 0 then
    for v_queue, v_key in
      select distinct x.queue, x.key from unnest(p_queue, p_key) x (queue, key) where x.key is not null and x.queue = any (p_backlog)
    loop
      p_first := p_first + join_jobs(array(
        select j.ctid from job j where j.queue = v_queue and j.key = v_key and j.key is not null and j.state = 7 and j.due_at_ms <= p_now order by j.queue, j.key, j.due_at_ms, j.seq),
        p_base + p_first);
    end loop;
  end if;

  if p_shape = 0 then
    insert into job (id, queue, state, share, priority, seq, place, rank, line, due_at_ms, sent_at_ms, until_ms, payload)
      select p_id[i], p_queue[i], case when p_due[i] > p_now then 7 else 1 end, p_share[i], p_priority[i], y.place, y.place, y.place, y.place, greatest(p_due[i], p_now), p_sent, p_until[i],
        substring(p_payload from p_from[i] for p_length[i])
      from generate_series(1, cardinality(p_id)) i, lateral (select (p_fresh[p_commit[i]] << 20) + p_first + i as place) y
      where y.place is not null and (select j.seq from job j where j.id = p_id[i]) is null;
    return;
  end if;
  insert into job (id, queue, share, state, priority, seq, place, rank, line, due_at_ms, sent_at_ms, key, unique_key, until_ms, payload)
    select v.id, v.queue, v.share,
      case
        when v.due > p_now then 7
        when v.key is null then 1
        when row_number() over (partition by v.queue, v.key, v.due > p_now order by v.i) = 1
          and head_of(v.queue, v.key) is null then 1
        else 6 end,
      v.priority, v.place, v.place, v.place, v.place, greatest(v.due, p_now), p_sent, v.key, v.unique_key, v.until, substring(p_payload from v.first for v.length)
    from (
      select u.* from (
        select s.*, row_number() over (partition by s.queue, s.unique_key order by s.i) as twin from (
          select x.*, (p_fresh[x.commit] << 20) + p_first + x.i as place, row_number() over (partition by x.id order by x.i) as same
          from unnest(p_commit, p_id, p_queue, p_from, p_length, p_due, p_priority, p_key, p_unique, p_share, p_until) with ordinality x (commit, id, queue, first, length, due, priority, key, unique_key, share, until, i)
          where p_fresh[x.commit] is not null) s
        where s.same = 1 and (select j.seq from job j where j.id = s.id) is null) u
      where u.unique_key is null or p_replaces
        or u.twin = 1 and (select j.seq from job j where j.queue = u.queue and j.unique_key = u.unique_key and j.unique_key is not null and j.state in (1, 3, 6, 7) order by j.queue, j.unique_key, j.seq desc limit 1) is null) v
    order by v.i;
end $$;

-- A job that replaces: the one that waits with its unique key and was never handed out goes. Answers when it was sent, and when the new one is due.
create function replace_job(p_now bigint, p_base bigint, p_id uuid, p_queue text, p_unique text, p_due bigint, p_at_most_ms bigint, out sent bigint, out due bigint, out known boolean) language plpgsql volatile as $$
declare
  v_tid tid; v_key text; v_line bigint; v_state smallint;
begin
  sent := p_now;
  due := greatest(p_due, p_now);
  known := (select j.seq from job j where j.id = p_id) is not null;
  if known then return; end if;
  select j.ctid, j.sent_at_ms, j.key, j.line, j.state into v_tid, sent, v_key, v_line, v_state
    from job j where j.queue = p_queue and j.unique_key = p_unique and j.unique_key is not null and j.state in (1, 3, 6, 7) and j.claims = 0 order by j.queue, j.unique_key, j.seq desc limit 1;
  if v_tid is null then
    sent := p_now;
    return;
  end if;
  if p_at_most_ms >= 0 then due := greatest(p_now, least(due, sent + p_at_most_ms)); end if;
  delete from job j where j.ctid = v_tid;
  if v_state <= 5 and v_key is not null then perform advance(p_base, array[0], array[p_queue], array[v_key], array[v_line]); end if;
end $$;

-- Ends of claims that hold: 0 done, 1 retry, 2 later, 4 parked, 5 undetermined, 8 dead, 9 done and kept (8 and 9 until `p_keep`). Answers which commit gave work to which queue.
create function end_jobs(p_now bigint, p_fresh bigint[], p_base bigint, p_first bigint, p_commit integer[], p_tid tid[], p_end integer[], p_due bigint[], p_error text[], p_keep bigint[],
  out commits integer[], out queues text[]) language plpgsql volatile as $$
declare
  v_commit integer[]; v_queue text[]; v_key text[]; v_line bigint[]; v_share text[];
  w_commit integer[]; w_queue text[]; w_key text[]; w_line bigint[]; w_end integer[];
  v_more record;
begin
  commits := '{}';
  queues := '{}';
  with gone as (
    delete from job j using unnest(p_commit, p_tid, p_end, p_keep) x (commit, tid, how, keep)
    where j.ctid = x.tid and p_fresh[x.commit] is not null and (x.how = 0 or x.how = 9 and x.keep <= p_now or j.cancelled and x.how in (1, 2))
    returning x.commit, j.queue, j.key, j.line, j.share)
  select array_agg(g.commit) filter (where g.key is not null), array_agg(g.queue) filter (where g.key is not null), array_agg(g.key) filter (where g.key is not null), array_agg(g.line) filter (where g.key is not null),
    -- What ends makes room under a limit: that is told as work is.
    coalesce(array_agg(g.commit) filter (where g.share <> ''), '{}'), coalesce(array_agg(g.queue) filter (where g.share <> ''), '{}')
    into v_commit, v_queue, v_key, v_line, commits, queues from gone g where g.key is not null or g.share <> '';
  if 0 < any (p_end) then
    if 1 = any (p_end) or 2 = any (p_end) then
      perform line_up_rows(array(select x.tid from unnest(p_tid, p_end) x (tid, how) where x.how in (1, 2)), p_base);
    end if;
    with ended as (
      update job j set
        state = case when x.how > 2 then x.how when x.due > p_now then 3 else 1 end,
        place = (p_fresh[x.commit] << 20) + p_first + x.i, rank = (p_fresh[x.commit] << 20) + p_first + x.i,
        due_at_ms = case when x.how > 2 then p_now else greatest(x.due, p_now) end,
        until_ms = case when x.how in (1, 2) then j.until_ms when x.how in (8, 9) and x.keep is not null then greatest(x.keep, p_now + 1) end,
        attempt = case when x.how = 2 then j.attempt - 1 else j.attempt end,
        error = x.error, lease_until_ms = null, holder = null
      from unnest(p_commit, p_tid, p_end, p_due, p_error, p_keep) with ordinality x (commit, tid, how, due, error, keep, i)
      where j.ctid = x.tid and x.how > 0 and p_fresh[x.commit] is not null
      returning x.commit, j.queue, j.key, j.line, x.how, j.share)
    select array_agg(e.commit), array_agg(e.queue), array_agg(e.key), array_agg(e.line), array_agg(e.how), array_agg(e.share) into w_commit, w_queue, w_key, w_line, w_end, v_share from ended e;
    for v_at in 1 .. coalesce(cardinality(w_commit), 0) loop
      if w_end[v_at] in (1, 2) or v_share[v_at] <> '' then
        commits := commits || w_commit[v_at];
        queues := queues || w_queue[v_at];
      end if;
      if w_end[v_at] in (8, 9) and w_key[v_at] is not null then
        v_commit := v_commit || w_commit[v_at];
        v_queue := v_queue || w_queue[v_at];
        v_key := v_key || w_key[v_at];
        v_line := v_line || w_line[v_at];
      end if;
    end loop;
  end if;
  if v_commit is not null then
    v_more := advance(p_base, v_commit, v_queue, v_key, v_line);
    commits := commits || v_more.commits;
    queues := queues || v_more.queues;
  end if;
end $$;

-- Waiting jobs are removed; a running one keeps its key, and its holder is told when it extends or ends the claim.
create function cancel_jobs(v_base bigint, p_commit integer[], p_id uuid[], out commits integer[], out queues text[]) language plpgsql volatile as $$
declare
  v_tid tid[] := array(select (select j.ctid from job j where j.id = x.id) from unnest(p_id) with ordinality x (id, i) order by x.i);
  v_commit integer[]; v_queue text[]; v_key text[]; v_line bigint[]; v_more record;
begin
  commits := '{}';
  queues := '{}';
  with gone as (
    delete from job j using unnest(p_commit, v_tid) x (commit, tid) where j.ctid = x.tid and j.state <> 2 returning x.commit, j.queue, j.key, j.line, j.state)
  select array_agg(g.commit), array_agg(g.queue), array_agg(g.key), array_agg(g.line) into v_commit, v_queue, v_key, v_line from gone g where g.key is not null and g.state <= 5;
  update job j set cancelled = true from unnest(v_tid) x (tid) where j.ctid = x.tid and j.state = 2 and not j.cancelled;
  if v_commit is not null then
    v_more := advance(v_base, v_commit, v_queue, v_key, v_line);
    commits := v_more.commits;
    queues := v_more.queues;
  end if;
end $$;

-- Dead, parked and undetermined jobs wait again, due now, attempts counted from 0: a dead one at the end of its key.
create function redrive_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_base bigint, p_first bigint, p_commit integer[], p_id uuid[], p_from integer[], p_length integer[], out commits integer[], out queues text[]) language plpgsql volatile as $$
begin
  perform line_up_rows(array(select j.ctid from unnest(p_id) x (id) join job j on j.ctid = (select f.ctid from job f where f.id = x.id)), p_base);
  with driven as (
    update job j set place = m.place, rank = m.place, line = case when j.state = 8 then m.place else j.line end,
      state = case when j.state <> 8 or j.key is null or m.nth = 1 and m.head is null then 1 else 6 end,
      due_at_ms = p_now, attempt = 0, error = null, cancelled = false, until_ms = null,
      payload = case when m.length is null then j.payload else substring(p_payload from m.first for m.length) end
    from (
      select x.commit, x.tid, x.first, x.length, (p_fresh[x.commit] << 20) + p_first + x.i as place, row_number() over (partition by d.state, d.queue, d.key order by x.i) as nth,
        head_of(d.queue, d.key) as head
      from (
        select distinct on (o.tid) o.* from (
          select y.commit, y.i, y.first, y.length, (select j.ctid from job j where j.id = y.id) as tid from unnest(p_commit, p_id, p_from, p_length) with ordinality y (commit, id, first, length, i)) o order by o.tid, o.i) x
        join job d on d.ctid = x.tid) m
    where j.ctid = m.tid and j.state in (4, 5, 8)
    returning m.commit, j.queue)
  select coalesce(array_agg(d.commit), '{}'), coalesce(array_agg(d.queue), '{}') into commits, queues from driven d;
end $$;

-- The claims that these jobs and hints are of: where their rows are, and under which fence; null where none holds.
create function find_claims(p_id uuid[], p_hint tid[], out tids tid[], out epochs integer[], out ns bigint[]) language plpgsql volatile as $$
begin
  select array_agg(j.ctid order by x.i), array_agg(j.epoch order by x.i), array_agg(j.n order by x.i) into tids, epochs, ns
  from unnest(p_id) with ordinality x (id, i) left join job j on j.ctid = p_hint[x.i] and j.id = x.id and j.state = 2;
  -- A hint may be missing, or old: then by id.
  if array_position(tids, null) is null then return; end if;
  select array_agg(y.tid order by y.i), array_agg(j.epoch order by y.i), array_agg(j.n order by y.i) into tids, epochs, ns
  from (
    select x.i, coalesce(
      (select h.ctid from job h where h.ctid = x.hint and h.id = x.id),
      (select f.ctid from job f where f.id = x.id)) as tid
    from unnest(p_id, p_hint) with ordinality x (id, hint, i)) y
  left join job j on j.ctid = y.tid and j.state = 2;
end $$;

-- What the commits of a batch do to jobs, all in order. Ends (`p_end`: as in end_jobs, 20 cancel, 21 redrive) and new jobs are two lists; `p_job_at` and
-- `p_end_at` are their places in the batch. `p_claim_tid` are those that find_claims found, `p_end_claim` which of them each end is of. Answers which commit gave work to which queue, beside those it
-- sends to, which the client knows.
--
-- Where order cannot matter, all ends go first and then all new jobs, so that a batch is a handful of statements: an end never
-- sees a job of its own batch, and leaves the same line whether a job joins before or after it. It can matter where jobs
-- are cancelled or redriven, and where one that waits again has a unique key: then runs of one kind are applied one after the other.
create function apply_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_first_n bigint,
  -- the lines that new jobs go to, each once; of the new jobs: 1 some have a key or are sent twice, 2 some have a unique value, 3 some replace, 0 none of it
  p_line_queue text[], p_line_share text[], p_line_priority bigint[], p_shape integer,
  p_job_commit integer[], p_job_at integer[], p_job_id uuid[], p_job_queue text[], p_job_from integer[], p_job_length integer[], p_job_due bigint[], p_job_priority bigint[], p_job_key text[], p_job_unique text[],
  p_job_share text[], p_job_until bigint[], p_job_replaces bigint[],
  p_end_commit integer[], p_end_at integer[], p_end_id uuid[], p_claim_tid tid[], p_end_claim integer[], p_end integer[], p_end_due bigint[], p_end_error text[], p_end_keep bigint[], p_end_from integer[], p_end_length integer[],
  out commits integer[], out queues text[]) language plpgsql volatile as $$
declare
  v_jobs integer := coalesce(cardinality(p_job_commit), 0); v_ends integer := coalesce(cardinality(p_end_commit), 0);
  v_base bigint := p_first_n << 20; v_queues text[] := p_line_queue; v_due record; v_some record; v_tid tid[]; v_instead record;
  a integer := 1; b integer := 1; v_to integer; v_kind integer; v_until integer;
begin
  commits := '{}';
  queues := '{}';
  if v_ends > 0 then
    v_tid := array(select p_claim_tid[nullif(x.claim, 0)] from unnest(p_end_claim) with ordinality x (claim, i) order by x.i);
    if 0 < any (p_end) then
      v_queues := v_queues || array(
        select distinct j.queue from unnest(p_end_id, v_tid, p_end) x (id, tid, how) join job j on j.ctid = coalesce(x.tid, (select f.ctid from job f where f.id = x.id)) where x.how in (1, 2, 21));
    end if;
  end if;
  -- Due jobs join before anything takes a place now. They get the lower half of the first number's places.
  v_due := join_due(v_queues, p_now, v_base);
  if v_jobs > 0 then perform line_up(p_line_queue, p_line_share, p_line_priority, v_base); end if;

  if p_shape < 3 and (v_ends = 0 or not (20 <= any (p_end) or p_shape = 2 and (1 = any (p_end) or 2 = any (p_end)))) then
    if v_ends > 0 then
      v_some := end_jobs(p_now, p_fresh, v_base, 1 << 19, p_end_commit, v_tid, p_end, p_end_due, p_end_error, p_end_keep);
      commits := v_some.commits;
      queues := v_some.queues;
    end if;
    if v_jobs > 0 then
      perform enqueue_jobs(p_now, p_payload, p_fresh, v_base, (1 << 19) + v_ends, v_due.backlog, p_shape, p_job_commit, p_job_id, p_job_queue, p_job_from, p_job_length, p_job_due, p_job_priority, p_job_key, p_job_unique, p_job_share, p_job_until, p_now);
    end if;
  else
    while a <= v_jobs or b <= v_ends loop
      if b > v_ends or a <= v_jobs and p_job_at[a] < p_end_at[b] then
        v_until := case when b <= v_ends then p_end_at[b] else 2147483647 end;
        v_to := a;
        if p_job_replaces[a] is not null then
          if p_fresh[p_job_commit[a]] is not null then
            v_instead := replace_job(p_now, v_base, p_job_id[a], p_job_queue[a], p_job_unique[a], p_job_due[a], p_job_replaces[a]);
            if not v_instead.known then
              -- Whoever still waits with its unique key has run before, and both are handled.
              perform enqueue_jobs(p_now, p_payload, p_fresh, v_base, (1 << 19) + a + b, v_due.backlog, p_shape, p_job_commit[a:a], p_job_id[a:a], p_job_queue[a:a], p_job_from[a:a], p_job_length[a:a],
                array[v_instead.due], p_job_priority[a:a], p_job_key[a:a], p_job_unique[a:a], p_job_share[a:a], p_job_until[a:a], v_instead.sent, true);
            end if;
          end if;
          a := a + 1;
          continue;
        end if;
        while v_to < v_jobs and p_job_at[v_to + 1] < v_until and p_job_replaces[v_to + 1] is null loop v_to := v_to + 1; end loop;
        perform enqueue_jobs(p_now, p_payload, p_fresh, v_base, (1 << 19) + a + b, v_due.backlog, p_shape, p_job_commit[a:v_to], p_job_id[a:v_to], p_job_queue[a:v_to], p_job_from[a:v_to], p_job_length[a:v_to],
          p_job_due[a:v_to], p_job_priority[a:v_to], p_job_key[a:v_to], p_job_unique[a:v_to], p_job_share[a:v_to], p_job_until[a:v_to], p_now);
        a := v_to + 1;
        continue;
      end if;
      v_until := case when a <= v_jobs then p_job_at[a] else 2147483647 end;
      v_kind := greatest(p_end[b], 19);
      v_to := b;
      while v_to < v_ends and p_end_at[v_to + 1] < v_until and greatest(p_end[v_to + 1], 19) = v_kind loop v_to := v_to + 1; end loop;
      if v_kind = 20 then
        v_some := cancel_jobs(v_base, array(select case when p_fresh[x.commit] is not null then x.commit end from unnest(p_end_commit[b:v_to]) with ordinality x (commit, i) order by x.i),
          array(select case when p_fresh[x.commit] is not null then x.id end from unnest(p_end_commit[b:v_to], p_end_id[b:v_to]) with ordinality x (commit, id, i) order by x.i));
      elsif v_kind = 21 then
        v_some := redrive_jobs(p_now, p_payload, p_fresh, v_base, (1 << 19) + a + b, p_end_commit[b:v_to],
          array(select case when p_fresh[x.commit] is not null then x.id end from unnest(p_end_commit[b:v_to], p_end_id[b:v_to]) with ordinality x (commit, id, i) order by x.i), p_end_from[b:v_to], p_end_length[b:v_to]);
      else
        -- An earlier run may have moved their rows.
        v_tid := array(select (select j.ctid from job j where j.id = x.id) from unnest(p_end_id[b:v_to]) with ordinality x (id, i) order by x.i);
        v_some := end_jobs(p_now, p_fresh, v_base, (1 << 19) + a + b, p_end_commit[b:v_to], v_tid, p_end[b:v_to], p_end_due[b:v_to], p_end_error[b:v_to], p_end_keep[b:v_to]);
      end if;
      commits := commits || v_some.commits;
      queues := queues || v_some.queues;
      b := v_to + 1;
    end loop;
  end if;
end $$;

-- In order: the last word on a queue stands. An end of a pause is told as work is.
create function pause_queues(p_fresh bigint[], p_commit integer[], p_queue text[], p_on boolean[], out commits integer[], out queues text[]) language plpgsql volatile as $$
begin
  commits := '{}';
  queues := '{}';
  for v_at in 1 .. cardinality(p_commit) loop
    continue when p_fresh[p_commit[v_at]] is null;
    if p_on[v_at] then
      insert into job_paused (queue) values (p_queue[v_at]) on conflict do nothing;
    else
      delete from job_paused u where u.queue = p_queue[v_at];
    end if;
    commits := commits || p_commit[v_at];
    queues := queues || p_queue[v_at];
  end loop;
end $$;
-- Claims: what is handed out, under which limits, and what comes back. Run after jobs.sql, which tells what marks, ranks and shares are.

-- Claims that end without their holder: their jobs are ready again at their places, and those that were cancelled are gone. Answers the queues
-- that have work.
create function hand_back(p_tids tid[], p_base bigint, out queues text[]) language plpgsql volatile as $$
declare
  v_queue text[]; v_key text[]; v_line bigint[];
begin
  with gone as (
    delete from job j using unnest(p_tids) x (tid) where j.ctid = x.tid and j.cancelled returning j.queue, j.key, j.line)
  select array_agg(g.queue), array_agg(g.key), array_agg(g.line) into v_queue, v_key, v_line from gone g where g.key is not null;
  queues := array(select distinct b from unnest(make_ready(array(select j.ctid from unnest(p_tids) x (tid) join job j on j.ctid = x.tid), p_base)) b);
  if v_queue is not null then
    queues := queues || (advance(p_base, array_fill(0, array[cardinality(v_queue)]), v_queue, v_key, v_line)).queues;
  end if;
end $$;

-- Leases that have run out: their jobs are ready again at their places, and those that were cancelled are gone. At most 1,000; the rest follows.
create function take_back(p_now bigint, p_base bigint, out queues text[]) language plpgsql volatile as $$
declare
  v_mark bigint := coalesce(mark_of(3, '', '', 0), 0);
  v_tids tid[];
begin
  queues := '{}';
  if v_mark > p_now + 1 then
    v_mark := p_now + 1; -- the server's clock went back: leases that are given now may end before the old mark
    perform move_mark(3, '', '', 0, v_mark);
  end if;
  v_tids := array(select j.ctid from job j where j.state = 2 and j.lease_until_ms >= v_mark and j.lease_until_ms <= p_now order by j.lease_until_ms limit 1000);
  if cardinality(v_tids) = 0 then
    -- Ended claims left dead versions: walked through once, ten times a second.
    if v_mark < p_now - 100 then perform move_mark(3, '', '', 0, p_now + 1); end if;
    return;
  end if;
  queues := hand_back(v_tids, p_base);
  perform move_mark(3, '', '', 0, case when cardinality(v_tids) < 1000 then p_now + 1
    else coalesce((select j.lease_until_ms from job j where j.state = 2 and j.lease_until_ms >= v_mark order by j.lease_until_ms limit 1), p_now + 1) end);
end $$;

-- Hands out up to `p_most` ready jobs of a share, best first, and answers where their rows are now. One that is too late to start is dead
-- instead; then it stops (`expired`), because what waited behind it may come before what is next. `more` says whether another one is ready.
create function take_jobs(p_queue text, p_share text, p_most integer, p_counted boolean, p_now bigint, p_epoch integer, p_n bigint, p_until bigint, p_holder text, p_keep_dead bigint,
  out taken tid[], out expired integer, out more boolean) language plpgsql volatile as $$
declare
  v_at record; v_tids tid[]; v_late boolean[]; v_count integer; v_first integer; v_end integer; v_rows tid[]; v_tid tid;
  v_queue text[]; v_key text[]; v_line bigint[]; v_left integer := p_most;
begin
  taken := '{}';
  expired := 0;
  more := false;
  v_at := next_priority(p_queue, p_share, -9223372036854775808);
  while v_at.priority is not null loop
    -- One more than wanted: whether there is more, and where the mark may go.
    select array_agg(r.tid), array_agg(r.late) into v_tids, v_late from (
      select j.ctid as tid, coalesce(j.until_ms < p_now, false) as late from job j
      where j.queue = p_queue and j.share = p_share and j.state = 1 and j.priority = v_at.priority and j.rank >= v_at.mark
      order by j.queue, j.share, j.priority, j.rank, j.place limit v_left + 1) r;
    v_count := coalesce(cardinality(v_tids), 0);
    if v_count = 0 then
      -- What was cancelled here left dead versions. A share or priority that was not used for long has no mark until it is again.
      if v_at.mark < (p_n - 4096) << 20 then
        delete from job_mark m where m.ctid = (select l.ctid from job_mark l where l.kind = 1 and l.queue = p_queue and l.share = p_share and l.priority = v_at.priority
          order by l.kind, l.queue, l.share, l.priority, l.turn desc limit 1);
      end if;
    else
      v_first := least(v_count, v_left);
      v_end := v_first;
      if true = any (v_late[1:v_first]) then
        v_first := array_position(v_late, true) - 1;
        v_end := v_first + 1;
        while v_end < least(v_count, v_left) and v_late[v_end + 1] loop v_end := v_end + 1; end loop;
      end if;
      if v_first > 0 then
        with handed as (
          update job j set state = 2, attempt = j.attempt + 1, claims = j.claims + 1, epoch = p_epoch, n = p_n, lease_until_ms = p_until, holder = p_holder,
            share = case when p_counted and j.share = '' then '.' else j.share end
          from unnest(v_tids[1:v_first]) with ordinality x (tid, i) where j.ctid = x.tid returning x.i, j.ctid as tid)
        select array_agg(h.tid order by h.i) into v_rows from handed h;
        taken := taken || v_rows;
        v_left := v_left - v_first;
      end if;
      if v_end > 0 then
        perform move_mark(1, p_queue, p_share, v_at.priority, case when v_count > v_end then (select j.rank from job j where j.ctid = v_tids[v_end + 1]) else (p_n + 1) << 20 end);
      end if;
      if v_end > v_first then
        expired := v_end - v_first;
        with late as (
          update job j set state = 8, due_at_ms = p_now, error = 'job.expired: nobody started it by its deadline', until_ms = p_now + p_keep_dead
          from unnest(v_tids[v_first + 1:v_end]) x (tid) where j.ctid = x.tid returning j.queue, j.key, j.line)
        select array_agg(l.queue), array_agg(l.key), array_agg(l.line) into v_queue, v_key, v_line from late l where l.key is not null;
        if v_queue is not null then perform advance(p_n << 20, array_fill(0, array[cardinality(v_queue)]), v_queue, v_key, v_line); end if;
        return;
      end if;
      if v_count > v_end then
        more := true;
        return;
      end if;
    end if;
    v_at := next_priority(p_queue, p_share, v_at.priority);
  end loop;
end $$;

-- The first share after this one (null: of all) that has a ready job.
create function next_share(p_queue text, p_after text) returns text language plpgsql volatile as $$
declare
  v_share text := p_after; v_priority bigint; v_mark bigint;
begin
  loop
    if v_share is null then
      select m.share, m.priority, m.mark into v_share, v_priority, v_mark from job_mark m where m.kind = 1 and m.queue = p_queue
        order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
    else
      select m.share, m.priority, m.mark into v_share, v_priority, v_mark from job_mark m where m.kind = 1 and m.queue = p_queue and m.share > v_share
        order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
    end if;
    if v_share is null then return null; end if;
    while v_priority is not null loop
      if (select j.place from job j where j.queue = p_queue and j.share = v_share and j.state = 1 and j.priority = v_priority and j.rank >= v_mark
          order by j.queue, j.share, j.priority, j.rank, j.place limit 1) is not null then
        return v_share;
      end if;
      select n.priority, n.mark into v_priority, v_mark from next_priority(p_queue, v_share, v_priority) n;
    end loop;
  end loop;
end $$;

-- What a limit leaves: its concurrency less what is held, and what its rate lets go by now (GCRA, ITU-T I.371). Null: no end.
create function room_of(p_places integer, p_every double precision, p_next double precision, p_now bigint) returns integer language sql immutable as $$
  select least(p_places, case when p_every is not null then case when p_now < p_next then 0 else least(floor((p_now - p_next) / p_every) + 1, 512)::integer end end)
$$;
-- When the rate lets the next one go; null where something else is in the way, or nothing.
create function opens_at(p_places integer, p_every double precision, p_next double precision, p_now bigint) returns bigint language sql immutable as $$
  select case when p_every is not null and coalesce(p_places, 1) > 0 and p_next > p_now then ceil(p_next)::bigint end
$$;
create function next_of_rate(p_queue text, p_share text, p_slack double precision, p_now bigint) returns double precision language plpgsql volatile as $$
begin
  return greatest((select m.at_ms from job_mark m where m.kind = 6 and m.queue = p_queue and m.share = p_share and m.priority = 0
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1), p_now - p_slack);
end $$;

-- A claim on a queue with groups, or under limits. Shares take turns in the order of their names, nobody's first, each as many jobs per turn as its
-- weight says: deficit round robin (Shreedhar, Varghese 1995) with jobs of one size. It costs by what it takes and by the shares that
-- are at their limit, never by what waits. The loop is that of trestle/src/sqlite/turns-part.ts, and told there.
create function claim_by_turns(p_queue text, p_policy jsonb, p_wanted integer, p_now bigint, p_epoch integer, p_n bigint, p_until bigint, p_holder text,
  out taken tid[], out expired integer, out opens_at_ms bigint) language plpgsql volatile as $$
declare
  v_group jsonb := p_policy -> 'perGroup';
  v_counted boolean := coalesce(p_policy ?| array['concurrency', 'rate', 'perGroup', 'weights'], false);
  v_every double precision := (p_policy #>> '{rate,everyMs}')::double precision;
  v_group_every double precision := (v_group #>> '{rate,everyMs}')::double precision;
  -- of the queue: places that are left, when its rate lets one go
  v_places integer; v_next double precision; v_used integer := 0;
  -- the same of each share it met, as which its jobs run
  g_share text[] := '{}'; g_places integer[] := '{}'; g_next double precision[] := '{}'; g_used integer[] := '{}'; g integer;
  h_share text[]; h_count integer[]; v_lowest bigint; v_from bigint;
  v_last text; v_last_left integer; v_stored record;
  v_room integer; v_name text; v_left integer; v_weight integer; v_alone boolean; v_since text; v_round boolean; v_late boolean; v_take integer; v_count integer; v_found record; v_following text;
begin
  taken := '{}';
  expired := 0;
  if p_policy ? 'concurrency' or v_group ? 'concurrency' then
    v_from := coalesce(mark_of(4, p_queue, '', 0), 0);
    select array_agg(h.share), array_agg(h.count), min(h.lowest) into h_share, h_count, v_lowest from (
      select j.share, count(*)::integer as count, min(j.n) as lowest from job j where j.queue = p_queue and j.state = 2 and j.share <> '' and j.n >= v_from group by j.share) h;
    if coalesce(v_lowest, p_n) > v_from + 64 then perform move_mark(4, p_queue, '', 0, coalesce(v_lowest, p_n)); end if;
    v_places := (p_policy ->> 'concurrency')::integer - coalesce((select sum(h) from unnest(h_count) h), 0);
  end if;
  if v_every is not null then v_next := next_of_rate(p_queue, '', (p_policy #>> '{rate,slackMs}')::double precision, p_now); end if;
  select m.name, m.mark into v_stored from job_mark m where m.kind = 5 and m.queue = p_queue and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
  v_last := v_stored.name;
  v_last_left := coalesce(v_stored.mark, 0);
  v_room := least(p_wanted, room_of(v_places, v_every, v_next, p_now));

  loop
    if v_last_left > 0 then
      v_name := v_last;
      v_left := v_last_left;
    else
      v_name := coalesce(case when v_last is not null then next_share(p_queue, v_last) end, next_share(p_queue, null));
      v_left := coalesce((p_policy #>> array['weights', substr(v_name, 2)])::integer, 1);
    end if;
    exit when v_name is null or v_room <= 0 or expired >= 1000;
    v_alone := next_share(p_queue, null) = v_name and next_share(p_queue, v_name) is null;
    v_since := v_name;
    v_round := false;
    v_late := false;
    loop
      v_weight := coalesce((p_policy #>> array['weights', substr(v_name, 2)])::integer, 1);
      g := array_position(g_share, case when v_name = '' then '.' else v_name end);
      if g is null then
        g_share := g_share || case when v_name = '' then '.' else v_name end;
        g := cardinality(g_share);
        g_places[g] := (v_group ->> 'concurrency')::integer - coalesce(h_count[array_position(h_share, g_share[g])], 0);
        g_next[g] := case when v_group_every is not null then next_of_rate(p_queue, g_share[g], (v_group #>> '{rate,slackMs}')::double precision, p_now) end;
        g_used[g] := 0;
      end if;
      v_take := least(case when v_alone is true then v_room else v_left end, v_room, room_of(g_places[g], v_group_every, g_next[g], p_now));
      v_count := 0;
      if v_take <= 0 then
        opens_at_ms := least(opens_at_ms, opens_at(g_places[g], v_group_every, g_next[g], p_now));
      else
        v_found := take_jobs(p_queue, v_name, v_take, v_counted, p_now, p_epoch, p_n, p_until, p_holder, (p_policy ->> 'keepDeadMs')::double precision::bigint);
        v_count := cardinality(v_found.taken);
        taken := taken || v_found.taken;
        v_late := v_found.expired > 0;
        expired := expired + v_found.expired;
        v_room := v_room - v_count;
        v_used := v_used + v_count;
        v_places := v_places - v_count;
        v_next := v_next + v_count * v_every;
        g_places[g] := g_places[g] - v_count;
        g_next[g] := g_next[g] + v_count * v_group_every;
        g_used[g] := g_used[g] + v_count;
      end if;
      if v_count > 0 then
        v_left := v_left - v_count;
        v_last := v_name;
        -- Alone it had several turns at once; this is what is left of the last one.
        v_last_left := case when v_left >= 0 then v_left else (v_weight - (-v_left % v_weight)) % v_weight end;
        v_since := v_name;
        v_round := false;
      end if;
      exit when v_room <= 0 or v_late;
      v_following := next_share(p_queue, v_name);
      if v_following is null then
        exit when v_round;
        v_round := true;
        v_following := next_share(p_queue, null);
      end if;
      -- A whole round, and nobody could take any.
      exit when v_following is null or v_round and v_following > v_since;
      v_name := v_following;
      v_left := coalesce((p_policy #>> array['weights', substr(v_name, 2)])::integer, 1);
    end loop;
    exit when not v_late;
  end loop;

  if v_last is distinct from v_stored.name or v_last_left is distinct from v_stored.mark then
    if v_last is not null then perform move_mark(5, p_queue, '', 0, v_last_left, v_last); end if;
  end if;
  if v_every is not null and v_used > 0 then perform move_mark(6, p_queue, '', 0, 0, null, v_next); end if;
  for i in 1 .. cardinality(g_share) loop
    if v_group_every is not null and g_used[i] > 0 then perform move_mark(6, p_queue, g_share[i], 0, 0, null, g_next[i]); end if;
  end loop;

  v_room := room_of(v_places, v_every, v_next, p_now);
  if expired >= 1000 then opens_at_ms := p_now;
  elsif p_wanted > 0 and cardinality(taken) < p_wanted and coalesce(v_room, 1) > 0 then null; -- as the shares' rates say
  elsif next_share(p_queue, null) is null then opens_at_ms := null;
  elsif coalesce(v_room, 1) > 0 then opens_at_ms := p_now; -- only the limit of this request was in the way
  else opens_at_ms := opens_at(v_places, v_every, v_next, p_now);
  end if;
end $$;

-- One call hands out jobs to all who ask in a process. An *asking* is a queue, how many are wanted, for how long, for whom, and under which
-- policy (the port's QueuePolicy as JSON, or null); the askings of one request follow each other, and get `p_most` together at the most.
-- Claims have a commit number as commits have; it is the fence, and rises with every batch of claims. The lane is theirs meanwhile:
-- the ends of jobs are commits, so a lane of their own would only be a second lock in front of the same rows.
--
-- Answers a row for each job, in order of asking and hand-out, then for each asking a row without id: when asking again may give more, and
-- what holds for all.
create function claim_jobs_v1(p_now bigint, p_most integer, p_request integer[], p_queue text[], p_limit integer[], p_lease_ms bigint[], p_holder text[], p_policy text[])
returns table (asking integer, id uuid, hint text, key text, attempt integer, again boolean, sent_at_ms bigint, payload bytea, next_due_at_ms bigint, back text[], now_ms bigint, epoch integer, n bigint, head bigint, life uuid)
language plpgsql volatile as $$
declare
  v_now bigint; v_life uuid; v_epoch integer; v_head bigint; v_n bigint;
  v_back text[]; v_wrote boolean; v_policy jsonb;
  v_room integer; v_left integer; v_got integer; v_open bigint; v_some record; v_expired integer; v_turn record;
  v_next bigint[] := '{}'; v_tids tid[] := '{}'; v_askings integer[] := '{}';
begin
  perform require_read_committed();
  perform set_config('synchronous_commit', 'off', true);
  perform lock_lane();
  v_now := store_now(p_now);
  v_life := mark_life();
  v_epoch := current_epoch();
  v_head := newest_commit();
  v_n := v_head + 1;
  v_back := take_back(v_now, v_n << 20);
  v_wrote := (join_due(p_queue, v_now, v_n << 20)).places > 0 or cardinality(v_back) > 0;

  for v_asking in 1 .. coalesce(cardinality(p_queue), 0) loop
    if v_asking = 1 or p_request[v_asking] <> p_request[v_asking - 1] then v_room := p_most; end if;
    if (select u.queue from job_paused u where u.queue = p_queue[v_asking]) is not null then
      v_next[v_asking] := null;
      continue;
    end if;
    v_policy := p_policy[v_asking]::jsonb;
    v_left := least(p_limit[v_asking], v_room);
    v_open := null;
    v_got := 0;
    v_expired := 0;
    if v_policy ?| array['concurrency', 'rate', 'perGroup', 'weights'] or next_share(p_queue[v_asking], '') is not null then
      v_some := claim_by_turns(p_queue[v_asking], v_policy, v_left, v_now, v_epoch, v_n, v_now + greatest(p_lease_ms[v_asking], 1), p_holder[v_asking]);
      v_got := cardinality(v_some.taken);
      v_expired := v_some.expired;
      v_open := v_some.opens_at_ms;
      v_tids := v_tids || v_some.taken;
    else
      loop
        v_some := take_jobs(p_queue[v_asking], '', v_left - v_got, false, v_now, v_epoch, v_n, v_now + greatest(p_lease_ms[v_asking], 1), p_holder[v_asking], (v_policy ->> 'keepDeadMs')::double precision::bigint);
        v_got := v_got + cardinality(v_some.taken);
        v_expired := v_expired + v_some.expired;
        v_tids := v_tids || v_some.taken;
        exit when v_some.expired = 0 or v_expired >= 1000;
      end loop;
      if v_some.more or v_expired >= 1000 then v_open := v_now; end if;
      if v_got > 0 then
        select m.name, m.mark into v_turn from job_mark m where m.kind = 5 and m.queue = p_queue[v_asking] and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
        if (v_turn.name, v_turn.mark) is distinct from ('', 0::bigint) then perform move_mark(5, p_queue[v_asking], '', 0, 0, ''); end if;
      end if;
    end if;
    v_wrote := v_wrote or v_got > 0 or v_expired > 0;
    v_room := v_room - v_got;
    if v_got > 0 then v_askings := v_askings || array_fill(v_asking, array[v_got]); end if;
    if v_open is distinct from v_now then
      v_open := least(v_open, (select j.due_at_ms from job j where j.queue = p_queue[v_asking] and j.state in (3, 7) and j.due_at_ms >= coalesce(mark_of(2, p_queue[v_asking], '', 0), 0)
        order by j.queue, j.due_at_ms limit 1));
    end if;
    v_next[v_asking] := v_open;
  end loop;

  if v_wrote then
    insert into commit (epoch, n, at_ms, keys) values (v_epoch, v_n, v_now, array(select 'q' || b from unnest(v_back) b));
    v_head := v_n;
  end if;
  return query select x.asking, j.id, j.ctid::text, j.key, j.attempt, j.claims > 1, j.sent_at_ms, j.payload, null::bigint, null::text[], null::bigint, null::integer, null::bigint, null::bigint, null::uuid
    from unnest(v_askings, v_tids) with ordinality x (asking, tid, i) join job j on j.ctid = x.tid order by x.i;
  return query select x.i::integer, null::uuid, null::text, null::text, null::integer, null::boolean, null::bigint, null::bytea, x.due, v_back, v_now, v_epoch, case when v_wrote then v_n end, v_head, v_life
    from unnest(v_next) with ordinality x (due, i) order by x.i;
end $$;

-- Removes what was kept for a time that is over, at most 1,000 of a kind, once a second: it rides on whatever batch comes.
create function tidy_jobs(p_now bigint) returns void language plpgsql volatile as $$
declare
  v_mark bigint := coalesce(mark_of(7, '', '', 0), 0); v_tids tid[];
begin
  if v_mark > p_now - 1000 and v_mark <= p_now + 1 then return; end if;
  if v_mark > p_now + 1 then v_mark := p_now + 1; end if; -- the server's clock went back
  v_tids := array(select j.ctid from job j where j.state in (8, 9) and j.until_ms is not null and j.until_ms >= v_mark and j.until_ms <= p_now order by j.until_ms limit 1000);
  delete from job j using unnest(v_tids) x (tid) where j.ctid = x.tid;
  -- A rate whose next moment lies an hour back says nothing any more.
  delete from job_mark m using unnest(array(
    select r.ctid from job_mark r where r.kind = 6 and r.at_ms >= v_mark - 3600000 - 1000 and r.at_ms < p_now - 3600000 order by r.at_ms limit 1000)) x (tid) where m.ctid = x.tid;
  -- Once a minute: marks of keys that were not used for a million batches.
  if p_now % 60000 < 1000 then
    delete from job_mark m using unnest(array(
      select r.ctid from job_mark r where r.kind = 9 and r.mark < (newest_commit() - 1000000) << 20 order by r.mark limit 1000)) x (tid) where m.ctid = x.tid;
  end if;
  perform move_mark(7, '', '', 0, case when cardinality(v_tids) < 1000 then p_now + 1
    else coalesce((select j.until_ms from job j where j.state in (8, 9) and j.until_ms is not null and j.until_ms >= v_mark order by j.until_ms limit 1), p_now + 1) end);
end $$;

-- Claims that still hold last `p_lease_ms` from now; answers where their rows are now. What is not answered is over, or was cancelled.
create function extend_jobs_v1(p_now bigint, p_id uuid[], p_hint tid[], p_epoch integer[], p_n bigint[], p_lease_ms bigint[])
returns table (claim integer, hint text, life uuid) language plpgsql volatile as $$
declare
  v_now bigint; v_life uuid; v_found record;
begin
  perform require_read_committed();
  perform set_config('synchronous_commit', 'off', true);
  perform lock_lane();
  v_now := store_now(p_now);
  v_life := mark_life();
  v_found := find_claims(p_id, p_hint);
  return query
    update job j set lease_until_ms = v_now + greatest(x.lease_ms, 1)
    from unnest(v_found.tids, p_epoch, p_n, p_lease_ms) with ordinality x (tid, epoch, n, lease_ms, i)
    where j.ctid = x.tid and j.state = 2 and j.epoch = x.epoch and j.n = x.n and not j.cancelled
    returning x.i::integer, j.ctid::text, v_life;
end $$;

-- For a heartbeat, which has a connection of its own: the claims of a holder of which less than two thirds are left last `p_lease_ms` from now. Looked for
-- before the lane is taken, since there is mostly none.
create function keep_jobs_v1(p_now bigint, p_holder text, p_lease_ms bigint) returns void language plpgsql volatile as $$
declare
  v_now bigint := store_now(p_now); v_tids tid[];
begin
  perform require_read_committed();
  v_tids := array(select j.ctid from job j where j.state = 2 and j.lease_until_ms >= coalesce(mark_of(3, '', '', 0), 0) and j.lease_until_ms < v_now + p_lease_ms * 2 / 3 and j.holder = p_holder);
  if cardinality(v_tids) = 0 then return; end if;
  perform set_config('synchronous_commit', 'off', true);
  perform lock_lane();
  perform mark_life();
  update job j set lease_until_ms = v_now + p_lease_ms from unnest(v_tids) x (tid) where j.ctid = x.tid and j.state = 2 and j.holder = p_holder and not j.cancelled;
end $$;

-- For a heartbeat: takes back what the holder has claimed, at most 1,000; `more` says whether that was all. It has a commit number as claims have, since others
-- hear of work by it.
create function release_jobs_v1(p_now bigint, p_holder text) returns table (epoch integer, n bigint, queues text[], more boolean, life uuid) language plpgsql volatile as $$
declare
  v_now bigint; v_life uuid; v_epoch integer; v_n bigint; v_tids tid[]; v_queues text[];
begin
  perform require_read_committed();
  perform set_config('synchronous_commit', 'off', true);
  perform lock_lane();
  v_now := store_now(p_now);
  v_life := mark_life();
  v_epoch := current_epoch();
  v_n := newest_commit() + 1;
  v_tids := array(select j.ctid from job j where j.state = 2 and j.lease_until_ms >= coalesce(mark_of(3, '', '', 0), 0) and j.holder = p_holder limit 1000);
  if cardinality(v_tids) > 0 then
    v_queues := hand_back(v_tids, v_n << 20);
    insert into commit (epoch, n, at_ms, keys) values (v_epoch, v_n, v_now, array(select 'q' || q from unnest(v_queues) q));
  end if;
  return query select v_epoch, v_n, v_queues, cardinality(v_tids) = 1000, v_life;
end $$;
-- What is in queues. Run after jobs.sql. Reads: rows by one statement, so from one snapshot; then a last row that says which commit was the newest when it had read.

-- How many jobs of each state; of all queues that have any, or are paused, when p_queue is null. Waiting are those due and not, blocked by their key and not.
create function queue_depths_v1(p_now bigint, p_queue text)
returns table (queue text, waiting bigint, running bigint, parked bigint, undetermined bigint, dead bigint, oldest_due_at_ms bigint, paused boolean, now_ms bigint, epoch integer, newest bigint, life uuid)
language plpgsql volatile as $$
declare v_now bigint := store_now(p_now);
begin
  return query
    with recursive known (name) as (
      select coalesce(p_queue, (select m.queue from job_mark m where m.kind = 8 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1))
      union all
      select (select m.queue from job_mark m where m.kind = 8 and m.queue > k.name order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1) from known k where k.name is not null and p_queue is null
    ),
    named (name) as (
      select k.name from known k where k.name is not null
      union select u.queue from job_paused u where p_queue is null
    ),
    -- Its shares and priorities, each with its mark: where the ready ones begin.
    ready (name, share, priority, mark) as (
      select k.name, l.share, l.priority, l.mark from named k, lateral (
        select m.share, m.priority, m.mark from job_mark m where m.kind = 1 and m.queue = k.name order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1) l
      union all
      select r.name, l.share, l.priority, l.mark from ready r, lateral (
        select m.share, m.priority, m.mark from job_mark m where m.kind = 1 and m.queue = r.name and (m.share, m.priority) > (r.share, r.priority) order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1) l
    )
    select k.name, a.count + b.count + c.count, d.count, e.parked, e.undetermined, e.dead, least(a.due, b.due, c.due), f.paused, v_now, null::integer, null::bigint, null::uuid
    from named k,
      lateral (select coalesce(sum(x.count), 0)::bigint as count, min(x.due) as due from ready r, lateral (
        select count(*) as count, min(j.due_at_ms) as due from job j where j.queue = r.name and j.share = r.share and j.state = 1 and j.priority = r.priority and j.rank >= r.mark) x where r.name = k.name) a,
      lateral (select count(*) as count, min(j.due_at_ms) as due from job j where j.queue = k.name and j.state = 6) b,
      lateral (select count(*) as count, min(j.due_at_ms) filter (where j.due_at_ms <= v_now) as due from job j where j.queue = k.name and j.state in (3, 7)) c,
      lateral (select count(*) as count from job j where j.queue = k.name and j.state = 2
        and j.lease_until_ms >= coalesce((select m.mark from job_mark m where m.kind = 3 and m.queue = '' and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1), 0)) d,
      lateral (select count(*) filter (where j.state = 4) as parked, count(*) filter (where j.state = 5) as undetermined, count(*) filter (where j.state = 8) as dead
        from job j where j.queue = k.name and j.state in (4, 5, 8)) e,
      lateral (select (select u.queue from job_paused u where u.queue = k.name) is not null as paused) f
    where p_queue is not null or f.paused or a.count + b.count + c.count + d.count + e.parked + e.undetermined + e.dead > 0
    order by k.name;
  return query select null::text, null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, null::boolean, null::bigint, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- Groups of a queue that have ready or running jobs, in order of name. Shares are '.' and the name.
create function list_groups_v1(p_queue text, p_after text, p_limit integer)
returns table (share text, ready bigint, running bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query
    with recursive open (share, priority, mark) as (
      select l.share, l.priority, l.mark from (
        select m.share, m.priority, m.mark from job_mark m where m.kind = 1 and m.queue = p_queue and m.share > p_after order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1) l
      union all
      select l.share, l.priority, l.mark from open o, lateral (
        select m.share, m.priority, m.mark from job_mark m where m.kind = 1 and m.queue = p_queue and (m.share, m.priority) > (o.share, o.priority) order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1) l
    ),
    counted (share, ready, running) as (
      select o.share, x.count, 0::bigint from open o, lateral (
        select count(*) as count from job j where j.queue = p_queue and j.share = o.share and j.state = 1 and j.priority = o.priority and j.rank >= o.mark) x
      union all
      select j.share, 0::bigint, count(*) from job j where j.queue = p_queue and j.state = 2 and j.share <> '' and j.share > p_after
        and j.n >= coalesce((select m.mark from job_mark m where m.kind = 4 and m.queue = p_queue and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1), 0) group by j.share
    )
    select c.share, sum(c.ready)::bigint, sum(c.running)::bigint, null::integer, null::bigint, null::uuid from counted c group by c.share having sum(c.ready) + sum(c.running) > 0 order by c.share limit p_limit;
  return query select null::text, null::bigint, null::bigint, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- Jobs after an id, in order of id. Those kept for a person are few among many, and have an index of their own.
create function list_jobs_v1(p_queue text, p_states smallint[], p_after uuid, p_limit integer)
returns table (id uuid, queue text, state smallint, key text, share text, attempt integer, due_at_ms bigint, sent_at_ms bigint, error text, payload bytea, epoch integer, newest bigint, life uuid)
language plpgsql volatile as $$
begin
  if p_queue is not null and cardinality(p_states) = 1 and p_states[1] in (4, 5, 8) then
    return query select j.id, j.queue, j.state, j.key, j.share, j.attempt, j.due_at_ms, j.sent_at_ms, j.error, j.payload, null::integer, null::bigint, null::uuid
      from job j where j.queue = p_queue and j.state = p_states[1] and j.state in (4, 5, 8) and j.id > p_after order by j.queue, j.state, j.id limit p_limit;
  else
    return query select j.id, j.queue, j.state, j.key, j.share, j.attempt, j.due_at_ms, j.sent_at_ms, j.error, j.payload, null::integer, null::bigint, null::uuid
      from job j where j.id > p_after and (p_queue is null or j.queue = p_queue) and (p_states is null or j.state = any (p_states)) order by j.id limit p_limit;
  end if;
  return query select null::uuid, null::text, null::smallint, null::text, null::text, null::integer, null::bigint, null::bigint, null::text, null::bytea, s.epoch, newest_commit(), this_life() from store s;
end $$;
-- One call applies one batch of commits: lock the lane, load the state, judge the commits in order, apply those that pass.
-- Run inside the store's schema; the functions keep that schema as their search_path.
--
-- Why a function: a single statement cannot be right under READ COMMITTED, because its snapshot is older than the lock it waits
-- for. In PL/pgSQL each statement takes a new snapshot, so what is loaded after the lock is the newest state; and no client holds
-- the lane over a round trip, because the call is its own implicit transaction.
--
-- Why `synchronous_commit = off`: the transaction ends, and frees the lane, without waiting for the disk. Nobody may be told an
-- outcome before a later synchronous commit (the flush barrier) has carried it to disk; the client sees to that.
--
-- The name carries the version of the contract with the client: processes of two versions may share a store while they are deployed.
--
-- Plans: everything is reached by counting through the arguments and then one index probe each (record_pkey, token_pkey, event_stream,
-- commit_pkey, commit_number, event_pkey). Hash and merge joins and sequential scans are switched off on the function, because with
-- fresh or missing statistics the planner prefers to read whole tables (1.7 times slower measured, and worse as they grow).
--
-- What it costs is executor work, not waiting: so few statements, and arrays are read by subscript (`p_x[i]`). unnest() of ten arrays
-- makes a stored row of each element first, which was a third of each insert.
--
-- A *slot* is one key that the batch touches. The judge works on slots only, in memory:
--   version  0 absent, > 0 the stored version, < 0 staged by that commit of this batch (a stream's version is counted on, never < 0)
--   writer   the commit of this batch that wrote it last; 0 none
--   creator  the commit of this batch that created it; 0 it was there before
--   source   the operation that put its bytes; 0 none in this batch
--   tail     of a stream: the commit that wrote its last event in the table; only loaded for operations 4 and 6
--   merged   its JSON text after merges; null while the bytes are those of `source` or of the table
--   stored   the newest version in the table, expired or not; 0 none
--
-- Operations, in order of commit, expectations first:
--   1 version is `number`    2 last written by commit `ref` of this batch    3 last written by the older commit `p_older[ref]`
--   4 the stream has version `number`, and commit `ref` of this batch wrote its last event    6 the same of the older commit `p_older[ref]`
--   5 nothing under `p_prefix[ref]` written since `number`    7 the `ref` rows that transaction `number` staged up to `until` are all still there (and go with this commit)
--   8 claim `slot` of `p_claim_id` holds under the fence (`ref`, `number`)    30 the same, and this commit ends it
--   10 put (bytes `number`, `length`; `until`; index entries `p_entries[ref]`)    11 remove    12 token (as put)    13 append `number` events, the first of them `p_event_…[ref]`
--   14 trim the stream up to version `number`
--   20 add  21 max  22 min  23 union  with `p_merge_text[ref]`, and bounds `p_merge_low`, `p_merge_high` for add    24 set-once (as put)
create function commit_batch_v1(
  -- an array without elements is null
  -- the store's clock when a test brings one; when the oldest id of the batch was minted; the batch is one commit inside a transaction of its caller's, and a refusal undoes that transaction
  p_now bigint, p_inside boolean,
  p_retention_ms bigint, p_oldest_ms bigint, p_payload bytea,
  -- per commit: id; its last operation; does it write; must a refusal of it be remembered; what it writes, as an array literal
  p_id uuid[], p_last integer[], p_writes boolean[], p_in_doubt boolean[], p_keys text[],
  -- per slot: 1 record, 2 token, 3 stream; its key; will it be merged into
  p_slot_kind integer[], p_slot_key text[], p_slot_merges boolean[],
  -- the commits are *apart*: no two touch one key or claim, each writes, each key at most once, and all operations are 1, 8, 10, 12, 13 or 30; then per slot: which commit writes it, with which operation
  p_apart boolean, p_slot_writer integer[], p_slot_source integer[],
  p_older uuid[], p_prefix text[], p_entries text[],
  p_op_kind integer[], p_op_slot integer[], p_op_number bigint[], p_op_ref integer[], p_op_length integer[], p_op_until bigint[],
  p_merge_text text[], p_merge_low bigint[], p_merge_high bigint[],
  p_event_commit integer[], p_event_op integer[], p_event_id uuid[], p_event_type text[], p_event_from integer[], p_event_length integer[], p_event_meta integer[],
  -- jobs: see apply_jobs; the claims that are expected or ended, with hints where their rows are
  p_claim_id uuid[], p_claim_hint tid[],
  p_line_queue text[], p_line_share text[], p_line_priority bigint[], p_job_shape integer,
  p_job_commit integer[], p_job_at integer[], p_job_id uuid[], p_job_queue text[], p_job_from integer[], p_job_length integer[], p_job_due bigint[], p_job_priority bigint[], p_job_key text[], p_job_unique text[],
  p_job_share text[], p_job_until bigint[], p_job_replaces bigint[],
  p_end_commit integer[], p_end_at integer[], p_end_id uuid[], p_end_claim integer[], p_end integer[], p_end_due bigint[], p_end_error text[], p_end_keep bigint[], p_end_from integer[], p_end_length integer[],
  p_pause_commit integer[], p_pause_queue text[], p_pause_on boolean[])
-- first: when not null, all were applied, under numbers from this one on, and status, epoch and number are left out
-- status per commit: 0 applied (or was before), 1 an expectation failed, 2 a guard, 3 the id is resolved or too old, 4 a merge met bytes it cannot merge into, 5 a claim is over
-- now_epoch, head, life: the epoch, the newest number there is now, and the life of the server (sql/flush.sql). failed: operations whose expectation did not hold; stopped: operations with status 2, 4 or 5, and what stood there
returns table (status integer[], epoch integer[], number bigint[], failed integer[], stopped integer[], standing text[], now_epoch integer, head bigint, gave_commit integer[], gave_queue text[], life uuid, first bigint)
language plpgsql volatile as $$
declare
  v_now bigint; v_life uuid; v_epoch integer; v_n bigint; v_position bigint;
  v_known bigint[]; v_older bigint[]; v_tail bigint[];
  a_version bigint[] := '{}'; a_position bigint[] := '{}'; v_events bigint := 0; v_events_before bigint;
  v_stored bigint[]; v_listed boolean;
  v_version bigint[]; v_writer integer[]; v_creator integer[]; v_source integer[]; v_merged text[];
  w_version bigint[]; w_writer integer[]; w_creator integer[]; w_source integer[]; w_merged text[];
  v_status integer[]; v_number bigint[]; v_fresh bigint[]; v_epochs integer[]; v_failed integer[] := '{}'; v_stopped integer[] := '{}'; v_standing text[] := '{}';
  v_commits integer := coalesce(cardinality(p_id), 0); v_slots integer := coalesce(cardinality(p_slot_key), 0); v_updates boolean; v_first_n bigint; v_old boolean; v_all boolean; v_home text; v_trimmed boolean; v_tidied bigint; v_set text;
  v_op integer := 0; v_first integer; v_kind integer; v_slot integer;
  v_refused integer; v_holds boolean; v_current text; v_next text; v_number_now numeric; v_by numeric; v_merging boolean;
  v_claim_tid tid[]; v_claim_epoch integer[]; v_claim_n bigint[]; v_gave record; v_gave_commit integer[] := '{}'; v_gave_queue text[] := '{}'; v_gave_keys text[] := '{}';
begin
  if current_setting('transaction_isolation') <> 'read committed' then perform require_read_committed(); end if;
  if pg_is_in_recovery() then raise exception 'the server is a standby' using errcode = '25006'; end if;
  v_set := set_config('synchronous_commit', 'off', true);

  -- lock
  perform lock_lane();

  -- load: from here on each statement sees everything that was committed before the lane was ours
  v_now := store_now(p_now);
  v_old := p_oldest_ms < v_now - p_retention_ms;
  select s.epoch, s.home, coalesce((select c.n from commit c where c.n is not null order by c.n desc limit 1), 0),
      greatest((select e.position from event e order by e.position desc limit 1), s.head_position), s.head_position > 0,
      (select l.id from life l where l.one),
      (select m.mark from job_mark m where m.kind = 7 and m.queue = '' and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1)
    into v_epoch, v_home, v_n, v_position, v_trimmed, v_life, v_tidied from store s;
  if v_life is null then v_life := mark_life(); end if;
  if v_epoch = 0 or v_home <> current_home() then v_epoch := current_epoch(); end if;
  v_known := array(select (select coalesce(c.n, 0) from commit c where c.id = x.id) from unnest(p_id) with ordinality x (id, i) order by x.i);
  if cardinality(p_older) > 0 then
    v_older := array(select (select c.n from commit c where c.id = x.id) from unnest(p_older) with ordinality x (id, i) order by x.i);
  end if;
  -- an expired record is loaded as its negative version; where nothing was ever trimmed, no stream has a row of its own
  v_stored := array(
    select coalesce(case p_slot_kind[x.i]
        when 1 then (select case when r.expires_at_ms is null or r.expires_at_ms > v_now then r.version else -r.version end from record r where r.key = x.key order by r.version desc limit 1)
        when 2 then (select case when t.keep_until_ms > v_now then t.version end from token t where t.key = x.key)
        when 3 then coalesce((select e.version from event e where e.stream = x.key order by e.version desc limit 1), case when v_trimmed then (select h.version from stream_head h where h.stream = x.key) end)
      end, 0)
    from unnest(p_slot_key) with ordinality x (key, i) order by x.i);
  v_version := v_stored;
  if 0 > any (v_stored) then
    for v_at in 1 .. cardinality(v_stored) loop
      if v_stored[v_at] < 0 then v_version[v_at] := 0; v_stored[v_at] := -v_stored[v_at]; end if;
    end loop;
  end if;
  if p_op_kind && '{4,6}' then
    v_tail := array(
      select case when p_slot_kind[x.i] = 3 then coalesce((select e.n from event e where e.stream = x.key order by e.version desc limit 1), (select h.n from stream_head h where h.stream = x.key)) end
      from unnest(p_slot_key) with ordinality x (key, i) order by x.i);
  end if;
  v_merging := coalesce(cardinality(p_merge_text) > 0, false);
  if v_merging then
    v_merged := array(
      select case when p_slot_merges[x.i] then (select convert_from(r.value, 'UTF8') from record r where r.key = x.key order by r.version desc limit 1) end
      from unnest(p_slot_key) with ordinality x (key, i) order by x.i);
  end if;
  if cardinality(p_claim_id) > 0 then
    select f.tids, f.epochs, f.ns into v_claim_tid, v_claim_epoch, v_claim_n from find_claims(p_claim_id, p_claim_hint) f;
  end if;
  -- judge: exactly as if the commits were applied one after the other
  -- Commits that are apart are judged at once: when everything that they expect holds, that is what one after the other would come to.
  v_all := p_apart and not v_old and (0 <= any (v_known)) is not true;
  if v_all then
    v_all := not exists (
      select from generate_series(1, cardinality(p_op_kind)) i where case p_op_kind[i]
        when 1 then v_version[p_op_slot[i]] <> p_op_number[i]
        when 8 then (v_claim_n[p_op_slot[i]] = p_op_number[i] and v_claim_epoch[p_op_slot[i]] = p_op_ref[i]) is not true
        when 30 then (v_claim_n[p_op_slot[i]] = p_op_number[i] and v_claim_epoch[p_op_slot[i]] = p_op_ref[i]) is not true
        else false end);
  end if;
  if v_all then
    v_fresh := array(select v_n + i from generate_series(1, v_commits) i order by i);
    v_first_n := v_n + 1;
    v_n := v_n + v_commits;
    v_writer := p_slot_writer;
    v_source := p_slot_source;
  else
    v_status := array_fill(0, array[v_commits]);
    v_epochs := array_fill(v_epoch, array[v_commits]);
    v_writer := array_fill(0, array[v_slots]);
    v_creator := v_writer;
    v_source := v_writer;
    v_number := array_fill(0::bigint, array[v_commits]);
    v_fresh := array_fill(null::bigint, array[v_commits]);
  end if;
  for v_commit in 1 .. case when v_all then 0 else v_commits end loop
    v_first := v_op + 1;
    v_op := p_last[v_commit];
    if v_old and minted_at_ms(p_id[v_commit]) < v_now - p_retention_ms then
      v_status[v_commit] := 3;
      continue;
    end if;
    if v_known[v_commit] is not null then
      v_number[v_commit] := v_known[v_commit];
      v_epochs[v_commit] := (select c.epoch from commit c where c.id = p_id[v_commit]);
      if v_known[v_commit] = 0 then v_status[v_commit] := 3; end if;
      continue;
    end if;
    v_refused := 0;
    v_events_before := v_events;
    for v_at in v_first .. v_op loop
      v_kind := p_op_kind[v_at];
      v_slot := p_op_slot[v_at];
      -- What most operations are comes first.
      if v_kind = 1 then
        if v_version[v_slot] <> p_op_number[v_at] then
          v_refused := 1;
          v_failed := v_failed || v_at;
        end if;
        continue;
      end if;
      if v_kind = 8 or v_kind = 30 and v_refused = 0 then
        if (v_claim_n[v_slot] = p_op_number[v_at] and v_claim_epoch[v_slot] = p_op_ref[v_at]) is not true then
          v_refused := 5;
          v_stopped := v_stopped || v_at;
          v_standing := v_standing || ''::text;
          exit;
        end if;
        if v_kind = 30 then v_claim_n[v_slot] := null; end if;
        continue;
      end if;
      if v_kind < 10 then
        if v_kind = 2 then
          -- staged by it, or stored by it if the batch met a commit that was applied before
          v_holds := v_version[v_slot] in (-p_op_ref[v_at], nullif(v_known[p_op_ref[v_at]], 0));
        elsif v_kind = 3 then
          v_holds := v_version[v_slot] = nullif(v_older[p_op_ref[v_at]], 0);
        elsif v_kind in (4, 6) then
          -- written by it in this batch, or before, if the batch met a commit that was applied earlier
          v_holds := v_version[v_slot] = p_op_number[v_at] and case
            when v_writer[v_slot] > 0 then v_kind = 4 and v_writer[v_slot] = p_op_ref[v_at]
            when v_kind = 4 then v_tail[v_slot] = nullif(v_known[p_op_ref[v_at]], 0)
            else v_tail[v_slot] = nullif(v_older[p_op_ref[v_at]], 0) end;
        elsif v_kind = 7 then
          -- All of it: of what begins elsewhere, another process has moved the first part.
          v_holds := (select count(*) from staged s where s.tx = p_op_number[v_at] and s.seq <= p_op_until[v_at]) = p_op_ref[v_at];
        else
          -- Nobody looks through more of the feed than this while holding the lane: too far back is a conflict, and a newer read succeeds.
          v_holds := p_op_number[v_at] >= v_n - 10000
            and not exists (select from commit c, unnest(c.keys) k where c.n > p_op_number[v_at] and starts_with(k, 'r' || p_prefix[p_op_ref[v_at]]))
            and not exists (select from unnest(p_slot_kind, p_slot_key, v_writer) x (kind, key, writer) where x.kind = 1 and x.writer > 0 and starts_with(x.key, p_prefix[p_op_ref[v_at]]));
        end if;
        if v_holds is not true then
          v_refused := 1;
          v_failed := v_failed || v_at;
        end if;
        continue;
      end if;
      exit when v_refused > 0;

      if v_kind = 13 then
        if v_merging then w_writer[v_at] := v_writer[v_slot]; end if;
        a_version[v_at] := v_version[v_slot];
        a_position[v_at] := v_events;
        v_events := v_events + p_op_number[v_at];
        v_version[v_slot] := v_version[v_slot] + p_op_number[v_at];
        if p_op_number[v_at] > 0 then v_writer[v_slot] := v_commit; end if;
        continue;
      end if;
      if v_kind = 14 then
        -- What the commit appends after it stays.
        p_op_number[v_at] := least(p_op_number[v_at], v_version[v_slot]);
        continue;
      end if;
      -- A merge may refuse the commit after it has staged something: keep what stood.
      if v_merging then
        w_version[v_at] := v_version[v_slot]; w_writer[v_at] := v_writer[v_slot]; w_creator[v_at] := v_creator[v_slot]; w_source[v_at] := v_source[v_slot]; w_merged[v_at] := v_merged[v_slot];
      end if;
      if v_kind = 11 then
        v_version[v_slot] := 0;
        v_writer[v_slot] := v_commit;
        v_source[v_slot] := 0;
        v_merged[v_slot] := null;
        continue;
      end if;
      continue when v_kind = 24 and v_version[v_slot] <> 0;
      if v_kind in (10, 12, 24) then
        v_source[v_slot] := v_at;
        if v_merging then v_merged[v_slot] := null; end if;
      else
        v_current := case
          when v_version[v_slot] = 0 then null
          when v_merged[v_slot] is null then convert_from(substring(p_payload from p_op_number[v_source[v_slot]]::integer for p_op_length[v_source[v_slot]]), 'UTF8')
          else v_merged[v_slot] end;
        if v_kind = 23 then
          v_next := merge_union(coalesce(v_current, '[]'), p_merge_text[p_op_ref[v_at]]);
        else
          v_number_now := merge_number(coalesce(v_current, '0'));
          v_by := p_merge_text[p_op_ref[v_at]]::numeric;
          if v_kind = 20 then
            v_by := v_by + v_number_now;
            if v_by < p_merge_low[p_op_ref[v_at]] or v_by > p_merge_high[p_op_ref[v_at]] or v_by <> trunc(v_by) then
              v_refused := 2;
              v_stopped := v_stopped || v_at;
              v_standing := v_standing || coalesce(v_current, '0');
              exit;
            end if;
            v_next := trim_scale(v_by)::text;
          elsif v_number_now is null or (v_kind = 21 and v_by > v_number_now) or (v_kind = 22 and v_by < v_number_now) then
            v_next := case when v_number_now is not null then p_merge_text[p_op_ref[v_at]] end;
          else
            v_next := coalesce(v_current, '0');
          end if;
        end if;
        if v_next is null then
          v_refused := 4;
          v_stopped := v_stopped || v_at;
          v_standing := v_standing || ''::text;
          exit;
        end if;
        -- A merge that changes nothing writes nothing, so that it gives nobody a conflict. An add always writes.
        continue when v_kind <> 20 and v_next = v_current;
        if v_version[v_slot] = 0 then v_source[v_slot] := 0; end if;
        v_merged[v_slot] := v_next;
      end if;
      if v_version[v_slot] = 0 then v_creator[v_slot] := v_commit; end if;
      v_version[v_slot] := -v_commit;
      v_writer[v_slot] := v_commit;
    end loop;

    if v_refused > 0 then
      v_status[v_commit] := v_refused;
      v_events := v_events_before;
      if v_refused in (2, 4, 5) then
        for v_at in reverse v_stopped[cardinality(v_stopped)] .. v_first loop
          v_slot := p_op_slot[v_at];
          if p_op_kind[v_at] = 30 then
            if v_at < v_stopped[cardinality(v_stopped)] or v_refused <> 5 then v_claim_n[v_slot] := p_op_number[v_at]; end if;
          elsif p_op_kind[v_at] = 13 then
            v_version[v_slot] := v_version[v_slot] - p_op_number[v_at];
            v_writer[v_slot] := w_writer[v_at];
          elsif p_op_kind[v_at] > 9 and p_op_kind[v_at] <> 14 then
            v_version[v_slot] := w_version[v_at]; v_writer[v_slot] := w_writer[v_at]; v_creator[v_slot] := w_creator[v_at]; v_source[v_slot] := w_source[v_at]; v_merged[v_slot] := w_merged[v_at];
          end if;
        end loop;
      end if;
    elsif p_writes[v_commit] then
      v_n := v_n + 1;
      v_first_n := coalesce(v_first_n, v_n);
      v_number[v_commit] := v_n;
      v_fresh[v_commit] := v_n;
    else
      v_number[v_commit] := v_n;
    end if;
  end loop;

  -- apply
  if v_first_n is not null and (cardinality(p_job_commit) > 0 or cardinality(p_end_commit) > 0) then
    v_gave := apply_jobs(v_now, p_payload, v_fresh, v_first_n, p_line_queue, p_line_share, p_line_priority, p_job_shape,
      p_job_commit, p_job_at, p_job_id, p_job_queue, p_job_from, p_job_length, p_job_due, p_job_priority, p_job_key, p_job_unique, p_job_share, p_job_until, p_job_replaces,
      p_end_commit, p_end_at, p_end_id, v_claim_tid, p_end_claim, p_end, p_end_due, p_end_error, p_end_keep, p_end_from, p_end_length);
    v_gave_commit := v_gave.commits;
    v_gave_queue := v_gave.queues;
  end if;
  if cardinality(p_pause_commit) > 0 then
    v_gave := pause_queues(v_fresh, p_pause_commit, p_pause_queue, p_pause_on);
    v_gave_commit := v_gave_commit || v_gave.commits;
    v_gave_queue := v_gave_queue || v_gave.queues;
  end if;
  if (v_tidied > v_now - 1000 and v_tidied <= v_now + 1) is not true then perform tidy_jobs(v_now); end if;
  -- One array for each commit, as texts: looking each commit up among the pairs would be quadratic.
  for v_at in 1 .. cardinality(v_gave_commit) loop
    v_gave_keys[v_gave_commit[v_at]] := (coalesce(v_gave_keys[v_gave_commit[v_at]], '{}')::text[] || ('q' || v_gave_queue[v_at]))::text;
  end loop;
  insert into commit (id, epoch, n, at_ms, keys)
    select p_id[i], v_epoch, v_fresh[i], v_now, case when v_gave_keys[i] is null then p_keys[i]::text[] else p_keys[i]::text[] || v_gave_keys[i]::text[] end
    from generate_series(1, v_commits) i where v_fresh[i] is not null;
  if true = any (p_in_doubt) then
    insert into commit (id, epoch, at_ms) select x.id, v_epoch, v_now from unnest(p_id, p_in_doubt, v_status) x (id, in_doubt, status) where x.in_doubt and x.status > 0 on conflict (id) do nothing;
  end if;
  if cardinality(p_event_commit) > 0 then
    insert into event (position, stream, version, n, id, type, data, meta, at_ms)
      select v_position + case when v_all then i else a_position[y.op] + y.nth end, p_slot_key[p_op_slot[y.op]], case when v_all then v_stored[p_op_slot[y.op]] else a_version[y.op] end + y.nth, v_fresh[p_event_commit[i]],
        p_event_id[i], p_event_type[i], substring(p_payload from p_event_from[i] for p_event_length[i]),
        case when p_event_meta[i] >= 0 then substring(p_payload from p_event_from[i] + p_event_length[i] for p_event_meta[i]) end, v_now
      from generate_series(1, cardinality(p_event_commit)) i, lateral (select p_event_op[i] as op, i - p_op_ref[p_event_op[i]] + 1 as nth) y
      where v_fresh[p_event_commit[i]] is not null;
  end if;
  if 14 = any (p_op_kind) then
    perform trim_streams(p_last, v_fresh, p_op_kind, p_op_slot, p_op_number, p_slot_key);
  end if;
  -- A record: the new version in, the one before it out. Its index entries are touched only when they change.
  v_updates := 0 < any (v_stored);
  v_listed := coalesce(cardinality(p_entries) > 0, false);
  if v_updates and not v_listed then
    v_listed := exists (
      select from unnest(p_slot_kind, p_slot_key, v_writer, v_stored) x (kind, key, writer, stored) join record r on r.key = x.key and r.version = x.stored
      where x.kind = 1 and x.writer > 0 and x.stored > 0 and r.entries is not null);
  end if;
  insert into record (key, version, home, created, expires_at_ms, entries, value)
    select x.key, v_fresh[y.writer], home_of(x.key),
      case when y.version = 0 then 0 when y.creator > 0 then v_fresh[y.creator] else r.created end,
      case when y.version = 0 then -v_now when y.source > 0 then p_op_until[y.source] when y.creator = 0 then r.expires_at_ms end,
      case when y.version = 0 then null when y.source > 0 then p_entries[nullif(p_op_ref[y.source], 0)] when y.creator = 0 then r.entries end,
      case when y.version = 0 then '' when v_merged[x.i] is null then substring(p_payload from p_op_number[y.source]::integer for p_op_length[y.source]) else convert_to(v_merged[x.i], 'UTF8') end
    from unnest(p_slot_key) with ordinality x (key, i) cross join lateral (select v_writer[x.i] as writer, v_source[x.i] as source,
        case when v_all then -1 else v_version[x.i] end as version, case when not v_all then v_creator[x.i] when v_version[x.i] = 0 then v_writer[x.i] else 0 end as creator) y
      left join record r on v_updates and r.key = x.key and r.version = nullif(v_stored[x.i], 0)
    where p_slot_kind[x.i] = 1 and y.writer > 0 and (y.version <> 0 or v_stored[x.i] > 0);
  if v_listed then
    if v_all then v_creator := array(select case when v_version[i] = 0 then v_writer[i] else 0 end from generate_series(1, v_slots) i order by i); end if;
    delete from entry e using unnest(p_slot_kind, p_slot_key, v_writer, v_creator, v_stored) x (kind, key, writer, creator, stored)
        join record before on before.key = x.key and before.version = x.stored
        join record after on after.key = x.key and after.version = v_fresh[x.writer],
        json_array_elements(before.entries::json) f
      where x.kind = 1 and x.writer > 0 and x.stored > 0 and (x.creator > 0 or after.entries is distinct from before.entries)
        and e.home = before.home and e.field = f ->> 0 and e.value = (f -> 1)::text and e.key = x.key;
    insert into entry (home, field, value, key, created)
      select distinct after.home, f ->> 0, (f -> 1)::text, x.key, after.created
      from unnest(p_slot_kind, p_slot_key, v_writer, v_creator, v_stored) x (kind, key, writer, creator, stored)
        join record after on after.key = x.key and after.version = v_fresh[x.writer]
        left join record before on before.key = x.key and before.version = x.stored and x.stored > 0,
        json_array_elements(after.entries::json) f
      where x.kind = 1 and x.writer > 0 and (x.creator > 0 or after.entries is distinct from before.entries);
  end if;
  if v_updates then
    delete from record r using unnest(p_slot_kind, p_slot_key, v_writer, v_stored) x (kind, key, writer, stored)
      where r.key = x.key and r.version = x.stored and x.kind = 1 and x.writer > 0 and x.stored > 0;
  end if;
  if 12 = any (p_op_kind) then
    insert into token (key, value, version, keep_until_ms)
      select x.key, substring(p_payload from p_op_number[x.source]::integer for p_op_length[x.source]), v_fresh[x.writer], v_now + p_op_until[x.source]
      from unnest(p_slot_kind, p_slot_key, v_writer, v_source) x (kind, key, writer, source) where x.kind = 2 and x.writer > 0
      on conflict (key) do update set value = excluded.value, version = excluded.version, keep_until_ms = excluded.keep_until_ms;
  end if;
  if 7 = any (p_op_kind) then
    delete from staged s using unnest(p_op_kind, p_op_number, p_op_until) with ordinality o (kind, tx, seq, i)
      where o.kind = 7 and s.tx = o.tx and s.seq <= o.seq and exists (select from unnest(p_last, v_fresh) with ordinality l (last, fresh, i) where l.fresh is not null and o.i <= l.last and o.i > coalesce(p_last[l.i - 1], 0));
  end if;
  -- What the caller's transaction did stands only with a commit that was applied just now.
  if p_inside and (v_status[1] > 0 or v_fresh[1] is null and p_writes[1]) then
    raise exception 'refused' using errcode = 'TR002', detail = row_to_json(row)::text
      from (select v_status as status, v_epochs as epoch, v_number as number, v_failed as failed, v_stopped as stopped, v_standing as standing, v_epoch as now_epoch, v_n as head, v_gave_commit as gave_commit, v_gave_queue as gave_queue, v_life as life, null as first) row;
  end if;
  return query select v_status, v_epochs, v_number, v_failed, v_stopped, v_standing, v_epoch, v_n, v_gave_commit, v_gave_queue, v_life, case when v_all then v_first_n end;
end $$;

-- What became of a commit, decided by writing a refusal under its id unless an outcome exists. n is null: it is not, and will never be, applied.
create function resolve_commit_v1(p_now bigint, p_retention_ms bigint, p_id uuid)
returns table (epoch integer, n bigint, head bigint, life uuid) language plpgsql volatile as $$
begin
  perform require_read_committed();
  perform set_config('synchronous_commit', 'off', true);
  -- The lane, so that a batch never finds an id taken between judging and applying.
  perform lock_lane();
  -- An id that is too old is refused unread everywhere, so nothing needs to be written for it.
  if minted_at_ms(p_id) >= store_now(p_now) - p_retention_ms then
    insert into commit (id, epoch, at_ms) values (p_id, current_epoch(), store_now(p_now)) on conflict (id) do nothing;
    return query select c.epoch, c.n, newest_commit(), mark_life() from commit c where c.id = p_id;
  else
    return query select s.epoch, null::bigint, newest_commit(), mark_life() from store s;
  end if;
end $$;
-- The flush barrier. A commit like any other, so that it waits for the disk and for the synchronous standbys; what was visible when it
-- began is durable when it ends, if the life it answers is the one in which it was seen: a server that crashed meanwhile and is back
-- flushes as well, and what it lost is none the more durable.
create function flush_v1() returns uuid language plpgsql volatile as $$
declare
  v_life uuid := this_life();
begin
  if current_setting('synchronous_commit') in ('off', 'local') then perform set_config('synchronous_commit', 'on', true); end if;
  perform pg_logical_emit_message(true, 'trestle', '');
  return v_life;
end $$;
-- Reads. Each answers its rows by one statement, so from one snapshot, and then a last row that says which commit was the newest
-- when it had read, and in which life of the server: what it saw is durable when that one is. (In PL/pgSQL each statement has a snapshot of its own; the last row's is the newer.)
-- Every path is an index from its first row on: record_pkey, record_newest, entry_pkey, entry_newest, token_pkey, event_stream, event_pkey, commit_number.

create function read_records_v1(p_now bigint, p_keys text[])
returns table (key text, version bigint, created bigint, expires_at_ms bigint, value bytea, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
declare v_now bigint := store_now(p_now);
begin
  return query select r.key, r.version, r.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
    from unnest(p_keys) with ordinality x (key, i)
      left join lateral (select * from record l where l.key = x.key order by l.version desc limit 1) r on r.expires_at_ms is null or r.expires_at_ms > v_now
    order by x.i;
  return query select null::text, null::bigint, null::bigint, null::bigint, null::bytea, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- Rows after (p_created, p_key) in the order asked for. p_home is null when the prefix is shorter than a component and tenant: then
-- all keys under the prefix are looked at.
create function list_records_v1(p_now bigint, p_home text, p_prefix text, p_upper text, p_field text, p_value text, p_newest boolean, p_created bigint, p_key text, p_limit integer)
returns table (key text, version bigint, created bigint, expires_at_ms bigint, value bytea, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
declare v_now bigint := store_now(p_now);
begin
  if p_newest and p_home is not null and p_field is not null then
    return query select r.key, r.version, e.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
      from entry e join lateral (select * from record l where l.key = e.key order by l.version desc limit 1) r on r.expires_at_ms is null or r.expires_at_ms > v_now
      where entry_list(e.home, e.field, e.value) = entry_list(p_home, p_field, p_value) and e.created <= p_created and (e.created < p_created or e.key > p_key) and e.key >= p_prefix and e.key < p_upper
      order by entry_list(e.home, e.field, e.value), e.created desc, e.key limit p_limit;
  elsif p_newest and p_home is not null then
    return query select r.key, r.version, r.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
      from record r
      where r.home = p_home and r.created <= p_created and (r.created < p_created or r.key > p_key) and r.key >= p_prefix and r.key < p_upper and (r.expires_at_ms is null or r.expires_at_ms > v_now)
      order by r.home, r.created desc, r.key limit p_limit;
  elsif p_newest then
    return query select r.key, r.version, r.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
      from record r
      where r.key >= p_prefix and r.key < p_upper and r.created <= p_created and (r.created < p_created or r.key > p_key) and (r.expires_at_ms is null or r.expires_at_ms > v_now)
        and (p_field is null or (select true from entry e where e.home = r.home and e.field = p_field and e.value = p_value and e.key = r.key limit 1)) -- no join to turn round
      order by r.created desc, r.key limit p_limit;
  elsif p_home is not null and p_field is not null then
    return query select r.key, r.version, e.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
      from entry e join lateral (select * from record l where l.key = e.key order by l.version desc limit 1) r on r.expires_at_ms is null or r.expires_at_ms > v_now
      where e.home = p_home and e.field = p_field and e.value = p_value and e.key > p_key and e.key >= p_prefix and e.key < p_upper
      order by e.home, e.field, e.value, e.key limit p_limit;
  elsif p_field is not null then
    return query select r.key, r.version, r.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
      from record r
      where r.key > p_key and r.key >= p_prefix and r.key < p_upper and (r.expires_at_ms is null or r.expires_at_ms > v_now)
        and (select true from entry e where e.home = r.home and e.field = p_field and e.value = p_value and e.key = r.key limit 1)
      order by r.key limit p_limit;
  else
    return query select r.key, r.version, r.created, r.expires_at_ms, r.value, null::integer, null::bigint, null::uuid
      from record r
      where r.key > p_key and r.key >= p_prefix and r.key < p_upper and (r.expires_at_ms is null or r.expires_at_ms > v_now)
      order by r.key limit p_limit;
  end if;
  return query select null::text, null::bigint, null::bigint, null::bigint, null::bytea, s.epoch, newest_commit(), this_life() from store s;
end $$;

create function read_token_v1(p_now bigint, p_key text)
returns table (version bigint, value bytea, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
declare v_now bigint := store_now(p_now);
begin
  return query select t.version, t.value, null::integer, null::bigint, null::uuid from (select * from token k where k.key = p_key offset 0) t where t.keep_until_ms > v_now; -- by the key first, whatever the statistics say
  return query select null::bigint, null::bytea, s.epoch, newest_commit(), this_life() from store s;
end $$;

create function read_stream_v1(p_stream text, p_after bigint, p_before bigint, p_newest boolean, p_limit integer)
returns table ("position" bigint, stream text, version bigint, id uuid, type text, data bytea, meta bytea, at_ms bigint, n bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  if p_newest then
    return query select e.position, e.stream, e.version, e.id, e.type, e.data, e.meta, e.at_ms, e.n, null::integer, null::bigint, null::uuid
      from event e where e.stream = p_stream and e.version > p_after and e.version < p_before order by e.stream desc, e.version desc limit p_limit;
  else
    return query select e.position, e.stream, e.version, e.id, e.type, e.data, e.meta, e.at_ms, e.n, null::integer, null::bigint, null::uuid
      from event e where e.stream = p_stream and e.version > p_after and e.version < p_before order by e.stream, e.version limit p_limit;
  end if;
  return query select null::bigint, null::text, null::bigint, null::uuid, null::text, null::bytea, null::bytea, null::bigint, null::bigint, s.epoch, newest_commit(), this_life() from store s;
end $$;

create function read_stream_version_v1(p_stream text)
returns table (version bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query select coalesce((select e.version from event e where e.stream = p_stream order by e.stream desc, e.version desc limit 1),
    (select h.version from stream_head h where h.stream = p_stream), 0), null::integer, null::bigint, null::uuid;
  return query select null::bigint, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- The last row's position is the end of the log when the read began, and `n` how far it has looked.
create function read_log_v1(p_after bigint, p_components text[], p_types text[], p_limit integer, p_scan integer)
returns table ("position" bigint, stream text, version bigint, id uuid, type text, data bytea, meta bytea, at_ms bigint, n bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
declare
  v_end bigint := end_of_log();
  v_until bigint := v_end;
begin
  if p_components is null and p_types is null then
    return query select e.position, e.stream, e.version, e.id, e.type, e.data, e.meta, e.at_ms, e.n, null::integer, null::bigint, null::uuid
      from event e where e.position > p_after and e.position <= v_end order by e.position limit p_limit;
  else
    v_until := least(v_end, p_after + p_scan);
    return query select e.position, e.stream, e.version, e.id, e.type, e.data, e.meta, e.at_ms, e.n, null::integer, null::bigint, null::uuid
      from event e where e.position > p_after and e.position <= v_until
        and (p_components is null or split_part(e.stream, '/', 1) = any (p_components)) and (p_types is null or e.type = any (p_types)) order by e.position limit p_limit;
  end if;
  return query select v_end, null::text, null::bigint, null::uuid, null::text, null::bytea, null::bytea, null::bigint, v_until, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- The last row's at_ms is the newest commit that retention has removed from the feed.
create function read_commits_v1(p_after bigint, p_limit integer)
returns table (n bigint, id uuid, at_ms bigint, keys text[], epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query select c.n, c.id, c.at_ms, c.keys, c.epoch, null::bigint, null::uuid from commit c where c.n > p_after and c.id is not null order by c.n limit p_limit;
  return query select null::bigint, null::uuid, s.trimmed_n, null::text[], s.epoch, newest_commit(), this_life() from store s;
end $$;

create function read_head_v1()
returns table ("position" bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query select end_of_log(), s.epoch, newest_commit(), this_life() from store s;
end $$;
-- Hints that there is something new to read. Without waiting for the disk: a lost hint is made good by the poll, and NOTIFY holds a lock of
-- the whole database until its commit has ended.
create function hint_channel_v1() returns text language sql stable as $$ select 'trestle/' || 'store'::regclass::oid $$;
create function hint_v1(p_payload text) returns void language plpgsql volatile as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  perform pg_notify(hint_channel_v1(), p_payload);
end $$;
-- The user's own SQL, beside the lane.
--
-- One lock lets one of the user's transactions at a time touch the user's tables, over all processes: what one of them reads stands until it
-- ends, as on an engine with one writer, and nobody else's commit waits for it. The lane is taken last, with the COMMIT.

create function lock_tables_v1() returns void language plpgsql volatile as $$
begin
  perform require_read_committed();
  perform pg_advisory_xact_lock((1953657702::bigint << 32) | 'store'::regclass::oid::bigint);
end $$;

-- The outcome of a commit that was applied; no row when it was not.
create function commit_known_v1(p_id uuid) returns table (epoch integer, n bigint, life uuid) language plpgsql volatile as $$
begin
  return query select c.epoch, c.n, this_life() from commit c where c.id = p_id and c.n is not null;
end $$;

-- Whatever a statement touches, by whatever way, it has locked until the transaction ends: a table of Trestle's, or a temporary one, is found
-- among the locks. Call it before Trestle's own functions touch theirs.
create function guard_user_sql_v1() returns void language plpgsql volatile as $$
declare v_table text;
begin
  select c.oid::regclass::text into v_table from pg_locks l join pg_class c on c.oid = l.relation
    where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and (c.relnamespace = current_schema()::regnamespace or c.relnamespace = pg_my_temp_schema())
    limit 1;
  if v_table is not null then
    raise exception '%', v_table using errcode = 'TR004';
  end if;
end $$;

-- The end of a read of the user's: the newest commit that it could have seen.
create function end_user_read_v1() returns table (epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  perform guard_user_sql_v1();
  return query select s.epoch, newest_commit(), this_life() from store s;
end $$;

create function lock_migrations_v1() returns void language plpgsql volatile as $$
begin
  perform pg_advisory_xact_lock((1953657703::bigint << 32) | 'store'::regclass::oid::bigint);
end $$;

create function find_migration_v1(p_component text, p_name text) returns text language plpgsql volatile as $$
begin
  return (select m.digest from migration m where m.component = p_component and m.name = p_name);
end $$;

create function keep_migration_v1(p_now bigint, p_component text, p_name text, p_digest text) returns void language plpgsql volatile as $$
begin
  insert into migration (component, name, digest, at_ms) values (p_component, p_name, p_digest, store_now(p_now));
end $$;
-- Jobs and events that somebody else's transaction sends (FINDINGS F7). There they get neither a position nor a number: whoever holds the lane
-- holds everybody, and a transaction of an ORM may take seconds. A commit of any process moves them once that transaction has ended.

-- Called inside that transaction, at whatever isolation it has.
create function stage_v1(p_facts text[], p_body bytea[], p_meta bytea[]) returns void language plpgsql volatile as $$
begin
  insert into staged (tx, facts, body, meta) select pg_current_xact_id()::text::bigint, x.facts, x.body, x.meta from unnest(p_facts, p_body, p_meta) with ordinality x (facts, body, meta, i) order by x.i;
end $$;

-- What ended transactions have staged, from transaction `p_from` on. The last row's tx is a transaction below which all have ended: when
-- everything here is moved, the next look begins there and walks through none of the rows that are gone.
create function read_staged_v1(p_from bigint, p_limit integer) returns table (tx bigint, seq bigint, facts text, body bytea, meta bytea) language plpgsql volatile as $$
declare v_ended bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
begin
  return query select s.tx, s.seq, s.facts, s.body, s.meta from staged s where s.tx >= p_from order by s.tx, s.seq limit p_limit;
  return query select v_ended, null::bigint, null::text, null::bytea, null::bytea;
end $$;
-- What time has made superfluous goes in small steps, beside the lane, by one process at a time. A minute late, so that no batch meets a row
-- that is being swept. Each walk begins where the last one ended (`p_…_from`): under an old snapshot the rows before it are dead, but still there.
create function sweep_v1(p_now bigint, p_keep_ms bigint, p_expired_from bigint, p_removed_from bigint, p_tokens_from bigint, p_limit integer)
-- busy: another process sweeps. more: there was more of one kind than one step takes. Otherwise all until `upto` is gone.
returns table (busy boolean, more boolean, swept integer, upto bigint) language plpgsql volatile as $$
declare
  v_upto bigint := store_now(p_now) - 60000; v_keys text[]; v_ids uuid[]; v_versions bigint[]; v_rows integer; v_swept integer := 0; v_more boolean := false; v_trimmed bigint;
begin
  perform require_read_committed();
  perform set_config('synchronous_commit', 'off', true);
  if not pg_try_advisory_xact_lock((1953657704::bigint << 32) | 'store'::regclass::oid::bigint) then
    return query select true, false, 0, v_upto;
    return;
  end if;

  select array_agg(x.key), array_agg(x.version) into v_keys, v_versions from (
    select * from (select r.key, r.version from record r where r.expires_at_ms >= greatest(p_expired_from, 0) and r.expires_at_ms < v_upto order by r.expires_at_ms limit p_limit for update skip locked) expired
    union all
    select * from (select r.key, r.version from record r where r.expires_at_ms > -v_upto and r.expires_at_ms <= -greatest(p_removed_from, 1) order by r.expires_at_ms desc limit p_limit for update skip locked) removed) x;
  if v_keys is not null then
    delete from entry e using unnest(v_keys, v_versions) x (key, version) join record r on r.key = x.key and r.version = x.version, json_array_elements(r.entries::json) f
      where e.home = r.home and e.field = f ->> 0 and e.value = (f -> 1)::text and e.key = r.key;
    delete from record r using unnest(v_keys, v_versions) x (key, version) where r.key = x.key and r.version = x.version;
    v_swept := cardinality(v_keys);
    v_more := cardinality(v_keys) >= p_limit;
  end if;

  -- In two steps each: as one statement the planner may turn the walk inside out.
  v_keys := array(select k.key from token k where k.keep_until_ms >= p_tokens_from and k.keep_until_ms < v_upto order by k.keep_until_ms limit p_limit for update skip locked);
  delete from token t where t.key = any (v_keys);
  get diagnostics v_rows = row_count;
  v_swept := v_swept + v_rows;
  v_more := v_more or v_rows = p_limit;

  -- Commit ids are remembered for `p_keep_ms`, and the feed with them; its newest commit stays, so that the head does.
  select max(x.n) into v_trimmed from (
    select c.n, c.at_ms from commit c where c.n > (select s.trimmed_n from store s) and c.n < newest_commit() order by c.n limit p_limit) x where x.at_ms < v_upto - p_keep_ms;
  if v_trimmed is not null then
    delete from commit c where c.n > (select s.trimmed_n from store s) and c.n <= v_trimmed;
    get diagnostics v_rows = row_count;
    update store set trimmed_n = v_trimmed;
    v_swept := v_swept + v_rows;
    v_more := v_more or v_rows = p_limit;
  end if;
  v_ids := array(select k.id from commit k where k.n is null and k.at_ms < v_upto - p_keep_ms order by k.at_ms limit p_limit);
  delete from commit c where c.id = any (v_ids);
  get diagnostics v_rows = row_count;
  return query select false, v_more or v_rows = p_limit, v_swept + v_rows, v_upto;
end $$;
-- Last: every function of the client's (`…_v<number>`) carries the schema and its plans with it. Hash and merge joins and sequential
-- scans are off because with fresh or missing statistics the planner prefers to read whole tables (1.7 times slower measured, and
-- worse as they grow); a lane that somebody else holds is waited for with an end.
do $$
declare v_function regprocedure; v_setting text;
begin
  for v_function in select p.oid::regprocedure from pg_proc p where p.pronamespace = current_schema()::regnamespace and p.proname ~ '_v[0-9]+$' loop
    execute format('alter function %s set search_path from current', v_function);
    foreach v_setting in array array['enable_hashjoin = off', 'enable_mergejoin = off', 'enable_seqscan = off', 'enable_bitmapscan = off', 'enable_sort = off', 'enable_incremental_sort = off', 'jit = off', 'plan_cache_mode = force_generic_plan', 'lock_timeout = ''10s'''] loop
      execute format('alter function %s set %s', v_function, v_setting);
    end loop;
  end loop;
  -- Whoever starts while another process migrates waits for it.
  alter function lock_migrations_v1 set lock_timeout = 0;
end $$;
