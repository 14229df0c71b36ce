/** What the parts of this folder know of a service or of the implementation of one: its operations, and where they run. */
import { definitionOf, type Component, type NodeServices } from "../component/index.ts";
import type { Rung } from "../degradation/index.ts";
import type { Operation } from "./operation.ts";

export interface ServiceInterior {
  readonly operations: ReadonlyMap<string, Operation>;
  /** The service these are the operations of, when this is its implementation. */
  readonly component: Component | undefined;
}

export function interiorOf(component: Component): ServiceInterior {
  return definitionOf(component).interior as ServiceInterior;
}

/** The operation as this app runs it: itself, or that of the contract's implementation. `undefined` when another app does. */
export function operationHere(component: Component, operation: Operation, node: NodeServices): Operation | undefined {
  if (!definitionOf(component).open) return operation;
  const implementation = node.implementation(component);
  return implementation && interiorOf(implementation).operations.get(operation.name);
}

/** What the code of these components' operations has for the rungs of a ladder, by `service.operation`. */
export function rungsOf(components: readonly Component[]): ReadonlyMap<string, ReadonlySet<Rung>> {
  const rungs = new Map<string, ReadonlySet<Rung>>();
  for (const component of components) {
    const { operations } = (interiorOf(component) as Partial<ServiceInterior> | undefined) ?? {};
    // A contract's operations are those of whoever implements it.
    if (!(operations instanceof Map) || definitionOf(component).open) continue;
    for (const { title, degrade = {} } of (operations as ServiceInterior["operations"]).values())
      rungs.set(title, new Set<Rung>(["full", ...(["stale", "partial", "static"] as const).filter((rung) => rung in degrade), "unavailable"]));
  }
  return rungs;
}

/** The services among these components that this app runs and that admit requests: by name, what their state is kept under. */
export function admittingOf(components: readonly Component[]): ReadonlyMap<string, Component> {
  const admitting = new Map<string, Component>();
  for (const component of components) {
    const { operations, component: contract = component } = (interiorOf(component) as Partial<ServiceInterior> | undefined) ?? {};
    if (!(operations instanceof Map) || definitionOf(component).open) continue;
    if ([...(operations as ServiceInterior["operations"]).values()].some(({ admission }) => admission)) admitting.set(contract.name, contract);
  }
  return admitting;
}

/** For how long answers are kept under the idempotency keys of these components' operations. */
export function answersKeptForMs(components: readonly Component[]): ReadonlySet<number> {
  const kept = new Set<number>();
  for (const component of components) {
    const { operations } = (interiorOf(component) as Partial<ServiceInterior> | undefined) ?? {};
    if (operations instanceof Map)
      for (const { idempotent } of (operations as ServiceInterior["operations"]).values()) if (idempotent) kept.add(idempotent.keepForMs);
  }
  return kept;
}
