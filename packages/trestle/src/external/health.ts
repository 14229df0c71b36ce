/**
 * The health check of an external: one of its own queries, asked again and again, so that a node knows that it is gone before a request finds out, and that it is back without
 * sending one there.
 *
 * States: `unknown` until the first check has ended. `down` after `failures` checks in a row that failed; `up` after one that did not. While they succeed there is one every
 * `every`; after a failure the next comes after a second, then later and later up to `every` (decorrelated jitter, so that nodes do not ask in step).
 *
 * A check is a call like any other, without retries: its failure is counted by the breaker, an open breaker declines it, and it is the probe that closes one that is half-open.
 */
import type { NodePart, NodeServices } from "../component/index.ts";
import { durationMs, Fault, integerWithin, numberWithin, type Duration, type Timer } from "../kernel/index.ts";
import { backoffMs } from "../resilience/index.ts";

export interface HealthRules {
  readonly operation: string;
  readonly input: unknown;
  readonly everyMs: number;
  readonly failures: number;
}
export interface HealthSpec {
  /** A query of this external. */
  readonly ask: string;
  readonly input: unknown;
  /** Default 10s, from 100ms to 1h. */
  readonly every?: Duration;
  /** So many failed checks in a row and it is down. 1 to 100, default 2. */
  readonly failures?: number;
}

export interface HealthState {
  readonly status: "unknown" | "up" | "down";
  /** Wall time at which it came to be so. */
  readonly sinceMs: number;
  /** Failed checks in a row. */
  readonly failures: number;
  /** Of the last one that failed. */
  readonly why: string | undefined;
}

const againMs = 1_000;

export function healthRules({ ask, input, every = "10s", failures = 2 }: HealthSpec, of: string): HealthRules {
  return {
    operation: ask,
    input,
    everyMs: numberWithin(durationMs(every, `${of}: health.every`), `${of}: health.every`, { least: 100, most: 3_600_000 }),
    failures: integerWithin(failures, `${of}: health.failures`, { least: 1, most: 100 }),
  };
}

export class Health implements NodePart {
  readonly name: string;
  readonly #rules: HealthRules;
  readonly #external: string;
  readonly #node: NodeServices;
  readonly #ask: (signal: AbortSignal) => Promise<unknown>;
  readonly #stopping = new AbortController();
  #timer: Timer | undefined;
  #pausedMs = 0;
  #state: HealthState;

  constructor(external: string, rules: HealthRules, node: NodeServices, ask: (signal: AbortSignal) => Promise<unknown>) {
    this.name = `health of ${external}`;
    this.#external = external;
    this.#rules = rules;
    this.#node = node;
    this.#ask = ask;
    this.#state = { status: "unknown", sinceMs: node.clock.wallMs(), failures: 0, why: undefined };
  }

  get state(): HealthState {
    return this.#state;
  }

  async start(): Promise<void> {
    void this.#check();
  }
  async drain(): Promise<void> {}
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#timer?.cancel();
  }

  async #check(): Promise<void> {
    const { everyMs, failures: most } = this.#rules;
    const { signal } = this.#stopping;
    const thrown = await this.#ask(signal).then(
      () => undefined,
      (fault: unknown) => fault ?? new Error("it failed"),
    );
    if (signal.aborted) return;
    const { random, clock } = this.#node;
    if (thrown === undefined) {
      this.#pausedMs = 0;
      this.#now("up", 0, undefined);
    } else {
      const failures = this.#state.failures + 1;
      this.#pausedMs = backoffMs({ fromMs: Math.min(againMs, everyMs), upToMs: everyMs, jitter: "decorrelated" }, 2, random, this.#pausedMs);
      this.#now(failures >= most ? "down" : this.#state.status, failures, Fault.is(thrown) ? thrown.message : String(thrown));
    }
    this.#timer = clock.after(this.#pausedMs || everyMs * (0.9 + 0.1 * random.next()), () => void this.#check());
  }

  #now(status: HealthState["status"], failures: number, why: string | undefined): void {
    const { status: before, sinceMs } = this.#state;
    const { observer, clock } = this.#node;
    this.#state = { status, sinceMs: status === before ? sinceMs : clock.wallMs(), failures, why };
    if (status === before || status === "unknown") return;
    observer.checked?.(this.#external, status);
    const log = this.#node.log(this.#external, { traceparent: undefined, tenant: undefined });
    if (status === "down") log.warn("its health check fails", { failures, why });
    else if (before === "down") log.info("its health check succeeds again");
  }
}
