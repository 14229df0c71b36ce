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
-- Places, like fences, come from the number of the commit or claim (20 bits lower: what one batch moves): there is no counter.
--
-- States: 1 ready, 2 running, 3 retrying, 4 parked, 5 undetermined, 6 behind, 7 scheduled, 8 dead; what enters and leaves each is told in
-- trestle/src/sqlite/jobs-part.ts. Up to 5 they are heads: at most one job of a key is in one of these.

create table job (
  id uuid not null,
  queue text collate "C" not null,
  state smallint not null,
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
  payload bytea not null
);
-- Payloads are bytes nobody looks into: compressing them would only hold the lane.
alter table job alter column payload set storage external;
create unique index job_id on job (id);
create index job_ready on job (queue, priority, rank, place) where state = 1;
create index job_lease on job (lease_until_ms) where state = 2;
create index job_due on job (queue, due_at_ms, seq) where state in (3, 7);
create index job_kept on job (queue, state, id) where state in (4, 5, 8);
create index job_head on job (queue, key, line desc) where key is not null and state <= 5;
create index job_behind on job (queue, key, line) where state = 6;
create index job_joining on job (queue, key, due_at_ms, seq) where key is not null and state = 7;
create index job_unique on job (queue, unique_key, seq desc) where unique_key is not null and state in (1, 3, 6, 7);

-- kind 1: no ready job of this queue and priority has a rank below `mark`; its rows also say which priorities a queue has
-- kind 2: no waiting job of this queue falls due before `mark` (priority 0)
-- kind 3: no lease of a running job ends before `mark` (queue '', priority 0)
create table job_mark (
  kind smallint not null,
  queue text collate "C" not null,
  priority bigint not null,
  turn bigint not null,
  mark bigint not null
);
create unique index job_mark_newest on job_mark (kind, queue, priority, turn desc);

create function mark_of(p_kind integer, p_queue text, p_priority bigint) returns bigint language plpgsql volatile as $$
begin
  return (select m.mark from job_mark m where m.kind = p_kind and m.queue = p_queue and m.priority = p_priority order by m.kind, m.queue, m.priority, m.turn desc limit 1);
end $$;

create function move_mark(p_kind integer, p_queue text, p_priority bigint, p_mark bigint) returns void language plpgsql volatile as $$
declare
  v_tid tid; v_turn bigint;
begin
  select m.ctid, m.turn into v_tid, v_turn from job_mark m where m.kind = p_kind and m.queue = p_queue and m.priority = p_priority order by m.kind, m.queue, m.priority, m.turn desc limit 1;
  insert into job_mark (kind, queue, priority, turn, mark) values (p_kind, p_queue, p_priority, coalesce(v_turn, 0) + 1, p_mark);
  if v_tid is not null then delete from job_mark m where m.ctid = v_tid; end if;
end $$;

-- The next priority of a queue after this one, and its mark.
create function next_priority(p_queue text, p_after bigint, out priority bigint, out mark bigint) language plpgsql volatile as $$
begin
  select m.priority, m.mark into priority, mark from job_mark m where m.kind = 1 and m.queue = p_queue and m.priority > p_after order by m.kind, m.queue, m.priority, m.turn desc limit 1;
end $$;

-- Lets jobs of these queues join that have fallen due, in order of due time; at most 1,000 of a queue, the rest follows in the next
-- batch. Answers how many places it gave, from `p_place` on, and the queues in which more is due.
create function join_due(p_queues text[], p_now bigint, p_place bigint, out places integer, out backlog text[]) language plpgsql volatile as $$
declare
  v_queue text; v_mark bigint; v_moved integer;
