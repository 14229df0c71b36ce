/**
 * Seeds that failed once, in a file beside the scenario: each with the smallest plan that broke the promise then, so that it is asked again even when the
 * simulator draws other plans. They are run first.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Fault } from "../kernel/index.ts";
import { faultKinds, type FaultPlan } from "./fault-plan.ts";

export interface Regression {
  readonly seed: string;
  /** What did not hold; for people. */
  readonly promise: string;
  readonly plan: FaultPlan;
  readonly clients: number;
  readonly times: number;
}

/** None where there is no file yet. Fault `simulation.bad-regressions`. */
export function regressionsIn(file: URL | undefined): readonly Regression[] {
  if (file === undefined || !existsSync(file)) return [];
  const bad = (what: string, cause?: unknown): Fault =>
    Fault.create(
      "simulation.bad-regressions",
      `${file.pathname} ${what}`,
      "Mend the file, or remove it and keep the seeds again.",
      cause === undefined ? {} : { cause },
    );
  let found: unknown;
  try {
    found = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw bad("is no JSON", error);
  }
  if (!Array.isArray(found)) throw bad("holds no list");
  for (const [at, one] of found.entries()) if (!isRegression(one)) throw bad(`has no seed with its plan at place ${at + 1}`);
  return found as readonly Regression[];
}

/** In place of what was kept of the same seed. */
export function keepRegression(file: URL, { seed, promise, plan, clients, times }: Regression): void {
  const others = regressionsIn(file).filter((one) => one.seed !== seed);
  writeFileSync(file, `${JSON.stringify([...others, { seed, promise, plan, clients, times }], undefined, 2)}\n`);
}

function isRegression(one: unknown): one is Regression {
  const { seed, plan, clients, times } = (one ?? {}) as Partial<Regression>;
  const isPlan = Array.isArray(plan) && plan.every(({ kind, atMs, forMs }) => faultKinds.includes(kind) && Number.isFinite(atMs) && Number.isFinite(forMs));
  return typeof seed === "string" && isPlan && Number.isInteger(clients) && Number.isInteger(times);
}
