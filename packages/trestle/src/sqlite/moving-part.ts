/**
 * The lane's side of a live move (store/move.ts, FINDINGS F13).
 *
 * Commits tell in the feed which records, tokens and streams they wrote; but jobs also change without a commit (a claim, a lease that ran
 * out, a key that goes on), so while a move copies, triggers note the id of every job whose row changes.
 */
import { Fault } from "../kernel/index.ts";
import type { CommitOutcome } from "../store/index.ts";
import { setMeta, type LaneState } from "./lane-state.ts";
import type { MoveStep } from "./operation.ts";

const noting = (when: string, row: string): string =>
  `create trigger trestle_moving_${when} after ${when} on trestle_jobs begin insert into trestle_moving (job) values (${row}.id); end`;

export function moveStep(state: LaneState, step: MoveStep, url: string): CommitOutcome | undefined {
  switch (step) {
    case "capture":
      return captureJobs(state);
    case "release":
      return releaseJobs(state);
    case "seal":
      return movedTo(state) === undefined ? seal(state, url) : undefined;
    case "unseal":
      state.sql("delete from trestle_meta where name = 'moved_to'").run();
  }
}

/** Where the store has moved to, as the file says. */
export function movedTo({ sql }: Pick<LaneState, "sql">): string | undefined {
  return sql("select value from trestle_meta where name = 'moved_to'").get()?.[0] as string | undefined;
}

export function movedFault(url: string, epoch: number): Fault {
  return Fault.create(
    "store.moved",
    `the store has moved to ${withoutPassword(url)}; nothing more is applied here`,
    "Open the store there. A running node follows by itself; give it what it needs to reach the new store.",
    { details: { url, epoch: epoch + 1 } },
  );
}

/** Twice is once. */
function captureJobs({ db, sql }: LaneState): undefined {
  if (sql("select 1 from sqlite_schema where name = 'trestle_moving'").get()) return;
  db.exec(`create table trestle_moving (at integer primary key autoincrement, job blob not null);
    ${noting("insert", "new")}; ${noting("update", "new")}; ${noting("delete", "old")}`);
}

function releaseJobs({ db }: LaneState): undefined {
  for (const when of ["insert", "update", "delete"]) db.exec(`drop trigger if exists trestle_moving_${when}`);
  db.exec("drop table if exists trestle_moving");
}

/** The last commit. It takes a number as a batch of claims does, so that what comes after it in the new store cannot be mistaken for it. */
function seal(state: LaneState, url: string): CommitOutcome {
  state.n++;
  state.sql("insert into trestle_commits (n, epoch, id, at, keys) values (?, ?, null, ?, '')").run(state.n, state.epoch, state.nowMs);
  setMeta(state, "moved_to", url);
  return { ok: true, epoch: state.epoch, n: state.n };
}

function withoutPassword(url: string): string {
  return url.replace(/(:\/\/[^:@/]*):[^@/]*@/, "$1:…@");
}