begin
  places := 0;
  backlog := '{}';
  for v_queue, v_mark in
    select d.queue, coalesce(mark_of(2, d.queue, 0), 0) from (select distinct u.queue from unnest(p_queues) u (queue)) d
  loop
    -- The server's clock went back: what waits falls due at or after the old mark, what is scheduled from now on may do so before it.
    if v_mark > p_now + 1 then perform move_mark(2, v_queue, 0, p_now + 1); end if;
    if (select j.due_at_ms from job j where j.queue = v_queue and j.state in (3, 7) and j.due_at_ms >= v_mark and j.due_at_ms <= p_now order by j.queue, j.due_at_ms limit 1) is null then
      -- Those that were cancelled left dead versions: not to be walked through for ever.
      if v_mark > 0 and v_mark < p_now - 10000 then perform move_mark(2, v_queue, 0, p_now + 1); end if;
      continue;
    end if;
    v_moved := join_jobs(array(
      select j.ctid from job j where j.queue = v_queue and j.state in (3, 7) and j.due_at_ms >= v_mark and j.due_at_ms <= p_now order by j.queue, j.due_at_ms, j.seq limit 1000), p_place + places);
    places := places + v_moved;
    v_mark := case when v_moved < 1000 then p_now + 1
      else coalesce((select j.due_at_ms from job j where j.queue = v_queue and j.state in (3, 7) and j.due_at_ms >= v_mark order by j.queue, j.due_at_ms limit 1), p_now + 1) end;
    perform move_mark(2, v_queue, 0, v_mark);
    if v_mark <= p_now then backlog := backlog || v_queue; end if;
  end loop;
end $$;

-- These jobs of one queue, which were scheduled or wait for a retry, join in this order.
create function join_jobs(p_tid tid[], p_place bigint) returns integer language plpgsql volatile as $$
begin
  update job j set place = p_place + m.i, rank = p_place + m.i, line = case when j.state = 7 then p_place + m.i else j.line end,
    state = case when j.state = 3 or j.key is null or m.nth = 1 and m.head is null then 1 else 6 end
  from (
    select x.tid, x.i, row_number() over (partition by d.state, d.key order by x.i) as nth,
      (select h.line from job h where h.queue = d.queue and h.key = d.key and h.key is not null and h.state <= 5 order by h.queue, h.key, h.line desc limit 1) as head
    from unnest(p_tid) with ordinality x (tid, i) join job d on d.ctid = x.tid) m
  where j.ctid = m.tid;
  return cardinality(p_tid);
end $$;

-- The head at `line` of each key has gone: the next one behind it is ready. Answers those queues that have work again.
create function advance(p_commit integer[], p_queue text[], p_key text[], p_line bigint[], out commits integer[], out queues text[]) language plpgsql volatile as $$
begin
  with next as (
    update job j set state = 1,
      rank = greatest(j.place, (select m.mark from job_mark m where m.kind = 1 and m.queue = j.queue and m.priority = j.priority order by m.kind, m.queue, m.priority, m.turn desc limit 1))
    from (
      select x.commit, (select b.ctid from job b where b.queue = x.queue and b.key = x.key and b.state = 6 and b.line > x.line order by b.queue, b.key, b.line limit 1) as tid
      from unnest(p_commit, p_queue, p_key, p_line) x (commit, queue, key, line)) y
    where j.ctid = y.tid returning y.commit, j.queue)
  select coalesce(array_agg(next.commit), '{}'), coalesce(array_agg(next.queue), '{}') into commits, queues from next;
end $$;

-- New jobs, in order; `p_fresh[commit]` is the number of its commit, and null when that was not applied.
create function enqueue_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_first bigint, p_backlog text[],
  p_commit integer[], p_id uuid[], p_queue text[], p_from integer[], p_length integer[], p_due bigint[], p_priority bigint[], p_key text[], p_unique text[])
returns void language plpgsql volatile as $$
declare
  v_queue text; v_key text; v_priority bigint;
