/** What the parts of the lane share: the connection, the time of the batch, and the numbers that were given last. */
import type { DatabaseSync } from "node:sqlite";
import { RecentMap } from "../kernel/index.ts";
import type { StoreKey } from "../store/index.ts";
import type { Tail } from "./log-part.ts";
import { preparing, type Prepared } from "./statements.ts";

/**
 * Tails that are remembered: nobody else writes streams while the lane's term lasts, and a stream that is written is mostly written again. A look
 * into the index costs 1 µs of the 8 that an append's statements cost, one into this map 0.2 (`npm run bench -- log-peers`).
 */
export const tailsMax = 2_048;

export interface LaneState {
  readonly db: DatabaseSync;
  readonly sql: (text: string) => Prepared;
  /** Store time of the batch: read once, so that expiry and leases are judged alike for all of it. */
  nowMs: number;
  epoch: number;
  /** The newest commit number and event position that were given. */
  n: number;
  position: number;
  /** Tails of the streams that were looked at of late (log-part.ts). To be forgotten whenever something is rolled back. */
  readonly tails: RecentMap<StoreKey, Tail>;
  /** Is there a stream of which retention has left nothing? Where there is none, nobody looks for one. */
  hasHeads: boolean;
  /** Commit rows up to this number have been trimmed. */
  trimmedN: number;
  /** What the last take of the commit at hand left its bucket at. */
  takenUs: number | undefined;
  /** Queues in which a job joined the line, became free to run, or got a due time in this batch. */
  readonly queues: Set<string>;
}

export function laneState(db: DatabaseSync): LaneState {
  const state: LaneState = {
    db,
    sql: preparing(db),
    nowMs: 0,
    epoch: 0,
    n: 0,
    position: 0,
    tails: new RecentMap(tailsMax),
    hasHeads: false,
    trimmedN: 0,
    takenUs: undefined,
    queues: new Set(),
  };
  readHead(state);
  return state;
}

/** The numbers as the file has them. `trestle_meta` keeps the head over retention, which may remove the rows that carried it (FINDINGS F10). */
export function readHead(state: LaneState): void {
  const meta = new Map(
    state
      .sql("select name, value from trestle_meta order by name")
      .all()
      .map(([name, value]) => [name as string, Number(value)]),
  );
  state.tails.clear();
  state.epoch = meta.get("epoch") ?? 1;
  state.n = Math.max(Number(state.sql("select max(n) from trestle_commits").get()?.[0] ?? 0), meta.get("head_n") ?? 0);
  state.position = Math.max(Number(state.sql("select max(position) from trestle_events").get()?.[0] ?? 0), meta.get("head_position") ?? 0);
  state.hasHeads = state.sql("select min(stream) from trestle_heads").get()?.[0] !== null;
  state.trimmedN = meta.get("trimmed_n") ?? 0;
}

export function setMeta(state: LaneState, name: string, value: number | string): void {
  state.sql("insert into trestle_meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value").run(name, value);
}
