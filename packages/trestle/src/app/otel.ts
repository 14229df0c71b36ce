/**
 * Spans through `@opentelemetry/api`. W3C trace context comes in with requests (service/routes.ts) and jobs, and goes out with calls
 * (external/wire.ts); spans stand between the two.
 *
 * Whoever wants spans registers a tracer provider (any OpenTelemetry SDK does); that may happen before or after the node starts. Until then
 * there are no spans: `start` looks at one global and answers `undefined`, and the API itself is not even loaded (it costs 12 ms).
 * A span is a child of what the context names: of the sender for a job, of the caller for a request, of the handler around it
 * otherwise. While its handler runs it is OpenTelemetry's active span too, so spans of other libraries nest in it.
 */
import type { Span as OtelSpan, Tracer } from "@opentelemetry/api";
import type { Span } from "../component/index.ts";
import { currentContext, Fault, formatTraceparent, parseTraceparent } from "../kernel/index.ts";

export interface SpanSource {
  /** `undefined`: nobody collects spans. `parent` (a traceparent) is by default that of the current context. */
  start(name: string, attributes: Readonly<Record<string, string | number>>, parent?: string): Span | undefined;
}

type Api = typeof import("@opentelemetry/api");

// Where every copy of the 1.x API keeps what was registered.
const registeredAt = Symbol.for("opentelemetry.js.api.1");
const isRegistered = () => (globalThis as { readonly [registeredAt]?: { readonly trace?: unknown } })[registeredAt]?.trace !== undefined;

export function spanSource(load: () => Promise<Api> = () => import("@opentelemetry/api")): SpanSource {
  let bound: { readonly api: Api; readonly tracer: Tracer } | undefined;
  let binding: Promise<void> | undefined;
  const bind = async () => {
    try {
      const api = await load();
      bound = { api, tracer: api.trace.getTracer("trestle") };
    } catch {
      // Not to be loaded: then there are no spans. Telemetry must not break what it watches.
    }
  };
  if (isRegistered()) binding = bind();
  return {
    start(name, attributes, parent) {
      if (!isRegistered()) return undefined;
      if (bound) return startSpan(bound.api, bound.tracer, name, attributes, parent);
      binding ??= bind();
      return undefined;
    },
  };
}

function startSpan(
  api: Api,
  tracer: Tracer,
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  parent: string | undefined,
): Span | undefined {
  const { trace, context, ROOT_CONTEXT, SpanKind, SpanStatusCode } = api;
  const kinds: Readonly<Record<string, number>> = {
    service: SpanKind.SERVER,
    queue: SpanKind.CONSUMER,
    subscription: SpanKind.CONSUMER,
    external: SpanKind.CLIENT,
  };
  const { traceparent, tracestate } = currentContext();
  const named = parseTraceparent(parent ?? traceparent);
  const active = trace.getSpanContext(context.active());
  // A span of the same trace that is active here (of HTTP instrumentation, say) is nearer than the one the context names.
  const activeIsNearer = active !== undefined && api.isSpanContextValid(active) && (!named || (parent === undefined && active.traceId === named.traceId));
  const around = activeIsNearer
    ? context.active()
    : named
      ? trace.setSpanContext(ROOT_CONTEXT, {
          traceId: named.traceId,
          spanId: named.spanId,
          traceFlags: named.sampled ? 1 : 0,
          isRemote: true,
          ...(tracestate === undefined ? {} : { traceState: api.createTraceState(tracestate) }),
        })
      : ROOT_CONTEXT;
  const span: OtelSpan = tracer.startSpan(
    name,
    { kind: kinds[String(attributes["trestle.kind"])] ?? SpanKind.INTERNAL, attributes: { ...attributes } },
    around,
  );
  const { traceId, spanId, traceFlags } = span.spanContext();
  if (!api.isSpanContextValid(span.spanContext())) return undefined;
  return {
    traceparent: formatTraceparent({ traceId, spanId, sampled: (traceFlags & 1) === 1 }),
    within: (work) => context.with(trace.setSpan(around, span), work),
    end(fault) {
      if (fault !== undefined) {
        if (Fault.is(fault)) span.setAttribute("error.type", fault.code);
        span.recordException(fault instanceof Error ? fault : String(fault));
        span.setStatus({ code: SpanStatusCode.ERROR, message: fault instanceof Error ? fault.message : String(fault) });
      }
      span.end();
    },
  };
}