begin
  for v_queue, v_priority in
    select d.queue, d.priority from (select distinct x.queue, x.priority from unnest(p_queue, p_priority) x (queue, priority)) d
    where mark_of(1, d.queue, d.priority) is null
  loop
    perform move_mark(1, v_queue, v_priority, 0);
  end loop;
  -- Where more is due than one batch may move, what a key has due still joins before anything that is sent to it now.
  if cardinality(p_backlog) > 0 then
    for v_queue, v_key in
      select distinct x.queue, x.key from unnest(p_queue, p_key) x (queue, key) where x.key is not null and x.queue = any (p_backlog)
    loop
      p_first := p_first + join_jobs(array(
        select j.ctid from job j where j.queue = v_queue and j.key = v_key and j.key is not null and j.state = 7 and j.due_at_ms <= p_now order by j.queue, j.key, j.due_at_ms, j.seq),
        ((select min(x) from unnest(p_fresh) x) << 20) + p_first);
    end loop;
  end if;

  if (select count(x) from unnest(p_key) x) = 0 and (select count(x) from unnest(p_unique) x) = 0 then
    insert into job (id, queue, state, priority, seq, place, rank, line, due_at_ms, sent_at_ms, payload)
      select x.id, x.queue, case when x.due > p_now then 7 else 1 end, x.priority, y.place, y.place, y.place, y.place, greatest(x.due, p_now), p_now, substring(p_payload from x.first for x.length)
      from unnest(p_commit, p_id, p_queue, p_from, p_length, p_due, p_priority) with ordinality x (commit, id, queue, first, length, due, priority, i),
        lateral (select (p_fresh[x.commit] << 20) + p_first + x.i as place) y
      where y.place is not null order by x.i
      on conflict (id) do nothing;
    return;
  end if;
  insert into job (id, queue, state, priority, seq, place, rank, line, due_at_ms, sent_at_ms, key, unique_key, payload)
    select v.id, v.queue,
      case
        when v.due > p_now then 7
        when v.key is null then 1
        when row_number() over (partition by v.queue, v.key, v.due > p_now order by v.i) = 1
          and (select h.line from job h where h.queue = v.queue and h.key = v.key and h.key is not null and h.state <= 5 order by h.queue, h.key, h.line desc limit 1) is null then 1
        else 6 end,
      v.priority, v.place, v.place, v.place, v.place, greatest(v.due, p_now), p_now, v.key, v.unique_key, substring(p_payload from v.first for v.length)
    from (
      select u.* from (
        select s.*, row_number() over (partition by s.queue, s.unique_key order by s.i) as twin from (
          select x.*, (p_fresh[x.commit] << 20) + p_first + x.i as place, row_number() over (partition by x.id order by x.i) as same
          from unnest(p_commit, p_id, p_queue, p_from, p_length, p_due, p_priority, p_key, p_unique) with ordinality x (commit, id, queue, first, length, due, priority, key, unique_key, i)
          where p_fresh[x.commit] is not null) s
        where s.same = 1 and (select j.seq from job j where j.id = s.id) is null) u
      where u.unique_key is null
        or u.twin = 1 and (select j.seq from job j where j.queue = u.queue and j.unique_key = u.unique_key and j.unique_key is not null and j.state in (1, 3, 6, 7) order by j.queue, j.unique_key, j.seq desc limit 1) is null) v
    order by v.i;
end $$;

-- Ends of claims that hold: 0 done, 1 retry, 2 later, 4 parked, 5 undetermined, 8 dead. Answers which commit gave work to which queue.
create function end_jobs(p_now bigint, p_fresh bigint[], p_first bigint, p_commit integer[], p_tid tid[], p_end integer[], p_due bigint[], p_error text[],
  out commits integer[], out queues text[]) language plpgsql volatile as $$
declare
  v_commit integer[]; v_queue text[]; v_key text[]; v_line bigint[];
  w_commit integer[]; w_queue text[]; w_key text[]; w_line bigint[]; w_end integer[];
  v_more record;
