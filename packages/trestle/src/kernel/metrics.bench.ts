/** What it costs to record and to set a timer: `node packages/trestle/src/kernel/metrics.bench.ts`. Nanoseconds, median of 9 runs of a million. */
import { metricsRegistry, systemClock, timingWheel } from "./index.ts";

const metrics = metricsRegistry();
const counter = metrics.counter("bench_total", { route: "/orders" });
const histogram = metrics.histogram("bench_seconds", { route: "/orders" });
const wheel = timingWheel(systemClock, { grainMs: 5 });
const nothing = () => undefined;
const subjects: Record<string, (i: number) => void> = {
  "counter.add": () => counter.add(),
  "histogram.record": (i) => histogram.record((i & 1023) / 1_000),
  "wheel.after + cancel": (i) => wheel.after(5_000 + (i & 1023), nothing).cancel(),
  "systemClock.after + cancel": (i) => systemClock.after(5_000 + (i & 1023), nothing).cancel(),
  "clock.monotonicMs": () => systemClock.monotonicMs(),
};
for (const [name, run] of Object.entries(subjects)) {
  const times = Array.from({ length: 9 }, () => {
    const startMs = systemClock.monotonicMs();
    for (let i = 0; i < 1_000_000; i++) run(i);
    return systemClock.monotonicMs() - startMs;
  });
  process.stdout.write(`${name.padEnd(28)} ${(times.toSorted((a, b) => a - b)[4] as number).toFixed(1).padStart(7)} ns\n`);
}
