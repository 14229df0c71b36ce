import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import * as api from "@opentelemetry/api";
import { currentContext, Fault, withContext } from "../kernel/index.ts";
import { spanSource } from "./otel.ts";
import { registerProvider, unregisterProvider } from "./testing.ts";

afterEach(unregisterProvider);

const sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async function boundSource() {
  const source = spanSource(() => Promise.resolve(api));
  await Promise.resolve();
  await Promise.resolve();
  return source;
}

test("without a tracer provider there is no span, and the API is not even loaded", () => {
  let loads = 0;
  const source = spanSource(() => {
    loads += 1;
    return Promise.resolve(api);
  });

  assert.equal(source.start("shop placeOrder", {}), undefined);
  assert.equal(loads, 0);
});

test("a provider that is registered after the node started is found", async () => {
  const source = spanSource(() => Promise.resolve(api));
  const recorded = registerProvider();

  source.start("the first binds", {});
  await new Promise<void>((resolve) => process.nextTick(resolve));
  const span = source.start("the second is recorded", {});
  span?.end();

  assert.deepEqual(
    recorded.map(({ name, ended }) => [name, ended]),
    [["the second is recorded", true]],
  );
});

test("a span continues the trace of the request, and what it calls continues the span", async () => {
  const recorded = registerProvider();
  const source = await boundSource();

  const span = withContext({ traceparent: sent }, () => source.start("shop placeOrder", { "trestle.kind": "service" }));
  const inner = withContext({ traceparent: span?.traceparent }, () => source.start("payments charge", { "trestle.kind": "external" }));

  assert.equal(span?.traceparent, "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01");
  assert.deepEqual(
    recorded.map(({ parent }) => parent?.spanId),
    ["b7ad6b7169203331", "0000000000000001"],
  );
  assert.deepEqual(
    recorded.map(({ kind }) => kind),
    [api.SpanKind.SERVER, api.SpanKind.CLIENT],
  );
  assert.ok(inner?.traceparent.startsWith("00-0af7651916cd43dd8448eb211c80319c-"));
});

test("a job's span is a child of the span that sent it, whatever runs around the worker", async () => {
  const recorded = registerProvider();
  const source = await boundSource();

  withContext({ traceparent: "00-11111111111111111111111111111111-2222222222222222-01" }, () => source.start("mail", { "trestle.kind": "queue" }, sent));

  assert.equal(recorded[0]?.parent?.spanId, "b7ad6b7169203331");
  assert.equal(recorded[0]?.kind, api.SpanKind.CONSUMER);
});

test("spans of other libraries nest in the handler that runs them", async () => {
  const recorded = registerProvider();
  const source = await boundSource();
  const span = source.start("shop placeOrder", {});

  await span?.within?.(async () => {
    await Promise.resolve();
    api.trace.getTracer("another library").startSpan("select").end();
  });

  assert.equal(recorded[1]?.parent?.spanId, recorded[0]?.context.spanId);
});

test("an active span of the same trace is nearer than the one the context names", async () => {
  const recorded = registerProvider();
  const source = await boundSource();
  const server = api.trace
    .getTracer("http")
    .startSpan(
      "POST",
      {},
      api.trace.setSpanContext(api.ROOT_CONTEXT, { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1 }),
    );

  api.context.with(api.trace.setSpan(api.ROOT_CONTEXT, server), () => withContext({ traceparent: sent }, () => source.start("shop placeOrder", {})));

  assert.equal(recorded[1]?.parent?.spanId, recorded[0]?.context.spanId);
});

test("a fault marks the span as failed", async () => {
  const recorded = registerProvider();
  const source = await boundSource();

  source.start("shop placeOrder", {})?.end(Fault.create("queue.full", "full", "wait"));

  assert.equal(recorded[0]?.status?.code, api.SpanStatusCode.ERROR);
  assert.equal(recorded[0]?.exceptions.length, 1);
  assert.equal(currentContext().traceparent, undefined);
});
