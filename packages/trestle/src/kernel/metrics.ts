/**
 * Metrics in memory, and their Prometheus text exposition (format 0.0.4). An instrument is resolved once, by name and labels; using it
 * is an addition into a typed array: no lookup, no allocation.
 *
 * Bounded: a name has at most `seriesPerNameMax` series; what would be one more goes into the series `{overflow="true"}` of that name,
 * and `trestle_metrics_overflow_total{metric}` counts how often that was asked for; a gauge too many is left out and counted there too.
 * Label values are cut at 256 characters.
 *
 * The registry is one function of more than 60 lines: what it returns shares one map of families.
 */
import { Fault } from "./fault.ts";

export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  /** Default 1. What is not above 0 is ignored: a counter never falls. */
  add(n?: number): void;
}

export interface Histogram {
  /** Durations are in seconds. What is not a number is ignored. */
  record(value: number): void;
}

/** Upper bounds in seconds, for durations: 100 us to 60 s. */
export const durationBucketsSeconds: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
/** Upper bounds for counts: batch sizes, attempts, rows. */
export const countBuckets: readonly number[] = [1, 2, 3, 5, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];

export type Sample =
  | { readonly kind: "counter" | "gauge"; readonly name: string; readonly labels: Labels; readonly value: number }
  /** `counts[i]` observations at most `bounds[i]` and above the bound before; the last one is above all bounds. */
  | {
      readonly kind: "histogram";
      readonly name: string;
      readonly labels: Labels;
      readonly bounds: readonly number[];
      readonly counts: readonly number[];
      readonly sum: number;
      readonly count: number;
    };

export interface Metrics {
  /** The instrument of this name and these labels; the same one each time. Names as Prometheus has them: `trestle_commits_total`. */
  counter(name: string, labels?: Labels): Counter;
  /** `bounds` are those of the first call for a name; default `durationBucketsSeconds`. */
  histogram(name: string, labels?: Labels, bounds?: readonly number[]): Histogram;
  /** Read when someone looks. Replaces the gauge of the same name and labels; the function returned takes it away. A `read` that throws is left out. */
  gauge(name: string, labels: Labels, read: () => number): () => void;
  /** The HELP line. */
  describe(name: string, help: string): void;
  /** What every instrument stands at, by name, then in the order they were made. */
  read(): readonly Sample[];
  /** The page for a scraper; send it as `expositionContentType`. */
  exposition(): string;
}

export const expositionContentType = "text/plain; version=0.0.4; charset=utf-8";

class CounterSeries implements Counter {
  total = 0;

  add(n = 1): void {
    if (n > 0 && n < Infinity) this.total += n;
  }
}

class HistogramSeries implements Histogram {
  readonly bounds: readonly number[];
  /** One for each bound, one above all of them, and the sum. */
  readonly cells: Float64Array;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.cells = new Float64Array(bounds.length + 2);
  }

  record(value: number): void {
    if (!(value < Infinity && value > -Infinity)) return;
    const { bounds, cells } = this;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= (bounds[middle] as number)) high = middle;
      else low = middle + 1;
    }
    cells[low] = (cells[low] as number) + 1;
    cells[bounds.length + 1] = (cells[bounds.length + 1] as number) + value;
  }
}

type Kind = "counter" | "histogram" | "gauge";
type Series = CounterSeries | HistogramSeries | (() => number);
interface Family {
  readonly kind: Kind;
  readonly bounds: readonly number[];
  readonly series: Map<string, { readonly labels: Labels; series: Series }>;
}

const overflowLabels: Labels = { overflow: "true" };
const overflowName = "trestle_metrics_overflow_total";
const labelCharsMax = 256;

