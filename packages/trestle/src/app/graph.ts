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
 * Faults: `app.duplicate-name` when two components of one app have one name: the name is identity in storage. `app.implemented-twice`
 * when an interface has two implementations.
 */
export function reachable(roots: readonly Component[]): readonly Component[] {
  const ordered: Component[] = [];
  const byName = new Map<string, Component>();
  const implemented = new Map<Component, Component>();
  const visit = (component: Component): void => {
    const open = definitionOf(component).implements;
    if (open) return implementation(component, open);
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
  const implementation = (component: Component, open: Component): void => {
    const known = implemented.get(open);
    if (known === component) return;
    if (known)
      throw Fault.create(
        "app.implemented-twice",
        `${open.kind} "${open.name}" is implemented twice in this app`,
        "List one implementation; let different apps of the fleet run different ones.",
      );
    implemented.set(open, component);
    visit(open);
    for (const next of neighbours(component)) visit(next.component);
    ordered.push(component);
  };
  for (const root of roots) visit(root);
  return ordered;
}

/** Open interfaces among these that nobody here implements. */
export function awaited(components: readonly Component[]): readonly Component[] {
  const implemented = new Set(components.map((component) => definitionOf(component).implements));
  return components.filter((component) => definitionOf(component).open && !implemented.has(component));
}

export function graphOf(components: readonly Component[]): Graph {
  // An implementation is seen as its interface: that is the name under which it runs.
  const implementations = new Map(components.map((component) => [definitionOf(component).implements, component]));
  const nodes = components.flatMap((component): GraphNode[] => {
    const { annotations, role, implements: open } = definitionOf(component);
    if (open) return [];
    const by = implementations.get(component);
    const own = by && definitionOf(by);
    return [{ kind: component.kind, name: component.name, role: own?.role ?? role, annotations: { ...annotations, ...own?.annotations } }];
  });
  const edges = components.flatMap((from) =>
    neighbours(from).map(({ component, operation }): GraphEdge => ({
      from: (definitionOf(from).implements ?? from).name,
      to: component.name,
      operation,
    })),
  );
  return { components: nodes, edges: [...new Map(edges.map((edge) => [`${edge.from} ${edge.to} ${edge.operation}`, edge])).values()] };
}

function neighbours(component: Component): readonly { readonly component: Component; readonly operation: EdgeOperation }[] {
  const { uses, follows = [] } = definitionOf(component);
  return [
    ...Object.values(uses).map((used) => ({ component: used as unknown as Component, operation: definitionOf(used as unknown as Component).edge })),
    ...follows.map((followed) => ({
      component: followed,
      operation: followed.kind === "setting" || followed.kind === "secret" ? ("read" as const) : ("follow" as const),
    })),
  ];
}
