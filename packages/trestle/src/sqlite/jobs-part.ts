/**
 * Jobs in the lane. The order of hand-out is specified in docs/concepts/queue.md (FINDINGS F17).
 *
 * States of a job (numbers in schema.ts), how it enters and leaves each:
 *   scheduled     sent with a due time ahead; has not joined its key. Leaves for ready or behind when due.
 *   behind        joined its key, in which another job is the head. Leaves for ready when it becomes the head.
 *   ready         head of its key, or without one: may be claimed, in order of (priority, place).
 *   running       claimed under a fence until its lease ends. Leaves by `finish`, or back to ready when the lease has run out.
 *   retrying      was running; waits for its due time and stays the head of its key. Leaves for ready.
 *   parked, undetermined   kept for a person and stay the head: the key waits. Leave by `redrive` or `cancel`.
 *   dead          kept for a person; its key goes on. Leaves by `redrive` or `cancel`, or when the time it is kept is over.
 *   done          kept for people for a time; without one a done job is removed.
 * Removing a head, or its death, makes the next one behind it ready.
 *
 * `place` is the place in the line: the order of sending, and for a job that joins later (scheduled, retried, redriven) the
 * order of joining. Both come from one counter, so places compare.
 *
 * Over 400 lines because the states, and the statements that lead from one to the next, are one machine.
 */
import type { Claim, ClaimedJob, ClaimRequest, Claims, CommitRefused, Fence, JobEnd, JobId, NewJob, QueuePolicy } from "../store/index.ts";
import { expiredError, limits } from "../store/index.ts";
import type { LaneState } from "./lane-state.ts";
import { idBytes, idText, type Row } from "./statements.ts";
import { jobStates } from "./schema.ts";
import { handsOutByTurns, turnsPart, turnsPlans, type Asked } from "./turns-part.ts";

/** Jobs that join, or are taken back, in one batch at the most: what is left follows in the next. 1,000 take 12 ms. */
export const stepRows = 1_000;

const { ready, running, retrying, parked, undetermined, behind, scheduled, dead, done } = jobStates;

const insert = `insert into trestle_jobs (seq, id, queue, state, priority, place, due, sent, attempt, key, uniq, payload, grp, until) values (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?) on conflict (id) do nothing`;
const twin = "select 1 from trestle_jobs where queue = ? and uniq = ? and uniq is not null and state in (1, 3, 6, 7) limit 1";
const untriedTwin =
  "select seq, sent, state, key from trestle_jobs where queue = ? and uniq = ? and uniq is not null and state in (1, 3, 6, 7) and n is null order by seq desc limit 1";
const headOfKey = "select 1 from trestle_jobs where queue = ? and key = ? and key is not null and state <= 5";
const nextBehind = "select seq, grp from trestle_jobs where queue = ? and key = ? and state = 6 order by place, seq limit 1";
const byId = "select seq, state, epoch, n, queue, key, cancelled, attempt, until, grp from trestle_jobs where id = ?";
const setState = "update trestle_jobs set state = ?, place = ? where seq = ?";
const remove = "delete from trestle_jobs where seq = ?";
const dueOfQueue = "select seq, state, key, grp from trestle_jobs where queue = ? and state in (3, 7) and due <= ? order by due, seq limit ? + 0";
const dueOfKey = "select seq, state, key, grp from trestle_jobs where queue = ? and key = ? and key is not null and state = 7 and due <= ? order by due, seq";
const nextDue = "select due from trestle_jobs where queue = ? and state in (3, 7) order by due limit 1";
const allDue = "select queue, min(due) from trestle_jobs where state in (3, 7) group by queue order by queue";
const nextLease = "select lease from trestle_jobs where state = 2 order by lease limit 1";
const overdue = "select seq, queue, key, cancelled from trestle_jobs where state = 2 and lease <= ? order by lease, seq limit ? + 0";
const backToLine = "update trestle_jobs set state = 1, lease = null, holder = null where seq = ?";
const endTry = "update trestle_jobs set state = ?, place = ?, due = ?, attempt = ?, error = ?, until = ?, lease = null, holder = null where seq = ?";
const redriven =
  "update trestle_jobs set state = ?, place = ?, due = ?, attempt = 0, error = null, until = null, cancelled = 0, payload = coalesce(?, payload) where seq = ?";
