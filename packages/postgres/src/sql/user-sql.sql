-- The user's own SQL, beside the lane.
--
-- One lock lets one of the user's transactions at a time touch the user's tables, over all processes: what one of them reads stands until it
-- ends, as on an engine with one writer, and nobody else's commit waits for it. The lane is taken last, with the COMMIT.

create or replace function lock_tables_v1() returns void language plpgsql volatile as $$
begin
  perform require_read_committed();
  perform pg_advisory_xact_lock((1953657702::bigint << 32) | 'store'::regclass::oid::bigint);
end $$;

-- The outcome of a commit that was applied; no row when it was not.
create or replace function commit_known_v1(p_id uuid) returns table (epoch integer, n bigint, life uuid) language plpgsql volatile as $$
begin
  return query select c.epoch, c.n, this_life() from commit c where c.id = p_id and c.n is not null;
end $$;

-- Whatever a statement touches, by whatever way, it has locked until the transaction ends: a table of Trestle's, or a temporary one, is found
-- among the locks. Call it before Trestle's own functions touch theirs.
create or replace function guard_user_sql_v1() returns void language plpgsql volatile as $$
declare v_table text;
begin
  select c.oid::regclass::text into v_table from pg_locks l join pg_class c on c.oid = l.relation
    where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and (c.relnamespace = current_schema()::regnamespace or c.relnamespace = pg_my_temp_schema())
    limit 1;
  if v_table is not null then
    raise exception '%', v_table using errcode = 'TR004';
  end if;
end $$;

-- The end of a read of the user's: the newest commit that it could have seen.
create or replace function end_user_read_v1() returns table (epoch integer, newest bigint, life uuid) language plpgsql volatile as $$
begin
  perform guard_user_sql_v1();
  return query select s.epoch, newest_commit(), this_life() from store s;
end $$;

create or replace function lock_migrations_v1() returns void language plpgsql volatile as $$
begin
  perform pg_advisory_xact_lock((1953657703::bigint << 32) | 'store'::regclass::oid::bigint);
end $$;

create or replace function find_migration_v1(p_component text, p_name text) returns text language plpgsql volatile as $$
begin
  return (select m.digest from migration m where m.component = p_component and m.name = p_name);
end $$;

create or replace function keep_migration_v1(p_now bigint, p_component text, p_name text, p_digest text) returns void language plpgsql volatile as $$
begin
  insert into migration (component, name, digest, at_ms) values (p_component, p_name, p_digest, store_now(p_now));
end $$;