begin
  commits := '{}';
  queues := '{}';
  with gone as (
    delete from job j using unnest(p_commit, p_tid, p_end) x (commit, tid, how)
    where j.ctid = x.tid and p_fresh[x.commit] is not null and (x.how = 0 or j.cancelled and x.how in (1, 2))
    returning x.commit, j.queue, j.key, j.line)
  select array_agg(g.commit), array_agg(g.queue), array_agg(g.key), array_agg(g.line) into v_commit, v_queue, v_key, v_line from gone g where g.key is not null;
  if 0 < any (p_end) then
    with ended as (
      update job j set
        state = case when x.how > 2 then x.how when x.due > p_now then 3 else 1 end,
        place = (p_fresh[x.commit] << 20) + p_first + x.i, rank = (p_fresh[x.commit] << 20) + p_first + x.i,
        due_at_ms = case when x.how > 2 then p_now else greatest(x.due, p_now) end,
        attempt = case when x.how = 2 then j.attempt - 1 else j.attempt end,
        error = x.error, lease_until_ms = null, holder = null
      from unnest(p_commit, p_tid, p_end, p_due, p_error) with ordinality x (commit, tid, how, due, error, i)
      where j.ctid = x.tid and x.how > 0 and p_fresh[x.commit] is not null
      returning x.commit, j.queue, j.key, j.line, x.how)
    select array_agg(e.commit), array_agg(e.queue), array_agg(e.key), array_agg(e.line), array_agg(e.how) into w_commit, w_queue, w_key, w_line, w_end from ended e;
    for v_at in 1 .. coalesce(cardinality(w_commit), 0) loop
      if w_end[v_at] in (1, 2) then
        commits := commits || w_commit[v_at];
        queues := queues || w_queue[v_at];
      elsif w_end[v_at] = 8 and w_key[v_at] is not null then
        v_commit := v_commit || w_commit[v_at];
        v_queue := v_queue || w_queue[v_at];
        v_key := v_key || w_key[v_at];
        v_line := v_line || w_line[v_at];
      end if;
    end loop;
  end if;
  if v_commit is not null then
    v_more := advance(v_commit, v_queue, v_key, v_line);
    commits := commits || v_more.commits;
    queues := queues || v_more.queues;
  end if;
end $$;

-- Waiting jobs are removed; a running one keeps its key, and its holder is told when it extends or ends the claim.
create function cancel_jobs(p_commit integer[], p_id uuid[], out commits integer[], out queues text[]) language plpgsql volatile as $$
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
    v_more := advance(v_commit, v_queue, v_key, v_line);
    commits := v_more.commits;
    queues := v_more.queues;
  end if;
end $$;

-- Dead, parked and undetermined jobs wait again, due now, attempts counted from 0: a dead one at the end of its key.
create function redrive_jobs(p_now bigint, p_fresh bigint[], p_first bigint, p_commit integer[], p_id uuid[], out commits integer[], out queues text[]) language plpgsql volatile as $$
begin
  with driven as (
    update job j set place = m.place, rank = m.place, line = case when j.state = 8 then m.place else j.line end,
      state = case when j.state <> 8 or j.key is null or m.nth = 1 and m.head is null then 1 else 6 end,
      due_at_ms = p_now, attempt = 0, error = null, cancelled = false
    from (
      select x.commit, x.tid, (p_fresh[x.commit] << 20) + p_first + x.i as place, row_number() over (partition by d.state, d.queue, d.key order by x.i) as nth,
        (select h.line from job h where h.queue = d.queue and h.key = d.key and h.key is not null and h.state <= 5 order by h.queue, h.key, h.line desc limit 1) as head
      from (
        select distinct on (o.tid) o.* from (
          select y.commit, y.i, (select j.ctid from job j where j.id = y.id) as tid from unnest(p_commit, p_id) with ordinality y (commit, id, i)) o order by o.tid, o.i) x
        join job d on d.ctid = x.tid) m
    where j.ctid = m.tid and j.state in (4, 5, 8)
    returning m.commit, j.queue)
  select coalesce(array_agg(d.commit), '{}'), coalesce(array_agg(d.queue), '{}') into commits, queues from driven d;
end $$;

-- The claims that these jobs and hints are of: where their rows are, and under which fence; null where none holds.
create function find_claims(p_id uuid[], p_hint tid[], out tids tid[], out epochs integer[], out ns bigint[]) language plpgsql volatile as $$
begin
  select array_agg(y.tid order by y.i), array_agg(j.epoch order by y.i), array_agg(j.n order by y.i) into tids, epochs, ns
  from (
    select x.i, coalesce(
      (select h.ctid from job h where h.ctid = x.hint and h.id = x.id),
      (select f.ctid from job f where f.id = x.id)) as tid
    from unnest(p_id, p_hint) with ordinality x (id, hint, i)) y
  left join job j on j.ctid = y.tid and j.state = 2;
end $$;

