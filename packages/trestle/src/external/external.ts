/**
 * external: a system that is not ours, behind a timeout, retries with a budget, and a breaker. Its mutations are
 * recovery points: what the handler wrote before the call is committed with the intent to call; the answer is
 * remembered; after a crash the handler resumes there, and asks again with the same idempotency key.
 */
import {
  declareComponent,
  definitionOf,
  parseOrFault,
  type Annotations,
  type Component,
  type In,
  type Invocation,
  type Mode,
  type NodeServices,
  type Out,
  type Schema,
  type Usable,
} from "../component/index.ts";
import { Fault, type Duration } from "../kernel/index.ts";
import type { Policy } from "../resilience/index.ts";
import type { Secret, Setting } from "../setting/index.ts";
import type { Health, HealthSpec, HealthState } from "./health.ts";
import type { PolicyNode } from "./policy.ts";
import { assertHedgeable, rulesOf, type HedgeSpec } from "./rules.ts";
import { Side } from "./side.ts";
import type { Wire } from "./wire.ts";

export function external<O extends { readonly [operation: string]: AnyOperation }>(
  name: string,
  spec: ExternalSpec & { readonly health?: HealthCheck<NoInfer<O>> },
  operations: O,
): External<{ [K in keyof O]: O[K] }> {
  const { url, auth, timeout, retry, breaker, concurrency, policy, hedge, health, ...annotations } = spec;
  const table = operations as unknown as Readonly<Record<string, DeclaredOperation>>;
  const rules = rulesOf(name, { url, auth, timeout, retry, breaker, concurrency, policy, hedge, health: health as HealthSpec | undefined });
  if (rules.health && table[rules.health.operation]?.changes !== false)
    throw Fault.create(
      "external.no-such-query",
      `external "${name}": health.ask must name one of its queries, got ${JSON.stringify(rules.health.operation)}`,
      "Give it a query that is cheap to answer.",
    );
  if (hedge) assertHedgeable(hedge, table, rules);
  const side = (node: NodeServices): Side => node.local(component, () => new Side(rules, node, table));
  const component = declareComponent<External<{ [K in keyof O]: O[K] }>>("external", name, {
    annotations,
    uses: {},
    edge: "call",
    role: "any",
    follows: [...(typeof url === "object" ? [url] : []), ...(auth ? [auth] : [])],
    ...(rules.health && { part: (node: NodeServices) => side(node).health as Health }),
    interior: {
      has: (what) => (what === "saturation" ? rules.concurrency : rules[what]) !== undefined,
      saturation: (node) => {
        const { bulkhead } = side(node);
        return bulkhead && (bulkhead.waiting > 0 ? 1 : bulkhead.inFlight / bulkhead.running);
      },
      breaker: (node) => side(node).breaker?.state.kind,
      health: (node) => side(node).health?.state,
    } satisfies Dependency,
    bind: (invocation) => bound(name, table, side(invocation.node), invocation),
    live: (node) => outside(name, table, side(node), node),
  });
  return component;
}

/** An external as others watch it: what it has, and how it is on a node. */
export interface Dependency {
  has(what: "breaker" | "health" | "saturation"): boolean;
  /** Of its `concurrency`: the share of places that are taken, 1 when somebody waits for one. */
  saturation(node: NodeServices): number | undefined;
  breaker(node: NodeServices): "closed" | "half-open" | "open" | undefined;
  health(node: NodeServices): HealthState | undefined;
}

export function dependencyOf(external: Component): Dependency {
  return definitionOf(external).interior as Dependency;
}

