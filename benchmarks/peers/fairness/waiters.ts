/** One variant of `fairness-peers`: what it costs to wait for one place, with so many who do. */
import Bottleneck from "bottleneck";
import { bulkhead as cockatielBulkhead } from "cockatiel";
import pLimit from "p-limit";
import { bulkhead } from "trestle/resilience";
import { percentiles, warmUpMs } from "../../harness/callers.ts";
import type { Variant } from "../../harness/benchmark.ts";

const answer = async (): Promise<number> => 1;
const waiting = 2_000_000;

const trestle = (order: "fifo" | "fair" | "deadline") => {
  const places = bulkhead({ running: 1, waiting, order });
  if (order === "fifo") return () => places(answer);
  if (order === "fair") return (n: number) => places(answer, { key: `tenant ${n % 1_000}` });
  return (n: number) => places(answer, { deadlineMs: performance.now() + 1_000_000 + ((n * 7_919) % 100_000) });
};

const cases: Readonly<Record<string, () => (n: number) => Promise<unknown>>> = {
  "waits-fifo": () => trestle("fifo"),
  "waits-fair": () => trestle("fair"),
  "waits-deadline": () => trestle("deadline"),
  "waits-p-limit": () => {
    const limit = pLimit(1);
    return () => limit(answer);
  },
  "waits-cockatiel": () => {
    const policy = cockatielBulkhead(1, waiting);
    return () => policy.execute(answer);
  },
  "waits-bottleneck": () => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    return () => limiter.schedule(answer);
  },
};

/** Callers in a closed loop. Whatever is answered while it is measured counts, whenever it was asked: with a million of them one waits longer than the warm-up. */
const variant: Variant = async ({ load, seconds }) => {
  const ask = cases[process.env["CASE"] ?? "waits-fifo"]?.();
  if (!ask) throw new Error("CASE");
  const fromMs = performance.now() + warmUpMs(seconds);
  const untilMs = fromMs + seconds * 1_000;
  const times: number[] = [];
  let n = 0;
  await new Promise<void>((resolve) => {
    const call = async (): Promise<void> => {
      for (;;) {
        const askedMs = performance.now();
        await ask(n++);
        const answeredMs = performance.now();
        if (answeredMs >= untilMs) return resolve();
        if (answeredMs >= fromMs) times.push(answeredMs - askedMs);
      }
    };
    for (let caller = 0; caller <= load; caller++) void call();
  });
  return { opsPerSec: times.length / seconds, ...percentiles(times) };
};
export default variant;
