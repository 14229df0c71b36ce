/**
 * Load on a gate, in discrete events: callers that come whether others were served or not (open loop), a process that may stand still, and a dependency with a knee. Two runs of one seed
 * are the same. Hundreds of thousands of calls take a second.
 *
 * The dependency shares itself out: up to `knee` calls each go at full speed; more of them go slower, and all together get less done the more there are
 * (`thrash`: by so much less for each knee too many), as a database or a pool of threads does. A caller whose deadline is over is answered and gone; its call goes on, as calls do.
 */
import { TaskHeap, seededRandom } from "../../kernel/index.ts";
import type { Clock } from "../../kernel/index.ts";
import { declined, waits } from "../gate.ts";
import type { Caller, Gate } from "../gate.ts";

type Over<T> = T | ((atMs: number) => T);
const at = <T>(value: Over<T>, ms: number): T => (typeof value === "function" ? (value as (ms: number) => T)(ms) : value);

export interface Callers {
  readonly name: string;
  readonly perSecond: Over<number>;
  readonly priority?: Caller["priority"];
  readonly key?: string;
  readonly deadlineMs?: number;
  /** Times as long as others' calls. Default 1. */
  readonly weight?: number;
}

export interface LoadOptions {
  readonly seed: string;
  readonly forMs: number;
  readonly callers: readonly Callers[];
  readonly knee: Over<number>;
  /** The average of a call at full speed. */
  readonly serviceMs: Over<number>;
  readonly thrash?: number;
  /** While this holds nothing goes on in the dependency. */
  readonly hangs?: (atMs: number) => boolean;
  /** The process stands still from `atMs` on: what happens meanwhile it learns afterwards. */
  readonly stalls?: readonly { readonly atMs: number; readonly forMs: number }[];
  /** Told each 100 ms. */
  readonly watch?: (atMs: number) => void;
}

export interface Tally {
  came: number;
  /** Answered well before their deadline. */
  served: number;
  declined: number;
  late: number;
  /** Came, and are neither served, declined nor late when the load ends. */
  open: number;
  /** Of those served. */
  readonly latenciesMs: number[];
  /** From coming to hearing that one is declined. */
  readonly declinedMs: number[];
  /** Served in each second, by when it was served. */
  readonly servedIn: number[];
  readonly cameIn: number[];
}

/** What stands still with the process: the clock that gates read, and the longest standstill since it was last asked. */
export interface LoadClock extends Clock {
  readonly loop: () => { readonly delayMsMax: number; readonly utilization: number };
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly inProcess: boolean;
  task: (() => void) | undefined;
}

interface Call {
  readonly caller: Caller & { startedMs: number };
  readonly tally: Tally;
  readonly cameMs: number;
  readonly work: number;
  token: number;
  answered: boolean;
  doneAt: number;
  at: number;
}

