-- The flush barrier. A commit like any other, so that it waits for the disk and for the synchronous standbys; what was visible when it
-- began is durable when it ends, if the life it answers is the one in which it was seen: a server that crashed meanwhile and is back
-- flushes as well, and what it lost is none the more durable.
create or replace function flush_v1() returns uuid language plpgsql volatile as $$
declare
  v_life uuid := this_life();
begin
  if current_setting('synchronous_commit') in ('off', 'local') then perform set_config('synchronous_commit', 'on', true); end if;
  perform pg_logical_emit_message(true, 'trestle', '');
  return v_life;
end $$;
