/**
 * Whether a SELECT answers its rows in an order that only its rows decide. It does where
 *
 *     at most one row can come: an aggregate, a table of one row, a unique key that is given
 *     ORDER BY decides between any two rows that differ in what is selected: it holds a unique key, by itself or by what follows from it
 *     nobody sees the order: a set for EXISTS, IN or ANY, a count, a part of a statement whose outer SELECT is ordered, rows that are inserted
 *
 * What follows from what (functional dependency: Codd 1971): a column that is compared with something given is given; a table of which a whole unique
 * key is given is given with all its columns; and so is what is equal to what is given. It is text that is judged, not plans: a query that this
 * does not understand is told, and needs an order or a reason.
 *
 * Over 400 lines because what a SELECT answers and what is unique in a table that a SELECT makes need each other.
 */
import { filledIn, type Script, type Token } from "./sql-text.ts";

export interface Table {
  readonly columns: ReadonlySet<string>;
  readonly required: ReadonlySet<string>;
  /** Each list of columns that is unique. */
  readonly keys: readonly (readonly string[])[];
  readonly isOneRow: boolean;
}
/** What is unique though no index says so. */
export interface UniqueByConstruction {
  readonly table: string;
  readonly key: readonly string[];
  readonly reason: string;
}
export interface Schema {
  readonly tables: ReadonlyMap<string, Table>;
  /** Functions that answer many rows. */
  readonly sets: ReadonlySet<string>;
  /** Of these, those that are made here: their statements are judged where they stand. */
  readonly own: ReadonlySet<string>;
}

export interface Unordered {
  readonly path: string;
  readonly line: number;
  readonly text: string;
}
export interface Judged {
  readonly selects: number;
  readonly unordered: readonly Unordered[];
}

// ---- schemas ------------------------------------------------------------------------------------------------------------

const constraint = new Set(["primary", "unique", "check", "foreign", "constraint"]);

export function schemaOf(scripts: readonly Script[], facts: readonly UniqueByConstruction[] = []): Schema {
  const tables = new Map<string, { columns: Set<string>; required: Set<string>; keys: string[][]; isOneRow: boolean }>();
  const own = new Set<string>();
  const sets = new Set(["unnest", "generate_series", "json_array_elements", "json_array_elements_text", "jsonb_array_elements", "json_each", "regexp_matches"]);
  for (const { tokens } of scripts) {
    for (let at = 0; at < tokens.length; at++) {
      if (tokens[at]?.text !== "create") continue;
      const words = tokens.slice(at + 1, at + 12);
      const what = words.findIndex(({ text }) => text === "table" || text === "index" || text === "function");
      if (what < 0 || what > 3) continue;
      const name = words.slice(what + 1).find(({ text }) => !["if", "not", "exists"].includes(text))?.text as string;
      const open = tokens.findIndex(({ text }, n) => n > at && text === "(");
      const close = closing(tokens, open);
      if (words[what]?.text === "table") {
        const table = { columns: new Set<string>(), required: new Set<string>(), keys: [] as string[][], isOneRow: false };
        for (const part of split(tokens.slice(open + 1, close), ",")) {
          const [first] = part;
          const has = (...all: readonly string[]) => part.some((_, n) => all.every((text, more) => part[n + more]?.text === text));
          if (!first) continue;
          if (constraint.has(first.text)) {
            const list = part.findIndex(({ text }) => text === "(");
            if (first.text !== "check") table.keys.push(split(part.slice(list + 1, -1), ",").map(([column]) => column?.text as string));
            if (has("primary", "key")) for (const column of table.keys.at(-1) as string[]) table.required.add(column);
            continue;
          }
          table.columns.add(first.text);
          if (has("not", "null") || has("primary", "key")) table.required.add(first.text);
          if (has("primary", "key") || has("unique")) table.keys.push([first.text]);
          if (has("primary", "key") && has("check", "(", first.text, ")")) table.isOneRow = true;
        }
        tables.set(name, table);
      } else if (words[what]?.text === "index" && words[0]?.text === "unique") {
        const table = tables.get(tokens[open - 1]?.text as string);
        const end = tokens.findIndex(({ text }, n) => n > close && text === ";");
        const where = tokens.slice(close + 1, end < 0 ? undefined : end).map(({ text }) => text);
        const key = split(tokens.slice(open + 1, close), ",").map(([column]) => column?.text as string);
        // Of a part of the rows: only where that part is those that have a value.
        if (where.length === 0 || (where.length === 5 && where.slice(2).join(" ") === "is not null" && key.includes(where[1] as string))) table?.keys.push(key);
      } else if (words[what]?.text === "function") {
        const [next, more] = [tokens[close + 1]?.text, tokens[close + 2]?.text];
        if (next === "returns" && (more === "table" || more === "setof")) own.add(name);
      }
    }
  }
  for (const { table, key } of facts) tables.get(table)?.keys.push([...key]);
  // The catalogs that are read: names are unique in them.
  for (const [name, key] of [
    ["sqlite_schema", "name"],
    ["pg_database", "datname"],
  ] as const)
    tables.set(name, { columns: new Set([key, "type", "sql", "oid"]), required: new Set([key]), keys: [[key]], isOneRow: false });
  return { tables, sets: new Set([...sets, ...own]), own };
}

