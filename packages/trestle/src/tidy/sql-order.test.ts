import assert from "node:assert/strict";
import { test } from "node:test";
import { allFiles, atLeast, isTestCode, none, sources } from "./repository.ts";
import { judge, schemaOf, type UniqueByConstruction } from "./sql-order.ts";
import { scriptsOf, tokensOf, type Script } from "./sql-text.ts";

const unique: readonly UniqueByConstruction[] = [
  { table: "record", key: ["key"], reason: "a write inserts the new version and deletes the one before it: any snapshot has one" },
  { table: "job", key: ["seq"], reason: "made of the number of the commit and a count within it" },
  { table: "job", key: ["place"], reason: "as seq" },
  { table: "job", key: ["line"], reason: "the place it joined its key at" },
];

const set = "a set, taken as one; its columns are gathered in one pass, so they fit each other in any order";
const few = "so many at a time, the rest at once afterwards: which of those that tie come first decides nothing";

/** What has no order, and why it needs none: a part of the file's name and of the statement as tokens. */
const withReason: readonly (readonly [file: string, part: string, reason: string])[] = [
  ["move-source.ts", "select key from filled_in", "a part of a count"],
  ["move-target.ts", "from commit t", "`look` and `page` put where, order by and limit behind it"],
  ["move-target.ts", "from event t", "as above"],
  ["move-target.ts", "from stream_head t", "as above"],
  ["move-target.ts", "from record t", "as above"],
  ["move-target.ts", "from token t", "as above"],
  ["move-target.ts", "from job t", "as above"],
  ["move-target.ts", "select t . queue", "as above"],
  ["move-target.ts", "json_agg ( json_build_array ( r . share , r . at_ms ) order by r . share )", "of each share one, by `distinct on`"],
  ["move-target.ts", "json_array_elements_text ( x . keys )", "a set-returning function in a select list answers in its own order"],
  ["move-target.ts", "line_up ( array_agg ( x . queue )", set],
  ["move-target.ts", "move_mark ( 8 , x . queue", "marks of different queues do not know each other"],
  ["claims.sql", "array_agg ( g . queue ) , array_agg ( g . key ) , array_agg ( g . line )", set],
  ["claims.sql", "select j . ctid from unnest ( p_tids ) x ( tid ) join job j", set],
  ["claims.sql", "order by j . lease_until_ms limit 1000", few],
  ["claims.sql", "array_agg ( r . tid ) , array_agg ( r . late )", "an aggregate of one ordered subquery takes its rows as they come"],
  ["claims.sql", "array_agg ( h . tid order by h . i )", "`i` counts the rows that were handed out"],
  ["claims.sql", "array_agg ( l . queue ) , array_agg ( l . key ) , array_agg ( l . line )", set],
  ["claims.sql", "array_agg ( h . share ) , array_agg ( h . count )", "looked up by share"],
  ["claims.sql", "order by j . until_ms limit 1000", few],
  ["claims.sql", "order by r . at_ms limit 1000", few],
  ["claims.sql", "order by r . mark limit 1000", few],
  ["claims.sql", "j . lease_until_ms < v_now + p_lease_ms * 2 / 3", set],
  ["claims.sql", "j . holder = p_holder and ( j . epoch , j . n ) <= ( p_epoch , p_n ) limit 1000", few],
  [
    "commit-batch.sql",
    "select coalesce ( case p_slot_kind [ i ]",
    "generate_series in a select list counts up, and nothing between it and the array sorts or joins",
  ],
  ["commit-batch.sql", "select v_n + generate_series ( 1 , v_commits )", "as above"],
  ["jobs.sql", "array_agg ( d . queue ) , array_agg ( d . share ) , array_agg ( d . priority )", set],
  ["jobs.sql", "select distinct x . queue , x . key", "places of different keys are promised no order among each other"],
  ["jobs.sql", "array_agg ( g . commit ) filter", set],
  ["jobs.sql", "select x . tid from unnest ( p_tid , p_end )", set],
  ["jobs.sql", "array_agg ( e . commit ) , array_agg ( e . queue )", set],
  ["jobs.sql", "array_agg ( g . commit ) , array_agg ( g . queue )", set],
  ["heartbeat-thread.ts", "read_head_v1 ( ) h", "one row"],
  ["jobs.sql", "select j . ctid from unnest ( p_id ) x ( id ) join job j", set],
  ["jobs.sql", "array_agg ( d . commit )", set],
  ["jobs.sql", "select distinct j . queue from unnest ( p_end_id", set],
  ["parts.sql", "array_agg ( t . stream ) , array_agg ( t . upto )", set],
  ["parts.sql", "string_agg ( token", "members are tokens that JSON.stringify wrote: equal texts are equal tokens"],
  ["pin.sql", "from pg_proc p", "each function is set by itself"],
  ["sweep.sql", "array_agg ( x . key ) , array_agg ( x . version )", set],
  ["sweep.sql", "order by r . expires_at_ms limit p_limit", few],
  ["sweep.sql", "order by r . expires_at_ms desc limit p_limit", few],
  ["sweep.sql", "order by k . keep_until_ms limit p_limit", few],
  ["sweep.sql", "order by k . at_ms limit p_limit", few],
  ["user-sql.sql", "from pg_locks l join pg_class c", "names one of the tables that were touched, for a person"],
];

