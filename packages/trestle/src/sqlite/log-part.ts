/** Streams in the lane. A stream's version is the tail of an insert-only index: no head row that every append would rewrite (FINDINGS F8). */
import type { NewEvent, StoreKey } from "../store/index.ts";
import type { LaneState } from "./lane-state.ts";
import { idBytes } from "./statements.ts";

const tail = "select version from trestle_events where stream = ? order by version desc limit 1";
const tailRow = "select version, n from trestle_events where stream = ? order by version desc limit 1";
const insert = "insert into trestle_events (position, stream, version, n, at, id, type, data, meta) values (?, ?, ?, ?, ?, ?, ?, ?, ?)";
const scratch = new Uint8Array(16);

export function streamVersion(state: LaneState, stream: StoreKey): number {
  return Number(state.sql(tail).get(stream)?.[0] ?? 0);
}

/** Its last event, with the number of the commit that wrote it. Reads the row, where a version alone reads the index. */
export function streamTail(state: LaneState, stream: StoreKey): { readonly version: number; readonly n: number } | undefined {
  const row = state.sql(tailRow).get(stream);
  return row && { version: row[0] as number, n: row[1] as number };
}

export function appendEvents(state: LaneState, stream: StoreKey, events: readonly NewEvent[]): void {
  let version = streamVersion(state, stream);
  for (const event of events) {
    state.sql(insert).run(++state.position, stream, ++version, state.n, state.nowMs, idBytes(event.id, scratch), event.type, event.data, event.meta ?? null);
  }
}
