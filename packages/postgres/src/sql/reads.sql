-- Reads. Each answers its rows by one statement, so from one snapshot, and then a last row that says which commit was the newest
-- when it had read, and in which life of the server: what it saw is durable when that one is. (In PL/pgSQL each statement has a snapshot of its own; the last row's is the newer.)
-- Every path is an index from its first row on: record_pkey, record_newest, entry_pkey, entry_newest, token_pkey, event_stream, event_pkey, commit_number.

create or replace function read_records_v1(p_now bigint, p_keys text[])
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
create or replace function list_records_v1(p_now bigint, p_home text, p_prefix text, p_upper text, p_field text, p_value text, p_newest boolean, p_created bigint, p_key text, p_limit integer)
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

create or replace function read_token_v1(p_now bigint, p_key text)
returns table (version bigint, value bytea, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
declare v_now bigint := store_now(p_now);
begin
  return query select t.version, t.value, null::integer, null::bigint, null::uuid from (select * from token k where k.key = p_key offset 0) t where t.keep_until_ms > v_now; -- by the key first, whatever the statistics say
  return query select null::bigint, null::bytea, s.epoch, newest_commit(), this_life() from store s;
end $$;

create or replace function read_stream_v1(p_stream text, p_after bigint, p_before bigint, p_newest boolean, p_limit integer)
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

create or replace function read_stream_version_v1(p_stream text)
returns table (version bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query select coalesce((select e.version from event e where e.stream = p_stream order by e.stream desc, e.version desc limit 1),
    (select h.version from stream_head h where h.stream = p_stream), 0), null::integer, null::bigint, null::uuid;
  return query select null::bigint, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- The last row's position is the end of the log when the read began, and `n` how far it has looked.
create or replace function read_log_v1(p_after bigint, p_components text[], p_types text[], p_limit integer, p_scan integer)
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
create or replace function read_commits_v1(p_after bigint, p_limit integer)
returns table (n bigint, id uuid, at_ms bigint, keys text[], epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query select c.n, c.id, c.at_ms, c.keys, c.epoch, null::bigint, null::uuid from commit c where c.n > p_after and c.id is not null order by c.n limit p_limit;
  return query select null::bigint, null::uuid, s.trimmed_n, null::text[], s.epoch, newest_commit(), this_life() from store s;
end $$;

create or replace function read_head_v1()
returns table ("position" bigint, epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  return query select end_of_log(), s.epoch, newest_commit(), this_life() from store s;
end $$;
