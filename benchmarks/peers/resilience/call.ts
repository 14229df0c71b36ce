/** One variant of `resilience`, chosen by CASE. */
import {
  bulkhead as cockatielBulkhead,
  circuitBreaker,
  ExponentialBackoff,
  handleAll,
  retry as cockatielRetry,
  SamplingBreaker,
  timeout,
  TimeoutStrategy,
  wrap,
} from "cockatiel";
import Opossum from "opossum";
import { emptyContext, inContext } from "trestle/kernel";
import { breaker, budget, bulkhead, deadline, pipeline, retry } from "trestle/resilience";
import type { Variant } from "../../harness/benchmark.ts";

const answer = async (): Promise<number> => 1;
let calls = 0;
/** One of 100 fails, once it is warm. */
const failsAtTimes = async (): Promise<number> => {
  if (++calls > 20_000 && calls % 100 === 0) throw new Error("down");
  return 1;
};
const told = (): undefined => undefined;

/** What is left when everything is left out but the clock and the promise. */
class Raced {
  readonly beganMs: number;
  readonly #resolve: (value: number) => void;
  readonly #reject: (error: Error) => void;
  static answered = 0;

  constructor(beganMs: number, resolve: (value: number) => void, reject: (error: Error) => void) {
    this.beganMs = beganMs;
    this.#resolve = resolve;
    this.#reject = reject;
  }
  run(operation: () => Promise<number>): void {
    operation().then(
      (value) => {
        Raced.answered++;
        this.#resolve(value);
      },
      (error: unknown) => this.#reject(error as Error),
    );
  }
}

const guarded = () => pipeline(deadline("3s"), retry({ attempts: 3, budget: budget() }), breaker(), bulkhead({ running: 64 }));
/** Retries would be what is measured. */
const guardedOnce = () => pipeline(deadline("3s"), breaker(), bulkhead({ running: 64 }));
const cockatiel = (strategy: TimeoutStrategy) =>
  wrap(
    cockatielRetry(handleAll, { maxAttempts: 2, backoff: new ExponentialBackoff() }),
    circuitBreaker(handleAll, { halfOpenAfter: 5_000, breaker: new SamplingBreaker({ threshold: 0.5, duration: 10_000 }) }),
    cockatielBulkhead(64),
    timeout(3_000, strategy),
  );
const opossum = (operation: () => Promise<number>) => new Opossum(operation, { timeout: 3_000, capacity: 64, errorThresholdPercentage: 50 });

const cases: Readonly<Record<string, () => () => unknown>> = {
  bare: () => answer,
  clock: () => () => {
    performance.now();
    return answer();
  },
  floor: () => () => new Promise<number>((resolve, reject) => new Raced(performance.now(), resolve, reject).run(answer)),
  "bare-context": () => answer,
  "entered-context": () => () => inContext({ ...emptyContext, tenant: "ada", deadlineMs: 1 }, answer),
  trestle: () => {
    const call = guarded();
    return () => call(answer);
  },
  "trestle-once": () => {
    const call = guardedOnce();
    return () => call(answer);
  },
  "trestle-context": () => {
    const call = guarded();
    return () => call(answer);
  },
  "trestle-fails": () => {
    const call = guardedOnce();
    return () => call(failsAtTimes).catch(told);
  },
  cockatiel: () => {
    const policy = cockatiel(TimeoutStrategy.Aggressive);
    return () => policy.execute(answer);
  },
  "cockatiel-cooperative": () => {
    const policy = cockatiel(TimeoutStrategy.Cooperative);
    return () => policy.execute(answer);
  },
  opossum: () => {
    const circuit = opossum(answer);
    return () => circuit.fire();
  },
  "opossum-fails": () => {
    const circuit = opossum(failsAtTimes);
    return () => circuit.fire().catch(told);
  },
};

const each = 200;

const call: Variant = async ({ seconds }) => {
  const name = process.env["CASE"] as string;
  const one = (cases[name] as () => () => unknown)();
  const run = async (forMs: number): Promise<number[]> => {
    const times: number[] = [];
    for (const fromMs = performance.now(); performance.now() - fromMs < forMs;) {
      const startMs = performance.now();
      for (let i = 0; i < each; i++) await one();
      times.push((performance.now() - startMs) / each);
    }
    return times;
  };
  const measure = async () => {
    await run(2_000);
    return run(seconds * 1_000);
  };
  const times = (name.endsWith("-context") ? await inContext({ ...emptyContext, tenant: "ada" }, measure) : await measure()).sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)] as number;
  // The median of a couple of hundred calls, two of which fail where some do: a neighbour of the machine that takes a core for a while is not ours.
  return { opsPerSec: 1_000 / at(0.5), p50Ms: at(0.5), p99Ms: at(0.99) };
};
export default call;
