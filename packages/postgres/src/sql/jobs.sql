-- Jobs: what commits and claims do to them; the tables are job-tables.sql. The order of hand-out is docs/concepts/queue.md (FINDINGS F17), as on SQLite.
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

create or replace function mark_of(p_kind integer, p_queue text, p_share text, p_priority bigint) returns bigint language plpgsql volatile as $$
begin
  return (select m.mark from job_mark m where m.kind = p_kind and m.queue = p_queue and m.share = p_share and m.priority = p_priority
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1);
end $$;

create or replace function move_mark(p_kind integer, p_queue text, p_share text, p_priority bigint, p_mark bigint, p_name text default null, p_at_ms double precision default null)
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
create or replace function next_priority(p_queue text, p_share text, p_after bigint, out priority bigint, out mark bigint) language plpgsql volatile as $$
begin
  select m.priority, m.mark into priority, mark from job_mark m where m.kind = 1 and m.queue = p_queue and m.share = p_share and m.priority > p_after
    order by m.kind, m.queue, m.share, m.priority, m.turn desc limit 1;
end $$;

-- Jobs of these queues, shares and priorities, each named once or so, are about to be ready: each has a mark from here on. `p_base` is below
-- the places of this batch.
create or replace function line_up(p_queue text[], p_share text[], p_priority bigint[], p_base bigint) returns void language plpgsql volatile as $$
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
create or replace function line_up_rows(p_tid tid[], p_base bigint) returns void language plpgsql volatile as $$
declare
  v_queue text[]; v_share text[]; v_priority bigint[];
begin
  select array_agg(d.queue), array_agg(d.share), array_agg(d.priority) into v_queue, v_share, v_priority
    from (select distinct j.queue, j.share, j.priority from unnest(p_tid) x (tid) join job j on j.ctid = x.tid) d;
  perform line_up(v_queue, v_share, v_priority, p_base);
end $$;

-- The line of a key's head, or null when it has none.
create or replace function head_of(p_queue text, p_key text) returns bigint language plpgsql volatile as $$
declare
  v_from bigint := coalesce(mark_of(9, p_queue, p_key, 0), 0);
begin
  return (select h.line from job h where h.queue = p_queue and h.key = p_key and h.key is not null and h.state <= 5 and h.line >= v_from order by h.queue, h.key, h.line desc limit 1);
end $$;

-- Lets jobs of these queues join that have fallen due, in order of due time; at most 1,000 of a queue, the rest follows in the next
-- batch. Answers how many places it gave, from `p_place` on, and the queues in which more is due.
create or replace function join_due(p_queues text[], p_now bigint, p_place bigint, out places integer, out backlog text[]) language plpgsql volatile as $$
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
create or replace function join_jobs(p_tid tid[], p_place bigint) returns integer language plpgsql volatile as $$
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
create or replace function make_ready(p_tid tid[], p_base bigint) returns text[] language plpgsql volatile as $$
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
create or replace function advance(p_base bigint, p_commit integer[], p_queue text[], p_key text[], p_line bigint[], out commits integer[], out queues text[]) language plpgsql volatile as $$
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
create or replace function enqueue_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_base bigint, p_first bigint, p_backlog text[], p_shape integer,
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
create or replace function replace_job(p_now bigint, p_base bigint, p_id uuid, p_queue text, p_unique text, p_due bigint, p_at_most_ms bigint, out sent bigint, out due bigint, out known boolean) language plpgsql volatile as $$
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
create or replace function end_jobs(p_now bigint, p_fresh bigint[], p_base bigint, p_first bigint, p_commit integer[], p_tid tid[], p_end integer[], p_due bigint[], p_error text[], p_keep bigint[],
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
create or replace function cancel_jobs(v_base bigint, p_commit integer[], p_id uuid[], out commits integer[], out queues text[]) language plpgsql volatile as $$
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
create or replace function redrive_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_base bigint, p_first bigint, p_commit integer[], p_id uuid[], p_from integer[], p_length integer[], out commits integer[], out queues text[]) language plpgsql volatile as $$
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
create or replace function find_claims(p_id uuid[], p_hint tid[], out tids tid[], out epochs integer[], out ns bigint[]) language plpgsql volatile as $$
begin
  select array_agg(j.ctid order by x.i), array_agg(j.epoch order by x.i), array_agg(j.n order by x.i) into tids, epochs, ns
  from unnest(p_id) with ordinality x (id, i) left join lateral (select h.ctid, h.epoch, h.n from job h where h.ctid = p_hint[x.i] and h.id = x.id and h.state = 2 offset 0) j on true;
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
create or replace function apply_jobs(p_now bigint, p_payload bytea, p_fresh bigint[], p_first_n bigint,
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
create or replace function pause_queues(p_fresh bigint[], p_commit integer[], p_queue text[], p_on boolean[], out commits integer[], out queues text[]) language plpgsql volatile as $$
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
