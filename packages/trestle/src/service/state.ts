/** What a service keeps on one node: what is running, by key, and the buckets of its limits. Gone with the node. */
import type { Component, NodeServices } from "../component/index.ts";
import { TokenBuckets } from "./limit.ts";
import type { Operation } from "./operation.ts";

export interface RunningKey {
  readonly fingerprint: string;
  readonly ended: Promise<void>;
}

export function stateOf(component: Component, node: NodeServices): ServiceState {
  return node.local(component, () => new ServiceState(node));
}

export class ServiceState {
  readonly running = new Map<string, RunningKey>();
  /** Open streams. They end with the node's draining, so nobody waits for them. */
  streams = 0;
  readonly #buckets = new Map<Operation, TokenBuckets>();
  readonly #node: NodeServices;
  #inFlight = 0;
  #quiet: (() => void)[] = [];

  constructor(node: NodeServices) {
    this.#node = node;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  begin(): void {
    this.#inFlight += 1;
  }

  end(): void {
    this.#inFlight -= 1;
    if (this.#inFlight > 0 || this.#quiet.length === 0) return;
    const quiet = this.#quiet;
    this.#quiet = [];
    for (const resolve of quiet) resolve();
  }

  /** Resolves when nothing is being worked on. */
  quiet(): Promise<void> {
    return this.#inFlight === 0 ? Promise.resolve() : new Promise((resolve) => this.#quiet.push(resolve));
  }

  /** Marks a key as being worked on here; call what it answers at the end. */
  enter(key: string, fingerprint: string): () => void {
    let ended: () => void = () => undefined;
    let promise: Promise<void> | undefined;
    const running: RunningKey = {
      fingerprint,
      // Made when somebody waits, which is rare.
      get ended() {
        return (promise ??= new Promise((resolve) => (ended = resolve)));
      },
    };
    this.running.set(key, running);
    return () => {
      this.running.delete(key);
      ended();
    };
  }

  buckets(operation: Operation): TokenBuckets | undefined {
    if (!operation.limit) return undefined;
    let buckets = this.#buckets.get(operation);
    if (!buckets) this.#buckets.set(operation, (buckets = new TokenBuckets(operation.limit, this.#node.clock)));
    return buckets;
  }
}
