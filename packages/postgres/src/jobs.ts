/**
 * Jobs beside commits: claims, extensions, and the reads of queues. The other half is sql/jobs.sql; what commits do to jobs is in job-batch.ts.
 *
 * Claims and extensions are operations of the lane: they go over its two connections, behind the commits that were submitted before
 * them, and all that wait at that moment share one call. They are answered like commits, after the flush behind their call (FINDINGS F1): a claim
 * that a crash could take back would leave its holder with a fence that is given out again. Who gets none is told so at once.
 *
 * Guarantees: `queue.fifo-per-key`, `queue.finishes-with-effect`, `queue.redelivers-after-crash`.
 */
import { Fault } from "trestle/kernel";
import {
  checkClaim,
  checkId,
  limits,
  type Claim,
  type ClaimedJob,
  type ClaimRequest,
  type Claims,
  type JobRow,
  type JobState,
  type QueueDepth,
  type Reader,
  type Store,
} from "trestle/store";
import type { FlushBarrier, Life } from "./barrier.ts";
import { array, parameter } from "./arguments.ts";
import { groupOf, shareOf, type ClaimHints } from "./job-batch.ts";
import { commitFault, type Applied, type Ask, type Lane } from "./lane.ts";
import { wasRolledBack, type Pool } from "./sessions.ts";

export interface JobsOptions {
  readonly schema: string;
  readonly lane: Pick<Lane, "run">;
  readonly read: Pool;
  readonly barrier: FlushBarrier;
  readonly hints: ClaimHints;
  /** The store's clock, when it is not the server's. */
  readonly nowMs: () => number | null;
  /** A durable batch of claims, with the queues that have work again. */
  readonly applied: (batch: Applied) => void;
  /** Told the newest number of every read. */
  readonly seen: (epoch: number, head: number) => void;
}
export type JobsPart = Pick<Store, "claim" | "extend"> & { readonly read: Pick<Reader, "queue" | "queues" | "groups" | "jobs"> };

interface Asking {
  readonly request: ClaimRequest;
  readonly resolve: (claims: Claims) => void;
  readonly reject: (error: unknown) => void;
}
interface Extending {
  readonly claims: readonly Claim[];
  readonly leaseMs: number;
  readonly resolve: (held: readonly boolean[]) => void;
  readonly reject: (error: unknown) => void;
}
interface ClaimCells {
  readonly asking: number;
  readonly id: string | null;
  readonly hint: string;
  readonly key: string | null;
  readonly attempt: number;
  readonly again: boolean;
  readonly sent_at_ms: string;
  readonly payload: Buffer;
  // Of an asking, in the last rows.
  readonly next_due_at_ms: string | null;
  readonly back: readonly string[] | null;
  readonly now_ms: string;
  readonly epoch: number;
  readonly n: string | null;
  readonly head: string;
  readonly life: string | null;
}
/** The last row of a read says how far it saw; the others have none. */
interface Seen {
  readonly epoch: number;
  readonly newest: string | null;
  readonly life: string | null;
}
interface DepthCells extends Seen {
  readonly queue: string;
  readonly waiting: string;
  readonly running: string;
  readonly parked: string;
  readonly undetermined: string;
  readonly dead: string;
  readonly oldest_due_at_ms: string | null;
  readonly paused: boolean;
  readonly now_ms: string;
}
interface GroupCells extends Seen {
  readonly share: string;
  readonly ready: string;
  readonly running: string;
}
interface JobCells extends Seen {
  readonly id: string;
  readonly queue: string;
  readonly state: number;
  readonly key: string | null;
  readonly share: string;
  readonly attempt: number;
  readonly due_at_ms: string;
  readonly sent_at_ms: string;
  readonly error: string | null;
  readonly payload: Buffer;
}

const stateNames: Readonly<Record<number, JobState>> = {
  1: "waiting",
  2: "running",
  3: "waiting",
  4: "parked",
  5: "undetermined",
  6: "waiting",
  7: "waiting",
  8: "dead",
  9: "done",
};
const statesOf = (state: JobState) => Object.keys(stateNames).filter((number) => stateNames[Number(number)] === state);
const beforeAllIds = "00000000-0000-0000-0000-000000000000";

