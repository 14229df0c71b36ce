/**
 * What a person may do with queues: look at depths and jobs, put kept jobs back, cancel. The console and the CLI both work through it, on
 * a running node's store or on a store of their own.
 *
 * Each act is one commit per `batchJobs` jobs; what it answers is counted from the jobs as they were when it looked. Putting a job back
 * that has meanwhile gone does nothing.
 */
import { journalKey } from "../component/index.ts";
import { Fault, type Ids } from "../kernel/index.ts";
import { editedMessage } from "../messaging/index.ts";
import { limits, type GroupDepth, type JobId, type JobRow, type JobState, type QueueDepth, type Store, type Write } from "../store/index.ts";

/** States of jobs that wait for a person. */
export const keptStates = ["dead", "parked", "undetermined"] as const;
export type KeptState = (typeof keptStates)[number];
/** States whose jobs are counted. */
export const countedStates = ["waiting", "running", ...keptStates] as const;
export const jobStates: readonly JobState[] = [...countedStates, "done"];

/** One act touches at most this many; the answer says how many are left. */
export const actJobsMax = 10_000;
const batchJobs = 500;

export interface JobFacts {
  readonly id: JobId;
  readonly queue: string;
  readonly state: JobState;
  readonly key?: string;
  readonly attempt: number;
  readonly sentAtMs: number;
  readonly dueAtMs: number;
  readonly error?: string;
  /** Payloads are not shown: the console does not know who may see them. */
  readonly payloadBytes: number;
}

/** Which jobs of a queue: these, or all in a state. */
export type Which = { readonly ids: readonly JobId[] } | { readonly state: JobState };

export interface Acted {
  readonly queue: string;
  readonly jobs: number;
  /** More were in that state than one act may touch. */
  readonly more: boolean;
  /** Ids that name no such job of this queue in a state the act applies to. */
  readonly missing: readonly JobId[];
}

export interface QueueAdmin {
  /** Every queue that has jobs, and these declared ones. */
  depths(declared?: readonly string[]): Promise<readonly QueueDepth[]>;
  jobs(query: { readonly queue?: string; readonly state?: JobState; readonly limit: number; readonly after?: JobId }): Promise<readonly JobFacts[]>;
  /** Dead, parked and undetermined jobs of all queues, at most `limit` of each state. */
  kept(limit: number): Promise<readonly JobFacts[]>;
  /** Puts kept jobs back to waiting, attempts counted from 0. */
  redrive(queue: string, which: Which): Promise<Acted>;
  /** Removes jobs; the holder of a running one is told. */
  cancel(queue: string, which: Which): Promise<Acted>;
  /** Nothing of the queue is begun anywhere until it is resumed. */
  pause(queue: string, paused: boolean): Promise<void>;
  /**
   * Gives a dead or parked job another message and puts it back. Faults: `queue.edit-refused` when it is neither, or when it has a journal:
   * what was called outside for the old message would be taken for the new one's.
   */
  edit(queue: string, job: JobId, message: unknown): Promise<void>;
  /** Tenants, or whatever `fairBy` names, with what is ready and runs. */
  groups(queue: string, limit: number): Promise<readonly GroupDepth[]>;
}

