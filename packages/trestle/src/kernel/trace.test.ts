import assert from "node:assert/strict";
import { test } from "node:test";
import {
  childTrace,
  formatTraceparent,
  formatTracestate,
  incomingTrace,
  jsonLogger,
  metricsRegistry,
  newTrace,
  parseTraceparent,
  parseTracestate,
  seededRandom,
  silentTelemetry,
  telemetryOf,
  tracer,
  virtualClock,
} from "./index.ts";
import type { FinishedSpan } from "./index.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";
const whole = `00-${traceId}-${spanId}-01`;

test("a traceparent is read and written back", () => {
  assert.deepEqual(parseTraceparent(whole), { traceId, spanId, sampled: true });
  assert.equal(formatTraceparent({ traceId, spanId, sampled: true }), whole);
  assert.equal(parseTraceparent(`00-${traceId}-${spanId}-00`)?.sampled, false);
  assert.equal(parseTraceparent(`00-${traceId}-${spanId}-ff`)?.sampled, true);
  assert.deepEqual(parseTraceparent(`cc-${traceId}-${spanId}-01-what-the-future-will-be`), { traceId, spanId, sampled: true });
  assert.deepEqual(parseTraceparent(`cc-${traceId}-${spanId}-01`), { traceId, spanId, sampled: true });
});

