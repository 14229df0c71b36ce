-- Last: every function of the client's (`…_v<number>`) carries the schema and its plans with it. Hash and merge joins and sequential
-- scans are off because with fresh or missing statistics the planner prefers to read whole tables (1.7 times slower measured, and
-- worse as they grow); a lane that somebody else holds is waited for with an end.
do $$
declare v_function regprocedure; v_setting text;
begin
  for v_function in select p.oid::regprocedure from pg_proc p where p.pronamespace = current_schema()::regnamespace and p.proname ~ '_v[0-9]+$' loop
    execute format('alter function %s set search_path from current', v_function);
    foreach v_setting in array array['enable_hashjoin = off', 'enable_mergejoin = off', 'enable_seqscan = off', 'enable_bitmapscan = off', 'enable_sort = off', 'enable_incremental_sort = off', 'jit = off', 'plan_cache_mode = force_generic_plan', 'lock_timeout = ''10s'''] loop
      execute format('alter function %s set %s', v_function, v_setting);
    end loop;
  end loop;
  -- Whoever starts while another process migrates waits for it.
  alter function lock_migrations_v1 set lock_timeout = 0;
end $$;