// ---- one script ---------------------------------------------------------------------------------------------------------

interface Core {
  readonly distinct: boolean;
  /** `distinct on (…)`. */
  readonly distinctOn: readonly (readonly Token[])[] | undefined;
  readonly items: readonly (readonly Token[])[];
  readonly from: readonly Source[];
  readonly predicates: readonly (readonly Token[])[];
  readonly groups: readonly (readonly Token[])[] | undefined;
  readonly hasLimit: boolean;
}
interface Query {
  readonly cores: readonly Core[];
  readonly keepsTwins: boolean;
  readonly orders: readonly (readonly Token[])[];
  readonly hasLimit: boolean;
  readonly tokens: readonly Token[];
}
interface Source {
  readonly alias: string;
  readonly columns: ReadonlySet<string> | undefined;
  readonly required: ReadonlySet<string>;
  readonly keys: readonly (readonly string[])[];
  readonly isOneRow: boolean;
  /** A function that is made here. */
  readonly isOwn?: boolean;
}

export function judge({ path, tokens }: Script, known: Schema): Judged {
  const schema = withNamed(tokens, known);
  const unordered: Unordered[] = [];
  let selects = 0;
  const seen = new Set<number>();
  for (let at = 0; at < tokens.length; at++) {
    if (tokens[at]?.text !== "select" || seen.has(at)) continue;
    const query = queryAt(tokens, at, schema, seen);
    selects += query.cores.length;
    if (orderMatters(tokens, at, query) && !isOrdered(query))
      unordered.push({
        path,
        line: tokens[at]?.line as number,
        text: query.tokens.map(({ text }) => text).join(" "),
      });
  }
  return { selects, unordered };
}

/** `with name (columns) as (select …)`: a table for what follows. */
function withNamed(tokens: readonly Token[], schema: Schema): Schema {
  const all = new Map(schema.tables);
  tokens.forEach(({ text }, at) => {
    if (text !== "as" || tokens[at + 1]?.text !== "(" || !["select", "with"].includes(tokens[at + 2]?.text ?? "")) return;
    const listed = tokens[at - 1]?.text === ")";
    const open = listed ? tokens.findLastIndex(({ text: sign, depth }, n) => n < at && sign === "(" && depth === tokens[at]?.depth) : at;
    const name = tokens[open - 1];
    if (!isName(name) || !["with", "recursive", ","].includes(tokens[open - 2]?.text ?? "")) return;
    const { columns, keys, isOneRow, required } = derived(tokens.slice(at + 2, closing(tokens, at + 1)), { ...schema, tables: all });
    const names = listed ? split(tokens.slice(open + 1, at - 1), ",").map(([column]) => column?.text as string) : [...(columns ?? [])];
    const before = [...(columns ?? [])];
    const renamed = (column: string): string => names[before.indexOf(column)] ?? column;
    all.set(name?.text as string, {
      columns: new Set(names),
      required: new Set([...required].map(renamed)),
      keys: keys.map((key) => key.map(renamed)),
      isOneRow,
    });
  });
  return { ...schema, tables: all };
}

