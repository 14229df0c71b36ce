/** Jobs in a batch: what the job part of commit_batch_v1's arguments is made of. The other half is sql/jobs.sql. */
import type { NewJob, Reader, Store } from "trestle/store";
import type { FlushBarrier } from "./barrier.ts";
import { beyond } from "./beyond.ts";
import type { Pool } from "./sessions.ts";

export interface JobEncoder {
  /** A job that commit `n` of the batch sends. */
  enqueue(n: number, job: NewJob): void;
  /** The last parameters of commit_batch_v1, in its order. */
  parameters(): readonly unknown[];
}

/** `store` puts bytes into the batch's payload and answers their place. */
export function jobEncoder(store: (bytes: Uint8Array) => number): JobEncoder {
  const jobs = {
    commit: [] as number[],
    id: [] as string[],
    queue: [] as string[],
    from: [] as number[],
    length: [] as number[],
    due: [] as number[],
    priority: [] as number[],
    key: [] as (string | null)[],
    unique: [] as (string | null)[],
  };
  return {
    enqueue(n, job) {
      jobs.commit.push(n);
      jobs.id.push(job.id);
      jobs.queue.push(job.queue);
      jobs.from.push(store(job.payload));
      jobs.length.push(job.payload.byteLength);
      jobs.due.push(job.dueAtMs ?? 0);
      jobs.priority.push(job.priority);
      jobs.key.push(job.key ?? null);
      jobs.unique.push(job.unique ?? null);
    },
    parameters: () => [jobs.commit, jobs.id, jobs.queue, jobs.from, jobs.length, jobs.due, jobs.priority, jobs.key, jobs.unique],
  };
}

export interface JobsOptions {
  readonly schema: string;
  readonly side: Pool;
  readonly read: Pool;
  readonly barrier: FlushBarrier;
  /** The store's clock, when it is not the server's. */
  readonly nowMs: () => number | null;
}
export type JobsPart = Pick<Store, "claim" | "extend"> & { readonly read: Pick<Reader, "queue" | "queues" | "groups" | "jobs"> };

export function jobsPart(_options: JobsOptions): JobsPart {
  const not = (what: string) => async () => {
    throw beyond(what);
  };
  return { claim: not("claim"), extend: not("extend"), read: { queue: not("queue"), queues: not("queues"), groups: not("groups"), jobs: not("jobs") } };
}
