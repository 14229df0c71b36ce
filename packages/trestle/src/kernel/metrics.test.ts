import assert from "node:assert/strict";
import { test } from "node:test";
import { countBuckets, durationBucketsSeconds, Fault, histogramQuantile, metricsRegistry, seededRandom } from "./index.ts";
import type { Sample } from "./index.ts";

/** A reader of the text format 0.0.4, strict about what the format says: the page's series by `name{label="value"}`. */
function parse(page: string): Map<string, number> {
  const series = new Map<string, number>();
  const types = new Map<string, string>();
  assert.ok(page === "" || page.endsWith("\n"));
  for (const line of page.split("\n").slice(0, -1)) {
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line);
    if (comment) {
      if (comment[1] === "TYPE") {
        assert.ok(!types.has(comment[2] as string), `second TYPE: ${line}`);
        types.set(comment[2] as string, comment[3] as string);
      }
      continue;
    }
    const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? ([-+0-9.e]+|\+Inf|-Inf|NaN)$/.exec(line);
    assert.ok(match, `not a sample: ${line}`);
    const name = match[1] as string;
    assert.ok(types.has(name) || types.has(name.replace(/_(bucket|sum|count)$/, "")), `no TYPE before: ${line}`);
    const labels = [...(match[2] ?? "").matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"/g)].map(
      ([, label, value]) => `${label}=${JSON.stringify((value as string).replace(/\\([\\"n])/g, (_, char: string) => (char === "n" ? "\n" : char)))}`,
    );
    const key = `${name}{${labels.join(",")}}`;
    assert.ok(!series.has(key), `twice: ${key}`);
    series.set(key, match[3] === "+Inf" ? Infinity : Number(match[3]));
  }
  return series;
}

const histogramOf = (samples: readonly Sample[], name: string) =>
  samples.find((sample) => sample.kind === "histogram" && sample.name === name) as Extract<Sample, { kind: "histogram" }>;