/** Who takes the rows, by what stands before the SELECT. */
function orderMatters(tokens: readonly Token[], at: number, { hasLimit }: Query): boolean {
  const before = (n: number): string | undefined => tokens[at - n]?.text;
  if (before(1) !== "(") {
    // Rows that are inserted are a set, unless some are left out.
    if (hasLimit) return true;
    const depth = tokens[at]?.depth as number;
    for (let n = at - 1; n >= 0; n--) {
      const { text, depth: own } = tokens[n] as Token;
      if (own < depth || text === ";") break;
      if (own === depth && text === "insert") return false;
      if (own === depth && ["query", "perform", "for", ":=", "into"].includes(text) && tokens[n - 1]?.text !== "insert") break;
    }
    return true;
  }
  if (before(2) === "exists") return false;
  if (hasLimit) return true;
  if (before(2) === "in" || before(2) === "any") return false;
  if (before(2) === "array") return !(before(3) === "(" && before(4) === "any");
  // A table of an outer SELECT, or one that a WITH names: that one orders, or does not.
  return !["from", "join", "lateral", ",", "as", "materialized"].includes(before(2) ?? "");
}

function isOrdered(query: Query): boolean {
  const { cores, orders, keepsTwins } = query;
  if (cores.length > 1) {
    // Rows of several: alike ones are one (UNION), so an order over all columns decides.
    const width = cores[0]?.items.length ?? 0;
    return !keepsTwins && orders.length >= width && orders.every((order) => order.length > 0);
  }
  const [core] = cores as [Core];
  const isAggregate = core.groups === undefined && core.items.some((item) => aggregates(item));
  if (isAggregate) return core.items.every((item) => !aggregates(item) || !isOrderSensitive(item, core));
  if (core.from.length === 0) return !core.items.some(isSetItem);
  if (core.from.length === 1 && core.from[0]?.isOwn && core.predicates.length === 0 && core.items.every((item) => item.at(-1)?.text === "*")) return true;
  if (core.hasLimit && core.items.every((item) => item.every(({ kind }) => kind === "number" || kind === "text"))) return true;

  const known = closure(core, orders);
  if (core.groups) return core.groups.every((group) => known.has(resolved(group, core, core.items)));
  if (core.distinctOn && !core.distinctOn.every((on) => known.has(resolved(on, core, core.items)))) return false;
  if (core.from.every(({ alias }) => known.has(alias))) return true;
  // Rows that tie are alike in all that is selected.
  return core.items.every((item) => constants(item, core) || known.has(resolved(item, core, [])));
}

/** What is given, once these are: `alias`: the whole row; `alias.column`. */
function closure(core: Core, orders: readonly (readonly Token[])[]): ReadonlySet<string> {
  const known = new Set<string>(orders.map((order) => resolved(direction(order), core, core.items)));
  const has = (alias: string, column: string): boolean => known.has(alias) || known.has(`${alias}.${column}`);
  const compared = new Set<string>();
  const equal: (readonly [string, string | undefined])[] = [];
  for (const predicate of core.predicates) {
    if (predicate.some(({ text, depth }) => text === "or" && depth === predicate[0]?.depth)) continue;
    const sign = predicate.findIndex(({ text, depth }) => ["=", "<", ">", "<=", ">=", "is"].includes(text) && depth === predicate[0]?.depth);
    if (sign < 0) continue;
    const [left, right] = [predicate.slice(0, sign), predicate.slice(sign + 1)];
    const names = [left, right].map((side) => (isColumn(side, core) ? resolved(side, core, []) : undefined));
    const rest = right.map(({ text }) => text).join(" ");
    if (predicate[sign]?.text !== "is" || rest === "not null") for (const name of names) if (name !== undefined) compared.add(name);
    if (predicate[sign]?.text !== "=" || rest.startsWith("any (")) continue;
    if (names[0] !== undefined) equal.push([names[0], names[1] ?? (constants(right, core) ? undefined : filledIn)]);
    if (names[1] !== undefined) equal.push([names[1], names[0] ?? (constants(left, core) ? undefined : filledIn)]);
  }
  for (let size = -1; size !== known.size;) {
    size = known.size;
    for (const [name, other] of equal) if (other === undefined || known.has(other) || known.has(other.split(".")[0] as string)) known.add(name);
    for (const { alias, keys, isOneRow, required } of core.from)
      if (isOneRow || keys.some((key) => key.every((column) => has(alias, column) && (required.has(column) || compared.has(`${alias}.${column}`)))))
        known.add(alias);
  }
  return { ...known, has: (name: string) => known.has(name) || known.has(name.split(".")[0] as string) } as ReadonlySet<string>;
}