test("whatever is no traceparent is none", () => {
  const wrong = [
    undefined,
    "",
    "00",
    `ff-${traceId}-${spanId}-01`,
    `${whole}-`,
    `${whole}-x`,
    `${whole}.`,
    `cc-${traceId}-${spanId}-01.x`,
    whole.toUpperCase(),
    ` ${whole}`,
    `${whole} `,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${traceId.slice(1)}-${spanId}-01`,
    `00-${traceId}-${spanId}-1`,
    `00-${traceId}-${spanId}-0x`,
    `0-${traceId}-${spanId}-01`,
    `00_${traceId}_${spanId}_01`,
    `${whole}\n`,
    `${whole}, ${whole}`,
    `cc-${traceId}-${spanId}-01-${"x".repeat(1e6)}`,
  ];
  for (const text of wrong) assert.equal(parseTraceparent(text), undefined, JSON.stringify(text)?.slice(0, 100));
});

test("a tracestate is read in order and written back; one bad entry drops all of it", () => {
  assert.deepEqual(parseTracestate("rojo=00f067aa0ba902b7 ,\tcongo=t61rcWkgMzE,,1a-_*/=x"), [
    ["rojo", "00f067aa0ba902b7"],
    ["congo", "t61rcWkgMzE"],
    ["1a-_*/", "x"],
  ]);
  assert.deepEqual(parseTracestate("tenant@vendor=a b~"), [["tenant@vendor", "a b~"]]);
  assert.equal(
    formatTracestate([
      ["a", "1"],
      ["b", "2"],
    ]),
    "a=1,b=2",
  );
  for (const text of [
    undefined,
    "",
    " , ",
    "A=1",
    "a",
    "a=",
    "=1",
    "a=1=2",
    "a=ü",
    "a=1,a=2",
    "a@=1",
    "@a=1",
    "a =1",
    `a=${"x".repeat(257)}`,
    Array.from({ length: 33 }, (_, i) => `k${i}=1`).join(","),
    "a=1,".repeat(100_000),
  ])
    assert.equal(parseTracestate(text), undefined, text?.slice(0, 60));
  assert.equal(parseTracestate(Array.from({ length: 32 }, (_, i) => `k${i}=1`).join(","))?.length, 32);
});

test("a tracestate that is passed on has at most 512 characters: long entries go first, then the oldest", () => {
  const long: [string, string] = ["long", "x".repeat(200)];
  const short = Array.from({ length: 30 }, (_, i): [string, string] => [`key${i}`, "y".repeat(20)]);
  const text = formatTracestate([long, ...short]);
  assert.ok(text.length <= 512 && text.length > 450 && text.startsWith("key0="), text);
  assert.equal(formatTracestate([long, ["a", "1"]]).startsWith("long="), true);
});

test("new ids are well-formed, never zero, and a child stays in its trace", () => {
  const random = seededRandom("ids");
  for (let i = 0; i < 200; i++) {
    const trace = newTrace(random);
    assert.deepEqual(parseTraceparent(formatTraceparent(trace)), trace);
    const child = childTrace(trace, random);
    assert.equal(child.traceId, trace.traceId);
    assert.notEqual(child.spanId, trace.spanId);
  }
  let zeros = 4;
  const words = { next: () => 0, uint32: () => (zeros-- > 0 ? 0 : 7) };
  assert.equal(newTrace(words).traceId, "00000007".repeat(4));
});

test("an invalid traceparent starts the trace anew and drops the tracestate beside it", () => {
  assert.equal(incomingTrace("junk", "a=1"), undefined);
  assert.deepEqual(incomingTrace(whole, "a=1"), { trace: { traceId, spanId, sampled: true }, traceparent: whole, tracestate: "a=1" });
  assert.equal(incomingTrace(whole, "A=1")?.tracestate, undefined);

  const spans = tracer({ clock: virtualClock(), random: seededRandom(1) });
  const restarted = spans.span("s", {}, "junk", "a=1");
  assert.notEqual(parseTraceparent(restarted.traceparent), undefined);
  assert.notEqual(parseTraceparent(restarted.traceparent)?.traceId, traceId);
  assert.equal(restarted.tracestate, undefined);
});

test("[OBS-03] a span continues its caller's trace, and an exporter gets it when it ends, once", async () => {
  const clock = virtualClock(1_000);
  const finished: FinishedSpan[] = [];
  const spans = tracer({ clock, random: seededRandom(2), exporter: { export: (span) => finished.push(span) } });
  const failure = new Error("no");

  const span = spans.span("POST /orders", { route: "/orders" }, whole, "a=1");
  span.setAttribute("status", 500);
  await clock.advance(12);
  span.fail(failure);
  span.end();
  span.end();
  const inner = parseTraceparent(span.traceparent);
  assert.equal(inner?.traceId, traceId);
  assert.deepEqual(finished, [
    {
      name: "POST /orders",
      traceId,
      spanId: inner?.spanId,
      parentSpanId: spanId,
      tracestate: "a=1",
      startWallMs: 1_000,
      durationMs: 12,
      attributes: { route: "/orders", status: 500 },
      error: failure,
    },
  ]);
});

test("what the caller does not record is not exported, only passed on", () => {
  const finished: FinishedSpan[] = [];
  const spans = tracer({ clock: virtualClock(), random: seededRandom(3), exporter: { export: (span) => finished.push(span) } });
  const span = spans.span("s", {}, `00-${traceId}-${spanId}-00`);
  span.fail(new Error("x"));
  span.end();
  assert.equal(finished.length, 0);
  assert.deepEqual([parseTraceparent(span.traceparent)?.traceId, parseTraceparent(span.traceparent)?.sampled], [traceId, false]);
});

test("an exporter that throws does not break what it watches", () => {
  const spans = tracer({
    clock: virtualClock(),
    random: seededRandom(4),
    exporter: {
      export: () => {
        throw new Error("exporter");
      },
    },
  });
  spans.span("s").end();
});

test("the seam hands each kind of telemetry to its part, and the silent one takes everything", () => {
  const clock = virtualClock(0);
  const metrics = metricsRegistry();
  const lines: string[] = [];
  const finished: FinishedSpan[] = [];
  const telemetry = telemetryOf({
    metrics,
    logger: jsonLogger({ clock, write: (line) => lines.push(line) }),
    tracer: tracer({ clock, random: seededRandom(5), exporter: { export: (span) => finished.push(span) } }),
  });
  for (const one of [telemetry, silentTelemetry]) {
    one.counter("c_total", { a: "1" }).add();
    one.histogram("h", {}, [1]).record(0.5);
    const remove = one.gauge("g", {}, () => 7);
    one.span("s", { a: 1 }, whole).end();
    one.log("info", "m", { a: 1 });
    if (one === telemetry) assert.match(metrics.exposition(), /^c_total\{a="1"\} 1\n(.*\n)+g 7\n(.*\n)+h_count 1\n$/m);
    remove();
  }
  assert.deepEqual([lines.length, finished.length, silentTelemetry.span("s", {}, whole).traceparent], [1, 1, whole]);
});
