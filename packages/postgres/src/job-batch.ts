/** The job part of a batch: what its commits send, end, cancel, redrive and expect, as the last arguments of commit_batch_v1. The other half is apply_jobs. */
import type { JobEnd, JobId, NewJob } from "trestle/store";

export interface JobEncoder {
  /** A job that commit `n` of the batch sends. */
  enqueue(n: number, job: NewJob): void;
  /** The end of a claim that holds. */
  finish(n: number, job: JobId, end: JobEnd): void;
  cancel(n: number, job: JobId): void;
  redrive(n: number, job: JobId, payload: Uint8Array | undefined): void;
  pause(n: number, queue: string, paused: boolean): void;
  /** The place of a claim that is expected. */
  claim(job: JobId): number;
  /** The last parameters of commit_batch_v1, in its order. */
  parameters(): readonly unknown[];
}

/** How an end is written in the batch; see apply_jobs. */
const ends = { done: 0, retry: 1, later: 2, parked: 4, undetermined: 5, dead: 8, doneAndKept: 9, cancel: 20, redrive: 21 } as const;
const farthestMs = Number.MAX_SAFE_INTEGER;
const wholeMs = (ms: number, round: (ms: number) => number) => round(Math.min(Math.max(ms, 0), farthestMs));
/** What falls due within a millisecond is due at its end. */
const dueMs = (ms: number) => wholeMs(ms, Math.ceil);

/** A group as the tables have it: nobody's comes before the group with the empty name. */
export const shareOf = (group: string | undefined): string => (group === undefined ? "" : `.${group}`);
export const groupOf = (share: string): string | undefined => (share === "" ? undefined : share.slice(1));

interface Ending {
  readonly due?: number;
  readonly error?: string | null;
  readonly keep?: number | null;
  readonly payload?: Uint8Array;
}

/** `store` puts bytes into the batch's payload and answers their place; `hints` says where this process last knew the row of a claim. */
export function jobEncoder(store: (bytes: Uint8Array) => number, hints?: ClaimHints): JobEncoder {
  const jobs = {
    commit: [] as number[],
    at: [] as number[],
    id: [] as string[],
    queue: [] as string[],
    from: [] as number[],
    length: [] as number[],
    due: [] as number[],
    priority: [] as number[],
    key: [] as (string | null)[],
    unique: [] as (string | null)[],
    share: [] as string[],
    until: [] as (number | null)[],
    replaces: [] as (number | null)[],
  };
  const claims = { id: [] as string[], hint: [] as (string | null)[] };
  const ended = {
    commit: [] as number[],
    at: [] as number[],
    id: [] as string[],
    claim: [] as number[],
    how: [] as number[],
    due: [] as number[],
    error: [] as (string | null)[],
    keep: [] as (number | null)[],
    from: [] as (number | null)[],
    length: [] as (number | null)[],
  };
  const pauses = { commit: [] as number[], queue: [] as string[], on: [] as boolean[] };
  const placeOf = new Map<JobId, number>();
  let at = 0;

  function claim(job: JobId): number {
    let place = placeOf.get(job);
    if (place === undefined) {
      place = claims.id.push(job);
      claims.hint.push(hints?.get(job) ?? null);
      placeOf.set(job, place);
    }
    return place;
  }
  function end(n: number, job: JobId, place: number, how: keyof typeof ends, more: Ending = {}): void {
    ended.commit.push(n);
    ended.at.push(++at);
    ended.id.push(job);
    ended.claim.push(place);
    ended.how.push(ends[how]);
    ended.due.push(more.due ?? 0);
    ended.error.push(more.error ?? null);
    ended.keep.push(more.keep ?? null);
    ended.from.push(more.payload ? store(more.payload) : null);
    ended.length.push(more.payload?.byteLength ?? null);
  }
  return {
    claim,
    enqueue(n, job) {
      jobs.commit.push(n);
      jobs.at.push(++at);
      jobs.id.push(job.id);
      jobs.queue.push(job.queue);
      jobs.from.push(store(job.payload));
      jobs.length.push(job.payload.byteLength);
      jobs.due.push(dueMs(job.dueAtMs ?? 0));
      jobs.priority.push(job.priority);
      jobs.key.push(job.key ?? null);
      jobs.unique.push(job.unique ?? null);
      jobs.share.push(shareOf(job.group));
      jobs.until.push(job.startByMs === undefined ? null : wholeMs(job.startByMs, Math.floor));
      jobs.replaces.push(job.unique === undefined || !job.replace ? null : job.replace.atMostMs === undefined ? -1 : wholeMs(job.replace.atMostMs, Math.ceil));
    },
    finish(n, job, how) {
      const text = "error" in how ? how.error : how.kind === "later" ? how.reason : undefined;
      const keepUntilMs = "keepUntilMs" in how ? how.keepUntilMs : undefined;
      end(n, job, claim(job), how.kind === "done" && keepUntilMs !== undefined ? "doneAndKept" : how.kind, {
        due: "dueAtMs" in how ? dueMs(how.dueAtMs) : 0,
        error: text === undefined ? null : forPeople(text),
        keep: keepUntilMs === undefined ? null : dueMs(keepUntilMs),
      });
    },
    cancel: (n, job) => end(n, job, 0, "cancel"),
    redrive: (n, job, payload) => end(n, job, 0, "redrive", payload ? { payload } : {}),
    pause(n, queue, paused) {
      pauses.commit.push(n);
      pauses.queue.push(queue);
      pauses.on.push(paused);
    },
    parameters: () => [
      claims.id,
      claims.hint,
      jobs.commit,
      jobs.at,
      jobs.id,
      jobs.queue,
      jobs.from,
      jobs.length,
      jobs.due,
      jobs.priority,
      jobs.key,
      jobs.unique,
      jobs.share,
      jobs.until,
      jobs.replaces,
      ended.commit,
      ended.at,
      ended.id,
      ended.claim,
      ended.how,
      ended.due,
      ended.error,
      ended.keep,
      ended.from,
      ended.length,
      pauses.commit,
      pauses.queue,
      pauses.on,
    ],
  };
}

/** PostgreSQL's text holds no NUL and no lone surrogate; an error's text is read by people. */
const forPeople = (text: string) => text.toWellFormed().replaceAll("\u0000", "\ufffd");

/** Where the rows of claims are, as far as this process knows: a hint, checked against id and fence where it is used. */
export interface ClaimHints {
  get(job: JobId): string | undefined;
  set(job: JobId, hint: string): void;
}
/** More claims than anybody holds at once; beyond it the oldest are found by their ids. */
const hintsMax = 65_536;

export function claimHints(): ClaimHints {
  const known = new Map<JobId, string>();
  return {
    get: (job) => known.get(job),
    set(job, hint) {
      known.delete(job);
      known.set(job, hint);
      if (known.size > hintsMax) for (const oldest of known.keys()) return void known.delete(oldest);
    },
  };
}
