/**
 * service: operations that callers wait for, over HTTP or from another component.
 *
 * A service is an object of named operations. The name is the operation's identity everywhere: method of the typed
 * client, metric label, scope of an idempotency key. The route is where HTTP finds it.
 *
 * An answer commits. A refusal or a throw discards everything the handler wrote (since its last recovery point).
 */
import {
  declareComponent,
  type Component,
  type Implementing,
  type Inherit,
  type NodePart,
  type NodeServices,
  type Usable,
  type Uses,
  type WorkSpec,
} from "../component/index.ts";
import { durationMs, Fault, sizeBytes, type Bytes } from "../kernel/index.ts";
import { dispatcherOf } from "../messaging/index.ts";
import { admissionRule, type Admission } from "./admission.ts";
import { bindClient, openClient } from "./client.ts";
import { Completions } from "./completion.ts";
import { limitRules, type Limit } from "./limit.ts";
import type { ServiceInterior } from "./interior.ts";
import { operationOf, type Operation } from "./operation.ts";
import { RouteDeclaration, type AnyHandler, type Client, type Contract, type OpenIfContract, type OperationOf, type Route } from "./route.ts";
import { stateOf } from "./state.ts";

export function service<const Name extends string, U extends Uses = {}, R extends { readonly [operation: string]: Route<unknown, U> | Contract<unknown> } = {}>(
  name: Name,
  spec: ServiceSpec<U>,
  operations: R,
): Service<{ [K in keyof R]: OperationOf<R[K]> }> & Inherit<U> & OpenIfContract<Name, R> {
  type Declared = Service<{ [K in keyof R]: OperationOf<R[K]> }> & Inherit<U> & OpenIfContract<Name, R>;
  const { uses, timeout, role = "web", limit, admission, maxBody, priority, callers, ...annotations } = spec;
  const from = {
    uses,
    timeoutMs: timeout === undefined ? undefined : durationMs(timeout, `service "${name}": timeout`),
    maxBodyBytes: sizeBytes(maxBody ?? maxBodyDefault, `service "${name}": maxBody`),
    limits: limitRules(limit, `service "${name}": limit`, "service", name),
    admission: admissionRule(admission, name),
    priority,
    trustsCallers: callers === "trusted",
  };
  const table = new Map<string, Operation>();
  const reached: Record<string, Uses[string]> = { ...uses };
  const routes = Object.entries(operations as Readonly<Record<string, unknown>>);
  for (const [operation, route] of routes) {
    if (!(route instanceof RouteDeclaration))
      throw Fault.create(
        "service.not-a-route",
        `operation ${JSON.stringify(operation)} of service "${name}" is not a route`,
        "Make it with get, post, put, patch, del or sse.",
      );
    table.set(operation, operationOf(name, operation, route, from));
    for (const [used, component] of Object.entries(route.spec.uses ?? {})) reached[`${operation}.${used}`] = component;
  }
  const contracts = routes.filter(([, route]) => (route as RouteDeclaration).handler === undefined);
  if (contracts.length > 0 && contracts.length < routes.length)
    throw Fault.create(
      "service.half-a-contract",
      `service "${name}" has a handler for some of its operations and none for ${contracts.map(([operation]) => operation).join(", ")}`,
      "Give every operation its handler here, or none, and implement the whole service elsewhere.",
    );
  const component: Component = declareComponent<Component<"service">>("service", name, {
    annotations,
    edge: "call",
    bind: (invocation) => bindClient(component, table, invocation),
    live: (node) => openClient(component, table, node),
    ...(contracts.length > 0
      ? { uses: {}, role: "any", open: implementing, interior: { operations: table, component: undefined } satisfies ServiceInterior }
      : {
          uses: reached,
          role,
          part: (node) => servicePart(component, table, node),
          interior: { operations: table, component: undefined } satisfies ServiceInterior,
        }),
  });
  return component as Declared;

  /** The contract's operations with the handlers, uses and time of an implementation. */
  function implementing(given: object, behaviour: unknown): Implementing {
    const { uses: used, role: where = role, timeout: within, ...own } = given as WorkSpec<Uses>;
    const handlers = behaviour as Readonly<Record<string, AnyHandler | undefined>>;
    const unknown = Object.keys(handlers).find((operation) => !table.has(operation));
    if (unknown !== undefined)
      throw Fault.create(
        "service.not-in-contract",
        `service "${name}" has no operation ${JSON.stringify(unknown)} to implement`,
        "Add it to the contract, or leave it out.",
      );
    const timeoutMs = within === undefined ? undefined : durationMs(within, `implementation of service "${name}": timeout`);
    const implemented = new Map(
      [...table].map(([operation, declared]): [string, Operation] => {
        const handler = Object.hasOwn(handlers, operation) ? handlers[operation] : undefined;
        if (typeof handler !== "function")
          throw Fault.create(
            "service.not-in-contract",
            `the implementation of service "${name}" has no handler for ${operation}`,
            "Implement every operation of the contract.",
          );
        return [operation, { ...declared, handler, uses: used, ...(timeoutMs === undefined ? {} : { timeoutMs }) }];
      }),
    );
    return {
      annotations: own,
      uses: used ?? {},
      role: where,
      part: (node) => servicePart(component, implemented, node),
      interior: { operations: implemented, component } satisfies ServiceInterior,
    };
  }
}

export interface ServiceSpec<U extends Uses> extends WorkSpec<U> {
  /** For all routes together, beside what each declares of its own: a request passes when all of them admit it. */
  readonly limit?: Limit | readonly Limit[];
  /** How many of its requests are worked on at once in a process, and who waits; default: no bound. Declined are 503 and 429 with `reason`, `Retry-After`, and nothing done. */
  readonly admission?: Admission;
  /** The longest body a route accepts; default 1MB. */
  readonly maxBody?: Bytes;
  /** For every route that declares none of its own; default `normal`. */
  readonly priority?: "high" | "normal" | "low";
  /** `trusted`: nobody reaches it but services of one's own, so that a caller is believed that its request is of high priority. */
  readonly callers?: "trusted";
}

/** Listed under `uses`, a service is a typed client: in process when this process runs it, by URL when not. */
export interface Service<Operations>
  extends Component<"service">, Usable<Client<Operations, "read">, Client<Operations, "write">, Client<Operations, "durable">> {}

const maxBodyDefault = 1_000_000;

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

function servicePart(component: Component, operations: ReadonlyMap<string, Operation>, node: NodeServices): NodePart {
  const durable = [...operations.values()].some(({ idempotent }) => idempotent !== undefined);
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
