-- The parts of the functions. Run inside the store's schema, after tables.sql.
-- A function that the client calls carries the schema and its planner's settings with it: behind a transaction pooler a session has none.

-- The store's clock: the server's, unless a test brings its own.
create or replace function store_now(p_now bigint) returns bigint language sql volatile as $$
  select coalesce(p_now, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
$$;

-- The lane of the store in the search_path, until the transaction ends. Waiters get it in the order they came.
create or replace function lock_lane() returns void language sql volatile as $$
  select pg_advisory_xact_lock((1953657700::bigint << 32) | 'store'::regclass::oid::bigint)
$$;

-- A judgement is true only about the newest state, so every statement needs a snapshot of its own.
create or replace function require_read_committed() returns void language plpgsql volatile as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a commit needs READ COMMITTED, not %', upper(current_setting('transaction_isolation')) using errcode = 'TR001';
  end if;
end $$;

-- The timeline of the server. Of one expression, so that it becomes a part of the statement that calls it.
create or replace function timeline() returns text language sql volatile as $$
  select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
$$;

-- Timeline and database: another one after a promotion or in a copy. Every batch compares it, in the statement that loads the store's row.
create or replace function current_home() returns text language sql volatile as $$
  select timeline() || '/' || (select oid from pg_database where datname = current_database())
$$;

-- The epoch, a new one when the store has moved to another timeline, cluster or database; 0 while another store is being moved here. Call it with
-- the lane locked.
create or replace function current_epoch() returns integer language plpgsql volatile as $$
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
create or replace function this_life() returns uuid language plpgsql volatile as $$
begin
  -- A standby has lost the right to look at an unlogged table, and nothing may rest on what it shows.
  if pg_is_in_recovery() then return null; end if;
  return (select l.id from life l);
end $$;

-- The same for whoever commits without waiting for the disk.
create or replace function mark_life() returns uuid language plpgsql volatile as $$
declare
  v_life uuid := this_life();
begin
  if v_life is not null then return v_life; end if;
  insert into life (id) values (gen_random_uuid()) on conflict do nothing;
  return this_life();
end $$;

-- The milliseconds in a UUIDv7: its first 48 bits.
create or replace function minted_at_ms(p_id uuid) returns bigint language sql immutable strict as $$
  select ('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint
$$;

-- The component and tenant of a key: up to its second slash.
create or replace function home_of(p_key text) returns text language sql immutable strict as $$
  select split_part(p_key, '/', 1) || '/' || split_part(p_key, '/', 2) || '/'
$$;

-- The newest number there is.
create or replace function newest_commit() returns bigint language sql volatile as $$
  select coalesce((select c.n from commit c where c.n is not null order by c.n desc limit 1), 0)
$$;

-- The position of the last event, also when retention has removed it.
create or replace function end_of_log() returns bigint language sql volatile as $$
  select greatest((select e.position from event e order by e.position desc limit 1), s.head_position) from store s
$$;

-- The operations 14 of the commits that were applied: the one exception to the immutable log. A stream of which nothing is left keeps
-- its version in a row; there is none for the others.
create or replace function trim_streams(p_last integer[], p_fresh bigint[], p_op_kind integer[], p_op_slot integer[], p_op_number bigint[], p_slot_key text[]) returns void language plpgsql volatile as $$
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
  delete from event where ctid = any (array(
    select e.tid from unnest(v_streams, v_upto) x (stream, upto)
      cross join lateral (select t.ctid as tid from event t where t.stream = x.stream and t.version <= x.upto order by t.version offset 0) e));
  perform set_config('trestle.maintenance', '', true);
end $$;

-- The JSON number that stands, or null when the text is something else.
create or replace function merge_number(p_standing text) returns numeric language sql immutable strict as $$
  select case when p_standing ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$' then p_standing::numeric end
$$;

-- Two JSON arrays of strings as one: each member once, in the order of UTF-8 bytes; null when what stands has a member that is no
-- string. Members stay the JSON tokens they are, so that the bytes come out as JSON.stringify would write them.
create or replace function merge_union(p_standing text, p_added text) returns text language sql immutable strict as $$
  select case when bool_and(left(token, 1) = '"') is not false then '[' || coalesce(string_agg(token, ',' order by (token::json #>> '{}') collate "C"), '') || ']' end
  from (select e::text as token from json_array_elements(p_standing::json) e union select e::text from json_array_elements(p_added::json) e) members
$$;

-- When a store is opened: the cluster too is compared, which costs a read of its control file.
create or replace function open_store_v1() returns table (epoch integer, head bigint) language plpgsql volatile as $$
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
