/** The declared graph: every component an app reaches, and every edge, from the values alone. Nothing is started or parsed. */
import { definitionOf, type Annotations, type Component, type EdgeOperation } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";

export interface Graph {
  readonly components: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
}
export interface GraphNode {
  readonly kind: string;
  readonly name: string;
  readonly role: string;
  readonly annotations: Annotations;
}
export interface GraphEdge {
  readonly from: string;
  readonly to: string;
  readonly operation: EdgeOperation;
}

/**
 * The listed components and all they reach, dependencies first.
 * Faults: `app.duplicate-name` when two components of one app have one name: the name is identity in storage.
 */
export function reachable(roots: readonly Component[]): readonly Component[] {
  const ordered: Component[] = [];
  const byName = new Map<string, Component>();
  const visit = (component: Component): void => {
    const known = byName.get(component.name);
    if (known === component) return;
    if (known) {
      throw Fault.create(
        "app.duplicate-name",
        `two components are named "${component.name}": a ${known.kind} and a ${component.kind}`,
        "Rename one: the name is its identity in storage, metrics and URLs.",
      );
    }
    byName.set(component.name, component);
    for (const next of neighbours(component)) visit(next.component);
    ordered.push(component);
  };
  for (const root of roots) visit(root);
  return ordered;
}

export function graphOf(components: readonly Component[]): Graph {
  const nodes = components.map((component): GraphNode => {
    const { annotations, role } = definitionOf(component);
    return { kind: component.kind, name: component.name, role, annotations };
  });
  const edges = components.flatMap((from) =>
    neighbours(from).map(({ component, operation }): GraphEdge => ({ from: from.name, to: component.name, operation })),
  );
  return { components: nodes, edges: [...new Map(edges.map((edge) => [`${edge.from} ${edge.to} ${edge.operation}`, edge])).values()] };
}

function neighbours(component: Component): readonly { readonly component: Component; readonly operation: EdgeOperation }[] {
  const { uses, follows = [] } = definitionOf(component);
  return [
    ...Object.values(uses).map((used) => ({ component: used as unknown as Component, operation: definitionOf(used as unknown as Component).edge })),
    ...follows.map((followed) => ({ component: followed, operation: followed.kind === "setting" ? ("read" as const) : ("follow" as const) })),
  ];
}
