/** What a running node offers to kinds. Built by the app floor; one per `start`. */
import type { Degradation, Rung } from "../degradation/index.ts";
import type { AmbientContext, Clock, Ids, Random } from "../kernel/index.ts";
import type { BreakerState, Bulkhead, FailureKind, Refusal } from "../resilience/index.ts";
import type { LimitPlace } from "./limit-place.ts";
import type { Store } from "../store/index.ts";
import type { Component } from "./component.ts";
import type { Log } from "./context.ts";
import type { StagedEvent } from "./definition.ts";
import type { Invocation } from "./invocation.ts";
import type { Lane } from "./lane.ts";
import type { StoreClock } from "./store-clock.ts";

export interface NodeServices {
  readonly app: string;
  /** Names this node for people: holder of claims, resource of spans. */
  readonly id: string;
  readonly store: Store;
  readonly lane: Lane;
  readonly clock: Clock;
  /** What the store judges is told by its clock. */
  readonly storeClock: StoreClock;
  readonly random: Random;
  readonly ids: Ids;
  readonly observer: Observer;
  readonly log: (component: string, context: Pick<AmbientContext, "traceparent" | "tenant"> & { readonly invocation?: string }) => Log;
  /** A setting as given at start or by the environment; `undefined` when nobody set it. */
  setting(name: string): string | undefined;
  /** Aborts when the node begins to drain: endless answers (SSE, follow) end then; what has an end is finished. */
  readonly draining: AbortSignal;
  /** State that a component keeps on this node (caches, breakers): made once, gone with the node. */
  local<T>(component: Component, make: () => T): T;
  /** What reacts to this component's events inside their commit. */
  inCommit(source: Component): readonly { react(event: StagedEvent, invocation: Invocation): Promise<void> | void }[];
  /** Who follows this source after its commits, in this app, wherever it runs. */
  followers(source: Component): readonly Component[];
  /** The implementation of an open interface, when this app has it. */
  implementation(open: Component): Component | undefined;
  /** Base URL of a service that another process runs; `undefined` when this app implements it. */
  serviceUrl(name: string): string | undefined;
  /** Where limits of a fleet are counted, when that is not the store. */
  readonly limitPlace?: LimitPlace | undefined;
  /** Set where something stands in for what is outside of the app: in a simulation. */
  readonly outside?: Outside | undefined;
  /** The ladders of its routes, when it was given policies. */
  readonly degradation?: Pick<Degradation, "of"> | undefined;
}

/** Stands in for what is outside of the process. */
export interface Outside {
  /** In place of the own code of an external system's operation. */
  call(call: OutsideCall): Promise<unknown>;
  /** What became of the call with this key: its answer, or `undefined`. */
  lookup(call: OutsideCall): Promise<unknown>;
  /** In place of `fetch` where a service is asked that another process runs; rejects as `fetch` does. */
  exchange(asked: Exchange): Promise<Exchanged>;
}
/** A request of HTTP whose answer is read whole. */
export interface Exchange {
  readonly method: string;
  readonly url: string;
  /** By names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  readonly signal: AbortSignal;
}
export interface Exchanged {
  readonly status: number;
  /** By names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}
export interface OutsideCall {
  readonly external: string;
  readonly operation: string;
  readonly input: unknown;
  /** Stable over retries and crashes. */
  readonly key: string;
  readonly signal: AbortSignal;
  /** It is a mutation. */
  readonly changes: boolean;
}

/** Where the runtime tells what happened, so that the observed graph can be laid over the declared one. */
export interface Observer {
  /** One invocation has ended. `attempts` counts runs of the handler in this invocation (conflicts re-run it). */
  invoked(component: string, operation: string, end: "ok" | "refused" | "fault", durationMs: number, attempts: number): void;
  /** A handler of `from` reached for `to`. */
  used(from: string, to: string): void;
  /** Something of `to` that a handler of `from` waited for has ended: a call to the outside or to a service. */
  called?(from: string, to: string, end: "ok" | "refused" | "fault", durationMs: number): void;
  /** An attempt to reach `to` has failed, in one of the ways that `failureOf` tells apart. */
  failed?(to: string, kind: FailureKind): void;
  /** The breaker before `component` is in another state. */
  broke?(component: string, from: BreakerState["kind"], to: BreakerState["kind"]): void;
  /** This bulkhead stands before `component`: its numbers are read when somebody looks. Once for each component of a node. */
  bounded?(component: string, bulkhead: Bulkhead): void;
  /** A call to `component` was not made: its bulkhead had no place, its breaker is open, or a gate of its policy declined it with this code. */
  declined?(component: string, reason: Refusal | "breaker-open" | `${string}.${string}`): void;
  /** An additional try of a query of `component` has ended: was it the one that answered? */
  hedged?(component: string, won: boolean): void;
  /** A limit has decided about a request. `forgotten`: keys that lost their place in its table to this one. */
  limited?(component: string, operation: string, limit: string, decision: "admitted" | "refused" | "would-refuse", forgotten: number): void;
  /** The admission of a service exists: what there is to be asked of it, at any time. */
  admits?(component: string, look: () => { readonly running: number; readonly places: number; readonly waiting: number; readonly overdue: number }): void;
  /** This node works on the jobs of a queue: so many handlers run, so many may, so many jobs were claimed ahead and wait here; at any time. `adaptive`: how many may is found. */
  works?(
    queue: string,
    adaptive: boolean,
    look: () => { readonly running: number; readonly places: number; readonly waiting: number; readonly overdue: number },
  ): void;
  /** A request of this priority was admitted, or declined for a reason. */
  admission?(component: string, priority: "high" | "normal" | "low", decision: "admitted" | Refusal | "left"): void;
  /** A limit of a fleet has decided without its place. */
  limitUnreachable?(component: string, limit: string): void;
  /** A limit of a fleet that may hold budgets; read when somebody looks. */
  limitLeases?(component: string, limit: string, leases: { readonly leasedTokens: number; readonly overshootTokens: number }): void;
  /** The health check of a system outside has come to another result. */
  checked?(component: string, status: "up" | "down"): void;
  /** A route has changed its rung. */
  degraded?(component: string, operation: string, from: Rung, to: Rung): void;
  /** A request was answered by a rung below the whole handler. */
  answeredBelow?(component: string, operation: string, rung: Rung): void;
  /** Opens a span as a child of `parent` (a traceparent), or of the current context's; `end` closes it. `undefined` when nobody collects spans. */
  span(name: string, attributes: Readonly<Record<string, string | number>>, parent?: string): Span | undefined;
}
export interface Span {
  readonly traceparent: string;
  /** Runs the work it stands for, so that spans of other libraries nest in it. */
  within?<T>(work: () => T): T;
  end(fault?: unknown): void;
}