// ---- expressions --------------------------------------------------------------------------------------------------------

const direction = (order: readonly Token[]): readonly Token[] => {
  const end = order.findIndex(({ text }, n) => ["desc", "asc", "nulls", "collate"].includes(text) || (n > 0 && text === filledIn));
  return end < 0 ? order : order.slice(0, end);
};

const isName = (token: Token | undefined): boolean => token !== undefined && token.kind === "word" && !/^[?$:@]/.test(token.text);

/** `column` or `alias.column`, of one of these tables. */
function isColumn(side: readonly Token[], { from }: Core): boolean {
  if (side.length === 3 && isName(side[0]) && side[1]?.text === "." && isName(side[2])) return from.some(({ alias }) => alias === side[0]?.text);
  const [only] = side;
  if (side.length !== 1 || !isName(only)) return false;
  const owners = from.filter(({ columns }) => columns?.has(only?.text as string));
  return owners.length > 0 || (from.length === 1 && from[0]?.columns === undefined);
}

/** As one name: `alias.column`; an expression as its text. `3` and the name of a selected item are that item. */
function resolved(side: readonly Token[], core: Core, items: Core["items"]): string {
  const [only] = side;
  if (side.length === 1 && only?.kind === "number" && items[Number(only.text) - 1]) return resolved(items[Number(only.text) - 1] as readonly Token[], core, []);
  const plain = withoutName(side);
  if (plain.length === 1 && isName(plain[0])) {
    const text = plain[0]?.text as string;
    const item = items.find((one) => one.length > 1 && one.at(-1)?.text === text && one.at(-2)?.text !== ".");
    if (item) return resolved(withoutName(item), core, []);
    const owner = core.from.find(({ columns }) => columns?.has(text)) ?? (core.from.length === 1 ? core.from[0] : undefined);
    return owner ? `${owner.alias}.${text}` : text;
  }
  return plain.map(({ text }) => text).join("");
}

/** Without `as name`, or a name at the end. */
function withoutName(item: readonly Token[]): readonly Token[] {
  if (item.at(-2)?.text === "as") return item.slice(0, -2);
  if (item.length > 1 && isName(item.at(-1)) && (item.at(-2)?.text === ")" || (item.length === 4 && item[1]?.text === "."))) return item.slice(0, -1);
  return item;
}

/** Says the same for every row: nothing in it is a column of these tables. */
function constants(side: readonly Token[], core: Core): boolean {
  if (side.at(-1)?.text === "*") return false;
  return side.every((token, n) => {
    if (!isName(token) || side[n - 1]?.text === ".") return true;
    if (side[n + 1]?.text === ".") return !core.from.some(({ alias }) => alias === token.text);
    if (token.text === filledIn) return false;
    return side[n + 1]?.text === "(" || !core.from.some(({ columns }) => columns?.has(token.text));
  });
}

const counting = new Set(["count", "sum", "min", "max", "bool_and", "bool_or", "avg"]);
const gathering = new Set(["array_agg", "string_agg", "json_agg", "jsonb_agg", "group_concat", "json_group_array"]);

