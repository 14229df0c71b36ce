/** The job part of a batch: what its commits send, end, cancel, redrive and expect, as the last arguments of commit_batch_v1. The other half is apply_jobs. */
import type { JobEnd, JobId, NewJob } from "trestle/store";
import { array, type Argument } from "./arguments.ts";

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
  /** Commit `n` expects the claim at this place, or ends it. Answers whether no other commit of the batch does, and none has ended it. */
  claimedBy(place: number, n: number, ends: boolean): boolean;
  /** The last arguments of commit_batch_v1, in its order. */
  arguments(): readonly Argument[];
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
  const lines = { queue: [] as string[], share: [] as string[], priority: [] as number[] };
  const lined = new Set<string>();
  const sent = new Set<JobId>();
  let shape = 0;
  const claims = { id: [] as string[], hint: [] as (string | null)[], owner: [] as number[], ended: [] as boolean[] };
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
      claims.owner.push(0);
      claims.ended.push(false);
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
    claimedBy(place, n, ends) {
      const owner = claims.owner[place - 1];
      const alone = (owner === 0 || owner === n) && !claims.ended[place - 1];
      claims.owner[place - 1] = n;
      if (ends) claims.ended[place - 1] = true;
      return alone;
    },
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
      jobs.until.push(job.startByMs === undefined ? null : wholeMs(job.startByMs, Math.floor));
      const share = shareOf(job.group);
      jobs.share.push(share);
      jobs.replaces.push(job.unique === undefined || !job.replace ? null : job.replace.atMostMs === undefined ? -1 : wholeMs(job.replace.atMostMs, Math.ceil));
      shape = Math.max(shape, job.unique !== undefined ? (job.replace ? 3 : 2) : job.key !== undefined || sent.has(job.id) ? 1 : 0);
      sent.add(job.id);
      const line = `${job.queue}\u0000${share}\u0000${job.priority}`;
      if (lined.has(line)) return;
      lined.add(line);
      lines.queue.push(job.queue);
      lines.share.push(share);
      lines.priority.push(job.priority);
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
    arguments: () => [
      array("uuid", claims.id),
      array("tid", claims.hint),
      array("text", lines.queue),
      array("text", lines.share),
      array("int8", lines.priority),
      shape,
      array("int4", jobs.commit),
      array("int4", jobs.at),
      array("uuid", jobs.id),
      array("text", jobs.queue),
      array("int4", jobs.from),
      array("int4", jobs.length),
      array("int8", jobs.due),
      array("int8", jobs.priority),
      array("text", jobs.key),
      array("text", jobs.unique),
      array("text", jobs.share),
      array("int8", jobs.until),
      array("int8", jobs.replaces),
      array("int4", ended.commit),
      array("int4", ended.at),
      array("uuid", ended.id),
      array("int4", ended.claim),
      array("int4", ended.how),
      array("int8", ended.due),
      array("text", ended.error),
      array("int8", ended.keep),
      array("int4", ended.from),
      array("int4", ended.length),
      array("int4", pauses.commit),
      array("text", pauses.queue),
      array("bool", pauses.on),
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
