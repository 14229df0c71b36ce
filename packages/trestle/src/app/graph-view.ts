/**
 * The declared graph with the observed one laid over it: what `/_trestle/graph.json` answers.
 *
 * Traffic of a component is that of its handlers; of one without handlers (records, an aggregate) it is the use others make of it.
 * Traffic of an edge is its use; failures and durations are known where one waits for the other. An edge that follows is not used by
 * a handler: it carries what its follower handles.
 */
import type { QueueDepth } from "../store/index.ts";
import type { GateView } from "./gates.ts";
import type { Graph } from "./graph.ts";
import type { Observed } from "./observer.ts";
import { windowMs, type Traffic } from "./traffic.ts";

export interface GraphView {
  readonly version: 1;
  readonly app: string;
  readonly phase: string;
  readonly atMs: number;
  readonly windowMs: number;
  readonly components: readonly ComponentView[];
  readonly edges: readonly EdgeView[];
  readonly gates: readonly GateView[];
}
export interface ComponentView {
  readonly kind: string;
  readonly name: string;
  readonly role: string;
  readonly facts: object;
  /** `handled`: its own handlers; `used`: handlers that reached for it. */
  readonly counts: "handled" | "used";
  readonly traffic: Traffic;
  readonly operations: readonly (Traffic & { readonly name: string; readonly total: number })[];
  readonly queue?: QueueDepth;
  /** `false`: seen, but not in the app's declaration. */
  readonly declared: boolean;
}
export interface EdgeView {
  readonly from: string;
  readonly to: string;
  readonly operation: string;
  readonly declared: boolean;
  /** Seen since the node started; how often. */
  readonly total: number;
  readonly traffic: Traffic;
}

interface Parts {
  readonly app: string;
  readonly phase: string;
  readonly atMs: number;
  readonly graph: Graph;
  readonly observed: Observed;
  readonly depths: readonly QueueDepth[];
}

const quiet: Traffic = { perSecond: 0, refusedPerSecond: 0, faultsPerSecond: 0 };

export function graphView({ app, phase, atMs, graph, observed, depths }: Parts): GraphView {
  const seen = new Map(observed.edges.map((edge) => [`${edge.from} ${edge.to}`, edge]));
  const declaredPairs = new Set(graph.edges.map(({ from, to }) => `${from} ${to}`));

  const edges = graph.edges.map(({ from, to, operation }): EdgeView => {
    const used = seen.get(`${from} ${to}`);
    if (used) return { from, to, operation, declared: true, total: used.total, traffic: used.traffic };
    const follower = operation === "follow" ? observed.components.get(from) : undefined;
    if (!follower) return { from, to, operation, declared: true, total: 0, traffic: quiet };
    return {
      from,
      to,
      operation,
      declared: true,
      total: [...follower.operations.values()].reduce((sum, { total }) => sum + total, 0),
      traffic: follower.traffic,
    };
  });
  for (const { from, to, total, traffic } of observed.edges) {
    if (!declaredPairs.has(`${from} ${to}`)) edges.push({ from, to, operation: "use", declared: false, total, traffic });
  }

  const depthOf = new Map(depths.map((depth) => [depth.queue, depth]));
  const names = new Set(graph.components.map(({ name }) => name));
  const strangers = new Set(edges.flatMap(({ from, to }) => [from, to]).filter((name) => !names.has(name)));
  const all = [
    ...graph.components.map((component) => ({ ...component, declared: true })),
    ...[...strangers].map((name) => ({ kind: name === app ? "app" : "unknown", name, role: "", annotations: {}, declared: false })),
  ];
  const components = all.map(({ kind, name, role, annotations, declared }): ComponentView => {
    const own = observed.components.get(name);
    const queue = depthOf.get(name);
    const handled = own !== undefined && [...own.operations.values()].some(({ total }) => total > 0);
    return {
      kind,
      name,
      role,
      declared,
      facts: annotations,
      counts: handled ? "handled" : "used",
      traffic: handled ? own.traffic : usedBy(edges.filter(({ to, operation }) => to === name && operation !== "follow")),
      operations: own ? [...own.operations].map(([operation, traffic]) => ({ name: operation, ...traffic })) : [],
      ...(queue ? { queue } : {}),
    };
  });
  return { version: 1, app, phase, atMs, windowMs, components, edges, gates: observed.gates };
}

function usedBy(edges: readonly EdgeView[]): Traffic {
  const sum = (of: (traffic: Traffic) => number) => edges.reduce((total, { traffic }) => total + of(traffic), 0);
  return {
    perSecond: sum(({ perSecond }) => perSecond),
    refusedPerSecond: sum(({ refusedPerSecond }) => refusedPerSecond),
    faultsPerSecond: sum(({ faultsPerSecond }) => faultsPerSecond),
  };
}
