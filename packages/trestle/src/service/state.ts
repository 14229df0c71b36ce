/** What a service keeps on one node: what is running, by key, the buckets of its limits, and its last good answers. Gone with the node. */
import type { Component, NodeServices } from "../component/index.ts";
import type { Admitted } from "../degradation/index.ts";
import { PassingMap } from "../kernel/index.ts";
import { AdmissionGate } from "./admission.ts";
import { KeptLimit, type LimitRule } from "./limit.ts";
import { StaleAnswers } from "./degraded.ts";
import type { Served } from "./invoke.ts";
import type { DegradeRules, Operation } from "./operation.ts";

/** A key that is being worked on here. */
export class RunningKey {
  readonly fingerprint: string;
  #over = false;
  #ended: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;

  constructor(fingerprint: string) {
    this.fingerprint = fingerprint;
  }

  /** Made when somebody waits, which is rare. */
  get ended(): Promise<void> {
    if (this.#over) return Promise.resolve();
    return (this.#ended ??= Promise.withResolvers<void>()).promise;
  }

  end(): void {
    this.#over = true;
    this.#ended?.resolve();
  }
}

export function stateOf(component: Component, node: NodeServices): ServiceState {
  return node.local(component, () => new ServiceState(node));
}

/** What admission has decided lately; `undefined` before the first request. */
export function admittedLately(component: Component, node: NodeServices): Admitted | undefined {
  return stateOf(component, node).admittedLately;
}

export class ServiceState {
  readonly running = new PassingMap<string, RunningKey>();
  /** Open streams. They end with the node's draining, so nobody waits for them. */
  streams = 0;
  readonly #limits = new Map<Operation, readonly KeptLimit[]>();
  readonly #kept = new Map<LimitRule, KeptLimit>();
  readonly #stale = new Map<Operation, StaleAnswers>();
  readonly #node: NodeServices;
  #admission: AdmissionGate | undefined;
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

  /** Marks a key as being worked on here; `leave` at the end. */
  enter(key: string, fingerprint: string): RunningKey {
    const running = new RunningKey(fingerprint);
    this.running.set(key, running);
    return running;
  }

  leave(key: string, running: RunningKey): void {
    this.running.delete(key);
    running.end();
  }

  stale(operation: Operation, rules: NonNullable<DegradeRules["stale"]>): StaleAnswers {
    let kept = this.#stale.get(operation);
    if (!kept) this.#stale.set(operation, (kept = new StaleAnswers(rules, this.#node.clock)));
    return kept;
  }

  limits(operation: Operation): readonly KeptLimit[] {
    let limits = this.#limits.get(operation);
    if (!limits) this.#limits.set(operation, (limits = operation.limits.map((rule) => this.#keptOf(rule))));
    return limits;
  }

  /** One for all operations of the service. */
  admission({ operation, component, node }: Served): AdmissionGate | undefined {
    return operation.admission && (this.#admission ??= new AdmissionGate(operation.admission, component, node));
  }

  get admittedLately(): Admitted | undefined {
    return this.#admission?.latest;
  }

  #keptOf(rule: LimitRule): KeptLimit {
    let kept = this.#kept.get(rule);
    if (!kept) this.#kept.set(rule, (kept = new KeptLimit(rule, this.#node)));
    return kept;
  }
}
