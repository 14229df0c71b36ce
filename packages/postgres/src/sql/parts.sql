-- The parts of the commit function. Run inside the store's schema, before commit-batch.sql.

-- The lane of the store in this schema, until the transaction ends. Waiters get it in the order they came.
create or replace function lock_lane() returns void language sql volatile as $$
  select pg_advisory_xact_lock((1953657700::bigint << 32) | 'store'::regclass::oid::bigint)
$$;
alter function lock_lane set search_path from current;

-- The milliseconds in a UUIDv7: its first 48 bits.
create or replace function minted_at_ms(p_id uuid) returns bigint language sql immutable strict as $$
  select ('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint
$$;

-- The bytes by which a member of a set is ordered: its text in UTF-8, from its JSON token as JSON.stringify writes it. A lone
-- surrogate, which PostgreSQL's text cannot hold, becomes the three bytes it would have; NUL becomes a zero byte.
create or replace function member_order(p_token text) returns bytea language sql immutable strict as $$
  select case when position('\' in p_token) = 0 then convert_to(substring(p_token from 2 for length(p_token) - 2), 'UTF8') else (
    select coalesce(string_agg(case
        when m[1] like '\\u%' then (
          select case
            when code < 128 then decode(lpad(to_hex(code), 2, '0'), 'hex')
            when code < 2048 then decode(to_hex(192 + code / 64) || to_hex(128 + code % 64), 'hex')
            else decode(to_hex(224 + code / 4096) || to_hex(128 + code / 64 % 64) || to_hex(128 + code % 64), 'hex') end
          from (select ('x' || substring(m[1] from 3))::bit(16)::integer as code) c)
        when m[1] like '\\%' then convert_to(case substring(m[1] from 2) when 'b' then chr(8) when 'f' then chr(12) when 'n' then chr(10) when 'r' then chr(13) when 't' then chr(9) else substring(m[1] from 2) end, 'UTF8')
        else convert_to(m[1], 'UTF8') end, ''::bytea order by i), ''::bytea)
    from regexp_matches(substring(p_token from 2 for length(p_token) - 2), '\\u[0-9a-f]{4}|\\.|[^\\]+', 'g') with ordinality x (m, i)) end
$$;

-- The JSON number that stands, or null when the text is something else.
create or replace function merge_number(p_standing text) returns numeric language sql immutable strict as $$
  select case when p_standing ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$' then p_standing::numeric end
$$;

-- Two JSON arrays of strings as one: each member once, in order; null when what stands has a member that is no string. Members stay
-- JSON tokens, because PostgreSQL's text cannot hold every string.
create or replace function merge_union(p_standing text, p_added text) returns text language sql immutable strict as $$
  select case when bool_and(left(token, 1) = '"') is not false then '[' || coalesce(string_agg(token, ',' order by member_order(token)), '') || ']' end
  from (select e::text as token from json_array_elements(p_standing::json) e union select e::text from json_array_elements(p_added::json) e) members
$$;
alter function merge_union set search_path from current;