function aggregates(item: readonly Token[]): boolean {
  const inner = nested(item);
  return item.some(
    ({ text }, n) =>
      item[n + 1]?.text === "(" && !inner.has(n) && (counting.has(text) || gathering.has(text)) && item[closing(item, n + 1) + 1]?.text !== "over",
  );
}

/** A list is gathered, and neither it nor what it is gathered from has an order. */
function isOrderSensitive(item: readonly Token[], core: Core): boolean {
  const inner = nested(item);
  return item.some(({ text }, n) => {
    if (inner.has(n) || item[n + 1]?.text !== "(" || !gathering.has(text)) return false;
    const inside = item.slice(n + 2, closing(item, n + 1));
    const order = inside.findIndex((token, at) => token.text === "order" && inside[at + 1]?.text === "by" && token.depth === inside[0]?.depth);
    if (order < 0) return !core.from.every(({ isOneRow }) => isOneRow);
    const known = closure(core, split(inside.slice(order + 2), ","));
    return !core.from.every(({ alias }) => known.has(alias)) && !split(inside.slice(0, order), ",").every((part) => known.has(resolved(part, core, [])));
  });
}

/** The places inside a SELECT of its own. */
function nested(item: readonly Token[]): ReadonlySet<number> {
  const inner = new Set<number>();
  item.forEach(({ text }, n) => {
    if (text !== "(" || (item[n + 1]?.text !== "select" && item[n + 1]?.text !== "with")) return;
    for (let at = n; at <= closing(item, n); at++) inner.add(at);
  });
  return inner;
}

function isSetItem(item: readonly Token[]): boolean {
  const inner = nested(item);
  return item.some(({ text }, n) => !inner.has(n) && item[n + 1]?.text === "(" && /^(unnest|generate_series|jsonb?_array_elements(_text)?)$/.test(text));
}

// ---- queries ------------------------------------------------------------------------------------------------------------

const clauses = ["from", "where", "group", "having", "window", "order", "limit", "offset", "for", "into", "on"] as const;
type Clause = (typeof clauses)[number] | "select";

function queryAt(tokens: readonly Token[], at: number, schema: Schema, seen: Set<number>): Query {
  const depth = tokens[at]?.depth as number;
  const end = endOf(tokens, at);
  const all = tokens.slice(at, end);
  const starts = all.flatMap(({ text, depth: own }, n) => (text === "select" && own === depth ? [n] : []));
  for (const start of starts) seen.add(at + start);
  const parts = starts.map((start, n) => clausesOf(all.slice(start, starts[n + 1] ?? all.length)));
  const last = parts.at(-1) as ReadonlyMap<Clause, readonly Token[]>;
  const between = all.filter(({ text, depth: own }) => own === depth && (text === "union" || text === "except" || text === "intersect"));
  return {
    tokens: all,
    cores: parts.map((part) => coreOf(part, schema)),
    keepsTwins: between.some(({ text }, n) => text === "union" && all[all.indexOf(between[n] as Token) + 1]?.text === "all"),
    orders: split((last.get("order") ?? []).slice(2), ","),
    // OFFSET 0 leaves nothing out: it keeps a planner from looking inside.
    hasLimit: last.has("limit") || (last.has("offset") && last.get("offset")?.[1]?.text !== "0"),
  };
}

/** Where a SELECT is over: its parenthesis or statement is, or PL/pgSQL goes on. */
function endOf(tokens: readonly Token[], at: number): number {
  const depth = tokens[at]?.depth as number;
  let cases = 0;
  for (let n = at; n < tokens.length; n++) {
    const { text, depth: own } = tokens[n] as Token;
    if (own < depth || (own === depth && text === ";")) return n;
    if (own !== depth) continue;
    if (text === "case") cases++;
    else if (text === "end" && cases > 0) cases--;
    else if (cases === 0 && (text === "loop" || text === "then" || text === "returning" || (text === "on" && tokens[n + 1]?.text === "conflict"))) return n;
  }
  return tokens.length;
}

