/** Cycles in a graph of dependencies between transactions, and what they are called. */
import { DependencyGraph } from "./dependency-graph.ts";

/** Kinds of edges, one bit each. `via` is the second half of an `rw` that goes through a joint. */
export const dependency = { ww: 1, wr: 2, rw: 4, via: 8, process: 16, realtime: 32 } as const;
const { ww, wr, rw, via } = dependency;

export type Isolation = "read-committed" | "snapshot-isolation" | "serializable";
export type Anomaly = "G0" | "G1c" | "G-single" | "G-nonadjacent" | "G2-item";

export interface Step {
  readonly from: number;
  readonly to: number;
  readonly kind: number;
  readonly label: number;
}

export interface Cycle {
  readonly anomaly: Anomaly | `${Anomaly}-${"process" | "realtime"}`;
  /** From transaction to transaction; the last leads to the first. */
  readonly steps: readonly Step[];
}

/**
 * Of each component the gravest cycle that this isolation forbids, as short as a bounded search finds: over `ww` alone (G0), over `wr` too (G1c), with one `rw`
 * (G-single), with any (G2-item), each first without and then with the order of processes or of real time. Snapshot isolation forbids exactly
 * the cycles in which no two `rw` follow each other (A. Cerone and A. Gotsman, "Analysing Snapshot Isolation", 2016).
 */
export function nameCycles(graph: DependencyGraph, isolation: Isolation, order: "none" | "process" | "realtime"): Cycle[] {
  const data = isolation === "read-committed" ? ww | wr : ww | wr | rw | via;
  return graph.components(data | (order === "none" ? 0 : dependency[order])).flatMap((component) => {
    const found = gravest(graph.part(component), isolation, order);
    return found ? [{ anomaly: found.anomaly, steps: stepsOf(graph, found.edges) }] : [];
  });
}

/** In a part of the graph, whose labels are the edges of the whole. */
function gravest(
  part: DependencyGraph,
  isolation: Isolation,
  order: "none" | "process" | "realtime",
): { readonly anomaly: Cycle["anomaly"]; readonly edges: readonly number[] } | undefined {
  const orders =
    order === "none"
      ? [{ kept: 0, suffix: "" as const }]
      : [
          { kept: 0, suffix: "" as const },
          { kept: dependency[order], suffix: `-${order}` as const },
        ];
  for (const { kept, suffix } of orders) {
    const looks: [Anomaly, () => readonly number[] | undefined][] = [
      ["G0", () => shortest(part, ww | kept)],
      ["G1c", () => shortest(part, ww | wr | kept)],
    ];
    if (isolation !== "read-committed") looks.push(["G-single", () => withOneRw(part, ww | wr | kept)]);
    if (isolation === "snapshot-isolation") looks.push(["G-nonadjacent", () => withoutTwoRwInARow(part, ww | wr | kept)]);
    if (isolation === "serializable") looks.push(["G2-item", () => shortest(part, ww | wr | rw | via | kept)]);
    for (const [anomaly, look] of looks) {
      const edges = look();
      if (edges) return { anomaly: `${anomaly}${suffix}`, edges };
    }
  }
  return undefined; // with snapshot isolation: each of its cycles has two `rw` in a row
}

/** How many edges a search for a short cycle looks at. One that goes through a given node is always found first. */
const budgetOf = (graph: DependencyGraph) => ({ left: Math.max(5_000_000, 4 * graph.edges) });

/** Of these searches each answers with labels. */
function shortest(graph: DependencyGraph, kinds: number): readonly number[] | undefined {
  const budget = budgetOf(graph);
  let best: readonly number[] | undefined;
  let length = Infinity;
  for (const component of graph.components(kinds)) {
    for (const node of component) {
      if (graph.isJoint(node)) continue;
      const cycle = graph.path(node, node, kinds, budget);
      if (cycle && stepsOf(graph, cycle).length < length) {
        best = cycle.map((edge) => graph.label(edge));
        length = stepsOf(graph, cycle).length;
      }
      if (length <= 2 || (best && budget.left <= 0)) return best;
    }
  }
  return best;
}

/** One `rw`, and a way back over the other kinds. */
function withOneRw(graph: DependencyGraph, kinds: number): readonly number[] | undefined {
  const budget = budgetOf(graph);
  let best: readonly number[] | undefined;
  let length = Infinity;
  for (let edge = 0; edge < graph.edges && length > 2 && budget.left > 0; edge++) {
    if (graph.kind(edge) !== rw) continue;
    const back = graph.path(graph.to(edge), graph.from(edge), kinds | via, budget);
    if (!back || stepsOf(graph, [edge, ...back]).length >= length) continue;
    best = [edge, ...back].map((each) => graph.label(each));
    length = stepsOf(graph, [edge, ...back]).length;
  }
  return best;
}

/** A closed walk: over a graph that has each node twice, as reached over an `rw`, from where no other one may be taken, and as reached otherwise. */
function withoutTwoRwInARow(graph: DependencyGraph, kinds: number): readonly number[] | undefined {
  const walk = new DependencyGraph(2 * graph.things);
  while (walk.nodes < 2 * graph.nodes) walk.joint();
  for (let edge = 0; edge < graph.edges; edge++) {
    const [from, to, label] = [2 * graph.from(edge), 2 * graph.to(edge), graph.label(edge)];
    if (graph.kind(edge) === rw) walk.add(from, to + 1, 1, label);
    else if (graph.kind(edge) === via) walk.add(from + 1, to + 1, 1, label);
    else if (graph.kind(edge) & kinds) for (const reached of [0, 1]) walk.add(from + reached, to, 1, label);
  }
  return shortest(walk, 1);
}

/** Edges as steps between transactions: what leads through joints is one step, of the kind and label of its first edge. */
function stepsOf(graph: DependencyGraph, edges: readonly number[]): Step[] {
  const steps: Step[] = [];
  const first = edges.findIndex((edge) => !graph.isJoint(graph.from(edge)));
  const turned = [...edges.slice(first), ...edges.slice(0, first)];
  for (let i = 0; i < turned.length;) {
    const [from, kind, label] = [graph.from(turned[i] as number), graph.kind(turned[i] as number), graph.label(turned[i] as number)];
    while (graph.isJoint(graph.to(turned[i] as number))) i++;
    steps.push({ from, to: graph.to(turned[i++] as number), kind, label });
  }
  return steps;
}
