/** Pages by cursor: what a list is asked, and what it answers. The cursor names the last row of the page before. */
import { Fault } from "../kernel/index.ts";
import { parseKey, storeKey, type ListQuery, type RecordRow } from "../store/index.ts";

export interface Page<Row> {
  readonly items: readonly Row[];
  readonly next: string | undefined;
}
export interface PageQuery {
  readonly cursor?: string | undefined;
  readonly limit: number;
}

interface ListAsked extends PageQuery {
  readonly component: string;
  readonly tenant: string | undefined;
  readonly order: ListQuery["order"];
  readonly where: Readonly<Record<string, unknown>>;
}

/**
 * One page of a component's rows. The first field of `where` is looked up in its index; the others are compared row by row, so
 * put the most telling one first.
 */
export async function listPage<Row>(
  asked: ListAsked,
  list: (query: ListQuery) => Promise<readonly RecordRow[]>,
  read: (row: RecordRow) => Row | Promise<Row>,
): Promise<Page<Row>> {
  const { component, tenant, order, limit } = asked;
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
    throw Fault.create("page.limit-out-of-range", `limit must be an integer from 1 to 1000, got ${String(limit)}`, "Ask for fewer rows, page by page.");
  const conditions = Object.entries(asked.where).filter(([, value]) => value !== undefined);
  const [first, ...others] = conditions;
  const prefix = storeKey(component, tenant, "");
  const items: Row[] = [];
  let after = asked.cursor === undefined ? undefined : fromCursor(asked.cursor, prefix);
  for (;;) {
    const wanted = Math.min(limit - items.length + 1, 1_000); // one more than fits tells whether there is a next page
    const rows = await list({
      prefix,
      order,
      limit: wanted,
      ...(after ? { after } : {}),
      ...(first ? { where: { field: first[0], value: indexable(first[0], first[1]) } } : {}),
    });
    for (const row of rows) {
      if (items.length === limit) return { items, next: after && toCursor(after) };
      after = { key: row.key, created: row.created };
      const item = await read(row);
      if (others.every(([field, value]) => (item as Record<string, unknown>)[field] === value)) items.push(item);
    }
    if (rows.length < wanted) return { items, next: undefined };
  }
}

/** What an index can hold: texts and numbers as they are, booleans as 0 and 1. */
export function indexable(field: string, value: unknown): string | number {
  if (typeof value === "string" || typeof value === "number") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  throw Fault.create(
    "index.not-a-scalar",
    `an indexed field must be a text, a number or a boolean; ${field} is ${value === null ? "null" : typeof value}`,
    "Index another field, or leave the field out of `index`.",
  );
}

/** The index entries of a value; fields that are absent are not indexed. */
export function indexEntries(fields: readonly string[] | undefined, value: unknown): { readonly field: string; readonly value: string | number }[] | undefined {
  if (!fields || fields.length === 0) return undefined;
  const entries = [];
  for (const field of fields) {
    const member = (value as Record<string, unknown>)[field];
    if (member !== undefined && member !== null) entries.push({ field, value: indexable(field, member) });
  }
  return entries;
}

function toCursor(after: { readonly key: string; readonly created: number }): string {
  return Buffer.from(JSON.stringify([parseKey(after.key).key, after.created])).toString("base64url");
}

function fromCursor(cursor: string, prefix: string): { readonly key: string; readonly created: number } {
  try {
    const [key, created] = JSON.parse(Buffer.from(cursor, "base64url").toString()) as unknown[];
    if (typeof key === "string" && typeof created === "number") return { key: prefix + key, created };
  } catch {
    // answered below: whatever it is, it is no cursor of ours
  }
  throw Fault.create(
    "page.bad-cursor",
    `the cursor ${JSON.stringify(cursor.slice(0, 80))} is not one that a page answered as "next"`,
    "Start without a cursor, and pass on `next` as it came.",
  );
}
