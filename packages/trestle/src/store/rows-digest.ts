/** The digest a `rows` expectation compares: every engine and every caller makes it here. */
import { createHash } from "node:crypto";
import type { SqlValue } from "./commit.ts";

/** SHA-256, in hex, of the rows as JSON; columns in their order; a bigint as `"123n"`, bytes as `"base64:…"`. */
export function rowsDigest(rows: readonly Readonly<Record<string, SqlValue>>[]): string {
  const json = JSON.stringify(rows.map((row) => Object.entries(row).map(([name, value]) => [name, plain(value)])));
  return createHash("sha256").update(json).digest("hex");
}

function plain(value: SqlValue): string | number | boolean | null {
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Uint8Array) return `base64:${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64")}`;
  return value;
}