const extendLease = "update trestle_jobs set lease = ? where id = ? and state = 2 and epoch = ? and n = ? and cancelled = 0";
const keepLease = "update trestle_jobs indexed by trestle_jobs_lease set lease = ? where state = 2 and lease < ? and holder = ? and cancelled = 0";
const take = "update trestle_jobs set state = 2, attempt = attempt + 1, epoch = ?, n = ?, lease = ?, holder = ? where seq = ?";
/** Under a policy every job is counted, whenever it was sent: those of nobody's group as the group "". */
const takeCounted = "update trestle_jobs set state = 2, attempt = attempt + 1, epoch = ?, n = ?, lease = ?, holder = ?, grp = coalesce(grp, '') where seq = ?";
const over =
  "select seq from trestle_jobs indexed by trestle_jobs_until where state in (8, 9) and until is not null and until <= ? order by until, seq limit ? + 0";
/** Plans that may not change: each walks one partial index in its order, without a sort (checked by jobs-part.test.ts). */
export const claimPlan =
  "select seq, id, key, attempt, sent, payload, n, until from trestle_jobs indexed by trestle_jobs_ready where queue = ? and state = 1 and grp is null order by priority, place, seq limit ? + 0";
const anyReady = "select 1 from trestle_jobs indexed by trestle_jobs_ready where queue = ? and state = 1 and grp is null limit 1";
export const jobPlans = {
  claimPlan,
  nextBehind,
  headOfKey,
  dueOfQueue,
  dueOfKey,
  nextDue,
  nextLease,
  overdue,
  twin,
  untriedTwin,
  byId,
  anyReady,
  over,
  ...turnsPlans,
};

export interface JobsPart {
  /** Lets due jobs join. Before the commits of a batch. */
  promote(): void;
  enqueue(job: NewJob): void;
  holds(job: JobId, fence: Fence): boolean;
  finish(job: JobId, fence: Fence, end: JobEnd): CommitRefused | undefined;
  cancel(job: JobId): void;
  redrive(job: JobId, payload: Uint8Array | undefined): void;
  pause(queue: string, paused: boolean): void;
  /** Claims that stand next to each other in a batch. `fence` gives the number of the batch, and is asked only when there is a job to hand out. */
  claim(requests: readonly ClaimRequest[], fence: () => Fence): Claims[];
  extend(claims: readonly Claim[], leaseMs: number): boolean[];
  /** Extends those claims of the holder that end within two thirds of a lease. */
  keep(holder: string, leaseMs: number): void;
  /** Removes at most `limit` of what has been kept long enough; answers how many. */
  sweep(limit: number): number;
  /** Takes back the claims that `over` names, because whoever held them is gone, at most `limit` of them; answers how many. */
  release(over: (holder: string, n: number) => boolean, limit?: number): number;
  /** Reads counters and bounds again, after the file may have changed under them. */
  reload(): void;
}

/** Ready jobs of a queue without turns, in their order: read once for all claims that stand next to each other. */
interface Line {
  readonly rows: readonly Row[];
  /** How many of them were handed out. */
  at: number;
  /** Nothing is ready behind them. */
  readonly isAll: boolean;
}

