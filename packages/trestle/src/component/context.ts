/** The third argument of every handler: what surrounds this invocation. Clock, chance and identity come from here. */
import type { Out, Schema } from "./schema.ts";
import type { Duration, Instant } from "../kernel/index.ts";

export interface Context {
  /** Names this invocation in logs, traces and the journal; equal on every attempt. */
  readonly id: string;
  /** 1 for the first. */
  readonly attempt: number;
  /** Aborts at the deadline, on drain, and when the caller is gone. */
  readonly signal: AbortSignal;
  readonly tenant: string | undefined;
  /** Of the request, message or tick that set all this off: the same over every message, event and call that follows from it. */
  readonly correlationId: string;
  /** The id of the event or message that this handler answers to; its own where that has none. */
  readonly causationId: string;
  readonly principal: Principal | undefined;
  readonly log: Log;
  now(): Instant;
  random(): number;
  /** A new id (UUIDv7), the same on every attempt of this invocation; with a schema, parsed by it. */
  newId(): string;
  newId<S extends Schema<string>>(schema: S): Out<S>;
  remainingMs(): number;
}

/** Added where a handler may write. */
export interface WriteContext extends Context {
  /**
   * Writes that must stay even when this handler refuses or fails, in a commit of their own, made now. This is the one
   * way out of "one commit", so it says why, and names the handles it takes along.
   */
  commitSeparately<H extends object, T>(because: string, handles: H, write: (handles: H) => T | Promise<T>): Promise<T>;
}

/** Added where the handler will be finished whatever dies. */
export interface DurableContext extends WriteContext {
  /**
   * A recovery point around code Trestle does not know. Everything before it is committed first; its answer is
   * remembered, and it is not run again once answered. `key` is stable: give it to the other side as idempotency key.
   */
  step<T>(name: string, run: (step: { readonly key: string; readonly signal: AbortSignal }) => Promise<T>): Promise<T>;
}

export interface Principal {
  readonly id: string;
  readonly kind: "user" | "service";
  can(permission: string, resource?: string): boolean;
}

export interface Log {
  debug(message: string, facts?: object): void;
  info(message: string, facts?: object): void;
  warn(message: string, facts?: object): void;
  error(message: string, facts?: object): void;
}

/** How fresh a read must be. Default `session`: at least everything this caller has written or seen. */
export interface ReadOptions {
  readonly freshness?: "latest" | "session" | { readonly within: Duration };
  /** `false`: this read does not become a precondition of the commit. Default true. */
  readonly precondition?: boolean;
}
