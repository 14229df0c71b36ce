/**
 * What the process itself uses, as gauges and counters. The event loop's delay is that of the last one to two minutes: two histograms
 * take turns, so that a scrape does not change what the next one sees.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Clock, Metrics } from "../kernel/index.ts";

type IntervalHistogram = ReturnType<typeof monitorEventLoopDelay>;

const turnMs = 60_000;

/** Starts measuring; the function returned stops it. */
export function processMetrics(metrics: Metrics, clock: Clock): () => void {
  let delays: { newer: IntervalHistogram; older: IntervalHistogram } = { newer: enabled(), older: enabled() };
  let turnedMs = clock.monotonicMs();
  const older = () => {
    if (clock.monotonicMs() - turnedMs > turnMs) {
      delays.older.disable();
      delays = { newer: enabled(), older: delays.newer };
      turnedMs = clock.monotonicMs();
    }
    return delays.older;
  };
  // The histogram counts the timer's own period of 20 ms as delay.
  const seconds = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - 0.02) || 0;
  let utilization = performance.eventLoopUtilization();
  const gauges = [
    metrics.gauge("trestle_event_loop_delay_seconds", { quantile: "0.5" }, () => seconds(older().percentile(50))),
    metrics.gauge("trestle_event_loop_delay_seconds", { quantile: "0.99" }, () => seconds(older().percentile(99))),
    metrics.gauge("trestle_event_loop_delay_seconds", { quantile: "1" }, () => seconds(older().max)),
    metrics.gauge("trestle_event_loop_utilization_ratio", {}, () => {
      const now = performance.eventLoopUtilization();
      const since = performance.eventLoopUtilization(now, utilization);
      utilization = now;
      return since.utilization;
    }),
    metrics.gauge("process_resident_memory_bytes", {}, () => process.memoryUsage.rss()),
    metrics.gauge("trestle_heap_used_bytes", {}, () => process.memoryUsage().heapUsed),
  ];
  metrics.describe("trestle_event_loop_delay_seconds", "How late timers were in the last one to two minutes.");
  metrics.describe("trestle_event_loop_utilization_ratio", "Share of time the event loop was busy since it was last asked.");
  metrics.describe("process_resident_memory_bytes", "Memory of the process.");
  return () => {
    for (const remove of gauges) remove();
    delays.newer.disable();
    delays.older.disable();
  };
}

function enabled(): IntervalHistogram {
  const histogram = monitorEventLoopDelay({ resolution: 20 });
  histogram.enable();
  return histogram;
}