-- What the commits of a batch do to jobs, all in order. Ends (`p_end`: as in end_jobs, 20 cancel, 21 redrive) and new jobs are two lists; `p_job_at` and
-- `p_end_at` are their places in the batch. `p_tid` are those that find_claims found. Answers which commit gave work to which queue.
--
-- Where order cannot matter, all ends go first and then all new jobs, so that a batch is a handful of statements: an end never
-- sees a job of its own batch, and leaves the same line whether a job joins before or after it. It can matter where jobs
-- are cancelled or redriven, and where one that waits again has a unique key: then runs of one kind are applied one after the other.
create function apply_jobs(p_now bigint, p_payload bytea, p_fresh bigint[],
  p_job_commit integer[], p_job_at integer[], p_job_id uuid[], p_job_queue text[], p_job_from integer[], p_job_length integer[], p_job_due bigint[], p_job_priority bigint[], p_job_key text[], p_job_unique text[],
  p_end_commit integer[], p_end_at integer[], p_end_id uuid[], p_tid tid[], p_end integer[], p_end_due bigint[], p_end_error text[],
  out commits integer[], out queues text[]) language plpgsql volatile as $$
declare
  v_jobs integer := cardinality(p_job_commit); v_ends integer := cardinality(p_end_commit);
  v_first bigint; v_due record; v_some record; v_tid tid[];
  a integer := 1; b integer := 1; v_to integer; v_kind integer; v_until integer;
begin
  commits := '{}';
  queues := '{}';
  v_first := (select min(x) from unnest(p_fresh) x);
  if v_first is null then return; end if;
  -- Due jobs join before anything takes a place now. They get the lower half of the first number's places.
  v_due := join_due(p_job_queue || case when 0 < any (p_end) then array(
    select j.queue from unnest(p_end_id, p_tid, p_end) x (id, tid, how) join job j on j.ctid = coalesce(x.tid, (select f.ctid from job f where f.id = x.id)) where x.how in (1, 2, 21)) end, p_now, v_first << 20);

  if v_ends = 0 or not (20 <= any (p_end) or (1 = any (p_end) or 2 = any (p_end)) and (select count(x) from unnest(p_job_unique) x) > 0) then
    if v_ends > 0 then
      v_some := end_jobs(p_now, p_fresh, 1 << 19, p_end_commit, p_tid, p_end, p_end_due, p_end_error);
      commits := v_some.commits;
      queues := v_some.queues;
    end if;
    if v_jobs > 0 then
      perform enqueue_jobs(p_now, p_payload, p_fresh, (1 << 19) + v_ends, v_due.backlog, p_job_commit, p_job_id, p_job_queue, p_job_from, p_job_length, p_job_due, p_job_priority, p_job_key, p_job_unique);
    end if;
  else
    while a <= v_jobs or b <= v_ends loop
      if b > v_ends or a <= v_jobs and p_job_at[a] < p_end_at[b] then
        v_until := case when b <= v_ends then p_end_at[b] else 2147483647 end;
        v_to := a;
        while v_to < v_jobs and p_job_at[v_to + 1] < v_until loop v_to := v_to + 1; end loop;
        perform enqueue_jobs(p_now, p_payload, p_fresh, (1 << 19) + a + b, v_due.backlog, p_job_commit[a:v_to], p_job_id[a:v_to], p_job_queue[a:v_to], p_job_from[a:v_to], p_job_length[a:v_to],
          p_job_due[a:v_to], p_job_priority[a:v_to], p_job_key[a:v_to], p_job_unique[a:v_to]);
        a := v_to + 1;
        continue;
      end if;
      v_until := case when a <= v_jobs then p_job_at[a] else 2147483647 end;
      v_kind := greatest(p_end[b], 19);
      v_to := b;
      while v_to < v_ends and p_end_at[v_to + 1] < v_until and greatest(p_end[v_to + 1], 19) = v_kind loop v_to := v_to + 1; end loop;
      if v_kind = 20 then
        v_some := cancel_jobs(array(select case when p_fresh[x.commit] is not null then x.commit end from unnest(p_end_commit[b:v_to]) with ordinality x (commit, i) order by x.i),
          array(select case when p_fresh[x.commit] is not null then x.id end from unnest(p_end_commit[b:v_to], p_end_id[b:v_to]) with ordinality x (commit, id, i) order by x.i));
      elsif v_kind = 21 then
        v_some := redrive_jobs(p_now, p_fresh, (1 << 19) + a + b, p_end_commit[b:v_to],
          array(select case when p_fresh[x.commit] is not null then x.id end from unnest(p_end_commit[b:v_to], p_end_id[b:v_to]) with ordinality x (commit, id, i) order by x.i));
      else
        -- An earlier run may have moved their rows.
        v_tid := array(select (select j.ctid from job j where j.id = x.id) from unnest(p_end_id[b:v_to]) with ordinality x (id, i) order by x.i);
        v_some := end_jobs(p_now, p_fresh, (1 << 19) + a + b, p_end_commit[b:v_to], v_tid, p_end[b:v_to], p_end_due[b:v_to], p_end_error[b:v_to]);
      end if;
      commits := commits || v_some.commits;
      queues := queues || v_some.queues;
      b := v_to + 1;
    end loop;
  end if;

  for v_at in 1 .. v_jobs loop
    if p_fresh[p_job_commit[v_at]] is not null then
      commits := commits || p_job_commit[v_at];
      queues := queues || p_job_queue[v_at];
    end if;
  end loop;
