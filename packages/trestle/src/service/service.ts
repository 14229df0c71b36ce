/**
 * service: operations that callers wait for, over HTTP or from another component.
 *
 * A service is an object of named operations. The name is the operation's identity everywhere: method of the typed
 * client, metric label, scope of an idempotency key. The route is where HTTP finds it.
 *
 * An answer commits. A refusal or a throw discards everything the handler wrote (since its last recovery point).
 */
import { declareComponent, definitionOf, type Component, type NodePart, type NodeServices, type Usable, type Uses, type WorkSpec } from "../component/index.ts";
import { durationMs, Fault, sizeBytes, type Bytes } from "../kernel/index.ts";
import { dispatcherOf } from "../messaging/index.ts";
import { bindClient, openClient } from "./client.ts";
import { Completions } from "./completion.ts";
import type { Limit } from "./limit.ts";
import { operationOf, type Operation } from "./operation.ts";
import { RouteDeclaration, type Client, type OperationOf, type Route } from "./route.ts";
import { stateOf } from "./state.ts";

export function service<const Name extends string, U extends Uses = {}, R extends { readonly [operation: string]: Route<unknown, U> } = {}>(
  name: Name,
  spec: ServiceSpec<U>,
  operations: R,
): Service<{ [K in keyof R]: OperationOf<R[K]> }> {
  const { uses, timeout, role = "web", limit, maxBody, ...annotations } = spec;
  const from = {
    uses,
    timeoutMs: timeout === undefined ? undefined : durationMs(timeout, `service "${name}": timeout`),
    maxBodyBytes: sizeBytes(maxBody ?? maxBodyDefault, `service "${name}": maxBody`),
  };
  const table = new Map<string, Operation>();
  const reached: Record<string, Uses[string]> = { ...uses };
  for (const [operation, route] of Object.entries(operations as Readonly<Record<string, unknown>>)) {
    if (!(route instanceof RouteDeclaration))
      throw Fault.create(
        "service.not-a-route",
        `operation ${JSON.stringify(operation)} of service "${name}" is not a route`,
        "Make it with get, post, put, patch, del or sse.",
      );
    table.set(
      operation,
      operationOf(
        name,
        operation,
        limit && !route.spec.limit ? new RouteDeclaration(route.method, route.path, { ...route.spec, limit }, route.handler, route.streams) : route,
        from,
      ),
    );
    for (const [used, component] of Object.entries(route.spec.uses ?? {})) reached[`${operation}.${used}`] = component;
  }
  const durable = [...table.values()].some(({ idempotent }) => idempotent !== undefined);
  const component: Service<{ [K in keyof R]: OperationOf<R[K]> }> = declareComponent<Service<{ [K in keyof R]: OperationOf<R[K]> }>>("service", name, {
    annotations,
    uses: reached,
    edge: "call",
    role,
    bind: (invocation) => bindClient(component, table, invocation),
    live: (node) => openClient(component, table, node),
    part: (node) => servicePart(component, table, durable, node),
    interior: { operations: table } satisfies ServiceInterior,
  });
  return component;
}

export interface ServiceSpec<U extends Uses> extends WorkSpec<U> {
  /** For every route that declares none of its own; each route has its own buckets. */
  readonly limit?: Limit;
  /** The longest body a route accepts; default 1MB. */
  readonly maxBody?: Bytes;
}

/** Listed under `uses`, a service is a typed client: in process when this process runs it, by URL when not. */
export interface Service<Operations>
  extends Component<"service">, Usable<Client<Operations, "read">, Client<Operations, "write">, Client<Operations, "durable">> {}

const maxBodyDefault = 1_000_000;

interface ServiceInterior {
  readonly operations: ReadonlyMap<string, Operation>;
}

export function interiorOf(component: Component): ServiceInterior {
  return definitionOf(component).interior as ServiceInterior;
}

/** A place of the node's own: which routes are taken, by whom. */
const routesTaken: Component = Object.freeze({ kind: "~routes", name: "~routes" });

function takeRoutes(operations: ReadonlyMap<string, Operation>, node: NodeServices): void {
  const taken = node.local(routesTaken, () => new Map<string, string>());
  for (const { method, path, title } of operations.values()) {
    const shape = `${method} ${path.replaceAll(/:\w+/g, ":")}`;
    const by = taken.get(shape);
    if (by !== undefined)
      throw Fault.create("service.route-taken", `${method} ${path} is a route of both ${by} and ${title}`, "Give one of them another path.");
    taken.set(shape, title);
  }
}

function servicePart(component: Component, operations: ReadonlyMap<string, Operation>, durable: boolean, node: NodeServices): NodePart {
  takeRoutes(operations, node);
  const state = stateOf(component, node);
  const completions = durable ? new Completions(component, operations, node, state) : undefined;
  return {
    name: `service ${component.name}`,
    async start() {
      if (completions) dispatcherOf(node).add(completions);
    },
    async drain(withinMs) {
      await Promise.all([state.quiet(), completions && dispatcherOf(node).drain(withinMs)]);
    },
    async stop() {
      if (completions) dispatcherOf(node).remove(completions);
    },
    async idle() {
      return state.inFlight === 0 && (!completions || (await dispatcherOf(node).idle()));
    },
  };
}
