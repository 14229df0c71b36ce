/**
 * What the processes of a supervised app say of themselves, put together: whichever of them is asked shows the whole. Rates and counts add up;
 * quantiles do not, so of those the worst is shown, as of the rungs on which a route stands. Metrics keep their process as a label, and their sums to whoever collects them; those of
 * the store, which is one, come from the process that was asked.
 */
import { levelOf } from "../degradation/index.ts";
import type { LifecycleState } from "../kernel/index.ts";
import type { DegradationView, RouteView } from "./degradation.ts";
import { gatesOfAll, type GateView } from "./gates.ts";
import type { Observed } from "./observer.ts";
import type { Part } from "./supervised.ts";
import type { Traffic } from "./traffic.ts";

/** What goes between processes: plain data. */
export interface ProcessSays {
  readonly metrics: string;
  readonly phase: LifecycleState;
  readonly startedAtMs: number;
  readonly memoryBytes: number;
  readonly observed: ObservedEntries;
  /** Of a process with policies. */
  readonly degradation?: DegradationView;
}
export interface ObservedEntries {
  readonly components: readonly (readonly [
    name: string,
    traffic: Traffic,
    operations: readonly (readonly [name: string, traffic: Traffic & { readonly total: number }])[],
  ])[];
  readonly edges: Observed["edges"];
  readonly gates: readonly GateView[];
}

export const saidBy = (part: Part): ProcessSays | undefined => part.value as ProcessSays | undefined;

const ofTheStore = /^trestle_queue_/;

/** One page of all; `own` is the name of the process that was asked. */
export function metricsOfAll(parts: readonly { readonly name: string; readonly text: string }[], own: string): string {
  const families = new Map<string, { readonly head: string[]; readonly samples: string[] }>();
  for (const { name, text } of parts) {
    let family: { readonly head: string[]; readonly samples: string[] } | undefined;
    let kept = true;
    for (const line of text.split("\n")) {
      if (line === "") continue;
      const [, of] = /^# (?:HELP|TYPE) (\S+)/.exec(line) ?? [];
      if (of !== undefined) {
        kept = name === own || !ofTheStore.test(of);
        if (!kept) continue;
        const known = families.get(of);
        if (!known) families.set(of, (family = { head: [line], samples: [] }));
        else {
          family = known;
          if (!family.head.includes(line)) family.head.push(line);
        }
      } else if (kept && family) family.samples.push(ofTheStore.test(line) ? line : labelled(line, name));
    }
  }
  return `${[...families.values()].flatMap(({ head, samples }) => [...head, ...samples]).join("\n")}\n`;
}

function labelled(sample: string, name: string): string {
  const [, metric, labels, value] = /^([^\s{]+)(?:\{(.*)\})? (\S+)$/.exec(sample) ?? [];
  if (metric === undefined) return sample;
  return `${metric}{process="${name}"${labels ? `,${labels}` : ""}} ${value}`;
}

export function entriesOf({ components, edges, gates }: Observed): ObservedEntries {
  return { components: [...components].map(([name, { traffic, operations }]) => [name, traffic, [...operations]] as const), edges, gates };
}

export function observedByAll(all: readonly ObservedEntries[]): Observed {
  const components = new Map<string, { traffic: Traffic; operations: Map<string, Traffic & { readonly total: number }> }>();
  const edges = new Map<string, Observed["edges"][number]>();
  for (const one of all) {
    for (const [name, traffic, operations] of one.components) {
      const known = components.get(name);
      const into = known ?? { traffic, operations: new Map<string, Traffic & { readonly total: number }>() };
      if (known) known.traffic = sumOf(known.traffic, traffic);
      else components.set(name, into);
      for (const [operation, of] of operations) {
        const before = into.operations.get(operation);
        into.operations.set(operation, before ? { ...sumOf(before, of), total: before.total + of.total } : of);
      }
    }
    for (const edge of one.edges) {
      const key = `${edge.from} ${edge.to}`;
      const before = edges.get(key);
      edges.set(key, before ? { ...edge, total: before.total + edge.total, traffic: sumOf(before.traffic, edge.traffic) } : edge);
    }
  }
  return { components, edges: [...edges.values()], gates: gatesOfAll(all.map(({ gates }) => gates)) };
}

/** The ladders of all who have some; `undefined` when nobody has. */
export function degradationOfAll(all: readonly DegradationView[]): DegradationView | undefined {
  const routes = new Map<string, RouteView & Required<Pick<RouteView, "processes">>>();
  for (const one of all.flatMap((view) => view.routes)) {
    const before = routes.get(one.route);
    const processes = { ...before?.processes, [one.rung]: (before?.processes[one.rung] ?? 0) + 1 };
    routes.set(one.route, { ...(before && !isWorse(one, before) ? before : one), processes });
  }
  const [first] = all;
  return first && { file: first.file, refused: all.find(({ refused }) => refused !== undefined)?.refused, routes: [...routes.values()] };
}

/** Further down, or as far for longer. */
function isWorse(one: RouteView, other: RouteView): boolean {
  const further = levelOf(one.rung) - levelOf(other.rung);
  return further > 0 || (further === 0 && one.forMs > other.forMs);
}

function sumOf(a: Traffic, b: Traffic): Traffic {
  const worst = (of: "p50Ms" | "p99Ms") => (a[of] === undefined && b[of] === undefined ? {} : { [of]: Math.max(a[of] ?? 0, b[of] ?? 0) });
  return {
    perSecond: a.perSecond + b.perSecond,
    refusedPerSecond: a.refusedPerSecond + b.refusedPerSecond,
    faultsPerSecond: a.faultsPerSecond + b.faultsPerSecond,
    ...worst("p50Ms"),
    ...worst("p99Ms"),
  };
}
