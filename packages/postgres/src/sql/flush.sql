-- The flush barrier. A commit like any other, so that it waits for the disk and for the synchronous standbys; what was visible when it
-- began is durable when it ends, if the life it answers is the one in which it was seen: a server that crashed meanwhile and is back
-- flushes as well, and what it lost is none the more durable.
-- One statement, and that without a function: each outcome waits for it.
create or replace function flush_v1() returns uuid language plpgsql volatile as $$
declare
  v_life uuid; v_end pg_lsn;
begin
  if not pg_is_in_recovery() then v_life := (select l.id from life l); end if; -- as this_life
  if current_setting('synchronous_commit') in ('off', 'local') then perform set_config('synchronous_commit', 'on', true); end if;
  v_end := pg_logical_emit_message(true, 'trestle', '');
  return v_life;
end $$;
