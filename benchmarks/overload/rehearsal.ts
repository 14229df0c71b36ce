/**
 * The live run (bench.ts) rehearsed in virtual time: the same callers, guards and dependency, in discrete events. Two runs of one seed are the same, and one takes a tenth of a second, so that
 * what the live run shows once can be looked at over many seeds. Half a millisecond passes on the way to the dependency and back.
 */
import { emptyContext, inContext, seededRandom, TaskHeap, withContext, type Clock } from "trestle/kernel";
import type { JudgedWindow } from "trestle/resilience";
import { guard } from "./guard.ts";
import { forMs, fromMs, perSecond, takesMs, untilMs, type Trouble } from "./trouble.ts";

export interface Rehearsed {
  readonly served: number;
  /** Shares of the critical calls that were served while it lasted, and after its first second. */
  readonly critical: number;
  readonly criticalLater: number;
}

interface Event {
  readonly atMs: number;
  /** At one moment: timers, then what arrives, then what was put off until both were seen. */
  readonly rank: 0 | 1 | 2;
  readonly order: number;
  /** In the process of the callers, which may stand still. */
  readonly isCallers: boolean;
  task: (() => void) | undefined;
}

const getReadyMs = 3_000;
const onTheWayMs = 0.5;

export async function rehearse(trouble: Trouble, limit: string, seed: string, onWindow?: (window: JudgedWindow, atMs: number) => void): Promise<Rehearsed> {
  const random = seededRandom(seed);
  /** Of its own, so that all guards meet the same callers. */
  const arrivals = seededRandom(`${seed} arrivals`);
  const heap = new TaskHeap<Event>((a, b) => a.atMs - b.atMs < 0 || (a.atMs === b.atMs && (a.rank - b.rank || a.order - b.order) < 0));
  let nowMs = -getReadyMs;
  let order = 0;
  let stoodStillMs = 0;
  const plan = (inMs: number, task: () => void, rank: Event["rank"] = 0, isCallers = true): Event => {
    const event = { atMs: nowMs + Math.max(0, inMs), rank, order: order++, isCallers, task };
    heap.push(event);
    return event;
  };
  const clock: Clock = {
    wallMs: () => nowMs,
    monotonicMs: () => nowMs + getReadyMs,
    after(delayMs, task) {
      const event = plan(Math.max(1, delayMs), task);
      return { cancel: () => void (event.task = undefined) };
    },
    soon: (task) => void plan(0, task, 2),
  };
  const loop = () => {
    const delayMsMax = stoodStillMs;
    stoodStillMs = 0;
    return { delayMsMax, utilization: 0.3 };
  };
  const ask = guard(limit, { clock, random: seededRandom(`${seed} guard`), loop, onWindow: (window) => onWindow?.(window, nowMs) });

  let active = 0;
  const asked = (signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      let work: Event | undefined;
      plan(
        onTheWayMs,
        () => {
          if (signal.aborted) return;
          const ms = takesMs(trouble, nowMs, active, random.next());
          if (ms === undefined) return;
          active++;
          work = plan(
            ms,
            () => {
              work = undefined;
              active--;
              plan(onTheWayMs, resolve, 1);
            },
            0,
            false,
          );
        },
        0,
        false,
      );
      signal.addEventListener("abort", () => {
        reject(signal.reason as Error);
        plan(
          onTheWayMs,
          () => {
            if (!work) return;
            work.task = undefined;
            active--;
          },
          0,
          false,
        );
      });
    });

  let served = 0;
  const critical = { came: 0, served: 0, cameLater: 0, servedLater: 0 };
  const come = (kind: "critical" | "prefetch", cameMs: number) => {
    const counts = kind === "critical" && cameMs >= fromMs && cameMs < untilMs;
    const isLater = cameMs >= fromMs + 1_000;
    if (counts) critical.came++;
    if (counts && isLater) critical.cameLater++;
    const call = () => ask(({ signal }) => asked(signal));
    inContext(emptyContext, () => withContext({ priority: kind === "critical" ? "high" : "low" }, call)).then(
      () => {
        if (cameMs >= 0) served++;
        if (counts) critical.served++;
        if (counts && isLater) critical.servedLater++;
      },
      () => undefined,
    );
  };
  const next = (kind: "critical" | "prefetch") => {
    const inMs = (-Math.log(1 - arrivals.next()) * 1_000) / perSecond(trouble, nowMs)[kind];
    if (nowMs + inMs >= forMs) return;
    const cameMs = nowMs + inMs;
    const arrives = () => {
      plan(0, () => come(kind, cameMs));
      next(kind);
    };
    plan(inMs, arrives, 0, false);
  };
  next("critical");
  next("prefetch");

  const stalls = trouble === "stall" ? [fromMs, untilMs - 1_000] : [];
  for (let event = heap.pop(); event && event.atMs < forMs + 1_500; event = heap.pop()) {
    nowMs = Math.max(nowMs, event.atMs);
    const stall = event.isCallers ? stalls.find((atMs) => nowMs >= atMs && nowMs < atMs + 1_000) : undefined;
    if (stall !== undefined) {
      stoodStillMs = 1_000;
      const put = event;
      plan(stall + 1_000 - nowMs, () => put.task?.(), put.rank);
      continue;
    }
    const { task } = event;
    event.task = undefined;
    if (!task) continue;
    task();
    await new Promise((resolve) => void setImmediate(resolve));
  }
  return { served, critical: critical.served / critical.came, criticalLater: critical.servedLater / critical.cameLater };
}
