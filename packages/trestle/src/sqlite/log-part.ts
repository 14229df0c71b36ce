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

/** The version of its last event, and the number of the commit that wrote it, where that is known; still known when retention has removed it. */
export interface Tail {
  version: number;
  n: number | undefined;
}

function looked(state: LaneState, stream: StoreKey, text: string): Tail {
  const row = (state.sql(text).get(stream) ?? (state.hasHeads ? state.sql(headRow).get(stream) : undefined)) as
    readonly [version: number, n?: number] | undefined;
  const tail: Tail = row ? { version: row[0], n: row[1] } : { version: 0, n: 0 };
  state.tails.set(stream, tail);
  return tail;
}

export function streamVersion(state: LaneState, stream: StoreKey): number {
  return (state.tails.get(stream) ?? looked(state, stream, tailVersion)).version;
}

export function streamTail(state: LaneState, stream: StoreKey): Readonly<Tail> {
  const known = state.tails.get(stream);
  return known?.n === undefined ? looked(state, stream, tailRow) : known;
}

export function appendEvents(state: LaneState, stream: StoreKey, events: readonly NewEvent[]): void {
  if (events.length === 0) return;
  const tail = state.tails.get(stream) ?? looked(state, stream, tailVersion);
  const append = state.sql(insert);
  for (const { id, type, data, meta } of events)
    append.run(++state.position, stream, ++tail.version, state.n, state.nowMs, idBytes(id, scratch), type, data, meta ?? null);
  tail.n = state.n;
}

/** The maintenance role: the triggers that keep events let it through, for this statement only. */
export function trimStream(state: LaneState, stream: StoreKey, upTo: number): void {
  const tail = state.sql(tailRow).get(stream);
  if (!tail) return;
  setMeta(state, "maintenance", 1);
  setMeta(state, "head_position", state.position);
  if ((tail[0] as number) <= upTo) {
    state.hasHeads = true;
    state
      .sql("insert into trestle_heads (stream, version, n) values (?, ?, ?) on conflict (stream) do update set version = excluded.version, n = excluded.n")
      .run(stream, tail[0] as number, tail[1] as number);
  }
  state.sql("delete from trestle_events where stream = ? and version <= ?").run(stream, upTo);
  state.sql("delete from trestle_meta where name = 'maintenance'").run();
}
