/** Values of the user's own SQL, as they go to PostgreSQL and as they come back. */
import type pg from "pg";
import type { SqlValue } from "trestle/store";

export function bindable(value: SqlValue): unknown {
  if (typeof value === "bigint") return value.toString();
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;
}

const whole = (text: string): number | bigint => {
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : BigInt(text);
};
/** Integers come as numbers, and as bigints beyond 2^53; truth values and bytes as such; what is exact or has a form of its own (numeric, times, JSON) as PostgreSQL writes it. */
const parsers: ReadonlyMap<number, (text: string) => SqlValue> = new Map<number, (text: string) => SqlValue>([
  [16, (text) => text === "t"],
  [17, (text) => Buffer.from(text.slice(2), "hex")],
  [20, whole],
  [21, whole],
  [23, whole],
  [26, whole],
  [700, Number],
  [701, Number],
]);
const asText = (text: string): SqlValue => text;
export const userTypes: pg.CustomTypesConfig = { getTypeParser: ((oid: number) => parsers.get(oid) ?? asText) as pg.CustomTypesConfig["getTypeParser"] };
