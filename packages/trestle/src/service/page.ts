/** Pages by cursor: the schema of a list's query. It takes texts, as URLs carry them, and numbers, as callers in this process write them. */
import type { PageQuery, Schema } from "../component/index.ts";
import { integerWithin } from "../kernel/index.ts";

/** `limit` is how many rows a page has when nobody says (default 20), `max` how many anyone may ask for (default 100, at most 1000). */
export function page(
  options: { readonly limit?: number; readonly max?: number } = {},
): Schema<{ cursor?: string | undefined; limit?: number | string | undefined }, PageQuery> {
  const max = integerWithin(options.max ?? Math.max(100, options.limit ?? 0), "page: max", { least: 1, most: 1_000 });
  const otherwise = integerWithin(options.limit ?? Math.min(20, max), "page: limit", { least: 1, most: max });
  return {
    "~standard": {
      version: 1,
      vendor: "trestle",
      validate(value) {
        if (typeof value !== "object" || value === null) return { issues: [{ message: "must be an object" }] };
        const { cursor, limit } = value as { readonly cursor?: unknown; readonly limit?: unknown };
        if (cursor !== undefined && (typeof cursor !== "string" || cursor.length > 2_000))
          return { issues: [{ message: "must be what a page answered as `next`", path: ["cursor"] }] };
        const count = limit === undefined ? otherwise : typeof limit === "string" && /^\d{1,4}$/.test(limit) ? Number(limit) : limit;
        if (typeof count !== "number" || !Number.isInteger(count) || count < 1 || count > max)
          return { issues: [{ message: `must be an integer from 1 to ${max}`, path: ["limit"] }] };
        return { value: cursor === undefined || cursor === "" ? { limit: count } : { cursor, limit: count } };
      },
    },
  };
}