function clausesOf(tokens: readonly Token[]): ReadonlyMap<Clause, readonly Token[]> {
  const depth = tokens[0]?.depth;
  const found = new Map<Clause, Token[]>();
  let clause: Clause = "select";
  tokens.forEach((token, n) => {
    const { text } = token;
    const begins =
      token.depth === depth && (clauses as readonly string[]).includes(text) && !(text === "from" && tokens[n - 1]?.text === "distinct") && text !== "on";
    if (token.depth === depth && ["union", "except", "intersect"].includes(text)) clause = "for";
    else if (begins && !(text === "order" && tokens[n + 1]?.text !== "by")) {
      // PL/pgSQL: `select … into … from …`, `select … from … into …`.
      clause = text as Clause;
    }
    found.set(clause, [...(found.get(clause) ?? []), token]);
  });
  return found;
}

function coreOf(part: ReadonlyMap<Clause, readonly Token[]>, schema: Schema): Core {
  let list = (part.get("select") ?? []).slice(1);
  const distinct = list[0]?.text === "distinct";
  let distinctOn: Core["distinctOn"];
  if (distinct && list[1]?.text === "on") {
    const close = closing(list, 2);
    distinctOn = split(list.slice(3, close), ",");
    list = list.slice(close + 1);
  } else if (distinct) list = list.slice(1);
  const predicates: (readonly Token[])[] = conjuncts((part.get("where") ?? []).slice(1));
  const from: Source[] = [];
  for (const one of sourcesIn((part.get("from") ?? []).slice(1))) {
    from.push(sourceOf(one.source, schema));
    predicates.push(...conjuncts(one.on));
  }
  const groups = part.get("group");
  return {
    distinct,
    distinctOn,
    items: split(list, ","),
    from,
    predicates,
    groups: groups && split(groups.slice(2), ","),
    hasLimit: part.has("limit"),
  };
}

function sourcesIn(tokens: readonly Token[]): { readonly source: readonly Token[]; readonly on: readonly Token[] }[] {
  const depth = tokens[0]?.depth;
  const found: { source: Token[]; on: Token[] }[] = [];
  let into: Token[] | undefined;
  for (const token of tokens) {
    const own = token.depth === depth;
    if (own && (token.text === "," || token.text === "join")) into = undefined;
    else if (own && ["left", "cross", "inner", "lateral", "outer"].includes(token.text)) continue;
    else if (own && token.text === "on") into = (found.at(-1) as { on: Token[] }).on;
    else {
      if (!into) {
        found.push({ source: [], on: [] });
        into = (found.at(-1) as { source: Token[] }).source;
      }
      into.push(token);
    }
  }
  return found;
}

function sourceOf(tokens: readonly Token[], schema: Schema): Source {
  const depth = tokens[0]?.depth;
  const open = tokens.findIndex((token) => token.text === "(");
  const close = open < 0 ? -1 : closing(tokens, open);
  const isQuery = open === 0;
  const isCall = open > 0 && tokens[open - 1]?.depth === depth && open <= 3 && tokens.slice(0, open).every(({ text }) => text !== "as" && text !== "indexed");
  const rest = tokens.slice(isQuery || isCall ? close + 1 : nameLength(tokens)).filter(({ text }) => text !== "as");
  const ordinality = rest[0]?.text === "with" && rest[1]?.text === "ordinality";
  const named = ordinality ? rest.slice(2) : rest;
  const own = isName(named[0]) && !["indexed", "not", "where"].includes(named[0]?.text as string) ? (named[0]?.text as string) : undefined;
  const listed =
    own !== undefined && named[1]?.text === "(" ? split(named.slice(2, closing(named, 1)), ",").map(([column]) => column?.text as string) : undefined;
  const name = tokens[nameLength(tokens) - 1]?.text ?? "";
  const alias = own ?? name;
  const none: ReadonlySet<string> = new Set();
  if (isQuery) return { alias, ...derived(tokens.slice(1, close), schema) };
  if (isCall) {
    const called = tokens[open - 1]?.text as string;
    const last = listed?.at(-1);
    const columns = listed && new Set(listed);
    return {
      alias: own ?? called,
      columns,
      required: new Set(last === undefined ? [] : [last]),
      keys: ordinality && last !== undefined ? [[last]] : [],
      isOneRow: !schema.sets.has(called),
      isOwn: schema.own.has(called),
    };
  }
  const table = schema.tables.get(name);
  // `rowid` and `ctid` say which row it is.
  return table
    ? { alias, ...table, columns: new Set([...table.columns, "ctid"]), required: new Set([...table.required, "ctid"]), keys: [...table.keys, ["ctid"]] }
    : { alias, columns: undefined, required: none, keys: [], isOneRow: false };
}