end $$;

-- Leases that have run out: their jobs are ready again at their places, and those that were cancelled are gone. At most 1,000; the rest follows.
create function take_back(p_now bigint, out queues text[]) language plpgsql volatile as $$
declare
  v_mark bigint := coalesce(mark_of(3, '', 0), 0);
  v_tids tid[]; v_queue text[]; v_key text[]; v_line bigint[];
begin
  queues := '{}';
  if v_mark > p_now + 1 then
    v_mark := p_now + 1; -- the server's clock went back: leases that are given now may end before the old mark
    perform move_mark(3, '', 0, v_mark);
  end if;
  v_tids := array(select j.ctid from job j where j.state = 2 and j.lease_until_ms >= v_mark and j.lease_until_ms <= p_now order by j.lease_until_ms limit 1000);
  if cardinality(v_tids) = 0 then
    -- Ended claims left dead versions: walked through once, ten times a second.
    if v_mark < p_now - 100 then perform move_mark(3, '', 0, p_now + 1); end if;
    return;
  end if;
  with gone as (
    delete from job j using unnest(v_tids) x (tid) where j.ctid = x.tid and j.cancelled returning j.queue, j.key, j.line)
  select array_agg(g.queue), array_agg(g.key), array_agg(g.line) into v_queue, v_key, v_line from gone g where g.key is not null;
  with back as (
    update job j set state = 1, lease_until_ms = null, holder = null,
      rank = greatest(j.place, (select m.mark from job_mark m where m.kind = 1 and m.queue = j.queue and m.priority = j.priority order by m.kind, m.queue, m.priority, m.turn desc limit 1))
    from unnest(v_tids) x (tid) where j.ctid = x.tid returning j.queue)
  select coalesce(array_agg(distinct b.queue), '{}') into queues from back b;
  if v_queue is not null then
    queues := queues || (advance(array_fill(0, array[cardinality(v_queue)]), v_queue, v_key, v_line)).queues;
  end if;
  perform move_mark(3, '', 0, case when cardinality(v_tids) < 1000 then p_now + 1
    else coalesce((select j.lease_until_ms from job j where j.state = 2 and j.lease_until_ms >= v_mark order by j.lease_until_ms limit 1), p_now + 1) end);
end $$;

-- One call hands out jobs to all who ask in a process. An *asking* is a queue, how many are wanted, for how long, and for whom; the askings
-- of one request follow each other, and get `p_most` together at the most.
-- Claims have a commit number as commits have; it is the fence, and rises with every batch of claims. The lane is theirs meanwhile:
-- the ends of jobs are commits, so a lane of their own would only be a second lock in front of the same rows.
--
-- Answers a row for each job, in order of asking and hand-out, then for each asking a row without id: when the next job of its queue falls due.
create function claim_jobs_v1(p_now bigint, p_most integer, p_request integer[], p_queue text[], p_limit integer[], p_lease_ms bigint[], p_holder text[])
returns table (asking integer, id uuid, hint text, key text, attempt integer, again boolean, sent_at_ms bigint, payload bytea, next_due_at_ms bigint, back text[], now_ms bigint, epoch integer, n bigint, head bigint, life uuid)
language plpgsql volatile as $$
declare
  v_now bigint; v_life uuid; v_epoch integer; v_head bigint; v_n bigint;
  v_back text[]; v_moved integer; v_wrote boolean;
  v_room integer; v_left integer; v_tids tid[]; v_more boolean; v_at record; v_due bigint;
  v_next bigint[] := '{}';
