/**
 * A simulator's plan of faults, done to real processes and real connections: the same hosts, the same moments. What the simulator found, or might
 * find, is so asked of the real thing.
 *
 * A connection is not a message: it loses nothing by itself, it breaks. So where the plan loses messages (`drop`, `unknown-commit`), connections are reset, the
 * more often the larger the share; where it forgets connections (`half-open`), those that are made meanwhile are swallowed too. A slow processor is
 * one that stands still for most of the time. What a machine cannot be made to do by a test (a message that comes twice, a clock that is set) is left
 * out, and the report says so.
 */
import { Fault, sleep, systemClock } from "trestle/kernel";
import type { FaultPlan, PlannedFault } from "trestle/simulation";
import type { Direction, FaultProxy } from "./fault-proxy.ts";

/** A process, or a server with all its processes: `nodeProcess`, `postgres`, `redis` … are such. */
export interface LiveHost {
  start(): Promise<void>;
  kill(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
}
/** One direction of the connections between two hosts. */
export interface LiveLink {
  readonly from: string;
  readonly to: string;
  readonly proxy: FaultProxy;
  /** `up`: `from` opens the connections. */
  readonly direction: Direction;
}
export interface LiveTargets {
  /** By the names of the plan: `node-1`, `store`. */
  readonly hosts: Readonly<Record<string, LiveHost>>;
  readonly links?: readonly LiveLink[];
  /** Fills the store's disk, and answers how to free it. */
  readonly fillDisk?: () => Promise<() => Promise<void>>;
  /** Ends the store's server for good, and answers how to let its standby take over. */
  readonly failOver?: () => Promise<() => Promise<void>>;
  /** Cuts the store's standby off, and answers how to end that. */
  readonly lagStandby?: () => Promise<() => Promise<void>>;
  /** Makes each flush of the store slower, and answers how to end that. */
  readonly slowDisk?: (byMs: number) => Promise<() => Promise<void>>;
}
export interface CarriedOut {
  readonly done: readonly PlannedFault[];
  readonly leftOut: readonly { readonly fault: PlannedFault; readonly why: string }[];
}

/** Of a link whose messages are all lost: how often its connections are reset. */
const resetEveryMs = 20;
/** Of a slow processor: how long it goes on between two times that it stands still. */
const turnMs = 5;

/**
 * Does it all, each fault at its moment from now on, and mends everything at the end. Resolves when the last one is over; `signal` ends it
 * sooner. Fault: `testing.unknown-host` for a plan that names a host which is not there.
 */
export async function carryOut(plan: FaultPlan, targets: LiveTargets, options: { readonly signal?: AbortSignal } = {}): Promise<CarriedOut> {
  for (const fault of plan) for (const name of hostsOf(fault)) checkHost(name, fault, targets);
  const startedMs = systemClock.monotonicMs();
  const { signal } = options;
  const done: PlannedFault[] = [];
  const leftOut: { readonly fault: PlannedFault; readonly why: string }[] = [];
  const disturbed = new Map<FaultProxy, Set<PlannedFault>>();
  const wait = (untilMs: number): Promise<void> =>
    sleep(systemClock, Math.max(0, untilMs - (systemClock.monotonicMs() - startedMs)), signal).catch(() => undefined);

  await Promise.all(
    plan.map(async (fault) => {
      await wait(fault.atMs);
      if (signal?.aborted) return;
      const end = await begin(fault);
      if (typeof end === "string") return void leftOut.push({ fault, why: end });
      done.push(fault);
      await wait(fault.atMs + fault.forMs);
      await end();
    }),
  );
  return { done, leftOut };

  async function begin(fault: PlannedFault): Promise<(() => Promise<void>) | string> {
    switch (fault.kind) {
      case "crash": {
        const host = targets.hosts[fault.host] as LiveHost;
        await host.kill();
        return () => host.start();
      }
      case "pause": {
        const host = targets.hosts[fault.host] as LiveHost;
        await host.pause();
        return () => host.resume();
      }
      case "slow-processor":
        return stutter(targets.hosts[fault.host] as LiveHost, fault.byMs);
      case "clog":
        return disturb(fault, fault.host, "*", true);
      case "partition":
      case "half-open":
      case "drop":
      case "reorder":
        return disturb(fault, fault.from, fault.to, fault.kind === "partition" && fault.bothWays);
      case "unknown-commit":
        return disturb(fault, "store", fault.host, false);
      case "disk-full":
        return targets.fillDisk?.() ?? "no disk that can be filled was given";
      case "slow-disk":
        return targets.slowDisk?.(fault.byMs) ?? "no disk that can be slowed down was given";
      case "fail-over":
        return targets.failOver?.() ?? "no standby that takes over was given";
      case "lagging-standby":
        return targets.lagStandby?.() ?? "no standby that can be cut off was given";
      case "deadlock":
        return "a deadlock is not a test's to make";
      case "duplicate":
        return "a connection gives every byte once";
      case "clock-skew":
        return "the clock of a machine is not a test's to set";
    }
  }

  function disturb(fault: PlannedFault, from: string, to: string, bothWays: boolean): (() => Promise<void>) | string {
    const meets = (link: LiveLink, a: string, b: string) => (a === "*" || link.from === a) && (b === "*" || link.to === b);
    const links = (targets.links ?? []).filter((link) => meets(link, from, to) || (bothWays && meets(link, to, from)));
    if (links.length === 0) return `no connection from ${from} to ${to} was given`;
    const over = new AbortController();
    for (const link of links) {
      const faults = disturbed.get(link.proxy) ?? new Set();
      disturbed.set(link.proxy, faults.add(fault));
      apply(link, fault);
      if (fault.kind === "drop" || fault.kind === "unknown-commit") void resets(link, fault.share, over.signal);
    }
    return async () => {
      over.abort();
      for (const proxy of new Set(links.map((link) => link.proxy))) {
        disturbed.get(proxy)?.delete(fault);
        await proxy.heal(); // of everything: what still lasts is begun again
        for (const other of disturbed.get(proxy) ?? []) for (const link of links.filter((one) => one.proxy === proxy)) apply(link, other);
      }
    };
  }
}

function apply({ proxy, direction }: LiveLink, fault: PlannedFault): void {
  // What a partition of the proxy keeps passes afterwards; what its black hole swallows is lost.
  if (fault.kind === "clog" || (fault.kind === "partition" && fault.clogged)) proxy.partition(direction);
  if (fault.kind === "half-open" || (fault.kind === "partition" && !fault.clogged)) proxy.blackHole(direction);
  if (fault.kind === "reorder") proxy.latency({ ms: 0, jitterMs: fault.delayMs, direction });
}

/** It goes on for a moment, and stands still for ten times as long as an event shall take. */
async function stutter(host: LiveHost, eventMs: number): Promise<() => Promise<void>> {
  const over = new AbortController();
  const done = (async () => {
    while (!over.signal.aborted) {
      await host.pause();
      await sleep(systemClock, eventMs * 10, over.signal).catch(() => undefined);
      await host.resume();
      await sleep(systemClock, turnMs, over.signal).catch(() => undefined);
    }
  })();
  return () => {
    over.abort();
    return done;
  };
}

async function resets({ proxy }: LiveLink, share: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(systemClock, resetEveryMs / share, signal).catch(() => undefined);
    if (!signal.aborted) proxy.reset();
  }
}

function hostsOf(fault: PlannedFault): readonly string[] {
  return fault.kind === "crash" || fault.kind === "pause" || fault.kind === "slow-processor" ? [fault.host] : [];
}

function checkHost(name: string, fault: PlannedFault, { hosts }: LiveTargets): void {
  if (Object.hasOwn(hosts, name)) return;
  throw Fault.create(
    "testing.unknown-host",
    `the plan has a ${fault.kind} of ${name} at ${fault.atMs} ms, and there is no such host; there are ${Object.keys(hosts).join(", ")}`,
    "Give the hosts the names that the plan has.",
  );
}
