/**
 * Tokens: small records under keys that others mint, kept for a while. They live in tables that follow each other in time,
 * so that the random keys of one window are the whole index, and forgetting is a DROP and not a million DELETEs (FINDINGS F12).
 *
 * A token to be kept for `keepForMs` goes to the class (an hour, a day, a week, thirty days) that is at least as long, and there to
 * the table of the current window. A table is dropped one class after its window ended, so each token is kept at least its
 * time and at most twice its class. A read asks the tables that exist: two for each class in use. The newest answer holds,
 * so a clock that was set back changes nothing.
 */
import { limits, type StoreKey } from "../store/index.ts";
import type { LaneState } from "./lane-state.ts";
import type { Prepared } from "./statements.ts";

const hourMs = 3_600_000;
const classesMs: readonly number[] = [hourMs, 24 * hourMs, 7 * 24 * hourMs, 30 * 24 * hourMs];

export interface TokenWindow {
  readonly table: string;
  /** The statements that look for a key in it, and that put one there: made once, because a text is hashed and compared whenever it is new. */
  readonly find: string;
  readonly put: string;
  readonly classMs: number;
  readonly number: number;
}

const classOf = (keepForMs: number): number => classesMs.find((ms) => keepForMs <= ms) ?? limits.tokenKeepMsMax;
const tableOf = (classMs: number, number: number): string => `trestle_tokens_${classMs / hourMs}_${number}`;

const windowOf = (table: string, classMs: number, number: number): TokenWindow => ({
  table,
  find: `select n, value from ${table} where key = ?`,
  put: `insert into ${table} (key, n, value) values (?, ?, ?) on conflict (key) do update set n = excluded.n, value = excluded.value`,
  classMs,
  number,
});

/** The windows that exist, newest first. `sql` is any connection's. */
export function tokenWindows(sql: (text: string) => Prepared): TokenWindow[] {
  const rows = sql("select name from sqlite_schema where type = 'table' and name like 'trestle\\_tokens\\_%' escape '\\' order by name").all();
  const windows = rows.map(([name]) => {
    const [hours, number] = (name as string).slice("trestle_tokens_".length).split("_");
    return windowOf(name as string, Number(hours) * hourMs, Number(number));
  });
  return windows.sort((a, b) => b.number * b.classMs - a.number * a.classMs);
}

/** Makes the tables that a batch will write to, before any of its commits. Answers whether one was made. */
export function ensureWindows(state: LaneState, windows: readonly TokenWindow[], keepForMs: Iterable<number>): boolean {
  let made: Set<string> | undefined;
  for (const ms of keepForMs) {
    const classMs = classOf(ms);
    const number = Math.floor(state.nowMs / classMs);
    if (windowAt(windows, classMs, number)) continue;
    const table = tableOf(classMs, number);
    if (made?.has(table)) continue;
    state.db.exec(`create table ${table} (id integer primary key, key text not null unique, n integer not null, value blob not null)`);
    (made ??= new Set()).add(table);
  }
  return made !== undefined;
}

function windowAt(windows: readonly TokenWindow[], classMs: number, number: number): TokenWindow | undefined {
  for (const window of windows) if (window.number === number && window.classMs === classMs) return window;
  return undefined;
}

/** Drops the tables whose time is over. Answers whether one was dropped. */
export function dropWindows(state: LaneState, windows: readonly TokenWindow[]): boolean {
  const over = windows.filter((window) => (window.number + 2) * window.classMs <= state.nowMs);
  for (const window of over) state.db.exec(`drop table ${window.table}`);
  return over.length > 0;
}

/** Into one of the windows that `ensureWindows` has made for this batch. */
export function putToken(state: LaneState, windows: readonly TokenWindow[], key: StoreKey, value: Uint8Array, keepForMs: number): void {
  const classMs = classOf(keepForMs);
  const number = Math.floor(state.nowMs / classMs);
  const window = windowAt(windows, classMs, number) as TokenWindow;
  state.sql(window.put).run(key, state.n, value);
}

export function findToken(
  sql: (text: string) => Prepared,
  windows: readonly TokenWindow[],
  key: StoreKey,
): { readonly value: Uint8Array; readonly version: number } | undefined {
  let best: { value: Uint8Array; version: number } | undefined;
  for (const window of windows) {
    const row = sql(window.find).get(key);
    if (row && (row[0] as number) > (best?.version ?? 0)) best = { version: row[0] as number, value: row[1] as Uint8Array };
  }
  return best;
}
