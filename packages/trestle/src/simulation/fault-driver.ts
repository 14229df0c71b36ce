/** Carries a plan out in the world: begins each fault when it is due, and ends it. */
import type { FaultPlan, PlannedFault } from "./fault-plan.ts";
import type { Network } from "./network.ts";
import type { StoreHost } from "./store-host.ts";
import type { Host, World } from "./world.ts";

export interface Stage {
  readonly world: World;
  readonly network: Network;
  readonly at: StoreHost;
  /** Boots a node that is down. */
  readonly start: (host: Host) => void;
}

/** Answers how to mend everything at once: what is broken then, and what was still to come. */
export function carryOut(plan: FaultPlan, { world, network, at, start }: Stage): () => void {
  let over = false;
  /** How to end what has begun. */
  const ends = new Set<() => void>();
  for (const fault of plan) {
    world.at(fault.atMs, undefined, `fault ${fault.kind}`, () => {
      if (over) return;
      const end = begin(fault);
      if (!end) return;
      const once = () => {
        if (ends.delete(once)) end();
      };
      ends.add(once);
      world.at(fault.forMs, undefined, `end of ${fault.kind}`, once);
    });
  }
  return () => {
    over = true;
    for (const end of ends) end();
    network.heal();
  };

  function begin(fault: PlannedFault): (() => void) | undefined {
    switch (fault.kind) {
      case "crash": {
        const host = world.hosts.get(fault.host);
        if (!host?.life) return undefined; // it is down already
        if (host === at.host) {
          at.crash(fault.how ?? "process");
          return () => at.boot();
        }
        host.crash();
        return () => start(host);
      }
      case "pause": {
        const host = world.hosts.get(fault.host);
        host?.pause(fault.forMs);
        return () => host?.goOn();
      }
      case "slow-processor": {
        const host = world.hosts.get(fault.host);
        host?.slowDown(fault.byMs);
        return () => host?.slowDown(0);
      }
      case "clog":
        network.disturb(fault.host, "*", { clogged: true });
        network.disturb("*", fault.host, { clogged: true });
        return () => {
          network.disturb(fault.host, "*", { clogged: false });
          network.disturb("*", fault.host, { clogged: false });
        };
      case "half-open":
        return network.forget(fault.from, fault.to);
      case "partition": {
        const change = fault.clogged ? { clogged: true } : { cut: true };
        const back = fault.clogged ? { clogged: false } : { cut: false };
        const links = [[fault.from, fault.to], ...(fault.bothWays ? [[fault.to, fault.from]] : [])] as const;
        for (const [from, to] of links) network.disturb(from as string, to as string, change);
        return () => {
          for (const [from, to] of links) network.disturb(from as string, to as string, back);
        };
      }
      case "drop":
        network.disturb(fault.from, fault.to, { drop: fault.share });
        return () => network.disturb(fault.from, fault.to, { drop: 0 });
      case "duplicate":
        network.disturb(fault.from, fault.to, { duplicate: fault.share });
        return () => network.disturb(fault.from, fault.to, { duplicate: 0 });
      case "reorder":
        network.disturb(fault.from, fault.to, { delayMs: fault.delayMs });
        return () => network.disturb(fault.from, fault.to, { delayMs: 0 });
      case "unknown-commit":
        network.disturb("store", fault.host, { drop: fault.share });
        return () => network.disturb("store", fault.host, { drop: 0 });
      case "clock-skew": {
        const host = world.hosts.get(fault.host);
        host?.jumpWall(fault.byMs);
        if (fault.drift !== 0) host?.drift(fault.drift);
        // A clock that was set stays as it is; one that went wrong is mended.
        return fault.drift === 0 ? undefined : () => host?.drift(0);
      }
      case "disk-full":
        at.disk.full = true;
        return () => (at.disk.full = false);
      case "slow-disk":
        at.slowByMs = fault.byMs;
        return () => (at.slowByMs = 0);
      case "fail-over":
        if (!at.host.life) return undefined; // it is down already
        at.crash("fail-over");
        return () => at.boot();
      case "lagging-standby":
        at.disk.standbyLags = true;
        return () => (at.disk.standbyLags = false);
      case "deadlock":
        at.deadlockShare = fault.share;
        return () => (at.deadlockShare = 0);
    }
  }
}
