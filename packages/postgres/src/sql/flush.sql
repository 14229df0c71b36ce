-- The flush barrier. A commit like any other, so that it waits for the disk and for the synchronous standbys; what was visible when it
-- began is durable when it ends.
create function flush_v1() returns void language plpgsql volatile as $$
begin
  if current_setting('synchronous_commit') in ('off', 'local') then perform set_config('synchronous_commit', 'on', true); end if;
  perform pg_logical_emit_message(true, 'trestle', '');
end $$;
