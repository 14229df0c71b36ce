/**
 * The telemetry seam: what every part of Trestle emits through. Metrics (metrics.ts), spans (spans.ts) and logs (log.ts) are replaced one by
 * one; none of them needs an SDK.
 *
 * ```ts
 * const metrics = metricsRegistry();
 * const telemetry = telemetryOf({ metrics, tracer: tracer({ clock, random }), logger: jsonLogger({ clock, write: (line) => process.stderr.write(line + "\n") }) });
 * const commits = telemetry.counter("trestle_commits_total", { store: "main" }); // once
 * commits.add();                                                               // often
 * ```
 */
import type { Logger, LogLevel } from "./log.ts";
import type { Counter, Histogram, Labels, Metrics } from "./metrics.ts";
import type { Attributes, Span, Tracer } from "./spans.ts";

export interface Telemetry {
  counter(name: string, labels?: Labels): Counter;
  histogram(name: string, labels?: Labels, bounds?: readonly number[]): Histogram;
  /** Read when someone looks; the function returned takes it away. */
  gauge(name: string, labels: Labels, read: () => number): () => void;
  /** Starts a span: a child of `parent` (a traceparent), or a new trace when that is absent or not valid. */
  span(name: string, attributes?: Attributes, parent?: string, tracestate?: string): Span;
  log(level: LogLevel, message: string, facts?: object): void;
}

export function telemetryOf(parts: {
  readonly metrics: Pick<Metrics, "counter" | "histogram" | "gauge">;
  readonly tracer: Tracer;
  readonly logger: Pick<Logger, "log">;
}): Telemetry {
  const { metrics, tracer, logger } = parts;
  return {
    counter: (name, labels) => metrics.counter(name, labels),
    histogram: (name, labels, bounds) => metrics.histogram(name, labels, bounds),
    gauge: (name, labels, read) => metrics.gauge(name, labels, read),
    span: (name, attributes, parent, tracestate) => tracer.span(name, attributes, parent, tracestate),
    log: (level, message, facts) => logger.log(level, message, facts),
  };
}

const silentCounter: Counter = { add: () => undefined };
const silentHistogram: Histogram = { record: () => undefined };

/** Emits nothing. Spans pass on the parent they were given. */
export const silentTelemetry: Telemetry = {
  counter: () => silentCounter,
  histogram: () => silentHistogram,
  gauge: () => () => undefined,
  span: (_name, _attributes, parent, tracestate) => ({
    traceparent: parent,
    tracestate,
    setAttribute: () => undefined,
    fail: () => undefined,
    end: () => undefined,
  }),
  log: () => undefined,
};
