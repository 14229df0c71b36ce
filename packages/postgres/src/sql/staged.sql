-- Jobs and events that somebody else's transaction sends (FINDINGS F7). There they get neither a position nor a number: whoever holds the lane
-- holds everybody, and a transaction of an ORM may take seconds. A commit of any process moves them once that transaction has ended.

-- Called inside that transaction, at whatever isolation it has.
create or replace function stage_v1(p_facts text[], p_body bytea[], p_meta bytea[]) returns void language plpgsql volatile as $$
begin
  insert into staged (tx, facts, body, meta) select pg_current_xact_id()::text::bigint, x.facts, x.body, x.meta from unnest(p_facts, p_body, p_meta) with ordinality x (facts, body, meta, i) order by x.i;
end $$;

-- What ended transactions have staged, from transaction `p_from` on. The last row's tx is a transaction below which all have ended: when
-- everything here is moved, the next look begins there and walks through none of the rows that are gone.
create or replace function read_staged_v1(p_from bigint, p_limit integer) returns table (tx bigint, seq bigint, facts text, body bytea, meta bytea) language plpgsql volatile as $$
declare v_ended bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
begin
  return query select s.tx, s.seq, s.facts, s.body, s.meta from staged s where s.tx >= p_from order by s.tx, s.seq limit p_limit;
  return query select v_ended, null::bigint, null::text, null::bytea, null::bytea;
end $$;
