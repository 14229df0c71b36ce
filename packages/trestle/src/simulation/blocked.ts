/** What has not ended when a world is stopped, in words: for the report of a promise that does not hold in the end. */
import type { Store } from "../store/index.ts";
import type { Network } from "./network.ts";
import type { Life, World } from "./world.ts";

export interface BlockedOptions {
  readonly world: World;
  readonly network: Network;
  /** Clients that are in a call, and since when. */
  readonly inCalls: ReadonlyMap<Life, number>;
  /** Where its queues can be read. */
  readonly store?: Store | undefined;
}

/** Of each kind, the oldest. */
const linesMax = 20;

/** Who waits, for what, since when: calls without an answer, clients in a call, jobs that are not done, timers. */
export async function blocked({ world, network, inCalls, store }: BlockedOptions): Promise<readonly string[]> {
  const calls = [...network.openCalls()].sort((a, b) => a.sinceMs - b.sinceMs);
  const timers = world.timers();
  const answering = new Set(calls.map(({ from }) => from));
  const waits = calls.map(
    ({ from, to, label, sinceMs }) => `${from.name} waits for ${to.life?.name ?? `${to.name}, which is down,`} to answer ${label}, since ${seconds(sinceMs)}`,
  );
  const silent = [...inCalls]
    .filter(([life]) => life.alive && !answering.has(life))
    .map(([life, sinceMs]) => {
      const timer = timers.get(life);
      return `${life.name} is in its call since ${seconds(sinceMs)} and waits for ${timer ? `a timer at ${seconds(timer.nextMs)}` : "nothing that can happen any more"}`;
    });
  const queues = (await store?.read.queues()) ?? [];
  const jobs = queues.flatMap(({ queue, waiting, running, parked, undetermined, dead, oldestAgeMs, paused }) => {
    const counts = Object.entries({ waiting, running, parked, undetermined, dead }).filter(([, count]) => count > 0);
    if (counts.length === 0) return [];
    const oldest = oldestAgeMs > 0 ? `, the oldest due for ${seconds(oldestAgeMs)}` : "";
    return [`queue ${queue}${paused ? " (paused)" : ""}: ${counts.map(([state, count]) => `${count} ${state}`).join(", ")}${oldest}`];
  });
  const later = [...timers]
    .filter(([{ host }]) => host.name !== "judge")
    .sort(([a], [b]) => a.host.index - b.host.index)
    .map(([life, { count, nextMs }]) => `${life.name} has ${count} ${count === 1 ? "timer" : "timers"}, the next at ${seconds(nextMs)}`);
  return [waits, silent, jobs, later].flatMap((lines) => [
    ...lines.slice(0, linesMax),
    ...(lines.length > linesMax ? [`and ${lines.length - linesMax} more`] : []),
  ]);
}

const seconds = (ms: number): string => `${Math.round(ms) / 1_000} s`;
