/** One variant of `fairness-peers`: what a quiet tenant waits for. */
import { bulkhead as cockatielBulkhead } from "cockatiel";
import pLimit from "p-limit";
import { bulkhead } from "trestle/resilience";
import { percentiles, warmUpMs } from "../../harness/callers.ts";
import type { Variant } from "../../harness/benchmark.ts";

const running = 32;
const waiting = 5_000;
type Guarded = (tenant: string, operation: () => Promise<void>) => Promise<void>;

const trestle = (order: "fair" | "fifo"): Guarded => {
  const places = bulkhead({ running, waiting, order });
  return (tenant, operation) => places(operation, { key: tenant });
};
const cases: Readonly<Record<string, () => Guarded>> = {
  fair: () => trestle("fair"),
  fifo: () => trestle("fifo"),
  "p-limit": () => {
    const limit = pLimit(running);
    return (_tenant, operation) => limit(operation);
  },
  cockatiel: () => {
    const policy = cockatielBulkhead(running, waiting);
    return (_tenant, operation) => policy.execute(operation);
  },
};

const call = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 5 + 10 * Math.random()));

const variant: Variant = async ({ load, seconds }) => {
  const guarded = cases[process.env["CASE"] ?? "fair"]?.();
  if (!guarded) throw new Error("CASE");
  const perMs = { quiet: load / 1_000, neighbour: (load * Number(process.env["NEIGHBOUR"] ?? 0)) / 1_000 };
  const startMs = performance.now();
  const fromMs = startMs + warmUpMs(seconds);
  const untilMs = fromMs + seconds * 1_000;
  const times: number[] = [];
  /** When those asked that were counted and still wait: each has waited for as long as it has, at least. */
  const open = new Set<{ readonly askedMs: number }>();
  let answered = 0;
  const made = { quiet: 0, neighbour: 0 };
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const nowMs = performance.now();
      if (nowMs >= untilMs) {
        clearInterval(timer);
        resolve();
        return;
      }
      for (const tenant of ["neighbour", "quiet"] as const)
        for (; made[tenant] < (nowMs - startMs) * perMs[tenant]; made[tenant]++) {
          const askedMs = performance.now();
          const asked = { askedMs };
          if (tenant === "quiet" && askedMs >= fromMs) open.add(asked);
          guarded(tenant, call).then(
            () => {
              if (!open.delete(asked)) return;
              answered++;
              times.push(performance.now() - askedMs);
            },
            () => open.delete(asked), // declined: seen in how many were answered
          );
        }
    }, 1);
  });
  for (const { askedMs } of open) times.push(untilMs - askedMs);
  return { opsPerSec: answered / seconds, ...percentiles(times) };
};
export default variant;