export function metricsRegistry(options: { readonly seriesPerNameMax?: number } = {}): Metrics {
  const { seriesPerNameMax = 1_000 } = options;
  const families = new Map<string, Family>();
  const helps = new Map<string, string>([[overflowName, 'Series that were refused because their metric has too many; counted in {overflow="true"}.']]);

  function family(name: string, kind: Kind, bounds: readonly number[]): Family {
    let found = families.get(name);
    if (!found) {
      if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name))
        throw Fault.create(
          "telemetry.bad-name",
          `a metric name must match [a-zA-Z_:][a-zA-Z0-9_:]*, got ${JSON.stringify(name)}`,
          "Write it as Prometheus has it: trestle_commits_total.",
        );
      if (kind === "histogram" && (bounds.length === 0 || bounds.some((bound, i) => !Number.isFinite(bound) || (i > 0 && bound <= (bounds[i - 1] as number)))))
        throw Fault.create(
          "telemetry.bad-buckets",
          `the bounds of ${name} must be finite and rising, got [${bounds.join(", ")}]`,
          "List the upper bounds from the least to the greatest.",
        );
      families.set(name, (found = { kind, bounds, series: new Map() }));
    }
    if (found.kind !== kind)
      throw Fault.create("telemetry.kind-differs", `${name} is a ${found.kind} and was asked for as a ${kind}`, "Give the new metric another name.");
    return found;
  }

  /** The series of these labels, the overflow series when there are too many, made by `make` when new. */
  function resolve<S extends Series>(name: string, kind: Kind, labels: Labels, make: () => S, bounds: readonly number[] = []): S {
    const { series } = family(name, kind, bounds);
    const { key, cut } = canonical(name, kind, labels);
    const known = series.get(key);
    if (known) return known.series as S;
    if (series.size >= seriesPerNameMax && name !== overflowName) {
      countOverflow(name);
      const overflow = series.get("overflow");
      if (overflow) return overflow.series as S;
      const made = make();
      series.set("overflow", { labels: overflowLabels, series: made });
      return made;
    }
    const made = make();
    series.set(key, { labels: cut, series: made });
    return made;
  }

  function countOverflow(metric: string): void {
    resolve(overflowName, "counter", { metric }, () => new CounterSeries()).add();
  }

  function* samples(): Generator<Sample> {
    for (const name of [...families.keys()].toSorted()) {
      const { kind, bounds, series } = families.get(name) as Family;
      for (const { labels, series: one } of series.values()) {
        if (one instanceof CounterSeries) yield { kind: "counter", name, labels, value: one.total };
        else if (one instanceof HistogramSeries) {
          const counts = Array.from(one.cells.subarray(0, bounds.length + 1));
          yield { kind: "histogram", name, labels, bounds, counts, sum: one.cells[bounds.length + 1] as number, count: counts.reduce((a, b) => a + b, 0) };
        } else {
          let value: number;
          try {
            value = one();
          } catch {
            continue;
          }
          yield { kind: kind as "gauge", name, labels, value };
        }
      }
    }
  }

  return {
    counter: (name, labels = {}) => resolve(name, "counter", labels, () => new CounterSeries()),
    histogram: (name, labels = {}, bounds = durationBucketsSeconds) => {
      const used = family(name, "histogram", bounds).bounds;
      return resolve(name, "histogram", labels, () => new HistogramSeries(used), used);
    },
    gauge(name, labels, read) {
      const { series } = family(name, "gauge", []);
      const { key, cut } = canonical(name, "gauge", labels);
      const known = series.get(key);
      if (!known && series.size >= seriesPerNameMax) {
        countOverflow(name); // many gauges cannot be told as one: this one is left out
        return () => undefined;
      }
      if (known) known.series = read;
      else series.set(key, { labels: cut, series: read });
      return () => {
        if (series.get(key)?.series === read) series.delete(key);
      };
    },
    describe: (name, help) => void helps.set(name, help),
    read: () => [...samples()],
    exposition() {
      const lines: string[] = [];
      let before = "";
      for (const sample of samples()) {
        const { name } = sample;
        if (name !== before) {
          const help = helps.get(name);
          if (help !== undefined) lines.push(`# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
          lines.push(`# TYPE ${name} ${sample.kind}`);
          before = name;
        }
        const labels = Object.entries(sample.labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`);
        if (sample.kind !== "histogram") {
          lines.push(`${name}${braces(labels)} ${formatNumber(sample.value)}`);
          continue;
        }
        let cumulative = 0;
        sample.counts.forEach((count, i) => {
          cumulative += count;
          lines.push(`${name}_bucket${braces([...labels, `le="${formatNumber(sample.bounds[i] ?? Infinity)}"`])} ${cumulative}`);
        });
        lines.push(`${name}_sum${braces(labels)} ${formatNumber(sample.sum)}`, `${name}_count${braces(labels)} ${sample.count}`);
      }
      return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
    },
  };
}

/** Names that were found to be names of labels: programs have few. */
const knownLabels = new Set<string>();
const knownLabelsMax = 1_000;

/** Label names in order, so that `{a, b}` and `{b, a}` are one series; values cut and without lone surrogates. */
function canonical(metric: string, kind: Kind, labels: Labels): { readonly key: string; readonly cut: Labels } {
  const cut: Record<string, string> = {};
  const names = Object.keys(labels);
  if (names.length > 1) names.sort();
  for (const name of names) {
    if ((!knownLabels.has(name) && (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) || name.startsWith("__"))) || (kind === "histogram" && name === "le"))
      throw Fault.create(
        "telemetry.bad-name",
        `a label name of ${metric} must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with __ and not be le on a histogram, got ${JSON.stringify(name)}`,
        "Rename the label.",
      );
    if (knownLabels.size < knownLabelsMax) knownLabels.add(name);
    cut[name] = String(labels[name]).slice(0, labelCharsMax).toWellFormed();
  }
  return { key: JSON.stringify(cut), cut };
}

const escapeLabel = (value: string) => value.replace(/[\\"\n]/g, (char) => (char === "\n" ? "\\n" : `\\${char}`));
const braces = (labels: readonly string[]) => (labels.length === 0 ? "" : `{${labels.join(",")}}`);
const formatNumber = (value: number) => (value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value));

/**
 * The value below which the share `q` (0 to 1) of the observations lies, by linear interpolation within its bucket, as Prometheus'
 * `histogram_quantile` does: off by the width of a bucket at most. Above the last bound it answers the last bound; `NaN` without observations.
 */
export function histogramQuantile(sample: { readonly bounds: readonly number[]; readonly counts: readonly number[] }, q: number): number {
  const total = sample.counts.reduce((a, b) => a + b, 0);
  if (total === 0) return Number.NaN;
  const rank = q * total;
  let below = 0;
  for (let i = 0; i < sample.bounds.length; i++) {
    const count = sample.counts[i] as number;
    if (below + count >= rank && count > 0) {
      const lower = i === 0 ? Math.min(0, sample.bounds[0] as number) : (sample.bounds[i - 1] as number);
      return lower + ((sample.bounds[i] as number) - lower) * Math.max(0, (rank - below) / count);
    }
    below += count;
  }
  return sample.bounds.at(-1) as number;
}