const nameLength = (tokens: readonly Token[]): number => (tokens[1]?.text === "." ? 3 : 1);

/** A table that a SELECT makes: its columns, and what is unique in it. */
function derived(tokens: readonly Token[], schema: Schema): Omit<Source, "alias"> {
  const start = tokens.findIndex(({ text }) => text === "select");
  if (start < 0) return { columns: undefined, required: new Set(), keys: [], isOneRow: false };
  const { cores, keepsTwins } = queryAt(tokens, start, schema, new Set());
  const [core] = cores as [Core];
  const names = core.items.map((item) => item.at(-1)?.text as string);
  const isStar = names.includes("*");
  const [first] = core.from;
  const columns = isStar ? (core.from.length === 1 ? first?.columns : undefined) : new Set(names);
  const every = new Set(isStar ? (first?.columns ?? []) : names);
  const isAggregate = core.groups === undefined && core.items.some((item) => aggregates(item));
  const given = cores.length === 1 ? closure(core, []) : new Set<string>();
  const isOneRow =
    cores.length === 1 &&
    (isAggregate ||
      (core.from.length === 0 && !core.items.some(isSetItem)) ||
      (core.from.length > 0 && core.from.every(({ alias }) => given.has(alias))) ||
      limitsToOne(tokens));
  const keys: (readonly string[])[] = [];
  if (core.distinct || (cores.length > 1 && !keepsTwins)) keys.push(names);
  if (core.groups)
    keys.push(core.groups.map((group) => (group[0]?.kind === "number" ? (names[Number(group[0].text) - 1] as string) : (group.at(-1)?.text as string))));
  if (cores.length === 1 && core.from.length === 1 && first)
    for (const key of first.keys) if (isStar || key.every((column) => names.includes(column))) keys.push(key);
  // generate_series in a list, or a single set: each number once.
  if (cores.length === 1 && core.from.length === 0 && core.items.length === 1 && core.items[0]?.[0]?.text === "generate_series") keys.push(names);
  return { columns, required: every, keys, isOneRow };
}

function limitsToOne(tokens: readonly Token[]): boolean {
  const at = tokens.findLastIndex(({ text, depth }) => text === "limit" && depth === tokens[0]?.depth);
  return at >= 0 && tokens[at + 1]?.text === "1" && tokens[at + 2]?.text !== "+";
}

// ---- tokens -------------------------------------------------------------------------------------------------------------

function closing(tokens: readonly Token[], open: number): number {
  const depth = tokens[open]?.depth;
  const found = tokens.findIndex(({ text, depth: own }, n) => n > open && text === ")" && own === depth);
  return found < 0 ? tokens.length : found;
}

/** At the signs or words of this text that stand outside of parentheses. */
function split(tokens: readonly Token[], at: string): (readonly Token[])[] {
  const depth = tokens[0]?.depth;
  const parts: Token[][] = [[]];
  for (const token of tokens) {
    if (token.text === at && token.depth === depth) parts.push([]);
    else (parts.at(-1) as Token[]).push(token);
  }
  return parts.filter((part) => part.length > 0);
}

/** `a and b between c and d`: what has to hold. */
function conjuncts(tokens: readonly Token[]): (readonly Token[])[] {
  return split(tokens, "and");
}