export function jobsPart(state: LaneState): JobsPart {
  const { sql, queues } = state;
  const scratch = new Uint8Array(16);
  let counter = 0;
  // Lower bounds, so that a batch with nothing due costs no statement: no job of the queue falls due before; no lease ends before.
  const dueBounds = new Map<string, number>();
  let leaseBound = Infinity;
  // Queues in which more was due than one batch may move: there a key is looked at before another job joins it.
  const backlog = new Set<string>();
  const turns = turnsPart(state, { ready: (queue, limit) => sql(claimPlan).all(queue, limit), anyReady: (queue) => sql(anyReady).get(queue) !== undefined });

  const dueBound = (queue: string, atMs: number) => void (atMs < (dueBounds.get(queue) ?? Infinity) && dueBounds.set(queue, atMs));

  function join(queue: string, seq: number, from: number, key: string | null, group: string | null): void {
    const to = from === retrying || key === null || !sql(headOfKey).get(queue, key) ? ready : behind;
    sql(setState).run(to, ++counter, seq);
    if (group !== null) turns.grouped(queue);
    queues.add(queue);
  }

  function joinDueOfKey(queue: string, key: string): void {
    for (const [seq, from, , group] of sql(dueOfKey).all(queue, key, state.nowMs)) join(queue, seq as number, from as number, key, group as string | null);
  }

  /** The head of this key has gone. */
  function advance(queue: string, key: string | null): void {
    if (key === null) return;
    if (backlog.has(queue)) joinDueOfKey(queue, key);
    const next = sql(nextBehind).get(queue, key);
    if (!next || sql(headOfKey).get(queue, key)) return;
    sql("update trestle_jobs set state = 1 where seq = ?").run(next[0] as number);
    if (next[1] !== null) turns.grouped(queue);
    queues.add(queue);
  }

  function takeBack(): void {
    if (leaseBound > state.nowMs) return;
    for (const [seq, queue, key, cancelled] of sql(overdue).all(state.nowMs, stepRows))
      takeBackOne(seq as number, queue as string, key as string | null, cancelled as number);
    leaseBound = Number(sql(nextLease).get()?.[0] ?? Infinity);
  }

  function takeBackOne(seq: number, queue: string, key: string | null, cancelled: number): void {
    if (cancelled === 0) sql(backToLine).run(seq);
    else {
      sql(remove).run(seq);
      advance(queue, key);
    }
    queues.add(queue);
  }

  /** Nobody started it in time. */
  function expire(seq: number, queue: string, key: string | null, attempt: number, keepMs: number | undefined): void {
    sql(endTry).run(dead, ++counter, state.nowMs, attempt, expiredError, keepMs === undefined ? null : state.nowMs + keepMs, seq);
    advance(queue, key);
    queues.add(queue);
  }

  /** The jobs that are next, at least `least` of them if there are so many. One more is read than is wanted: it tells that there is more. */
  function lineOf(queue: string, least: number, lines: Map<string, Line>, wantedOf: ReadonlyMap<string, number>): Line {
    const known = lines.get(queue);
    if (known && (known.isAll || known.rows.length - known.at >= least)) return known;
    const limit = Math.min(Math.max(least, wantedOf.get(queue) ?? 0), limits.claimJobsMax) + 1;
    const rows = sql(claimPlan).all(queue, limit);
    const line: Line = { rows, at: 0, isAll: rows.length < limit };
    lines.set(queue, line);
    return line;
  }
  function isMoreReady(queue: string, lines: ReadonlyMap<string, Line>): boolean {
    const line = lines.get(queue);
    if (!line || (!line.isAll && line.at === line.rows.length)) return sql(anyReady).get(queue) !== undefined;
    return line.at < line.rows.length;
  }

  /** `lines` is what was read for the claims before; `wantedOf`: how many jobs of a queue all of them want together. */
  function claimOne(request: ClaimRequest, fence: () => Fence, lines: Map<string, Line>, wantedOf: ReadonlyMap<string, number>): Claims {
    const jobs: ClaimedJob[] = [];
    const leaseUntilMs = state.nowMs + request.leaseMs;
    let nextDueAtMs: number | undefined;
    const dueAt = (ms: number) => void (nextDueAtMs = Math.min(ms, nextDueAtMs ?? Infinity));
    let tooLate = 0;
    const mayGoOn = () => tooLate < stepRows;
    /** Hands these rows out up to the first that has waited too long, behind which another may come first; answers how many. */
    const handOut = (queue: string, policy: QueuePolicy | undefined, rows: readonly Row[], counted: boolean): number => {
      let taken = 0;
      for (const row of rows) {
        const [seq, id, key, attempt, sent, payload, heldBefore, until] = row as unknown as [
          number,
          Uint8Array,
          string | null,
          number,
          number,
          Uint8Array,
          number | null,
          number | null,
        ];
        if (until !== null && until < state.nowMs) {
          expire(seq, queue, key, attempt, policy?.keepDeadMs);
          tooLate++;
          break;
        }
        const held = fence();
        sql(counted ? takeCounted : take).run(held.epoch, held.n, leaseUntilMs, request.holder, seq);
        jobs.push({
          id: idText(id),
          fence: held,
          queue,
          payload,
          key: key ?? undefined,
          attempt: attempt + 1,
          again: heldBefore !== null,
          sentAtMs: sent,
          leaseUntilMs,
        });
        taken++;
      }
      return taken;
    };
    for (const { queue, limit, policy } of request.queues) {
      if (turns.isPaused(queue)) continue;
      const wanted = Math.max(0, Math.min(limit, limits.claimJobsMax - jobs.length));
      const counted = handsOutByTurns(policy);
      let openAtMs: number | undefined;
      if (counted || turns.isGrouped(queue)) {
        const asked: Asked = { queue, policy, wanted, handOut: (rows) => handOut(queue, policy, rows, counted), mayGoOn };
        lines.delete(queue);
        openAtMs = turns.claim(asked);
      } else {
        let taken = 0;
        while (taken < wanted && mayGoOn()) {
          const line = lineOf(queue, wanted - taken, lines, wantedOf);
          const rows = line.rows.slice(line.at, line.at + wanted - taken);
          if (rows.length === 0) break;
          const handed = handOut(queue, policy, rows, false);
          line.at += handed;
          taken += handed;
          if (handed < rows.length) lines.delete(queue); // one was too late: its end may have let another one of its key in
        }
        if (taken > 0) turns.servedNobodys(queue);
        if (taken === wanted && isMoreReady(queue, lines)) openAtMs = state.nowMs;
      }
      if (!mayGoOn()) openAtMs = state.nowMs;
      if (openAtMs !== undefined) dueAt(openAtMs);
      if (openAtMs !== state.nowMs && dueBounds.has(queue)) {
        const due = sql(nextDue).get(queue)?.[0];
        if (due !== undefined) dueAt(due as number);
      }
    }
    if (jobs.length) leaseBound = Math.min(leaseBound, leaseUntilMs);
    return { jobs, nextDueAtMs, nowMs: state.nowMs };
  }

  const part: JobsPart = {
    reload() {
      const seq = Number(sql("select max(seq) from trestle_jobs").get()?.[0] ?? 0);
      const place = Number(sql("select max(place) from trestle_jobs where place <> seq").get()?.[0] ?? 0);
      counter = Math.max(seq, place);
      dueBounds.clear();
      backlog.clear();
      for (const [queue, due] of sql(allDue).all()) dueBounds.set(queue as string, due as number);
      turns.reload();
      leaseBound = Number(sql(nextLease).get()?.[0] ?? Infinity);
    },

    release(over, limit = Infinity) {
      let released = 0;
      for (const [seq, queue, key, cancelled, holder, n] of sql(
        "select seq, queue, key, cancelled, holder, n from trestle_jobs where state = 2 order by lease, seq",
      ).all()) {
        if (!over(holder as string, n as number)) continue;
        takeBackOne(seq as number, queue as string, key as string | null, cancelled as number);
        if (++released === limit) break;
      }
      leaseBound = Number(sql(nextLease).get()?.[0] ?? Infinity);
      return released;
    },

    promote() {
      for (const [queue, bound] of dueBounds) {
        if (bound > state.nowMs) continue;
        const rows = sql(dueOfQueue).all(queue, state.nowMs, stepRows);
        for (const [seq, from, key, group] of rows) join(queue, seq as number, from as number, key as string | null, group as string | null);
        if (rows.length === stepRows) {
          backlog.add(queue);
          continue;
        }
        backlog.delete(queue);
        const due = sql(nextDue).get(queue)?.[0];
        if (due === undefined) dueBounds.delete(queue);
        else dueBounds.set(queue, due as number);
      }
    },

    enqueue(job) {
      let sentAtMs = state.nowMs;
      let dueAtMs = Math.max(job.dueAtMs ?? state.nowMs, state.nowMs);
      if (job.unique !== undefined && job.replace) {
        if (sql(byId).get(idBytes(job.id, scratch))) return;
        const first = sql(untriedTwin).get(job.queue, job.unique) as readonly [number, number, number, string | null] | undefined;
        if (first) {
          sentAtMs = first[1];
          dueAtMs = Math.max(state.nowMs, Math.min(dueAtMs, sentAtMs + (job.replace.atMostMs ?? Infinity)));
          sql(remove).run(first[0]);
          if (first[2] <= undetermined) advance(job.queue, first[3]);
        }
      } else if (job.unique !== undefined && sql(twin).get(job.queue, job.unique)) return;
      const key = job.key ?? null;
      let to: number = ready;
      if (dueAtMs > state.nowMs) to = scheduled;
      else if (key !== null) {
        if (backlog.has(job.queue)) joinDueOfKey(job.queue, key);
        if (sql(headOfKey).get(job.queue, key)) to = behind;
      }
      const seq = ++counter;
      if (
        sql(insert).run(
          seq,
          idBytes(job.id, scratch),
          job.queue,
          to,
          job.priority,
          to === scheduled ? 0 : seq,
          dueAtMs,
          sentAtMs,
          key,
          job.unique ?? null,
          job.payload,
          job.group ?? null,
          job.startByMs ?? null,
        ) === 0
      )
        return;
      if (job.group !== undefined) turns.grouped(job.queue);
      if (to === scheduled) dueBound(job.queue, dueAtMs);
      queues.add(job.queue);
    },

    holds(job, fence) {
      const row = sql(byId).get(idBytes(job, scratch));
      return row !== undefined && row[1] === running && row[2] === fence.epoch && row[3] === fence.n;
    },

    finish(job, fence, end) {
      const row = sql(byId).get(idBytes(job, scratch));
      if (!row || row[1] !== running || row[2] !== fence.epoch || row[3] !== fence.n) return { ok: false, refused: "fenced", job };
      const [seq, , , , queue, key, cancelled, attempt, until, group] = row as unknown as [
        number,
        number,
        number,
        number,
        string,
        string | null,
        number,
        number,
        number | null,
        string | null,
      ];
      // What was counted leaves room for another one; so does the head of a key, which `advance` looks at. Nobody else waits for the end of a job.
      if (group !== null || end.kind === "retry" || end.kind === "later") queues.add(queue);
      if (end.kind === "done" && end.keepUntilMs !== undefined && end.keepUntilMs > state.nowMs) {
        sql(endTry).run(done, 0, state.nowMs, attempt, null, end.keepUntilMs, seq);
        advance(queue, key);
        return undefined;
      }
      if (end.kind === "done" || (cancelled !== 0 && (end.kind === "retry" || end.kind === "later"))) {
        sql(remove).run(seq);
        advance(queue, key);
        return undefined;
      }
      if (end.kind === "retry" || end.kind === "later") {
        const due = Math.max(end.dueAtMs, state.nowMs);
        const waits = due > state.nowMs;
        sql(endTry).run(
          waits ? retrying : ready,
          ++counter,
          due,
          end.kind === "later" ? attempt - 1 : attempt,
          (end.kind === "retry" ? end.error : end.reason) ?? null,
          until,
          seq,
        );
        if (waits) dueBound(queue, due);
        return undefined;
      }
      const to = end.kind === "dead" ? dead : end.kind === "parked" ? parked : undetermined;
      sql(endTry).run(to, ++counter, state.nowMs, attempt, end.error, (end.kind === "dead" ? end.keepUntilMs : undefined) ?? null, seq);
      if (to === dead) advance(queue, key);
      return undefined;
    },

    cancel(job) {
      const row = sql(byId).get(idBytes(job, scratch));
      if (!row) return;
      if (row[1] === running) sql("update trestle_jobs set cancelled = 1 where seq = ?").run(row[0] as number);
      else {
        sql(remove).run(row[0] as number);
        if ((row[1] as number) <= undetermined) advance(row[4] as string, row[5] as string | null);
      }
      queues.add(row[4] as string);
    },

    redrive(job, payload) {
      const row = sql(byId).get(idBytes(job, scratch));
      if (!row || ![dead, parked, undetermined].includes(row[1] as 8)) return;
      const [seq, from, , , queue, key] = row as unknown as [number, number, number, number, string, string | null];
      const waits = from === dead && key !== null && sql(headOfKey).get(queue, key) !== undefined;
      if (row[9] !== null) turns.grouped(queue);
      sql(redriven).run(waits ? behind : ready, ++counter, state.nowMs, payload ?? null, seq);
      queues.add(queue);
    },

    pause(queue, paused) {
      turns.pause(queue, paused);
      queues.add(queue);
    },

    keep(holder, leaseMs) {
      sql(keepLease).run(state.nowMs + leaseMs, state.nowMs + (2 * leaseMs) / 3, holder);
    },

    sweep(limit) {
      const rows = sql(over).all(state.nowMs, limit);
      for (const [seq] of rows) sql(remove).run(seq as number);
      return rows.length + turns.sweep(limit);
    },

    claim(requests, fence) {
      takeBack();
      const lines = new Map<string, Line>();
      const wanted = new Map<string, number>();
      if (requests.length > 1) for (const { queues } of requests) for (const { queue, limit } of queues) wanted.set(queue, (wanted.get(queue) ?? 0) + limit);
      return requests.map((request) => claimOne(request, fence, lines, wanted));
    },

    extend(claims, leaseMs) {
      // An extension may also be shorter than what was left.
      leaseBound = Math.min(leaseBound, state.nowMs + leaseMs);
      return claims.map((claim) => sql(extendLease).run(state.nowMs + leaseMs, idBytes(claim.id, scratch), claim.fence.epoch, claim.fence.n) === 1);
    },
  };
  return part;
}
