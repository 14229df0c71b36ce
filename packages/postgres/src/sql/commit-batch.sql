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
-- What it costs is executor work, not waiting: so few statements, each of which costs 10 to 60 µs before its first row, and arrays are read by
-- subscript (`p_x[i]`). unnest() of ten arrays makes a stored row of each element first, which was a third of each insert; so does any set in FROM, and
-- where it counts generate_series() stands in a select list.
--
-- In a batch of one commit nearly all of it is the start of statements: each part of an expression costs as much as a row does, each subquery as an index probe,
-- executed or not. So what a batch does not have is asked for in a statement of its own, behind an IF; values that several statements need are read once; and
-- a variable begins with a value of its own type, because a cast (`'{}'`, `0` for a bigint) is prepared anew in each call.
--
-- Two ways through it: commits that are apart, and all hold, are judged together and applied by one statement for each table; all others go one after the
-- other through the loop behind it.
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
--   25 take the amount `p_merge_low[length]` out of a bucket of `p_merge_high[length]` microseconds; `until` is when it is full again, from then on
create or replace function commit_batch_v1(
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
-- now_epoch, head, life: the epoch, the newest number there is now, and the life of the server (sql/flush.sql). failed: operations whose expectation did not hold; stopped: operations with status 2, 4 or 5, and what stood there; and takes that were applied, and what they left taken
returns table (status integer[], epoch integer[], number bigint[], failed integer[], stopped integer[], standing text[], now_epoch integer, head bigint, gave_commit integer[], gave_queue text[], life uuid, first bigint)
language plpgsql volatile as $$
declare
  v_now bigint; v_life uuid; v_epoch integer; v_n bigint; v_position bigint;
  v_known bigint[]; v_older bigint[]; v_tail bigint[];
  a_version bigint[]; a_position bigint[]; v_events bigint := 0::bigint; v_events_before bigint;
  v_stored bigint[]; v_listed boolean; v_before tid[]; v_created bigint[];
  v_version bigint[]; v_writer integer[]; v_creator integer[]; v_source integer[]; v_merged text[];
  w_version bigint[]; w_writer integer[]; w_creator integer[]; w_source integer[]; w_merged text[];
  v_status integer[]; v_number bigint[]; v_fresh bigint[]; v_epochs integer[]; v_failed integer[] := '{}'::integer[]; v_stopped integer[] := '{}'::integer[]; v_standing text[] := '{}'::text[];
  v_commits integer := coalesce(cardinality(p_id), 0); v_slots integer := coalesce(cardinality(p_slot_key), 0); v_updates boolean; v_first_n bigint; v_old boolean; v_all boolean; v_plain boolean; v_moved boolean; v_trimmed boolean; v_tidied bigint; v_set text;
  v_op integer := 0; v_first integer; v_kind integer; v_slot integer;
  v_refused integer; v_holds boolean; v_current text; v_next text; v_number_now numeric; v_by numeric; v_merging boolean;
  v_claim_tid tid[]; v_claim_epoch integer[]; v_claim_n bigint[]; v_gave record; v_gave_commit integer[] := '{}'::integer[]; v_gave_queue text[] := '{}'::text[]; v_gave_keys text[];
begin
  if current_setting('transaction_isolation') <> 'read committed' or pg_is_in_recovery() then
    perform require_read_committed();
    raise exception 'the server is a standby' using errcode = '25006';
  end if;
  v_set := set_config('synchronous_commit', 'off', true);

  -- lock
  perform lock_lane();

  -- load: from here on each statement sees everything that was committed before the lane was ours
  v_now := store_now(p_now);
  select s.epoch, s.epoch = 0 or s.home <> timeline() || '/' || (select d.oid from pg_database d where d.datname = current_database()),
      p_oldest_ms < v_now - p_retention_ms, coalesce((select c.n from commit c where c.n is not null order by c.n desc limit 1), 0),
      greatest((select e.position from event e order by e.position desc limit 1), s.head_position), s.head_position > 0,
      (select l.id from life l),
      (select m.mark from job_mark m where m.kind = 7 and m.queue = '' and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1),
      p_apart and p_entries is null and p_pause_commit is null and not exists (select from (select unnest(p_id) as id offset 0) x where (select c.id from commit c where c.id = x.id) is not null)
    into v_epoch, v_moved, v_old, v_n, v_position, v_trimmed, v_life, v_tidied, v_all from store s;
  if v_life is null then v_life := mark_life(); end if;
  if v_moved then v_epoch := current_epoch(); end if;
  -- an expired record is loaded as its negative version; where nothing was ever trimmed, no stream has a row of its own
  v_stored := array(
    select coalesce(case p_slot_kind[i]
        when 1 then (select case when r.expires_at_ms is null or r.expires_at_ms > v_now then r.version else -r.version end from record r where r.key = p_slot_key[i] order by r.version desc limit 1)
        when 2 then (select case when t.keep_until_ms > v_now then t.version end from token t where t.key = p_slot_key[i])
        when 3 then coalesce((select e.version from event e where e.stream = p_slot_key[i] order by e.version desc limit 1), case when v_trimmed then (select h.version from stream_head h where h.stream = p_slot_key[i]) end)
      end, 0)
    from (select generate_series(1, v_slots) as i) x);
  v_version := v_stored;
  if 0 > any (v_stored) then
    for v_at in 1 .. cardinality(v_stored) loop
      if v_stored[v_at] < 0 then v_version[v_at] := 0; v_stored[v_at] := -v_stored[v_at]; end if;
    end loop;
  end if;
  v_updates := 0 < any (v_stored);
  if p_claim_id is not null then
    select f.tids, f.epochs, f.ns into v_claim_tid, v_claim_epoch, v_claim_n from find_claims(p_claim_id, p_claim_hint) f;
  end if;

  -- Apart, and everything that they expect holds: that is what one after the other would come to. Commit i has number v_n + i.
  v_all := v_all and not v_old;
  if v_all and 1 = any (p_op_kind) then
    v_all := not exists (select from (select generate_series(1, cardinality(p_op_kind)) as i) x where p_op_kind[i] = 1 and v_version[p_op_slot[i]] <> p_op_number[i]);
  end if;
  if v_all and p_claim_id is not null then
    v_all := not exists (
      select from (select generate_series(1, cardinality(p_op_kind)) as i) x
      where p_op_kind[i] in (8, 30) and (v_claim_n[p_op_slot[i]] = p_op_number[i] and v_claim_epoch[p_op_slot[i]] = p_op_ref[i]) is not true);
  end if;
  -- What stands where records are written, by slot; those with index entries take the other way.
  if v_all and v_updates and 10 = any (p_op_kind) then
    select bool_or(r.listed) is not true, array_agg(r.tid order by x.i), array_agg(r.created order by x.i) into v_all, v_before, v_created
      from (select generate_series(1, v_slots) as i) x left join lateral (
        select b.ctid as tid, b.created, b.entries is not null as listed from record b
        where p_slot_kind[x.i] = 1 and p_slot_writer[x.i] > 0 and v_stored[x.i] > 0 and b.key = p_slot_key[x.i] and b.version >= v_stored[x.i] and b.version <= v_stored[x.i] order by b.version limit 1) r on true;
  end if;
  if v_all then
    v_plain := p_end_commit is null and p_job_shape = 0;
    if v_plain and p_job_commit is not null then
      -- Each line has its mark, and nothing of its queue is due: apply_jobs would come to the same.
      v_plain := not exists (
        select from unnest(p_line_queue, p_line_share, p_line_priority) x (queue, share, priority) where
          (select m.mark from job_mark m where m.kind = 1 and m.queue = x.queue and m.share = x.share and m.priority = x.priority order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1) is null
          or (select d.mark > v_now + 1 or d.mark > 0 and d.mark < v_now - 10000
              or (select j.due_at_ms from job j where j.queue = x.queue and j.state in (3, 7) and j.due_at_ms >= d.mark and j.due_at_ms <= v_now order by j.queue, j.due_at_ms limit 1) is not null
            from (select coalesce((select m.mark from job_mark m where m.kind = 2 and m.queue = x.queue and m.share = '' and m.priority = 0 order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1), 0) as mark offset 0) d));
    end if;
    if v_plain then
      if p_job_commit is not null then
        insert into job (id, queue, state, share, priority, seq, place, rank, line, due_at_ms, sent_at_ms, until_ms, payload)
          select p_job_id[i], p_job_queue[i], case when p_job_due[i] > v_now then 7 else 1 end, p_job_share[i], p_job_priority[i], x.place, x.place, x.place, x.place, greatest(p_job_due[i], v_now), v_now, p_job_until[i],
            substring(p_payload from p_job_from[i] for p_job_length[i])
          from (select g.i, ((v_n + p_job_commit[g.i]) << 20) + (1 << 19) + g.i as place from (select generate_series(1, cardinality(p_job_id)) as i) g offset 0) x
          where (select j.id from job j where j.id = p_job_id[i]) is null;
      end if;
    else
      v_gave := apply_jobs(v_now, p_payload, array(select v_n + generate_series(1, v_commits)), v_n + 1, p_line_queue, p_line_share, p_line_priority, p_job_shape,
        p_job_commit, p_job_at, p_job_id, p_job_queue, p_job_from, p_job_length, p_job_due, p_job_priority, p_job_key, p_job_unique, p_job_share, p_job_until, p_job_replaces,
        p_end_commit, p_end_at, p_end_id, v_claim_tid, p_end_claim, p_end, p_end_due, p_end_error, p_end_keep, p_end_from, p_end_length);
      v_gave_commit := v_gave.commits;
      v_gave_queue := v_gave.queues;
      for v_at in 1 .. cardinality(v_gave_commit) loop
        p_keys[v_gave_commit[v_at]] := (p_keys[v_gave_commit[v_at]]::text[] || ('q' || v_gave_queue[v_at]))::text;
      end loop;
    end if;
    insert into commit (id, epoch, n, at_ms, keys) select p_id[i], v_epoch, v_n + i, v_now, p_keys[i]::text[] from (select generate_series(1, v_commits) as i) x;
    if p_event_commit is not null then
      insert into event (position, stream, version, n, id, type, data, meta, at_ms)
        select v_position + i, p_slot_key[p_op_slot[p_event_op[i]]], v_stored[p_op_slot[p_event_op[i]]] + i - p_op_ref[p_event_op[i]] + 1, v_n + p_event_commit[i],
          p_event_id[i], p_event_type[i], substring(p_payload from p_event_from[i] for p_event_length[i]),
          case when p_event_meta[i] >= 0 then substring(p_payload from p_event_from[i] + p_event_length[i] for p_event_meta[i]) end, v_now
        from (select generate_series(1, cardinality(p_event_commit)) as i) x;
    end if;
    if 10 = any (p_op_kind) then
      insert into record (key, version, home, created, expires_at_ms, value)
        select p_slot_key[i], v_n + p_slot_writer[i], home_of(p_slot_key[i]),
          case when v_version[i] > 0 then v_created[i] else v_n + p_slot_writer[i] end,
          p_op_until[p_slot_source[i]], substring(p_payload from p_op_number[p_slot_source[i]]::integer for p_op_length[p_slot_source[i]])
        from (select generate_series(1, v_slots) as i) x where p_slot_kind[i] = 1 and p_slot_writer[i] > 0;
      if v_updates then delete from record where ctid = any (v_before); end if;
    end if;
    if 12 = any (p_op_kind) then
      insert into token (key, value, version, keep_until_ms)
        select p_slot_key[i], substring(p_payload from p_op_number[p_slot_source[i]]::integer for p_op_length[p_slot_source[i]]), v_n + p_slot_writer[i], v_now + p_op_until[p_slot_source[i]]
        from (select generate_series(1, v_slots) as i) x where p_slot_kind[i] = 2 and p_slot_writer[i] > 0
        on conflict (key) do update set value = excluded.value, version = excluded.version, keep_until_ms = excluded.keep_until_ms;
    end if;
    if (v_tidied > v_now - 1000 and v_tidied <= v_now + 1) is not true then perform tidy_jobs(v_now); end if;
    return query select null::integer[], null::integer[], null::bigint[], v_failed, v_stopped, v_standing, v_epoch, v_n + v_commits, v_gave_commit, v_gave_queue, v_life, v_n + 1;
    return;
  end if;

  v_known := array(select (select coalesce(c.n, 0) from commit c where c.id = x.id) from unnest(p_id) with ordinality x (id, i) order by x.i);
  if cardinality(p_older) > 0 then
    v_older := array(select (select c.n from commit c where c.id = x.id) from unnest(p_older) with ordinality x (id, i) order by x.i);
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
  v_status := array_fill(0, array[v_commits]);
  v_epochs := array_fill(v_epoch, array[v_commits]);
  v_writer := array_fill(0, array[v_slots]);
  v_creator := v_writer;
  v_source := v_writer;
  v_number := array_fill(0::bigint, array[v_commits]);
  v_fresh := array_fill(null::bigint, array[v_commits]);

  -- judge: exactly as if the commits were applied one after the other
  for v_commit in 1 .. v_commits loop
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
        if v_kind = 25 then
          v_number_now := merge_number(coalesce(v_current, '0'));
          -- Further ahead than the bucket is large: its clock went back, or it was larger. It counts as empty.
          v_by := least(greatest(v_number_now - v_now * 1000::numeric, 0), p_merge_high[p_op_length[v_at]]) + p_merge_low[p_op_length[v_at]];
          v_next := trim_scale(v_now * 1000::numeric + greatest(v_by, 0))::text;
          if v_number_now is null then
            v_next := null;
          elsif v_by > p_merge_high[p_op_length[v_at]] then
            v_refused := 2;
            v_stopped := v_stopped || v_at;
            v_standing := v_standing || trim_scale(v_by - p_merge_high[p_op_length[v_at]])::text;
            exit;
          else
            p_op_until[v_at] := ceil(v_next::numeric / 1000)::bigint;
            v_stopped := v_stopped || v_at;
            v_standing := v_standing || trim_scale(greatest(v_by, 0))::text;
          end if;
        elsif v_kind = 23 then
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
        -- A merge that changes nothing writes nothing, so that it gives nobody a conflict. An add or a take always writes.
        continue when v_kind not in (20, 25) and v_next = v_current;
        if v_kind = 25 then v_source[v_slot] := v_at; elsif v_version[v_slot] = 0 then v_source[v_slot] := 0; end if;
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
      select v_position + a_position[y.op] + y.nth, p_slot_key[p_op_slot[y.op]], a_version[y.op] + y.nth, v_fresh[p_event_commit[i]],
        p_event_id[i], p_event_type[i], substring(p_payload from p_event_from[i] for p_event_length[i]),
        case when p_event_meta[i] >= 0 then substring(p_payload from p_event_from[i] + p_event_length[i] for p_event_meta[i]) end, v_now
      from generate_series(1, cardinality(p_event_commit)) i, lateral (select p_event_op[i] as op, i - p_op_ref[p_event_op[i]] + 1 as nth) y
      where v_fresh[p_event_commit[i]] is not null;
  end if;
  if 14 = any (p_op_kind) then
    perform trim_streams(p_last, v_fresh, p_op_kind, p_op_slot, p_op_number, p_slot_key);
  end if;
  -- A record: the new version in, the one before it out. Its index entries are touched only when they change.
  v_listed := coalesce(cardinality(p_entries) > 0, false);
  if v_updates and not v_listed then
    v_listed := exists (
      select from unnest(p_slot_kind, p_slot_key, v_writer, v_stored) x (kind, key, writer, stored)
      where x.kind = 1 and x.writer > 0 and x.stored > 0 and (select r.entries is not null from record r where r.key = x.key and r.version >= x.stored and r.version <= x.stored order by r.version limit 1));
  end if;
  insert into record (key, version, home, created, expires_at_ms, entries, value)
    select x.key, v_fresh[y.writer], home_of(x.key),
      case when y.version = 0 then 0 when y.creator > 0 then v_fresh[y.creator] else r.created end,
      case when y.version = 0 then -v_now when y.source > 0 then p_op_until[y.source] when y.creator = 0 then r.expires_at_ms end,
      case when y.version = 0 then null when y.source > 0 then p_entries[nullif(p_op_ref[y.source], 0)] when y.creator = 0 then r.entries end,
      case when y.version = 0 then '' when v_merged[x.i] is null then substring(p_payload from p_op_number[y.source]::integer for p_op_length[y.source]) else convert_to(v_merged[x.i], 'UTF8') end
    from unnest(p_slot_key) with ordinality x (key, i) cross join lateral (select v_writer[x.i] as writer, v_source[x.i] as source, v_version[x.i] as version, v_creator[x.i] as creator) y
      left join lateral (select s.created, s.expires_at_ms, s.entries from record s where v_updates and s.key = x.key and s.version >= nullif(v_stored[x.i], 0) and s.version <= nullif(v_stored[x.i], 0) order by s.version limit 1) r on true
    where p_slot_kind[x.i] = 1 and y.writer > 0 and (y.version <> 0 or v_stored[x.i] > 0);
  if v_listed then
    delete from entry where ctid = any (array(
      select (select e.ctid from entry e where e.home = before.home and e.field = f ->> 0 and e.value = (f -> 1)::text and e.key = x.key)
      from unnest(p_slot_kind, p_slot_key, v_writer, v_creator, v_stored) x (kind, key, writer, creator, stored)
        cross join lateral (select r.home, r.entries from record r where r.key = x.key and r.version >= x.stored and r.version <= x.stored order by r.version limit 1) before
        cross join lateral (select r.entries from record r where r.key = x.key and r.version >= v_fresh[x.writer] and r.version <= v_fresh[x.writer] order by r.version limit 1) after,
        json_array_elements(before.entries::json) f
      where x.kind = 1 and x.writer > 0 and x.stored > 0 and (x.creator > 0 or after.entries is distinct from before.entries)));
    insert into entry (home, field, value, key, created)
      select distinct after.home, f ->> 0, (f -> 1)::text, x.key, after.created
      from unnest(p_slot_kind, p_slot_key, v_writer, v_creator, v_stored) x (kind, key, writer, creator, stored)
        cross join lateral (select r.home, r.created, r.entries from record r where r.key = x.key and r.version >= v_fresh[x.writer] and r.version <= v_fresh[x.writer] order by r.version limit 1) after
        left join lateral (select r.entries from record r where r.key = x.key and r.version >= x.stored and r.version <= x.stored order by r.version limit 1) before on true,
        json_array_elements(after.entries::json) f
      where x.kind = 1 and x.writer > 0 and (x.creator > 0 or after.entries is distinct from before.entries);
  end if;
  if v_updates then
    delete from record where ctid = any (array(
      select (select r.ctid from record r where r.key = x.key and r.version >= x.stored and r.version <= x.stored order by r.version limit 1)
      from unnest(p_slot_kind, p_slot_key, v_writer, v_stored) x (kind, key, writer, stored) where x.kind = 1 and x.writer > 0 and x.stored > 0));
  end if;
  if 12 = any (p_op_kind) then
    insert into token (key, value, version, keep_until_ms)
      select x.key, substring(p_payload from p_op_number[x.source]::integer for p_op_length[x.source]), v_fresh[x.writer], v_now + p_op_until[x.source]
      from unnest(p_slot_kind, p_slot_key, v_writer, v_source) x (kind, key, writer, source) where x.kind = 2 and x.writer > 0
      on conflict (key) do update set value = excluded.value, version = excluded.version, keep_until_ms = excluded.keep_until_ms;
  end if;
  if 7 = any (p_op_kind) then
    delete from staged where ctid = any (array(
      select s.tid from unnest(p_op_kind, p_op_number, p_op_until) with ordinality o (kind, tx, seq, i)
        cross join lateral (select t.ctid as tid from staged t where t.tx = o.tx and t.seq <= o.seq order by t.tx, t.seq offset 0) s
      where o.kind = 7 and exists (select from unnest(p_last, v_fresh) with ordinality l (last, fresh, i) where l.fresh is not null and o.i <= l.last and o.i > coalesce(p_last[l.i - 1], 0))));
  end if;
  -- What the caller's transaction did stands only with a commit that was applied just now.
  if p_inside and (v_status[1] > 0 or v_fresh[1] is null and p_writes[1]) then
    raise exception 'refused' using errcode = 'TR002', detail = row_to_json(row)::text
      from (select v_status as status, v_epochs as epoch, v_number as number, v_failed as failed, v_stopped as stopped, v_standing as standing, v_epoch as now_epoch, v_n as head, v_gave_commit as gave_commit, v_gave_queue as gave_queue, v_life as life, null as first) row;
  end if;
  return query select v_status, v_epochs, v_number, v_failed, v_stopped, v_standing, v_epoch, v_n, v_gave_commit, v_gave_queue, v_life, null::bigint;
end $$;

-- What became of a commit, decided by writing a refusal under its id unless an outcome exists. n is null: it is not, and will never be, applied.
create or replace function resolve_commit_v1(p_now bigint, p_retention_ms bigint, p_id uuid)
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