export function load(options: LoadOptions, gateOf: (clock: LoadClock) => Gate): { readonly total: Tally; readonly of: Readonly<Record<string, Tally>> } {
  const random = seededRandom(options.seed);
  const { thrash = 0.3 } = options;
  let nowMs = 0;
  let order = 0;
  let stallSeenMs = 0;
  const heap = new TaskHeap<Event>((a, b) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order));
  const plan = (atMs: number, inProcess: boolean, task: () => void): Event => {
    const event = { atMs: Math.max(atMs, nowMs), order: order++, inProcess, task };
    heap.push(event);
    return event;
  };
  const clock: LoadClock = {
    wallMs: () => nowMs,
    monotonicMs: () => nowMs,
    after(delayMs, task) {
      const event = plan(nowMs + delayMs, true, task);
      return { cancel: () => void (event.task = undefined) };
    },
    soon: (task) => void plan(nowMs, true, task),
    loop() {
      const delayMsMax = stallSeenMs;
      stallSeenMs = 0;
      return { delayMsMax, utilization: 0.3 };
    },
  };
  const gate = gateOf(clock);
  const newTally = (): Tally => ({ came: 0, served: 0, declined: 0, late: 0, open: 0, latenciesMs: [], declinedMs: [], servedIn: [], cameIn: [] });
  const tallies: Record<string, Tally> = {};

  // The dependency: all calls in it get the same share, so they end in the order of what is left of them, on a clock of its own (`done`) that goes slower the more there are.
  const inside = new TaskHeap<Call & { task: (() => void) | undefined }>((a, b) => a.doneAt < b.doneAt || (a.doneAt === b.doneAt && a.at < b.at));
  let size = 0;
  let done = 0;
  let doneMs = 0;
  let speed = 0;
  let nextEnd: Event | undefined;
  const speedNow = (): number => {
    if (options.hangs?.(nowMs)) return 0;
    const knee = at(options.knee, nowMs);
    const full = 1 / at(options.serviceMs, nowMs);
    return size <= knee ? full : (full * (knee / size)) / (1 + (thrash * (size - knee)) / knee);
  };
  const advance = () => {
    done += (nowMs - doneMs) * speed;
    doneMs = nowMs;
  };
  const settle = () => {
    advance();
    speed = speedNow();
    if (nextEnd) nextEnd.task = undefined;
    nextEnd = undefined;
    const first = inside.peek();
    if (first && speed > 0) nextEnd = plan(nowMs + Math.max(0, first.doneAt - done) / speed, false, endFirst);
  };
  const endFirst = () => {
    advance();
    const call = inside.pop() as Call;
    size--;
    settle();
    plan(nowMs, true, () => end(call));
  };
  const dropFromView = (call: Call, how: "served" | "declined" | "late") => {
    call.answered = true;
    call.tally[how]++;
    call.tally.open--;
  };
  const end = (call: Call) => {
    if (!call.answered) {
      dropFromView(call, "served");
      call.tally.latenciesMs.push(nowMs - call.cameMs);
      const second = Math.floor(nowMs / 1_000);
      call.tally.servedIn[second] = (call.tally.servedIn[second] ?? 0) + 1;
      gate.answered?.(call.caller, call.token, "well");
    }
    gate.ended?.(call.caller, call.token);
  };
  const begin = (call: Call, token: number) => {
    call.token = token;
    call.caller.startedMs = nowMs;
    advance();
    call.doneAt = done + call.work;
    call.at = order++;
    inside.push(Object.assign(call, { task: () => undefined }));
    size++;
    settle();
  };
  const come = (from: Callers, tally: Tally) => {
    const deadlineMs = from.deadlineMs ?? 1_000;
    // Log-normal with a mean of 1: calls differ, and a few take several times as long.
    const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
    const call: Call = {
      tally,
      cameMs: nowMs,
      work: Math.exp(0.5 * normal - 0.125) * (from.weight ?? 1),
      token: -1,
      answered: false,
      doneAt: 0,
      at: 0,
      caller: {
        key: from.key ?? from.name,
        priority: from.priority ?? "normal",
        untilMs: nowMs + deadlineMs,
        cost: 1,
        startedMs: nowMs,
        place: undefined,
        admitted: (token) => begin(call, token),
        declined() {
          dropFromView(call, "declined");
          tally.declinedMs.push(nowMs - call.cameMs);
        },
      },
    };
    tally.came++;
    tally.open++;
    const second = Math.floor(nowMs / 1_000);
    tally.cameIn[second] = (tally.cameIn[second] ?? 0) + 1;
    const token = gate.enter(call.caller, nowMs);
    if (token === declined) return call.caller.declined(nowMs);
    if (token !== waits) begin(call, token);
    plan(nowMs + deadlineMs, true, () => {
      if (call.answered) return;
      dropFromView(call, "late");
      if (call.token === -1) gate.leave?.(call.caller, nowMs);
      else gate.answered?.(call.caller, call.token, "unwell");
    });
  };
  for (const from of options.callers) {
    const tally = (tallies[from.name] = newTally());
    // The world goes on while the process stands still: who comes then is noticed afterwards.
    const next = (afterMs: number): void => {
      const perSecond = at(from.perSecond, afterMs);
      const nextMs = afterMs + (perSecond > 0 ? (-Math.log(1 - random.next()) * 1_000) / perSecond : 10);
      if (nextMs >= options.forMs) return;
      plan(nextMs, false, () => {
        if (perSecond > 0) plan(nextMs, true, () => come(from, tally));
        next(nextMs);
      });
    };
    next(0);
  }
  // What changes with time in the dependency is looked at often enough.
  for (let ms = 0; ms < options.forMs; ms += 10) plan(ms, false, settle);
  for (let ms = 0; ms < options.forMs; ms += 100) plan(ms, false, () => options.watch?.(nowMs));

  for (let event = heap.pop(); event && event.atMs < options.forMs; event = heap.pop()) {
    nowMs = Math.max(nowMs, event.atMs);
    const stall = event.inProcess && options.stalls?.find(({ atMs, forMs }) => nowMs >= atMs && nowMs < atMs + forMs);
    if (stall) {
      stallSeenMs = Math.max(stallSeenMs, stall.forMs);
      const { task } = event;
      plan(stall.atMs + stall.forMs, true, () => task?.());
      continue;
    }
    const { task } = event;
    event.task = undefined;
    task?.();
  }
  const total = newTally();
  for (const tally of Object.values(tallies)) {
    for (const what of ["came", "served", "declined", "late", "open"] as const) total[what] += tally[what];
    for (const ms of tally.latenciesMs) total.latenciesMs.push(ms);
    tally.servedIn.forEach((count, second) => (total.servedIn[second] = (total.servedIn[second] ?? 0) + count));
    for (const ms of tally.declinedMs) total.declinedMs.push(ms);
  }
  return { total, of: tallies };
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