test("[OBS-01] counters, gauges and histograms come out on one page that a strict reader accepts", () => {
  const metrics = metricsRegistry();
  metrics.describe("jobs_total", "Jobs done.\nBy \\queue");
  metrics.counter("jobs_total", { queue: "mail", outcome: "ok" }).add(3);
  metrics.counter("jobs_total", { queue: "mail", outcome: "failed" }).add();
  metrics.gauge("depth", { queue: "mail" }, () => 12);
  const histogram = metrics.histogram("wait_seconds");
  for (const value of [0.00005, 0.001, 0.0011, 61]) histogram.record(value);

  const page = metrics.exposition();
  const series = parse(page);
  assert.match(page, /^# HELP jobs_total Jobs done\.\\nBy \\\\queue$/m);
  assert.equal(series.get('jobs_total{outcome="ok",queue="mail"}'), 3);
  assert.equal(series.get('jobs_total{outcome="failed",queue="mail"}'), 1);
  assert.equal(series.get('depth{queue="mail"}'), 12);
  assert.deepEqual(
    ["0.0001", "0.001", "0.0025", "60", "+Inf"].map((le) => series.get(`wait_seconds_bucket{le="${le}"}`)),
    [1, 2, 3, 3, 4],
  );
  assert.equal(series.get("wait_seconds_count{}"), 4);
  assert.ok(Math.abs((series.get("wait_seconds_sum{}") as number) - 61.00215) < 1e-9);
});

test("label values of any kind come through escaped", () => {
  const metrics = metricsRegistry();
  const values = ['"', "\\", "\n", '\\"\n\\n', '{a="b"} 1\nfake 2', "ü€𐍈", "", "a,b=c"];
  for (const value of values) metrics.counter("c_total", { v: value }).add();
  metrics.counter("c_total", { v: "lone \ud800 surrogate" }).add();

  const series = parse(metrics.exposition());
  for (const value of values) assert.equal(series.get(`c_total{v=${JSON.stringify(value)}}`), 1, JSON.stringify(value));
  assert.equal(series.get('c_total{v="lone � surrogate"}'), 1);
});

test("an instrument is the same one each time, whatever the order of its labels", () => {
  const metrics = metricsRegistry();
  assert.equal(metrics.counter("c_total", { a: "1", b: "2" }), metrics.counter("c_total", { b: "2", a: "1" }));
  assert.notEqual(metrics.counter("c_total", { a: "1" }), metrics.counter("c_total", { a: "2" }));
  assert.equal(metrics.histogram("h"), metrics.histogram("h"));
});

test("[OBS-01] a counter never falls", () => {
  const metrics = metricsRegistry();
  const counter = metrics.counter("c_total");
  counter.add(2.5);
  for (const n of [-1, 0, Number.NaN, Infinity, -Infinity]) counter.add(n);
  assert.equal(parse(metrics.exposition()).get("c_total{}"), 2.5);
});

test("a histogram takes every number and nothing else", () => {
  const metrics = metricsRegistry();
  const histogram = metrics.histogram("h", {}, [1, 2]);
  for (const value of [-5, 1, 2, 3, Number.NaN, Infinity, -Infinity]) histogram.record(value);
  const sample = histogramOf(metrics.read(), "h");
  assert.deepEqual([sample.counts, sample.count, sample.sum], [[2, 1, 1], 4, 1]);
});

test("[OBS-01] a million label values end in one overflow series, counted, and nothing recorded is lost", () => {
  const metrics = metricsRegistry({ seriesPerNameMax: 100 });
  for (let i = 0; i < 1_000_000; i++) metrics.counter("requests_total", { path: `/item/${i}` }).add();

  const series = parse(metrics.exposition());
  assert.equal(series.get('requests_total{overflow="true"}'), 1_000_000 - 100);
  assert.equal(series.get('trestle_metrics_overflow_total{metric="requests_total"}'), 1_000_000 - 100);
  assert.equal(series.size, 102);
  assert.equal(
    [...series].filter(([key]) => key.startsWith("requests_total")).reduce((sum, [, value]) => sum + value, 0),
    1_000_000,
  );
});

test("a gauge too many is left out and counted, and room made is used again", () => {
  const metrics = metricsRegistry({ seriesPerNameMax: 2 });
  const remove = metrics.gauge("g", { n: "1" }, () => 1);
  metrics.gauge("g", { n: "2" }, () => 2);
  metrics.gauge("g", { n: "3" }, () => 3)();
  assert.deepEqual(
    [...parse(metrics.exposition())].map(([key]) => key),
    ['g{n="1"}', 'g{n="2"}', 'trestle_metrics_overflow_total{metric="g"}'],
  );

  remove();
  remove();
  metrics.gauge("g", { n: "3" }, () => 3);
  assert.equal(parse(metrics.exposition()).get('g{n="3"}'), 3);
});

test("a gauge registered again reads the new source, and the old one's removal does not take it away", () => {
  const metrics = metricsRegistry();
  const removeOld = metrics.gauge("g", {}, () => 1);
  metrics.gauge("g", {}, () => 2);
  removeOld();
  assert.equal(parse(metrics.exposition()).get("g{}"), 2);
});

test("a gauge that throws is left out; the page stands", () => {
  const metrics = metricsRegistry();
  metrics.gauge("broken", {}, () => {
    throw new Error("gone");
  });
  metrics.gauge("whole", {}, () => Infinity);
  const series = parse(metrics.exposition());
  assert.deepEqual([...series], [["whole{}", Infinity]]);
});

test("[OBS-01] a quantile is off by the width of its bucket at most", () => {
  const random = seededRandom("quantiles");
  const metrics = metricsRegistry();
  const histogram = metrics.histogram("h");
  const values = Array.from({ length: 5_000 }, () => 0.0002 * 10 ** (random.next() * 5));
  for (const value of values) histogram.record(value);
  values.sort((a, b) => a - b);

  const sample = histogramOf(metrics.read(), "h");
  for (const q of [0.01, 0.5, 0.9, 0.99, 0.999]) {
    const exact = values[Math.ceil(q * values.length) - 1] as number;
    const upper = durationBucketsSeconds.findIndex((bound) => exact <= bound);
    const estimate = histogramQuantile(sample, q);
    assert.ok(
      estimate >= (durationBucketsSeconds[upper - 1] ?? 0) && estimate <= (durationBucketsSeconds[upper] as number),
      `q ${q}: exact ${exact}, estimate ${estimate}`,
    );
  }
  assert.ok(Number.isNaN(histogramQuantile({ bounds: [1], counts: [0, 0] }, 0.5)));
  assert.equal(histogramQuantile({ bounds: [1, 2], counts: [0, 0, 5] }, 0.5), 2);
});

test("misuse is a fault that names the metric", () => {
  const metrics = metricsRegistry();
  metrics.counter("c_total");
  assert.throws(
    () => metrics.histogram("c_total"),
    (thrown: unknown) => Fault.is(thrown, "telemetry.kind-differs") && thrown.message.includes("c_total"),
  );
  for (const name of ["", "1a", "a-b", "a b", "ü"])
    assert.throws(
      () => metrics.counter(name),
      (thrown: unknown) => Fault.is(thrown, "telemetry.bad-name"),
      name,
    );
  for (const label of ["", "a-b", "__name__", "1"])
    assert.throws(
      () => metrics.counter("d_total", { [label]: "x" }),
      (thrown: unknown) => Fault.is(thrown, "telemetry.bad-name"),
      label,
    );
  assert.throws(
    () => metrics.histogram("h", { le: "1" }),
    (thrown: unknown) => Fault.is(thrown, "telemetry.bad-name"),
  );
  for (const bounds of [[], [2, 1], [1, 1], [1, Infinity], [Number.NaN]])
    assert.throws(
      () => metrics.histogram("hb", {}, bounds),
      (thrown: unknown) => Fault.is(thrown, "telemetry.bad-buckets"),
    );
});

test("the fixed buckets rise", () => {
  for (const bounds of [durationBucketsSeconds, countBuckets])
    assert.deepEqual(
      bounds,
      [...new Set(bounds)].toSorted((a, b) => a - b),
    );
});