begin
  perform require_read_committed();
  perform set_config('synchronous_commit', 'off', true);
  perform lock_lane();
  v_now := store_now(p_now);
  v_life := mark_life();
  v_epoch := current_epoch();
  v_head := newest_commit();
  v_n := v_head + 1;
  v_back := take_back(v_now);
  v_moved := (join_due(p_queue, v_now, v_n << 20)).places;
  v_wrote := v_moved > 0 or cardinality(v_back) > 0;

  for v_asking in 1 .. cardinality(p_queue) loop
    if v_asking = 1 or p_request[v_asking] <> p_request[v_asking - 1] then v_room := p_most; end if;
    v_left := least(p_limit[v_asking], v_room);
    v_room := v_room - v_left;
    v_more := false;
    v_at := next_priority(p_queue[v_asking], -9223372036854775808);
    while v_at.priority is not null loop
      -- One more than wanted: whether there is more, and where the mark may go.
      v_tids := array(
        select j.ctid from job j where j.queue = p_queue[v_asking] and j.state = 1 and j.priority = v_at.priority and j.rank >= v_at.mark
        order by j.queue, j.priority, j.rank, j.place limit v_left + 1);
      v_more := cardinality(v_tids) > v_left;
      if cardinality(v_tids) > 0 and v_left > 0 then
        return query
          with taken as (
            update job j set state = 2, attempt = j.attempt + 1, claims = j.claims + 1, epoch = v_epoch, n = v_n,
              lease_until_ms = v_now + greatest(p_lease_ms[v_asking], 1), holder = p_holder[v_asking]
            from unnest(v_tids[1:v_left]) with ordinality x (tid, i) where j.ctid = x.tid
            returning x.i, j.id, j.ctid, j.key, j.attempt, j.claims, j.sent_at_ms, j.payload)
          select v_asking, t.id, t.ctid::text, t.key, t.attempt, t.claims > 1, t.sent_at_ms, t.payload, null::bigint, null::text[], v_now, v_epoch, v_n, v_n, v_life from taken t order by t.i;
        v_wrote := true;
        perform move_mark(1, p_queue[v_asking], v_at.priority, case when v_more then (select j.rank from job j where j.ctid = v_tids[v_left + 1]) else (v_n + 1) << 20 end);
        v_left := v_left - least(cardinality(v_tids), v_left);
      elsif not v_more and v_at.mark < (v_head - 4096) << 20 then
        -- Nothing is left of what was cancelled here: not to be walked through again.
        perform move_mark(1, p_queue[v_asking], v_at.priority, v_n << 20);
      end if;
      exit when v_more;
      v_at := next_priority(p_queue[v_asking], v_at.priority);
    end loop;
    v_room := v_room + v_left;
    if v_more then v_due := v_now;
    else
      v_due := (select j.due_at_ms from job j where j.queue = p_queue[v_asking] and j.state in (3, 7) and j.due_at_ms >= coalesce(mark_of(2, p_queue[v_asking], 0), 0) order by j.queue, j.due_at_ms limit 1);
    end if;
    v_next := v_next || v_due;
  end loop;

  if v_wrote then
    insert into commit (epoch, n, at_ms, keys) values (v_epoch, v_n, v_now, array(select 'q' || b from unnest(v_back) b));
    v_head := v_n;
  end if;
  return query select x.i::integer, null::uuid, null::text, null::text, null::integer, null::boolean, null::bigint, null::bytea, x.due, v_back, v_now, v_epoch, case when v_wrote then v_n end, v_head, v_life
    from unnest(v_next) with ordinality x (due, i) order by x.i;
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

-- Reads: rows by one statement, so from one snapshot; then a last row that says which commit was the newest when it had read.

