/**
 * What goes wrong, when, to whom: a plan, drawn from a seed before the world begins, and data from then on. So a plan can be printed, made smaller, and
 * carried out again; by the simulator, or by a harness that does the same to real processes and connections.
 *
 * Which kinds of fault a seed has is drawn too (swarm testing: Groce et al., "Swarm Testing", ISSTA 2012): faults of one kind hide what others would show.
 */
import type { Chance } from "./chance.ts";

export const faultKinds = [
  "crash",
  "pause",
  "slow-processor",
  "partition",
  "clog",
  "half-open",
  "drop",
  "duplicate",
  "reorder",
  "clock-skew",
  "disk-full",
  "slow-disk",
  "unknown-commit",
  "fail-over",
  "lagging-standby",
  "deadlock",
] as const;
export type FaultKind = (typeof faultKinds)[number];
/** Of a store that is PostgreSQL. */
export const postgresFaultKinds: ReadonlySet<FaultKind> = new Set<FaultKind>(["fail-over", "lagging-standby", "deadlock"]);
/** Only where a scenario asks for them: what was answered is lost, and few promises survive that. */
export const losingFaultKinds: ReadonlySet<FaultKind> = new Set<FaultKind>(["lagging-standby"]);

/** One thing that goes wrong. Hosts are named as in the world: `node-1`, `store`; for a link `*` is any. */
export type PlannedFault = { readonly atMs: number; readonly forMs: number } & (
  | { readonly kind: "crash"; readonly host: string; /** Of the store's host: its process alone, or its machine. */ readonly how?: "process" | "power" }
  | { readonly kind: "pause"; readonly host: string }
  /** Each event of the host takes so long, and the others wait. */
  | { readonly kind: "slow-processor"; readonly host: string; readonly byMs: number }
  /** Nothing gets from one to the other: lost, or (`clogged`) kept until it is over. */
  | { readonly kind: "partition"; readonly from: string; readonly to: string; readonly bothWays: boolean; readonly clogged: boolean }
  /** All that this host says and hears is kept until it is over. */
  | { readonly kind: "clog"; readonly host: string }
  /** The connections that `from` has open to `to` are forgotten on the way: what was asked is done, no answer comes, and `from` is told when it is over. */
  | { readonly kind: "half-open"; readonly from: string; readonly to: string }
  | { readonly kind: "drop"; readonly from: string; readonly to: string; readonly share: number }
  | { readonly kind: "duplicate"; readonly from: string; readonly to: string; readonly share: number }
  | { readonly kind: "reorder"; readonly from: string; readonly to: string; readonly delayMs: number }
  /** The wall clock jumps by `byMs`, or all its clocks go faster by `drift` until it is over. */
  | { readonly kind: "clock-skew"; readonly host: string; readonly byMs: number; readonly drift: number }
  | { readonly kind: "disk-full" }
  | { readonly kind: "slow-disk"; readonly byMs: number }
  /** The store's answers to this host are lost, its requests are not. */
  | { readonly kind: "unknown-commit"; readonly host: string; readonly share: number }
  /** The store's machine is gone; after `forMs` its standby takes over, in another epoch. */
  | { readonly kind: "fail-over" }
  /** The standby gets nothing: a fail-over meanwhile loses what was answered. */
  | { readonly kind: "lagging-standby" }
  /** This part of the statements of the user's own SQL is ended by a deadlock. */
  | { readonly kind: "deadlock"; readonly share: number }
);
export type FaultPlan = readonly PlannedFault[];

export interface DrawOptions {
  readonly kinds: readonly FaultKind[];
  /** `node-1`, …: what may crash, pause, and be cut off. */
  readonly nodes: readonly string[];
  /** Where requests come from. */
  readonly clients: readonly string[];
  /** Faults begin within it; none lasts beyond it. */
  readonly withinMs: number;
}

/** So many of one kind at most, when it is in the plan. */
const perKindMax = 4;

