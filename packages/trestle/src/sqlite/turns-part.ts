/**
 * Hand-out under a policy, in the lane: pauses, limits over all holders, and turns between the groups of a queue (FINDINGS F17).
 *
 * Groups take turns in the order of their names, nobody's group first, each as many jobs per turn as its weight says; inside a group
 * the order is (priority, place). It is deficit round robin (Shreedhar, Varghese 1995) with jobs of one size. A turn costs one seek for
 * the next name and one for the head, so a claim costs by what it takes and by the groups that are at their limit, never by the backlog.
 *
 * Limits are counted, not remembered: running jobs by an index, rates as the time from which the next one may go (GCRA, ITU-T I.371),
 * in rows that are written by the claim that uses them. Whose turn it is lives in memory: after a restart the first name begins.
 */
import { limits, type ClaimRate, type QueuePolicy } from "../store/index.ts";
import type { LaneState } from "./lane-state.ts";
import type { Row } from "./statements.ts";

const headsOfGroup =
  "select seq, id, key, attempt, sent, payload, n, until from trestle_jobs indexed by trestle_jobs_turns where queue = ? and state = 1 and grp = ? order by priority, place, seq limit ? + 0";
const firstGroup = "select grp from trestle_jobs indexed by trestle_jobs_turns where queue = ? and state = 1 and grp is not null order by grp limit 1";
const groupAfter = "select grp from trestle_jobs indexed by trestle_jobs_turns where queue = ? and state = 1 and grp > ? order by grp limit 1";
const heldOfQueue = "select count(*) from trestle_jobs indexed by trestle_jobs_held where queue = ? and state = 2 and grp is not null";
const heldOfGroup = "select count(*) from trestle_jobs indexed by trestle_jobs_held where queue = ? and state = 2 and grp = ?";
const readRate = "select next from trestle_rates where queue = ? and scope = ?";
const writeRate = "insert into trestle_rates (queue, scope, next) values (?, ?, ?) on conflict (queue, scope) do update set next = excluded.next";
const oldRates = "select queue, scope from trestle_rates indexed by trestle_rates_next where next < ? order by next limit ? + 0";
export const turnsPlans = { headsOfGroup, firstGroup, groupAfter, heldOfQueue, heldOfGroup };

/** A rate whose next moment lies this far back says nothing any more, unless a slack is longer. */
const ratesKeptMs = 3_600_000;

export interface TurnsPart {
  isPaused(queue: string): boolean;
  pause(queue: string, paused: boolean): void;
  /** A job of some group became ready in this queue, or will. */
  grouped(queue: string): void;
  /** The queue may have jobs of groups: too many are named, never too few. */
  isGrouped(queue: string): boolean;
  /** Jobs were handed out without turns: nobody's were served last. */
  servedNobodys(queue: string): void;
  /** When asking again may give more; `undefined` when others must end theirs first, or nothing is left. */
  claim(asked: Asked): number | undefined;
  sweep(limit: number): number;
  reload(): void;
}
export interface Asked {
  readonly queue: string;
  readonly policy: QueuePolicy | undefined;
  readonly wanted: number;
  /** Takes these heads; answers how many of them count. */
  readonly handOut: (rows: readonly Row[]) => number;
  /** `false`: enough work for one batch; the rest is left for the next claim. */
  readonly mayGoOn: () => boolean;
}
/** Jobs of nobody's group, which the index of groups does not hold. */
interface Ungrouped {
  ready(queue: string, limit: number): readonly Row[];
  anyReady(queue: string): boolean;
}
/** `null`: nobody's. It comes first. */
type Group = string | null;
interface Turn {
  readonly name: Group;
  readonly left: number;
}
const nobodysTurn: Turn = { name: null, left: 0 };

export const handsOutByTurns = (policy: QueuePolicy | undefined): boolean =>
  policy !== undefined && (policy.concurrency !== undefined || policy.rate !== undefined || policy.perGroup !== undefined || policy.weights !== undefined);

