-- Hints that there is something new to read. Without waiting for the disk: a lost hint is made good by the poll, and NOTIFY holds a lock of
-- the whole database until its commit has ended.
create or replace function hint_channel_v1() returns text language sql stable as $$ select 'trestle/' || 'store'::regclass::oid $$;
create or replace function hint_v1(p_payload text) returns void language plpgsql volatile as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  perform pg_notify(hint_channel_v1(), p_payload);
end $$;