export interface ExternalSpec extends Annotations {
  readonly url?: string | Setting<string>;
  /** Sent as `Authorization: Bearer …` with everything that goes over the wire. */
  readonly auth?: Secret;
  /** Of one attempt; default 5s. The caller's deadline wins when it is shorter. */
  readonly timeout?: Duration;
  /** Default: 3 attempts, retries held to 20% of the calls. */
  readonly retry?: false | { readonly attempts?: number; readonly budget?: `${number}%` };
  /** Default: opens when half of at least 20 calls in 10 s failed, or took longer than `slowerThan` where that is given, for 5s. */
  readonly breaker?: false | { readonly failureRate?: number; readonly cooldown?: Duration; readonly slowerThan?: Duration };
  /**
   * How many calls of this node may be under way at once, 1 to 1,000,000; `"adaptive"`: as many as the other side works on, found from how long it takes and how it answers. Two to three times
   * as many wait, the urgent first and tenants in fair turns. Who comes then, or has stood in a line that does not move, was not called: `bulkhead.full` of a query, `external.unreachable` of a
   * mutation. Default: no bound.
   */
  readonly concurrency?: number | "adaptive";
  /**
   * Gates of your own behind all of these, before each attempt: `(node) => throttle({ ...node, rate: "50/s", wait: "2s" })`, or a pipeline of several. Made once for each node, and once on trial where it is declared, so it only makes. What they decline was not
   * called, does not speak against the other side, and is not tried again: the gate's own code of a query, `external.unreachable` of a mutation. Faults: `external.bad-policy`, of anything in it but gates. Default: none.
   */
  readonly policy?: (node: PolicyNode) => Policy<string>;
  /**
   * Its queries are asked once more when an answer takes longer than `after`: a duration, or a percentile of the latest answers to that query (`"p95"`; none is sent before there are 20). The first answer wins, the signals of the others
   * abort. `tries` in all, 2 to 5, default 2; held to the budget of `retry` together with the retries. `timeout` is of each try; `wire.attempt` tells them apart, so that another one is asked. Mutations, their `lookup` and the health check
   * are never hedged. Faults: `external.bad-hedge`, where there is no query, or `after` is not less than `timeout`. Default: none.
   */
  readonly hedge?: HedgeSpec;
}

/** One of its queries that is asked again and again (health.ts): degradation and `/_trestle` look at what it finds. */
export type HealthCheck<O> = {
  readonly [K in keyof O & string]: O[K] extends Query<infer Input, any>
    ? {
        readonly ask: K;
        readonly input: Input;
        /** Default 10s, from 100ms to 1h. After a failure it is asked sooner. */
        readonly every?: Duration;
        /** So many failed checks in a row and it is down. 1 to 100, default 2. */
        readonly failures?: number;
      }
    : never;
}[keyof O & string];

/** One operation. `returns` parses what came back: an answer of the wrong shape is a fault, not a surprise later. */
export function mutation<S extends Schema, R extends Schema>(
  spec: MutationSpec<S, R>,
  call: (input: In<S>, wire: Wire) => Promise<unknown>,
): Mutation<In<S>, Out<R>> {
  const { input, returns, key, lookup, outcome } = spec;
  return declared({
    changes: true,
    input,
    returns,
    key: key as DeclaredOperation["key"],
    lookup: lookup as DeclaredOperation["lookup"],
    mayRepeat: outcome === "may-repeat",
    call: call as DeclaredOperation["call"],
  });
}

export interface MutationSpec<S extends Schema, R extends Schema> {
  readonly input: S;
  readonly returns: R;
  /** Idempotency key for the other side. Default: derived from the handler's invocation, stable over retries and crashes. */
  readonly key?: (input: In<S>) => string;
  /**
   * Asks the other side what became of a call: its answer, or `undefined` when it knows of none. Asked before the call is made
   * again after a crash, and when a call ended without an answer. If it cannot be asked, the call is not made.
   */
  readonly lookup?: (input: In<S>, wire: Wire) => Promise<unknown>;
  /** `may-repeat`: doing it twice does no harm, so a call without an answer is an ordinary failure. Default: it is an unknown outcome (`external.outcome-unknown`), and the handler does not go on. */
  readonly outcome?: "may-repeat";
}