export function turnsPart(state: LaneState, ungrouped: Ungrouped): TurnsPart {
  const { sql } = state;
  const groupedQueues = new Set<string>();
  /** `undefined` after a pause or its end was written: that commit may yet be refused. */
  let paused: Set<string> | undefined;
  /** Who was served last, and how many it may still take before the next one's turn. */
  const turnOf = new Map<string, Turn>();

  const first = (queue: string): Group | undefined => (ungrouped.anyReady(queue) ? null : (sql(firstGroup).get(queue)?.[0] as string | undefined));
  const after = (queue: string, group: Group): string | undefined =>
    (group === null ? sql(firstGroup).get(queue) : sql(groupAfter).get(queue, group))?.[0] as string | undefined;

  /** Whoever was served last, while its turn lasts and it has more; else the next one. */
  function turn(queue: string, weightOf: (group: Group) => number): Turn | undefined {
    const last = turnOf.get(queue);
    if (last && last.left > 0) return last;
    const name = (last && after(queue, last.name)) ?? first(queue);
    return name === undefined ? undefined : { name, left: weightOf(name) };
  }

  return {
    isPaused(queue) {
      paused ??= new Set(
        sql("select queue from trestle_paused order by queue")
          .all()
          .map(([name]) => name as string),
      );
      return paused.has(queue);
    },
    pause(queue, pause) {
      if (pause) sql("insert into trestle_paused (queue, at) values (?, ?) on conflict do nothing").run(queue, state.nowMs);
      else sql("delete from trestle_paused where queue = ?").run(queue);
      paused = undefined;
    },
    grouped: (queue) => void groupedQueues.add(queue),
    isGrouped: (queue) => groupedQueues.has(queue),
    servedNobodys: (queue) => void turnOf.set(queue, nobodysTurn),

    claim({ queue, policy, wanted, handOut, mayGoOn }) {
      const all = new Allowance(state, policy?.concurrency, policy?.rate, queue, "", () => sql(heldOfQueue).get(queue)?.[0] as number);
      const groups = new Map<string, Allowance>();
      const allowanceOf = (group: Group): Allowance => {
        const name = group ?? ""; // as which they run
        let allowance = groups.get(name);
        if (!allowance) {
          const { concurrency, rate } = policy?.perGroup ?? {};
          allowance = new Allowance(state, concurrency, rate, queue, `.${name}`, () => sql(heldOfGroup).get(queue, name)?.[0] as number);
          groups.set(name, allowance);
        }
        return allowance;
      };
      const weightOf = (group: Group): number => policy?.weights?.[group ?? ""] ?? 1;
      if (handsOutByTurns(policy)) groupedQueues.add(queue); // what runs under a policy, and comes back, has a group

      let room = Math.min(wanted, all.room());
      let taken = 0;
      let openAtMs = Infinity;
      let expired = false;
      const take = (group: Group, most: number): number => {
        const allowance = allowanceOf(group);
        const limit = Math.min(most, room, allowance.room());
        if (limit <= 0) {
          openAtMs = Math.min(openAtMs, allowance.opensAtMs());
          return 0;
        }
        const rows = group === null ? ungrouped.ready(queue, limit) : sql(headsOfGroup).all(queue, group, limit);
        const count = handOut(rows);
        expired = count < rows.length;
        room -= count;
        taken += count;
        allowance.use(count);
        all.use(count);
        return count;
      };

      for (let group = turn(queue, weightOf); group && room > 0 && mayGoOn(); group = expired ? turn(queue, weightOf) : undefined) {
        let { name, left } = group;
        // With one group there are no turns.
        const alone = first(queue) === name && after(queue, name) === undefined;
        let since = name;
        let round = false;
        for (expired = false; !expired;) {
          const count = take(name, alone ? room : left);
          if (count > 0) {
            left -= count;
            // Alone it had several turns at once; this is what is left of the last one.
            turnOf.set(queue, { name, left: left >= 0 ? left : (weightOf(name) - (-left % weightOf(name))) % weightOf(name) });
            since = name;
            round = false;
          }
          if (room <= 0 || expired) break;
          let next: Group | undefined = after(queue, name);
          if (next === undefined) {
            if (round) break;
            round = true;
            next = first(queue);
          }
          // A whole round, and nobody could take any.
          if (next === undefined || (round && isAfter(next, since))) break;
          name = next;
          left = weightOf(name);
        }
      }
      all.save();
      for (const allowance of groups.values()) allowance.save();

      if (wanted > 0 && taken < wanted && all.room() > 0) return openAtMs === Infinity ? undefined : openAtMs;
      if (first(queue) === undefined) return undefined;
      if (all.room() > 0) return state.nowMs; // only the limit of this request was in the way
      const opens = all.opensAtMs();
      return opens === Infinity ? undefined : opens;
    },

    sweep(limit) {
      const rows = sql(oldRates).all(state.nowMs - ratesKeptMs, limit);
      for (const [queue, scope] of rows) sql("delete from trestle_rates where queue = ? and scope = ?").run(queue as string, scope as string);
      return rows.length;
    },
    reload() {
      paused = undefined;
      for (const part of ["trestle_jobs_turns where state = 1 and grp is not null", "trestle_jobs_held where state = 2 and grp is not null"]) {
        const text = `select min(queue) from trestle_jobs indexed by ${part} and queue > ?`;
        for (let row = sql(text).get(""); row && row[0] !== null; row = sql(text).get(row[0] as string)) groupedQueues.add(row[0] as string);
      }
    },
  };
}

/** By UTF-8 bytes, as the index has them; nobody's group before all. */
function isAfter(a: Group, b: Group): boolean {
  if (a === null || b === null) return a !== null && b === null;
  return a !== b && Buffer.compare(Buffer.from(a), Buffer.from(b)) > 0;
}

/** What a queue or a group may still be given in this claim. Asked for nothing, it reads nothing. */
class Allowance {
  readonly #state: LaneState;
  readonly #rate: ClaimRate | undefined;
  readonly #queue: string;
  readonly #scope: string;
  #places: number;
  #nextMs: number;
  #used = 0;

  constructor(state: LaneState, concurrency: number | undefined, rate: ClaimRate | undefined, queue: string, scope: string, held: () => number) {
    this.#state = state;
    this.#rate = rate;
    this.#queue = queue;
    this.#scope = scope;
    this.#places = concurrency === undefined ? Infinity : concurrency - held();
    this.#nextMs = rate ? Math.max(Number(state.sql(readRate).get(queue, scope)?.[0] ?? -Infinity), state.nowMs - rate.slackMs) : -Infinity;
  }

  room(): number {
    const rate = this.#rate;
    if (!rate) return this.#places;
    const late = this.#state.nowMs - this.#nextMs;
    return Math.min(this.#places, late < 0 ? 0 : Math.floor(late / rate.everyMs) + 1, limits.claimJobsMax);
  }
  use(jobs: number): void {
    this.#places -= jobs;
    this.#used += jobs;
    if (this.#rate) this.#nextMs += jobs * this.#rate.everyMs;
  }
  /** When its rate lets the next one go; never, where something else is in the way, or nothing. */
  opensAtMs(): number {
    return this.#rate && this.#places > 0 && this.#nextMs > this.#state.nowMs ? Math.ceil(this.#nextMs) : Infinity;
  }
  save(): void {
    if (this.#rate && this.#used > 0) this.#state.sql(writeRate).run(this.#queue, this.#scope, this.#nextMs);
  }
}