test("every SELECT of the code answers in an order that only its rows decide, or says why it needs none", () => {
  const files = [
    ...sources.filter((path) => !isTestCode(path) && !/\/conformance\//.test(path)),
    ...allFiles.filter((path) => /^packages\/[^/]+\/src\/.*\.sql$/.test(path) && !path.includes("/testing/")),
  ];
  const scripts = files.flatMap(scriptsOf);
  const schema = schemaOf(scripts, unique);
  const judged = scripts.map((script) => judge(script, schema));
  const used = new Set<string>();
  const wrong = judged
    .flatMap(({ unordered }) => unordered)
    .filter(({ path, text }) => {
      const reasons = withReason.filter(([file, part]) => path.endsWith(file) && text.includes(part));
      for (const [file, part] of reasons) used.add(`${file} ${part}`);
      return reasons.length === 0;
    });

  atLeast(
    480,
    judged.reduce((sum, { selects }) => sum + selects, 0),
    "SELECTs",
  );
  atLeast(20, schema.tables.size, "tables");
  none(
    wrong.map(({ path, line, text }) => `${path}:${line}: ${text.slice(0, 300)}`),
    "these answer in an order that a plan decides; end ORDER BY with a unique key, or write into `withReason` why nobody depends on it:",
  );
  none(
    withReason.filter(([file, part]) => !used.has(`${file} ${part}`)).map(([file, part]) => `${file}: ${part}`),
    "these reasons are about nothing any more:",
  );
  none(
    unique
      .filter(({ table, key }) => !key.every((column) => schema.tables.get(table)?.required.has(column)))
      .map(({ table, key }) => `${table} (${key.join(", ")})`),
    "what is unique by construction has a value in every row:",
  );
});

const tables = `
  create table fruit (id integer primary key, name text not null, kind text not null, price integer, unique (kind, name));
  create table basket (owner text not null, fruit integer not null, primary key (owner, fruit));
  create table shop (one boolean primary key default true check (one), name text not null);
  create unique index fruit_code on fruit (price) where price is not null;
  create function baskets_of(p text) returns table (fruit integer) language sql as $$ select b.fruit from basket b where b.owner = p order by b.fruit $$;
`;
const script = (text: string): Script => ({ path: "x.sql", line: 1, tokens: tokensOf(text) });
const isOrdered = (text: string): boolean => judge(script(text), schemaOf([script(tables)])).unordered.length === 0;

test("an order is total when it ends in a unique key, or in what a unique key follows from", () => {
  for (const text of [
    "select * from fruit order by id",
    "select * from fruit where kind = ? order by name desc limit 10",
    "select f.name, b.owner from basket b join fruit f on f.id = b.fruit order by b.owner, b.fruit",
    "select f.name from basket b, fruit f where f.id = b.fruit and b.owner = ? order by f.id",
    "select price from fruit where price > 3 order by price",
    "select price from fruit where kind = ? order by price limit 5",
    "select kind, count(*) from fruit group by kind order by kind",
    "select distinct kind from fruit order by kind",
    "select distinct on (kind) kind, name from fruit order by kind, name",
    "select x.v from unnest(p) with ordinality x (v, i) order by x.i",
    "select name from fruit union select owner from basket order by 1",
    "select * from baskets_of($1)",
    "with dear (name) as (select distinct f.name from fruit f where f.price > 9) select d.name from dear d order by d.name",
  ])
    assert.ok(isOrdered(text), text);
});

test("an order that leaves ties, or none, is told", () => {
  for (const text of [
    "select * from fruit",
    "select id from fruit order by kind",
    "select id from fruit where kind = ? order by price limit 1",
    "select id from fruit where kind > ? order by name",
    "select id from fruit where kind = ? or kind = ? order by name",
    "select f.name, b.owner from basket b join fruit f on f.id = b.fruit order by b.owner",
    "select id from fruit order by price",
    "select kind, count(*) from fruit group by kind",
    "select distinct kind from fruit",
    "select distinct on (kind) kind, name from fruit order by kind",
    "select x.v from unnest(p) x (v)",
    "select b.fruit from baskets_of($1) b",
    "select name from fruit union all select owner from basket order by 1",
    "select string_agg(f.name, ',') from fruit f",
    "select string_agg(f.name, ',' order by f.kind) from fruit f",
    "select array(select f.id from fruit f)",
    "insert into basket (owner, fruit) select ?, id from fruit limit 3",
    "delete from basket where fruit in (select id from fruit order by kind limit 3)",
    "create function f() returns integer language plpgsql as $$ begin for r in select f.id from fruit f loop perform g(r); end loop; end $$",
  ])
    assert.ok(!isOrdered(text), text);
});

test("one row has no order, and where nobody sees one there may be none", () => {
  for (const text of [
    "select name from fruit where id = ?",
    "select price from fruit where kind = ? and name = ?",
    "select count(*), max(price) from fruit",
    "select name from shop",
    "select f.name, s.name from shop s join fruit f on f.id = ?",
    "select exists (select from fruit where kind = ?)",
    "select 1 from fruit where kind = ? limit 1",
    "delete from basket where fruit in (select id from fruit where kind = ?)",
    "delete from basket where fruit = any (array(select f.id from fruit f))",
    "insert into basket (owner, fruit) select ?, id from fruit",
    "select count(*) from (select kind from fruit) x",
    "select string_agg(f.name, ',' order by f.id) from fruit f",
    "select case when true then (select name from fruit where id = 1) end",
    "create function f() returns integer language plpgsql as $$ begin if x then insert into basket select f.name, f.id from fruit f where f.price = 1; end if; end $$",
  ])
    assert.ok(isOrdered(text), text);
});
