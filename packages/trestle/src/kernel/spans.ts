/**
 * Spans without an SDK. A span always has a `traceparent` to pass on, whether or not anyone collects it. Who collects binds here: either
 * an exporter that takes finished spans, or a whole tracer of its own (the app floor binds `@opentelemetry/api` that way).
 */
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";
import { childTrace, formatTraceparent, incomingTrace, newTrace } from "./trace.ts";

export type AttributeValue = string | number | boolean;
export type Attributes = Readonly<Record<string, AttributeValue>>;

export interface Span {
  /** For what this span calls. `undefined` only where nothing is emitted and nothing came in. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  setAttribute(name: string, value: AttributeValue): void;
  /** Marks it as failed. It still has to be ended. */
  fail(error: unknown): void;
  /** A second call does nothing. */
  end(): void;
}

export interface Tracer {
  /** Starts a span: a child of `parent`, or a new trace when that is absent or not valid. */
  span(name: string, attributes?: Attributes, parent?: string, tracestate?: string): Span;
}

export interface FinishedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly tracestate: string | undefined;
  readonly startWallMs: number;
  readonly durationMs: number;
  readonly attributes: Attributes;
  /** Present when it failed. */
  readonly error: unknown;
}

export interface SpanExporter {
  /** Called at the end of every sampled span. Must not block or throw; what it throws is dropped. */
  export(span: FinishedSpan): void;
}

export interface TracerOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly exporter?: SpanExporter;
  /** Whether a trace that starts here is sampled. Default: when there is an exporter. A trace that came in keeps its caller's choice. */
  readonly sample?: () => boolean;
}

export function tracer(options: TracerOptions): Tracer {
  const { clock, random, exporter, sample = () => exporter !== undefined } = options;
  return {
    span(name, attributes = {}, parent, tracestate) {
      const incoming = incomingTrace(parent, tracestate);
      const trace = incoming ? childTrace(incoming.trace, random) : newTrace(random, sample());
      const traceparent = formatTraceparent(trace);
      const state = incoming?.tracestate;
      if (!exporter || !trace.sampled) return { traceparent, tracestate: state, setAttribute: () => undefined, fail: () => undefined, end: () => undefined };
      const startWallMs = clock.wallMs();
      const startMs = clock.monotonicMs();
      const gathered: Record<string, AttributeValue> = { ...attributes };
      let error: unknown;
      let ended = false;
      return {
        traceparent,
        tracestate: state,
        setAttribute: (key, value) => void (gathered[key] = value),
        fail: (thrown) => void (error = thrown ?? new Error("failed without saying why")),
        end() {
          if (ended) return;
          ended = true;
          const finished = {
            name,
            traceId: trace.traceId,
            spanId: trace.spanId,
            parentSpanId: incoming?.trace.spanId,
            tracestate: state,
            startWallMs,
            durationMs: clock.monotonicMs() - startMs,
            attributes: gathered,
            error,
          };
          try {
            exporter.export(finished);
          } catch {
            // A broken exporter must not break what it watches.
          }
        },
      };
    },
  };
}
