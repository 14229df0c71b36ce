/** Records in the lane: put, remove, merge, and their expectations. An expired record is absent, whether or not it was swept. */
import type { CommitRefused, IndexEntry, Merge, StoreKey } from "../store/index.ts";
import type { LaneState } from "./lane-state.ts";
import { homeOf, keysOf } from "./statements.ts";

const byKey = "select n, expires from trestle_records where key = ?";
// Without RETURNING, for which SQLite builds a table in memory each time: half of what a put cost.
const insert = "insert into trestle_records (key, home, n, created, expires, indexed, value) values (?1, ?2, ?3, ?3, ?4, ?5, ?6) on conflict (key) do nothing";
const find = "select id, indexed, created, expires from trestle_records where key = ?";
const replace = "update trestle_records set n = ?, created = ?, expires = ?, indexed = ?, value = ? where id = ?";
const remove = "delete from trestle_records where id = ?";
const current = "select id, value, expires from trestle_records where key = ?";
const rewrite = "update trestle_records set n = ?, value = ? where id = ?";
const dropEntries = "delete from trestle_entries where record = ?";
const addEntry = "insert or ignore into trestle_entries (home, field, value, created, record) values (?, ?, ?, ?, ?)";
const expired = "select id, indexed from trestle_records where expires is not null and expires <= ? order by expires, id limit ? + 0";

/** The number of the commit that last wrote it; 0 when it is absent or has expired. */
export function recordVersion(state: LaneState, key: StoreKey): number {
  const row = state.sql(byKey).get(key);
  if (!row) return 0;
  return row[1] !== null && (row[1] as number) <= state.nowMs ? 0 : (row[0] as number);
}

export function putRecord(state: LaneState, key: StoreKey, value: Uint8Array, expiresAtMs: number | null = null, index: readonly IndexEntry[] = []): void {
  const home = homeOf(key);
  const isNew = state.sql(insert).run(key, home, state.n, expiresAtMs, index.length > 0 ? 1 : 0, value) === 1;
  if (isNew && index.length === 0) return;
  const [id, indexed, created, expires] = state.sql(find).get(key) as unknown as [number, number, number, number | null];
  const begins = expires !== null && expires <= state.nowMs;
  const createdNow = begins ? state.n : created;
  if (!isNew) {
    const isIndexed = indexed !== 0 || index.length > 0 ? 1 : 0;
    // Columns that are named in an update are written to their indexes, whether or not they change.
    if (begins || expires !== expiresAtMs || indexed !== isIndexed) state.sql(replace).run(state.n, createdNow, expiresAtMs, isIndexed, value, id);
    else state.sql(rewrite).run(state.n, value, id);
    if (indexed !== 0) state.sql(dropEntries).run(id);
  }
  for (const entry of index) state.sql(addEntry).run(home, entry.field, entry.value, createdNow, id);
}

export function removeRecord(state: LaneState, key: StoreKey): void {
  const row = state.sql(find).get(key);
  if (row) removeRow(state, row[0] as number, row[1] as number);
}

function removeRow(state: LaneState, id: number, indexed: number): void {
  state.sql(remove).run(id);
  if (indexed !== 0) state.sql(dropEntries).run(id);
}

/**
 * Merges into the newest value. A merge that changes nothing writes nothing, so it gives nobody a conflict. A number or set
 * merge on a record that holds something else is refused like a failed statement: neither a retry nor another read would help.
 */
export function mergeRecord(state: LaneState, key: StoreKey, merge: Merge): CommitRefused | undefined {
  const row = state.sql(current).get(key);
  const alive = row !== undefined && (row[2] === null || (row[2] as number) > state.nowMs);
  const before = alive ? (row[1] as Uint8Array) : undefined;
  const write = (value: Uint8Array): undefined => {
    if (alive) state.sql(rewrite).run(state.n, value, row[0] as number);
    else putRecord(state, key, value);
  };
  if (merge.kind === "set-once") return before ? undefined : write(merge.value);
  const parsed = before ? parseJson(before) : undefined;
  if (merge.kind === "union") {
    const members = parsed === undefined ? [] : parsed;
    if (!Array.isArray(members) || members.some((member) => typeof member !== "string")) return notMergeable(key, merge, "a JSON array of texts");
    const union = unionOf(members as string[], merge.members);
    return before && union.length === members.length ? undefined : write(encodeJson(union));
  }
  const number = parsed === undefined ? 0 : parsed;
  if (typeof number !== "number") return notMergeable(key, merge, "a JSON number");
  if (merge.kind === "take") return take(state, key, number, merge);
  if (merge.kind === "add") {
    const sum = number + merge.amount;
    if (!Number.isSafeInteger(sum) || sum < (merge.min ?? -Infinity) || sum > (merge.max ?? Infinity))
      return { ok: false, refused: "guard", key, value: number };
    return write(encodeJson(sum));
  }
  const best = merge.kind === "max" ? Math.max(number, merge.value) : Math.min(number, merge.value);
  return before && best === number ? undefined : write(encodeJson(best));
}

/** A bucket further from full than its burst is of a clock that went back, or of a larger burst: it counts as empty. */
function take(state: LaneState, key: StoreKey, fullAtUs: number, { amountUs, burstUs }: Merge & { readonly kind: "take" }): CommitRefused | undefined {
  const nowUs = Math.floor(state.nowMs) * 1_000;
  const takenUs = Math.min(Math.max(fullAtUs - nowUs, 0), burstUs) + amountUs;
  if (takenUs > burstUs) return { ok: false, refused: "guard", key, value: takenUs - burstUs };
  state.takenUs = Math.max(takenUs, 0);
  const fullUs = nowUs + state.takenUs;
  putRecord(state, key, encodeJson(fullUs), Math.ceil(fullUs / 1_000));
  return undefined;
}

/** Was a record under this prefix written after commit `since`, and before the one that asks? Trimmed history counts as written. */
export function changedSince(state: LaneState, prefix: string, since: number, before: number): boolean {
  if (since < state.trimmedN) return true;
  const mark = `r${prefix}`;
  for (const [keys] of state.sql("select keys from trestle_commits where n > ? and n < ? order by n").all(since, before))
    if (keysOf(keys as string).some((key) => key.startsWith(mark))) return true;
  return false;
}

/** Removes up to `limit` expired records; answers how many. */
export function sweepRecords(state: LaneState, limit: number): number {
  const rows = state.sql(expired).all(state.nowMs, limit);
  for (const [id, indexed] of rows) removeRow(state, id as number, indexed as number);
  return rows.length;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const encodeJson = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value));

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes)) ?? null;
  } catch {
    return null;
  }
}

/** Both sets in the order of their UTF-8 bytes, each member once. */
export function unionOf(a: readonly string[], b: readonly string[]): string[] {
  return [...new Set([...a, ...b])].sort(byUtf8);
}

/** UTF-8 order is code point order; UTF-16 order differs where surrogates meet U+E000 to U+FFFF. */
export function byUtf8(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function notMergeable(key: StoreKey, merge: Merge, wanted: string): CommitRefused {
  return { ok: false, refused: "statement", message: `merge ${merge.kind} on ${key} needs ${wanted}, and the record holds something else` };
}