export function queueAdmin(store: Pick<Store, "read" | "commit">, ids: Ids): QueueAdmin {
  const { read } = store;

  async function act(kind: "redrive" | "cancel", queue: string, which: Which, from: readonly JobState[]): Promise<Acted> {
    const found = "ids" in which ? await byIds(queue, which.ids, from) : await byState(queue, which.state);
    for (let first = 0; first < found.jobs.length; first += batchJobs) {
      const writes = found.jobs.slice(first, first + batchJobs).flatMap(({ id, state }): readonly Write[] =>
        // Nobody will ask what its runs had learned. The holder of a running one takes its own away when it hears of this; and a request
        // whose completion is cancelled goes on, by its journal, when its caller asks again.
        kind === "cancel" && state !== "running" && !queue.startsWith("~requests-")
          ? [
              { kind, job: id },
              { kind: "remove", key: journalKey(id) },
            ]
          : [{ kind, job: id }],
      );
      const outcome = await store.commit({ id: ids.next(), expects: [], writes });
      if (!outcome.ok)
        throw Fault.create(
          "queue.act-refused",
          `the store refused to ${kind} jobs of queue "${queue}": ${outcome.refused}`,
          "Look at the queue and try again.",
          { details: { queue, done: first } },
        );
    }
    return { queue, jobs: found.jobs.length, more: found.more, missing: found.missing };
  }

  async function byState(
    queue: string,
    state: JobState,
  ): Promise<{ readonly jobs: readonly JobRow[]; readonly more: boolean; readonly missing: readonly JobId[] }> {
    const jobs: JobRow[] = [];
    for (;;) {
      const after = jobs.at(-1)?.id;
      const limit = Math.min(limits.pageRowsMax, actJobsMax - jobs.length + 1);
      const page = await read.jobs({ queue, state, limit, ...(after === undefined ? {} : { after }) });
      jobs.push(...page);
      if (jobs.length > actJobsMax) return { jobs: jobs.slice(0, actJobsMax), more: true, missing: [] };
      if (page.length < limit) return { jobs, more: false, missing: [] };
    }
  }

  async function byIds(queue: string, wanted: readonly JobId[], from: readonly JobState[]) {
    const jobs: JobRow[] = [];
    const missing: JobId[] = [];
    for (const id of new Set(wanted)) {
      // The port lists jobs after an id, in order of id.
      const [row] = await read.jobs({ limit: 1, after: idBefore(id) });
      if (row?.id === id && row.queue === queue && from.includes(row.state)) jobs.push(row);
      else missing.push(id);
    }
    return { jobs, more: false, missing };
  }

  return {
    async depths(declared = []) {
      const depths = new Map((await read.queues()).map((depth) => [depth.queue, depth]));
      for (const queue of declared)
        if (!depths.has(queue)) depths.set(queue, { queue, waiting: 0, running: 0, dead: 0, parked: 0, undetermined: 0, oldestAgeMs: 0, paused: false });
      return [...depths.values()].sort((a, b) => (a.queue < b.queue ? -1 : 1));
    },
    jobs: async (query) => (await read.jobs(query)).map(factsOf),
    async kept(limit) {
      const pages = await Promise.all(keptStates.map((state) => read.jobs({ state, limit })));
      return pages.flat().map(factsOf);
    },
    redrive: (queue, which) => act("redrive", queue, which, keptStates),
    cancel: (queue, which) => act("cancel", queue, which, jobStates),
    async pause(queue, paused) {
      await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "pause", queue, paused }] });
    },
    async edit(queue, job, message) {
      const [row] = await read.jobs({ limit: 1, after: idBefore(job) });
      const refused = (why: string, remedy: string) =>
        Fault.create("queue.edit-refused", `job ${job} of queue "${queue}" ${why}`, remedy, { details: { queue, job } });
      if (row?.id !== job || row.queue !== queue || (row.state !== "dead" && row.state !== "parked"))
        throw refused(
          `is ${row?.id === job && row.queue === queue ? row.state : "not there"}; only dead and parked jobs are edited`,
          "Look at it with `trestle queue ls`.",
        );
      const payload = editedMessage(row.payload, message, `message of queue "${queue}"`);
      if (!payload) throw refused("has a payload that Trestle did not write", "Cancel it and send another message.");
      const outcome = await store.commit({
        id: ids.next(),
        expects: [{ kind: "record", key: journalKey(job), version: 0 }],
        writes: [{ kind: "redrive", job, payload }],
      });
      if (!outcome.ok)
        throw refused("has called outside, or passed a recovery point, with its old message", "Cancel it and send another message, or put it back as it is.");
    },
    groups: (queue, limit) => read.groups({ queue, limit }),
  };
}

function factsOf({ id, queue, state, key, attempt, sentAtMs, dueAtMs, error, payload }: JobRow): JobFacts {
  return {
    id,
    queue,
    state,
    ...(key === undefined ? {} : { key }),
    attempt,
    sentAtMs,
    dueAtMs,
    ...(error === undefined ? {} : { error }),
    payloadBytes: payload.byteLength,
  };
}

/** The UUID text just before this one. */
function idBefore(id: JobId): JobId {
  const hex = (BigInt(`0x${id.replaceAll("-", "")}`) - 1n).toString(16).padStart(32, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Reads "which jobs" as a person gave it. Faults: `queue.bad-selection`, naming the option. */
export function whichJobs(
  given: { readonly ids?: unknown; readonly state?: unknown },
  options: { readonly states: readonly JobState[]; readonly otherwise?: JobState },
): Which {
  const { ids, state } = given;
  const bad = (message: string) => Fault.create("queue.bad-selection", message, "Name jobs by `ids`, or all of one `state`.");
  if (ids !== undefined && state !== undefined) throw bad("give either ids or state, not both");
  if (ids !== undefined) {
    if (!Array.isArray(ids) || ids.length === 0 || ids.length > 1_000)
      throw bad(`ids must be a list of 1 to 1000 job ids, got ${Array.isArray(ids) ? ids.length : typeof ids}`);
    for (const id of ids as readonly unknown[])
      if (typeof id !== "string" || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id))
        throw bad(`ids must be UUIDs in lower case, got ${JSON.stringify(id)?.slice(0, 60)}`);
    return { ids: ids as readonly string[] };
  }
  const wanted = state ?? options.otherwise;
  const known = options.states.find((one) => one === wanted);
  if (known === undefined)
    throw bad(
      wanted === undefined
        ? `give ids, or state (${options.states.join(", ")})`
        : `state must be one of ${options.states.join(", ")}, got ${JSON.stringify(wanted)?.slice(0, 60)}`,
    );
  return { state: known };
}