/** Allowed in every handler, no recovery point, free to retry. */
export function query<S extends Schema, R extends Schema>(
  spec: { readonly input: S; readonly returns: R },
  call: (input: In<S>, wire: Wire) => Promise<unknown>,
): Query<In<S>, Out<R>> {
  return declared({
    changes: false,
    input: spec.input,
    returns: spec.returns,
    key: undefined,
    lookup: undefined,
    mayRepeat: true,
    call: call as DeclaredOperation["call"],
  });
}

export interface AnyOperation {
  readonly "~operation": true;
}
/** Changes the other side: a recovery point. */
export interface Mutation<Input, Result> extends AnyOperation {
  readonly changes: true;
  readonly input: Input;
  readonly result: Result;
}
/** Only looks. */
export interface Query<Input, Result> extends AnyOperation {
  readonly changes: false;
  readonly input: Input;
  readonly result: Result;
}

export interface External<Operations>
  extends Component<"external">, Usable<ExternalHandle<Operations, "read">, ExternalHandle<Operations, "write">, ExternalHandle<Operations, "durable">> {}
export type ExternalHandle<Operations, M extends Mode> = {
  readonly [K in keyof Operations]: Operations[K] extends Query<infer Input, infer Result>
    ? (input: Input) => Promise<Result>
    : Operations[K] extends Mutation<infer Input, infer Result>
      ? M extends "durable"
        ? (input: Input) => Promise<Result>
        : OnlyInADurableHandler
      : never;
};

/**
 * Not callable here. Changing something outside needs a handler that will be finished even if this process dies: make the
 * route `idempotent`, or move the call into a queue, subscription or workflow.
 */
export interface OnlyInADurableHandler {
  readonly "make this route `idempotent`, or call from a queue, subscription or workflow": never;
}

// ---- at run time ------------------------------------------------------------------------------------------------------

export interface DeclaredOperation {
  readonly changes: boolean;
  readonly input: Schema;
  readonly returns: Schema;
  readonly key: ((input: unknown) => string) | undefined;
  readonly lookup: ((input: unknown, wire: Wire) => Promise<unknown>) | undefined;
  readonly mayRepeat: boolean;
  readonly call: (input: unknown, wire: Wire) => Promise<unknown>;
}

// The declared type exists for inference; the value is the operation's parts.
function declared(operation: DeclaredOperation): never {
  return operation as never;
}

function bound(name: string, table: Readonly<Record<string, DeclaredOperation>>, side: Side, invocation: Invocation): object {
  const handle: Record<string, (input: unknown) => Promise<unknown>> = {};
  for (const [operation, declaration] of Object.entries(table)) {
    const title = `${name}.${operation}`;
    handle[operation] = async (input) => {
      invocation.assertOpen();
      await parseOrFault(declaration.input, input, `input of ${title}`);
      const { signal, id } = invocation.frame;
      if (!declaration.changes)
        return invocation.recall(`${title} ${JSON.stringify(input)}`, () => side.ask(operation, declaration, input, `${id}:${title}`, signal));
      const key = declaration.key?.(input) ?? invocation.callKey(title, input);
      return invocation.recoveryPoint({
        operation: title,
        key,
        run: (resumed) => side.change(operation, declaration, input, key, signal, resumed),
        isNotMade: (fault) => !side.isUnknown(fault),
        isUnknown: (fault) => !declaration.mayRepeat && side.isUnknown(fault),
      });
    };
  }
  return handle;
}

/** Outside handlers: one call each, with a key of its own; nobody finishes it when this process dies. */
function outside(name: string, table: Readonly<Record<string, DeclaredOperation>>, side: Side, node: NodeServices): object {
  return Object.fromEntries(
    Object.entries(table).map(([operation, declaration]) => [
      operation,
      async (input: unknown) => {
        await parseOrFault(declaration.input, input, `input of ${name}.${operation}`);
        const key = declaration.key?.(input) ?? node.ids.next();
        return declaration.changes
          ? side.change(operation, declaration, input, key, undefined, false)
          : side.ask(operation, declaration, input, key, undefined);
      },
    ]),
  );
}