-- How many jobs of each state; of all queues that have any when p_queue is null. Waiting are those due and not, blocked by their key and not.
create function queue_depths_v1(p_now bigint, p_queue text)
returns table (queue text, waiting bigint, running bigint, parked bigint, undetermined bigint, dead bigint, oldest_due_at_ms bigint, now_ms bigint, epoch integer, newest bigint, life uuid)
language plpgsql volatile as $$
declare v_now bigint := store_now(p_now);
begin
  return query
    with recursive known (name) as (
      select coalesce(p_queue, (select m.queue from job_mark m where m.kind = 1 order by m.kind, m.queue, m.priority, m.turn desc limit 1))
      union all
      select (select m.queue from job_mark m where m.kind = 1 and m.queue > k.name order by m.kind, m.queue, m.priority, m.turn desc limit 1) from known k where k.name is not null and p_queue is null
    ),
    -- Its priorities, each with its mark: where the ready ones begin.
    ready (name, priority, mark) as (
      select k.name, l.priority, l.mark from known k, lateral (
        select m.priority, m.mark from job_mark m where m.kind = 1 and m.queue = k.name order by m.kind, m.queue, m.priority, m.turn desc limit 1) l
      union all
      select r.name, l.priority, l.mark from ready r, lateral (
        select m.priority, m.mark from job_mark m where m.kind = 1 and m.queue = r.name and m.priority > r.priority order by m.kind, m.queue, m.priority, m.turn desc limit 1) l
    )
    select k.name, a.count + b.count + c.count, d.count, e.parked, e.undetermined, e.dead, least(a.due, b.due, c.due), v_now, null::integer, null::bigint, null::uuid
    from known k,
      lateral (select coalesce(sum(x.count), 0)::bigint as count, min(x.due) as due from ready r, lateral (
        select count(*) as count, min(j.due_at_ms) as due from job j where j.queue = r.name and j.state = 1 and j.priority = r.priority and j.rank >= r.mark) x where r.name = k.name) a,
      lateral (select count(*) as count, min(j.due_at_ms) as due from job j where j.queue = k.name and j.state = 6) b,
      lateral (select count(*) as count, min(j.due_at_ms) filter (where j.due_at_ms <= v_now) as due from job j where j.queue = k.name and j.state in (3, 7)) c,
      lateral (select count(*) as count from job j where j.queue = k.name and j.state = 2
        and j.lease_until_ms >= coalesce((select m.mark from job_mark m where m.kind = 3 and m.queue = '' and m.priority = 0 order by m.kind, m.queue, m.priority, m.turn desc limit 1), 0)) d,
      lateral (select count(*) filter (where j.state = 4) as parked, count(*) filter (where j.state = 5) as undetermined, count(*) filter (where j.state = 8) as dead
        from job j where j.queue = k.name and j.state in (4, 5, 8)) e
    where k.name is not null and (p_queue is not null or a.count + b.count + c.count + d.count + e.parked + e.undetermined + e.dead > 0)
    order by k.name;
  return query select null::text, null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, s.epoch, newest_commit(), this_life() from store s;
end $$;

-- Jobs after an id, in order of id. Those kept for a person are few among many, and have an index of their own.
create function list_jobs_v1(p_queue text, p_states smallint[], p_after uuid, p_limit integer)
returns table (id uuid, queue text, state smallint, key text, attempt integer, due_at_ms bigint, sent_at_ms bigint, error text, payload bytea, epoch integer, newest bigint, life uuid)
language plpgsql volatile as $$
begin
  if p_queue is not null and cardinality(p_states) = 1 and p_states[1] in (4, 5, 8) then
    return query select j.id, j.queue, j.state, j.key, j.attempt, j.due_at_ms, j.sent_at_ms, j.error, j.payload, null::integer, null::bigint, null::uuid
      from job j where j.queue = p_queue and j.state = p_states[1] and j.state in (4, 5, 8) and j.id > p_after order by j.queue, j.state, j.id limit p_limit;
  else
    return query select j.id, j.queue, j.state, j.key, j.attempt, j.due_at_ms, j.sent_at_ms, j.error, j.payload, null::integer, null::bigint, null::uuid
      from job j where j.id > p_after and (p_queue is null or j.queue = p_queue) and (p_states is null or j.state = any (p_states)) order by j.id limit p_limit;
  end if;
  return query select null::uuid, null::text, null::smallint, null::text, null::integer, null::bigint, null::bigint, null::text, null::bytea, s.epoch, newest_commit(), this_life() from store s;
end $$;
