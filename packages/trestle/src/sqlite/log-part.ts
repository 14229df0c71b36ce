/**
 * Streams in the lane. A stream's version is the tail of an insert-only index: no head row that every append would rewrite (FINDINGS F8).
 * Only a stream of which retention has left nothing has one.
 */
import type { NewEvent, StoreKey } from "../store/index.ts";
import { setMeta, type LaneState } from "./lane-state.ts";
import { idBytes } from "./statements.ts";

/** A version alone reads the index; with the commit that wrote it, the row. */
export const tailVersion = "select version from trestle_events where stream = ? order by version desc limit 1";
const tailRow = "select version, n from trestle_events where stream = ? order by version desc limit 1";
/** Asked where there is no tail. */
export const headRow = "select version, n from trestle_heads where stream = ?";
const insert = "insert into trestle_events (position, stream, version, n, at, id, type, data, meta) values (?, ?, ?, ?, ?, ?, ?, ?, ?)";
const scratch = new Uint8Array(16);

export function streamVersion(state: LaneState, stream: StoreKey): number {
  // A commit that appends nearly always expects the version first.
  if (state.tail?.stream !== stream) state.tail = { stream, version: Number((state.sql(tailVersion).get(stream) ?? state.sql(headRow).get(stream))?.[0] ?? 0) };
  return state.tail.version;
}

/** The version of its last event, and the number of the commit that wrote it; still known when retention has removed it. */
export function streamTail(state: LaneState, stream: StoreKey): { readonly version: number; readonly n: number } | undefined {
  const row = state.sql(tailRow).get(stream) ?? state.sql(headRow).get(stream);
  return row && { version: row[0] as number, n: row[1] as number };
}

export function appendEvents(state: LaneState, stream: StoreKey, events: readonly NewEvent[]): void {
  let version = streamVersion(state, stream);
  for (const event of events) {
    state.sql(insert).run(++state.position, stream, ++version, state.n, state.nowMs, idBytes(event.id, scratch), event.type, event.data, event.meta ?? null);
  }
  state.tail = { stream, version };
}

/** The maintenance role: the triggers that keep events let it through, for this statement only. */
export function trimStream(state: LaneState, stream: StoreKey, upTo: number): void {
  const tail = state.sql(tailRow).get(stream);
  if (!tail) return;
  setMeta(state, "maintenance", 1);
  setMeta(state, "head_position", state.position);
  if ((tail[0] as number) <= upTo)
    state
      .sql("insert into trestle_heads (stream, version, n) values (?, ?, ?) on conflict (stream) do update set version = excluded.version, n = excluded.n")
      .run(stream, tail[0] as number, tail[1] as number);
  state.sql("delete from trestle_events where stream = ? and version <= ?").run(stream, upTo);
  state.sql("delete from trestle_meta where name = 'maintenance'").run();
}
