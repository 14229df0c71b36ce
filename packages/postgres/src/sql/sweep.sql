-- What time has made superfluous goes in small steps, beside the lane, by one process at a time. A minute late, so that no batch meets a row
-- that is being swept. Each walk begins where the last one ended (`p_…_from`): under an old snapshot the rows before it are dead, but still there.
create or replace function sweep_v1(p_now bigint, p_keep_ms bigint, p_expired_from bigint, p_removed_from bigint, p_tokens_from bigint, p_limit integer)
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
    delete from entry where ctid = any (array(
      select (select e.ctid from entry e where e.home = r.home and e.field = f ->> 0 and e.value = (f -> 1)::text and e.key = x.key)
      from unnest(v_keys, v_versions) x (key, version)
        cross join lateral (select s.home, s.entries from record s where s.key = x.key and s.version >= x.version and s.version <= x.version order by s.version limit 1) r, json_array_elements(r.entries::json) f));
    delete from record where ctid = any (array(
      select (select r.ctid from record r where r.key = x.key and r.version >= x.version and r.version <= x.version order by r.version limit 1) from unnest(v_keys, v_versions) x (key, version)));
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