export function jobsPart(options: JobsOptions): JobsPart {
  const { schema, lane, read, barrier, hints, nowMs } = options;
  const texts = {
    claim: `select * from "${schema}".claim_jobs_v1($1, $2, $3, $4, $5, $6, $7, $8)`,
    extend: `select * from "${schema}".extend_jobs_v1($1, $2, $3, $4, $5, $6)`,
    depths: `select * from "${schema}".queue_depths_v1($1, $2)`,
    jobs: `select * from "${schema}".list_jobs_v1($1, $2, $3, $4)`,
    groups: `select * from "${schema}".list_groups_v1($1, $2, $3)`,
  };
  let asking: Asking[] = [];
  // A claim behind one that changed nothing mostly changes nothing either: it sends no flush before it knows. On a busy queue the flush goes with the call.
  let idle = false;
  const changed = (rows: readonly ClaimCells[]) => (rows.at(-1)?.n ?? null) !== null;
  let extending: Extending[] = [];

  /** All who ask at this moment, in one call. */
  async function claimAll(ask: Ask): Promise<void> {
    const asked = asking;
    asking = [];
    const entries = asked.flatMap(({ request }, at) => request.queues.map(({ queue, limit, policy }) => ({ queue, limit, policy, at, request })));
    let rows: readonly ClaimCells[];
    let durable: Promise<Life>;
    try {
      const claim = {
        name: "claim",
        text: texts.claim,
        values: [
          nowMs(),
          limits.claimJobsMax,
          array(
            "int4",
            entries.map(({ at }) => at),
          ),
          array(
            "text",
            entries.map(({ queue }) => queue),
          ),
          array(
            "int4",
            entries.map(({ limit }) => Math.max(0, limit)),
          ),
          array(
            "int8",
            entries.map(({ request }) => Math.ceil(request.leaseMs)),
          ),
          array(
            "text",
            entries.map(({ request }) => request.holder),
          ),
          array(
            "text",
            entries.map(({ policy }) => (policy === undefined ? null : JSON.stringify(policy))),
          ),
        ].map(parameter),
      };
      const call = ask<ClaimCells>(claim, idle ? changed : undefined);
      durable = call.durable;
      rows = await call.visible;
      idle = !changed(rows);
    } catch (error) {
      for (const one of asked) one.reject(toldFault(error, "claim"));
      return;
    }
    void handOut(asked, entries, rows, durable);
  }

  async function handOut(
    asked: readonly Asking[],
    entries: readonly { readonly at: number; readonly queue: string; readonly request: ClaimRequest }[],
    rows: readonly ClaimCells[],
    durable: Promise<Life>,
  ): Promise<void> {
    const last = rows.at(-1);
    const { now_ms, epoch, n, head, back } = last ?? { now_ms: "0", epoch: 0, n: null, head: "0", back: null };
    try {
      // Without a number it handed out nothing and changed nothing. "None now" promises nothing that a crash could break: whoever asked looks again when
      // he is told of work, and every so often. What made it so, another's claim or a pause, may be gone after a crash, as it may be a moment later without one.
      if (n !== null) await barrier.follow({ epoch, n: Number(head), life: (last as ClaimCells).life }, durable);
    } catch (error) {
      // Whoever acted on one of these could share its fence with somebody after a crash. If they are still claimed, their leases end.
      for (const one of asked) one.reject(toldFault(error, "claim"));
      return;
    }
    if (n !== null) options.applied({ epoch, head: Number(head), commits: [{ n: Number(n), keys: (back ?? []).map((queue) => `q${queue}`) }] });
    const answers = asked.map(() => ({ jobs: [] as ClaimedJob[], nextDueAtMs: undefined as number | undefined, nowMs: Number(now_ms) }));
    for (const row of rows) {
      const { at, queue, request } = entries[row.asking - 1] as (typeof entries)[number];
      const answer = answers[at] as (typeof answers)[number];
      if (row.id === null) {
        if (row.next_due_at_ms !== null) answer.nextDueAtMs = Math.min(Number(row.next_due_at_ms), answer.nextDueAtMs ?? Infinity);
        continue;
      }
      hints.set(row.id, row.hint);
      answer.jobs.push({
        id: row.id,
        fence: { epoch, n: Number(n) },
        queue,
        payload: row.payload,
        key: row.key ?? undefined,
        attempt: row.attempt,
        again: row.again,
        sentAtMs: Number(row.sent_at_ms),
        leaseUntilMs: Number(now_ms) + Math.ceil(request.leaseMs),
      });
    }
    asked.forEach((one, at) => one.resolve(answers[at] as Claims));
  }

  async function extendAll(ask: Ask): Promise<void> {
    const asked = extending;
    extending = [];
    const all = asked.flatMap(({ claims, leaseMs }, at) => claims.map((claim) => ({ claim, leaseMs, at })));
    try {
      const { visible, durable } = ask<{ claim: number; hint: string; life: string }>({
        name: "extend",
        text: texts.extend,
        values: [
          nowMs(),
          all.map(({ claim }) => claim.id),
          all.map(({ claim }) => hints.get(claim.id) ?? null),
          all.map(({ claim }) => claim.fence.epoch),
          all.map(({ claim }) => claim.fence.n),
          all.map(({ leaseMs }) => Math.ceil(leaseMs)),
        ],
      });
      const rows = await visible;
      const extended = new Set<number>();
      for (const row of rows) {
        extended.add(row.claim - 1);
        hints.set((all[row.claim - 1] as (typeof all)[number]).claim.id, row.hint);
      }
      let next = 0;
      const answers = asked.map(({ claims }) => claims.map(() => extended.has(next++)));
      // It has no number of its own. Not awaited: the lane goes on meanwhile.
      void barrier.follow({ epoch: 0, n: 0, life: rows[0]?.life ?? null }, durable).then(
        () => asked.forEach((one, at) => one.resolve(answers[at] as boolean[])),
        (error: unknown) => asked.forEach((one) => one.reject(toldFault(error, "extend"))),
      );
    } catch (error) {
      for (const one of asked) one.reject(toldFault(error, "extend"));
    }
  }

  async function ask<Row extends object>(name: keyof typeof texts, values: readonly unknown[]): Promise<readonly Row[]> {
    let rows: readonly (Row & Seen)[];
    try {
      rows = await read.query<Row & Seen>({ name, text: texts[name], values });
    } catch (error) {
      throw toldFault(error, "read");
    }
    const last = rows.at(-1) as Seen;
    await barrier.pass({ epoch: last.epoch, n: Number(last.newest), life: last.life });
    options.seen(last.epoch, Number(last.newest));
    return rows.slice(0, -1);
  }

  return {
    async claim(request) {
      checkClaim(request);
      return new Promise((resolve, reject) => {
        asking.push({ request, resolve, reject });
        if (asking.length === 1) void lane.run(claimAll);
      });
    },
    async extend(claims, leaseMs) {
      for (const { id } of claims) checkId(id, "claim.id");
      if (claims.length === 0) return [];
      return new Promise((resolve, reject) => {
        extending.push({ claims, leaseMs, resolve, reject });
        if (extending.length === 1) void lane.run(extendAll);
      });
    },
    read: {
      async groups({ queue, limit, after }) {
        const rows = await ask<GroupCells>("groups", [queue, shareOf(after), Math.min(limit, limits.pageRowsMax)]);
        return rows.map(({ share, ready, running }) => ({ group: share.slice(1), ready: Number(ready), running: Number(running) }));
      },
      async queue(queue) {
        return (await ask<DepthCells>("depths", [nowMs(), queue])).map(queueDepth)[0] as QueueDepth;
      },
      async queues() {
        return (await ask<DepthCells>("depths", [nowMs(), null])).map(queueDepth);
      },
      async jobs({ queue, state, limit, after }) {
        if (after !== undefined) checkId(after, "jobs.after");
        const rows = await ask<JobCells>("jobs", [
          queue ?? null,
          state === undefined ? null : statesOf(state),
          after ?? beforeAllIds,
          Math.min(limit, limits.pageRowsMax),
        ]);
        return rows.map((row): JobRow => ({
          id: row.id,
          queue: row.queue,
          state: stateNames[row.state] as JobState,
          key: row.key ?? undefined,
          group: groupOf(row.share),
          attempt: row.attempt,
          dueAtMs: Number(row.due_at_ms),
          sentAtMs: Number(row.sent_at_ms),
          error: row.error ?? undefined,
          payload: row.payload,
        }));
      },
    },
  };
}

function queueDepth(row: DepthCells): QueueDepth {
  return {
    queue: row.queue,
    waiting: Number(row.waiting),
    running: Number(row.running),
    dead: Number(row.dead),
    parked: Number(row.parked),
    undetermined: Number(row.undetermined),
    oldestAgeMs: row.oldest_due_at_ms === null ? 0 : Math.max(0, Number(row.now_ms) - Number(row.oldest_due_at_ms)),
    paused: row.paused,
  };
}

/** Claims and extensions change nothing that their caller relies on without an answer: asking again is always right. */
function toldFault(error: unknown, what: string): unknown {
  if (Fault.is(error)) return error;
  if (wasRolledBack(error)) return commitFault(error);
  return Fault.create(
    "store.unreachable",
    `The connection was lost before the answer of "${what}" arrived: ${(error as Error).message}`,
    "Ask again. Claims that were made meanwhile come back when their leases end.",
    { cause: error },
  );
}
