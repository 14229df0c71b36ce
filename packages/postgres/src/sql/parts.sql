-- The parts of the commit function. Run inside the store's schema, before commit-batch.sql.

-- The lane of the store in the search_path, until the transaction ends. Waiters get it in the order they came.
create or replace function lock_lane() returns void language sql volatile as $$
  select pg_advisory_xact_lock((1953657700::bigint << 32) | 'store'::regclass::oid::bigint)
$$;

-- The milliseconds in a UUIDv7: its first 48 bits.
create or replace function minted_at_ms(p_id uuid) returns bigint language sql immutable strict as $$
  select ('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint
$$;

-- The JSON number that stands, or null when the text is something else.
create or replace function merge_number(p_standing text) returns numeric language sql immutable strict as $$
  select case when p_standing ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$' then p_standing::numeric end
$$;

-- Two JSON arrays of strings as one: each member once, in the order of UTF-8 bytes; null when what stands has a member that is no
-- string. Members stay the JSON tokens they are, so that the bytes come out as JSON.stringify would write them.
create or replace function merge_union(p_standing text, p_added text) returns text language sql immutable strict as $$
  select case when bool_and(left(token, 1) = '"') is not false then '[' || coalesce(string_agg(token, ',' order by (token::json #>> '{}') collate "C"), '') || ']' end
  from (select e::text as token from json_array_elements(p_standing::json) e union select e::text from json_array_elements(p_added::json) e) members
$$;
