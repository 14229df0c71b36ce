-- Claims: what is handed out, under which limits, and what comes back. Run after jobs.sql, which tells what marks, ranks and shares are.

-- Claims that end without their holder: their jobs are ready again at their places, and those that were cancelled are gone. Answers the queues
-- that have work.
create or replace function hand_back(p_tids tid[], p_base bigint, out queues text[]) language plpgsql volatile as $$
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
create or replace function take_back(p_now bigint, p_base bigint, out queues text[]) language plpgsql volatile as $$
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
create or replace function take_jobs(p_queue text, p_share text, p_most integer, p_counted boolean, p_now bigint, p_epoch integer, p_n bigint, p_until bigint, p_holder text, p_keep_dead bigint,
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
create or replace function next_share(p_queue text, p_after text) returns text language plpgsql volatile as $$
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
create or replace function room_of(p_places integer, p_every double precision, p_next double precision, p_now bigint) returns integer language sql immutable as $$
  select least(p_places, case when p_every is not null then case when p_now < p_next then 0 else least(floor((p_now - p_next) / p_every) + 1, 512)::integer end end)
$$;
-- When the rate lets the next one go; null where something else is in the way, or nothing.
create or replace function opens_at(p_places integer, p_every double precision, p_next double precision, p_now bigint) returns bigint language sql immutable as $$
  select case when p_every is not null and coalesce(p_places, 1) > 0 and p_next > p_now then ceil(p_next)::bigint end
$$;
create or replace function next_of_rate(p_queue text, p_share text, p_slack double precision, p_now bigint) returns double precision language plpgsql volatile as $$
begin
  return greatest((select m.at_ms from job_mark m where m.kind = 6 and m.queue = p_queue and m.share = p_share and m.priority = 0
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1), p_now - p_slack);
end $$;

-- A claim on a queue with groups, or under limits. Shares take turns in the order of their names, nobody's first, each as many jobs per turn as its
-- weight says: deficit round robin (Shreedhar, Varghese 1995) with jobs of one size. It costs by what it takes and by the shares that
-- are at their limit, never by what waits. The loop is that of trestle/src/sqlite/turns-part.ts, and told there.
create or replace function claim_by_turns(p_queue text, p_policy jsonb, p_wanted integer, p_now bigint, p_epoch integer, p_n bigint, p_until bigint, p_holder text,
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
create or replace function claim_jobs_v1(p_now bigint, p_most integer, p_request integer[], p_queue text[], p_limit integer[], p_lease_ms bigint[], p_holder text[], p_policy text[])
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
create or replace function tidy_jobs(p_now bigint) returns void language plpgsql volatile as $$
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
create or replace function extend_jobs_v1(p_now bigint, p_id uuid[], p_hint tid[], p_epoch integer[], p_n bigint[], p_lease_ms bigint[])
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
create or replace function keep_jobs_v1(p_now bigint, p_holder text, p_lease_ms bigint) returns void language plpgsql volatile as $$
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

-- For a heartbeat: takes back what the holder has claimed up to this number, at most 1,000; `more` says whether there may be others. It has a commit number as claims
-- have, since others hear of work by it.
create or replace function release_jobs_v2(p_now bigint, p_holder text, p_epoch integer, p_n bigint) returns table (epoch integer, n bigint, queues text[], more boolean, life uuid) language plpgsql volatile as $$
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
  v_tids := array(select j.ctid from job j where j.state = 2 and j.lease_until_ms >= coalesce(mark_of(3, '', '', 0), 0) and j.holder = p_holder and (j.epoch, j.n) <= (p_epoch, p_n) limit 1000);
  if cardinality(v_tids) > 0 then
    v_queues := hand_back(v_tids, v_n << 20);
    insert into commit (epoch, n, at_ms, keys) values (v_epoch, v_n, v_now, array(select 'q' || q from unnest(v_queues) q));
  end if;
  return query select v_epoch, v_n, v_queues, cardinality(v_tids) = 1000, v_life;
end $$;

-- The same of processes that do not say up to where.
create or replace function release_jobs_v1(p_now bigint, p_holder text) returns table (epoch integer, n bigint, queues text[], more boolean, life uuid) language plpgsql volatile as $$
begin
  return query select * from release_jobs_v2(p_now, p_holder, 2147483647, 9223372036854775807);
end $$;
