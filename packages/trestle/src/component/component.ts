/**
 * A component is an inert value: a kind, a name, an interface, perhaps an implementation, and the components it `uses`.
 * Declaring does nothing. `start(app)` binds components to engines; only then do they act.
 *
 * A component itself has no operations. Operations live on *handles*, and a handle only exists inside a handler that
 * declared the component under `uses`. The handle is bound to that one invocation: what it writes joins the invocation's
 * one commit, what it reads becomes a precondition of it. There is nothing to pass on and nothing to forget.
 */
import type { Duration } from "../kernel/index.ts";

/**
 * Where a handler runs decides what its handles can do.
 * - `read`: it answers a question. Handles can look; nothing can be written.
 * - `write`: one commit, when it returns. May be lost if the process dies before that; the caller knows, and asks again.
 * - `durable`: will be finished whatever dies: jobs, subscriptions, schedules, workflows, idempotent routes.
 *   Only these may change the outside world.
 */
export type Mode = "read" | "write" | "durable";

/** What a component turns into inside a handler, one form per mode. Exists for types only. */
export interface Usable<View = unknown, Handle = View, Durable = Handle> {
  readonly "~handle": { readonly read: View; readonly write: Handle; readonly durable: Durable };
}

export interface Component<Kind extends string = string> {
  readonly kind: Kind;
  readonly name: string;
}

/** The typed edge list: the only things a handler can reach. */
export type Uses = { readonly [name: string]: Usable };

/** The handle of one component: `function reserveAll(stock: Handle<typeof stock>, items: Item[])`. */
export type Handle<C extends Usable, M extends Mode = "durable"> = C["~handle"][M];
export type View<C extends Usable> = C["~handle"]["read"];
/** What a handler receives for its `uses`. */
export type Handles<U extends Uses, M extends Mode = "durable"> = { readonly [K in keyof U]: U[K]["~handle"][M] };

/** Facts for people and tools, allowed on every declaration. Tools add their own by declaration merging. */
export interface Annotations {
  readonly summary?: string;
  /** The team that answers for it. */
  readonly owner?: string;
  readonly slo?: { readonly availability?: number; readonly p99?: Duration };
  /** The most sensitive data it keeps; tools check that it does not flow to something less protected. */
  readonly dataClass?: "public" | "internal" | "confidential" | "restricted";
  readonly runbook?: string;
  readonly decisions?: readonly string[];
  readonly cost?: { readonly center: string };
}

/** On declarations that run code. */
export interface Work<U extends Uses> extends Annotations {
  readonly uses?: U;
  /** Which processes run it, when roles are used; default by kind: `web` for services, `worker` for the rest. */
  readonly role?: string;
  /** One invocation may take this long; default 30s. Travels on as a deadline. */
  readonly timeout?: Duration;
}

/**
 * An interface that nobody implements yet. The name travels through everything that uses it, until `app(...)` finds its
 * `implement(...)`, or is told that another app runs it (`elsewhere`). Forgetting both does not compile.
 */
export interface Open<Name extends string, Takes = unknown> extends Awaiting<Name> {
  readonly "~takes": Takes;
}
/** Something that uses an open interface. */
export interface Awaiting<Name extends string> {
  readonly "~awaits": Name;
}
export type AwaitedName<C> = C extends { readonly "~awaits": infer Name extends string } ? Name : never;
/** What a declaration inherits from its uses: the names still awaited, or nothing, and then nothing shows on hover. */
export type Inherit<U> = [AwaitedName<U[keyof U]>] extends [never] ? unknown : Awaiting<AwaitedName<U[keyof U]>>;

/** `part.what-it-does`: `queue.redelivers-after-crash`, `log.gapless`, `records.compare-and-set`. */
export type Guarantee = `${string}.${string}`;
