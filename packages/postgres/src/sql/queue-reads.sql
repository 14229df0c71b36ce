-- What is in queues. Run after jobs.sql. Reads: rows by one statement, so from one snapshot; then a last row that says which commit was the newest when it had read.

-- How many jobs of each state; of all queues that have any, or are paused, when p_queue is null. Waiting are those due and not, blocked by their key and not.
create or replace function queue_depths_v1(p_now bigint, p_queue text)
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
create or replace function list_groups_v1(p_queue text, p_after text, p_limit integer)
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
create or replace function list_jobs_v1(p_queue text, p_states smallint[], p_after uuid, p_limit integer)
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