export function drawFaultPlan(chance: Chance, { kinds, nodes, clients, withinMs }: DrawOptions): FaultPlan {
  const drawn = kinds.filter(() => chance.next() < 0.5);
  const chosen = drawn.length > 0 || kinds.length === 0 ? drawn : [chance.pick(kinds)];
  const plan: PlannedFault[] = [];
  const hosts = [...nodes, "store"];
  // Everybody, all that one host says or hears, or one direction between two that really talk to each other.
  const link = (): { readonly from: string; readonly to: string } => {
    const how = chance.next();
    if (how < 0.4) return { from: "*", to: "*" };
    if (how < 0.55) return { from: chance.pick(hosts), to: "*" };
    if (how < 0.7) return { from: "*", to: chance.pick(hosts) };
    const node = chance.pick(nodes);
    const other = clients.length > 0 && chance.next() < 0.4 ? chance.pick(clients) : "store";
    return chance.next() < 0.5 ? { from: node, to: other } : { from: other, to: node };
  };
  for (const kind of chosen) {
    for (let count = chance.integer(1, perKindMax); count > 0; count--) {
      const atMs = chance.integer(0, Math.floor(withinMs * 0.9));
      // Mostly moments, sometimes longer than any lease.
      const longest = Math.min(withinMs - atMs, chance.next() < 0.75 ? 2_000 : 60_000);
      const when = { atMs, forMs: Math.max(1, chance.integer(1, Math.max(1, longest))) };
      switch (kind) {
        case "crash": {
          const host = chance.pick(hosts);
          plan.push({ ...when, kind, host, ...(host === "store" ? { how: chance.pick(["process", "power"] as const) } : {}) });
          break;
        }
        case "pause":
        case "clog":
          plan.push({ ...when, kind, host: chance.pick(hosts) });
          break;
        case "slow-processor":
          plan.push({ ...when, kind, host: chance.pick(hosts), byMs: chance.pick([0.5, 5, 50]) });
          break;
        case "half-open":
          plan.push({ ...when, kind, ...link() });
          break;
        case "partition":
          plan.push({ ...when, kind, ...link(), bothWays: chance.next() < 0.5, clogged: chance.next() < 0.3 });
          break;
        case "drop":
        case "duplicate":
          plan.push({ ...when, kind, ...link(), share: chance.pick([0.05, 0.2, 0.5]) });
          break;
        case "reorder":
          plan.push({ ...when, kind, ...link(), delayMs: chance.pick([10, 100, 1_000]) });
          break;
        case "clock-skew": {
          const jumps = chance.next() < 0.6;
          const byMs = jumps ? chance.pick([-3_600_000, -5_000, -200, 200, 5_000, 3_600_000]) : 0;
          plan.push({ ...when, kind, host: chance.pick(nodes), byMs, drift: jumps ? 0 : chance.pick([-0.05, -0.001, 0.001, 0.05]) });
          break;
        }
        case "disk-full":
          plan.push({ ...when, kind });
          break;
        case "slow-disk":
          plan.push({ ...when, kind, byMs: chance.pick([5, 50, 500]) });
          break;
        case "unknown-commit":
          plan.push({ ...when, kind, host: chance.pick(nodes), share: chance.pick([0.1, 0.5]) });
          break;
        case "fail-over":
        case "lagging-standby":
          plan.push({ ...when, kind });
          break;
        case "deadlock":
          plan.push({ ...when, kind, share: chance.pick([0.1, 0.5]) });
          break;
      }
    }
  }
  return plan.sort((a, b) => a.atMs - b.atMs);
}

/** In words: `12.3s store: power lost, for 1.2s`. */
export function describeFault(fault: PlannedFault): string {
  const seconds = (ms: number) => `${Math.round(ms) / 1_000}s`;
  const lasts = `for ${seconds(fault.forMs)}`;
  const side = (host: string) => (host === "*" ? "any host" : host);
  const what = (): string => {
    switch (fault.kind) {
      case "crash":
        return `${fault.host}: ${fault.how === "power" ? "power lost" : "killed"}, back after ${seconds(fault.forMs)}`;
      case "pause":
        return `${fault.host}: stands still ${lasts}`;
      case "slow-processor":
        return `${fault.host}: each event takes ${fault.byMs} ms ${lasts}`;
      case "partition":
        return `${side(fault.from)} ${fault.bothWays ? "and" : "to"} ${side(fault.to)}: ${fault.clogged ? "held up" : "cut off"} ${lasts}`;
      case "clog":
        return `${fault.host}: all it says and hears held up ${lasts}`;
      case "half-open":
        return `${side(fault.from)} to ${side(fault.to)}: open connections forgotten, untold ${lasts}`;
      case "drop":
        return `${side(fault.from)} to ${side(fault.to)}: ${fault.share * 100} % lost ${lasts}`;
      case "duplicate":
        return `${side(fault.from)} to ${side(fault.to)}: ${fault.share * 100} % come twice ${lasts}`;
      case "reorder":
        return `${side(fault.from)} to ${side(fault.to)}: up to ${fault.delayMs} ms late ${lasts}`;
      case "clock-skew":
        return fault.drift === 0 ? `${fault.host}: clock set by ${seconds(fault.byMs)}` : `${fault.host}: clock ${fault.drift * 100} % fast ${lasts}`;
      case "disk-full":
        return `store: disk full ${lasts}`;
      case "slow-disk":
        return `store: each flush ${fault.byMs} ms slower ${lasts}`;
      case "unknown-commit":
        return `store to ${fault.host}: ${fault.share * 100} % of its answers lost ${lasts}`;
      case "fail-over":
        return `store: lost, its standby takes over after ${seconds(fault.forMs)}`;
      case "lagging-standby":
        return `store: its standby gets nothing ${lasts}`;
      case "deadlock":
        return `store: ${fault.share * 100} % of the user's statements end in a deadlock ${lasts}`;
    }
  };
  return `${seconds(fault.atMs)} ${what()}`;
}
