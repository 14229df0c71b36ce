/**
 * The observer of a node: metrics for scrapers, a rolling minute for the console, spans for whoever collects them. It runs for every
 * request and job: two map look-ups and some additions, no allocation once a series exists (observer.live.test.ts measures it).
 *
 * Metrics, all by component: `trestle_invocations_total{component,operation,end}`,
 * `trestle_invocation_duration_seconds{component,operation}`, `trestle_attempts_per_commit{component}`,
 * `trestle_attempts_per_commit_max{component}`, `trestle_edge_used_total{from,to}`, `trestle_edge_duration_seconds{from,to}`.
 *
 * Of calls to the outside: `trestle_failures_total{component,kind}`, `trestle_breaker_state{component}`, `trestle_breaker_changes_total{component,from,to}`.
 * `trestle_calls_declined_total{component,reason}`, `trestle_calls_hedged_total{component,end}`. Of bulkheads: `trestle_bulkhead_places{component}`, `trestle_bulkhead_in_flight{component}`, `trestle_bulkhead_waiting{component}`.
 * Of limits: `trestle_limit_decisions_total{component,operation,limit,decision}`, `trestle_limit_keys_forgotten_total{component,limit}`; of a fleet's:
 * `trestle_limit_unreachable_total`, `trestle_limit_leased_tokens`, `trestle_limit_overshoot_tokens{component,limit}`.
 * Of systems outside with a health check: `trestle_dependency_up{component}`.
 * Of routes with a policy (trestle/degradation): `trestle_degradation_level{component,operation}` (0 full, 1 stale, 2 partial, 3 static, 4 unavailable),
 * `trestle_degradation_changes_total{component,operation,from,to}`, `trestle_degraded_answers_total{component,operation,rung}`.
 * Of admission: `trestle_admission_running{component}`, `trestle_admission_places{component}`, `trestle_admission_waiting{component}`, `trestle_admission_overdue{component}`, `trestle_admission_decisions_total{component,priority,decision}`.
 * Of the workers of queues: `trestle_worker_running{queue}`, `trestle_worker_places{queue}`, `trestle_worker_waiting{queue}`, `trestle_worker_overdue{queue}`.
 *
 * Bounded: 500 operations of a component and 5,000 edges; what comes after is counted under `(other)`.
 */
import type { Observer, Span } from "../component/index.ts";
import { levelOf } from "../degradation/index.ts";
import { countBuckets, type Clock, type Counter, type Histogram, type Metrics, type Random } from "../kernel/index.ts";
import { Gates, type GateView } from "./gates.ts";
import { spanSource, type SpanSource } from "./otel.ts";
import { trafficOf, TrafficWindow, type End, type Traffic } from "./traffic.ts";

export interface ObserverParts {
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly random: Random;
  /** Default: `@opentelemetry/api`, once somebody has registered a tracer provider there. */
  readonly spans?: SpanSource;
}

/** The observed graph: what was seen on this node since it started, and the traffic of the last minute. */
export interface Observed {
  readonly components: ReadonlyMap<string, { readonly traffic: Traffic; readonly operations: ReadonlyMap<string, Traffic & { readonly total: number }> }>;
  readonly edges: readonly { readonly from: string; readonly to: string; readonly total: number; readonly traffic: Traffic }[];
  readonly gates: readonly GateView[];
}

export interface NodeObserver extends Observer {
  observed(): Observed;
}

interface OperationSeries {
  readonly ends: Readonly<Record<End, Counter>>;
  readonly duration: Histogram;
  readonly window: TrafficWindow;
  total: number;
}
interface ComponentSeries {
  readonly operations: Map<string, OperationSeries>;
  readonly attempts: Histogram;
  attemptsMax: number;
}
interface EdgeSeries {
  readonly used: Counter;
  readonly window: TrafficWindow;
  calls: { readonly duration: Histogram; readonly window: TrafficWindow } | undefined;
  total: number;
}

const operationsMax = 500;
const edgesMax = 5_000;
const other = "(other)";
/** Of what has places in this process: a gauge of each, by the name of the metrics. */
const placesTexts = {
  admission: {
    running: "Requests of the service that are worked on.",
    places: "How many of them may be.",
    waiting: "Requests of the service that wait for a place.",
    overdue: "Of those that are worked on: how many go on, and hold their place, though their time is over or their caller has gone.",
  },
  worker: {
    running: "Handlers of the queue's jobs that run on this node.",
    places: "How many of them may.",
    waiting: "Jobs of the queue that this node has claimed, and for which there is no place yet.",
    overdue: "Of those that run: how many go on, and hold their place, though their job's time is over or it was taken from them.",
  },
} as const;
type PlacesGauge = keyof (typeof placesTexts)["admission"];
const breakerStates = { closed: 0, "half-open": 1, open: 2 } as const;

export function makeObserver(parts: ObserverParts): NodeObserver {
  const { metrics, clock } = parts;
  const spans = parts.spans ?? spanSource();
  const startedMs = clock.monotonicMs();
  const components = new Map<string, ComponentSeries>();
  const edges = new Map<string, Map<string, EdgeSeries>>();
  const gates = new Gates();
  /** As many as there are gates, times what they are counted by, times decisions. */
  const decided = new Map<string, { readonly counter: Counter; readonly window: TrafficWindow }>();
  const health = new Map<string, "up" | "down">();
  const levels = new Map<string, number>();
  let edgeCount = 0;
  metrics.describe("trestle_invocations_total", "Invocations of handlers, by how they ended.");
  metrics.describe("trestle_invocation_duration_seconds", "From the start of an invocation to the end of its commit.");
  metrics.describe("trestle_attempts_per_commit", "Runs of the handler that one invocation took; conflicts re-run it.");
  metrics.describe("trestle_attempts_per_commit_max", "The most runs one invocation took since the node started.");
  metrics.describe("trestle_limit_decisions_total", "What limits decided about requests.");
  metrics.describe("trestle_limit_keys_forgotten_total", "Keys that lost their place in a limit's full table: so many found their whole limit there again.");
  metrics.describe("trestle_admission_decisions_total", "What became of requests that asked for a place: admitted, or why not.");
  for (const [of, texts] of Object.entries(placesTexts)) for (const [what, text] of Object.entries(texts)) metrics.describe(`trestle_${of}_${what}`, text);
  metrics.describe("trestle_limit_unreachable_total", "Decisions of a fleet's limit that were made without its place, as declared.");
  metrics.describe("trestle_limit_leased_tokens", "Drawn by this process, and neither spent nor given back.");
  metrics.describe("trestle_limit_overshoot_tokens", "The most of one key that was admitted out of budgets drawn before, in the last minute or two.");
  metrics.describe("trestle_failures_total", "Attempts to reach another system that failed, by what the failure means.");
  metrics.describe("trestle_breaker_state", "Of the breaker before another system: 0 closed, 1 half-open, 2 open.");
  metrics.describe("trestle_breaker_changes_total", "Changes of breakers' states.");
  metrics.describe("trestle_bulkhead_places", "How many calls to another system may be under way at once.");
  metrics.describe("trestle_bulkhead_in_flight", "Calls to another system that have begun and not ended, also those that nobody waits for any more.");
  metrics.describe("trestle_bulkhead_waiting", "Calls to another system that wait for a place.");
  metrics.describe("trestle_calls_declined_total", "Attempts to reach another system that were not made, by reason: no place, or an open breaker.");
  metrics.describe("trestle_calls_hedged_total", "Queries that were asked once more because an answer took long, by whether that answer came first.");
  metrics.describe("trestle_dependency_up", "Whether the health check of another system succeeds: 1, or 0.");
  metrics.describe(
    "trestle_degradation_level",
    "How far down its ladder a route is: 0 full, 1 stale, 2 partial, 3 static, 4 unavailable. In dark mode: would be.",
  );
  metrics.describe("trestle_degradation_changes_total", "Changes of routes' rungs.");
  metrics.describe("trestle_degraded_answers_total", "Requests that a rung below the whole handler answered.");
  metrics.describe("trestle_edge_used_total", "Invocations of one component that reached for another.");
  metrics.describe("trestle_edge_duration_seconds", "Calls of one component that waited for another.");

  function componentSeries(component: string): ComponentSeries {
    const known = components.get(component);
    if (known) return known;
    const made: ComponentSeries = {
      operations: new Map(),
      attempts: metrics.histogram("trestle_attempts_per_commit", { component }, countBuckets),
      attemptsMax: 0,
    };
    metrics.gauge("trestle_attempts_per_commit_max", { component }, () => made.attemptsMax);
    components.set(component, made);
    return made;
  }

  function operationSeries(component: string, operations: ComponentSeries["operations"], operation: string): OperationSeries {
    if (operations.size >= operationsMax && operation !== other) return operations.get(other) ?? operationSeries(component, operations, other);
    const ended = (end: End) => metrics.counter("trestle_invocations_total", { component, operation, end });
    const made: OperationSeries = {
      ends: { ok: ended("ok"), refused: ended("refused"), fault: ended("fault") },
      duration: metrics.histogram("trestle_invocation_duration_seconds", { component, operation }),
      window: new TrafficWindow(),
      total: 0,
    };
    operations.set(operation, made);
    return made;
  }

  function edgeSeries(from: string, to: string): EdgeSeries {
    const known = edges.get(from)?.get(to);
    if (known) return known;
    if (edgeCount >= edgesMax && from !== other) return edgeSeries(other, other);
    edgeCount += 1;
    const made: EdgeSeries = { used: metrics.counter("trestle_edge_used_total", { from, to }), window: new TrafficWindow(), calls: undefined, total: 0 };
    const ofFrom = edges.get(from);
    if (ofFrom) ofFrom.set(to, made);
    else edges.set(from, new Map([[to, made]]));
    return made;
  }

  function gaugePlaces(of: keyof typeof placesTexts, labels: Readonly<Record<string, string>>, look: () => Readonly<Record<PlacesGauge, number>>): void {
    for (const what of Object.keys(placesTexts[of]) as PlacesGauge[]) metrics.gauge(`trestle_${of}_${what}`, labels, () => look()[what]);
  }

  /** `key` is unique for the labels. */
  function decide(key: string, metric: string, component: string, gate: string, decision: string, labels: Readonly<Record<string, string>>): void {
    let one = decided.get(key);
    if (!one) decided.set(key, (one = { counter: metrics.counter(metric, { component, ...labels }), window: gates.window(component, gate, decision) }));
    one.counter.add();
    one.window.count(clock.monotonicMs());
  }

  return {
    invoked(component, operation, end, durationMs, attempts) {
      const series = components.get(component) ?? componentSeries(component);
      const ofOperation = series.operations.get(operation) ?? operationSeries(component, series.operations, operation);
      ofOperation.ends[end].add();
      ofOperation.duration.record(durationMs / 1_000);
      ofOperation.window.record(clock.monotonicMs(), end, durationMs);
      ofOperation.total += 1;
      series.attempts.record(attempts);
      if (attempts > series.attemptsMax) series.attemptsMax = attempts;
    },
    used(from, to) {
      if (from === to) return; // asked from outside any handler: there is no edge
      const series = edges.get(from)?.get(to) ?? edgeSeries(from, to);
      series.used.add();
      series.window.count(clock.monotonicMs());
      series.total += 1;
    },
    called(from, to, end, durationMs) {
      if (from === to) return;
      const series = edges.get(from)?.get(to) ?? edgeSeries(from, to);
      series.calls ??= { duration: metrics.histogram("trestle_edge_duration_seconds", { from, to }), window: new TrafficWindow() };
      series.calls.duration.record(durationMs / 1_000);
      series.calls.window.record(clock.monotonicMs(), end, durationMs);
    },
    admits(component, look) {
      gates.gate(component, "admission").look = look;
      gaugePlaces("admission", { component }, look);
    },
    works(queue, adaptive, look) {
      gates.gate(queue, "jobs").look = adaptive ? () => ({ ...look(), adaptive }) : look;
      gaugePlaces("worker", { queue }, look);
    },
    admission(component, priority, decision) {
      const key = `admission ${component} ${priority} ${decision}`;
      decide(key, "trestle_admission_decisions_total", component, "admission", decision, { priority, decision });
    },
    failed(to, kind) {
      decide(`failed ${to} ${kind}`, "trestle_failures_total", to, "calls", kind, { kind });
    },
    broke(component, from, to) {
      const calls = gates.gate(component, "calls");
      if (calls.breaker === undefined) metrics.gauge("trestle_breaker_state", { component }, () => breakerStates[calls.breaker ?? "closed"]);
      calls.breaker = to;
      metrics.counter("trestle_breaker_changes_total", { component, from, to }).add();
    },
    bounded(component, bulkhead) {
      gates.gate(component, "calls").look = () => ({ running: bulkhead.inFlight, places: bulkhead.running, waiting: bulkhead.waiting });
      metrics.gauge("trestle_bulkhead_places", { component }, () => bulkhead.running);
      metrics.gauge("trestle_bulkhead_in_flight", { component }, () => bulkhead.inFlight);
      metrics.gauge("trestle_bulkhead_waiting", { component }, () => bulkhead.waiting);
    },
    declined(component, reason) {
      decide(`declined ${component} ${reason}`, "trestle_calls_declined_total", component, "calls", reason, { reason });
    },
    hedged(component, won) {
      const end = won ? "won" : "lost";
      decide(`hedged ${component} ${end}`, "trestle_calls_hedged_total", component, "calls", `hedge-${end}`, { end });
    },
    checked(component, status) {
      if (!health.has(component)) metrics.gauge("trestle_dependency_up", { component }, () => (health.get(component) === "up" ? 1 : 0));
      health.set(component, status);
    },
    degraded(component, operation, from, to) {
      const key = `${component}.${operation}`;
      if (!levels.has(key)) metrics.gauge("trestle_degradation_level", { component, operation }, () => levels.get(key) ?? 0);
      levels.set(key, levelOf(to));
      metrics.counter("trestle_degradation_changes_total", { component, operation, from, to }).add();
    },
    answeredBelow(component, operation, rung) {
      metrics.counter("trestle_degraded_answers_total", { component, operation, rung }).add();
    },
    limited(component, operation, limit, decision, forgotten) {
      const key = `limit ${component} ${operation} ${limit} ${decision}`;
      decide(key, "trestle_limit_decisions_total", component, `limit ${limit}`, decision, { operation, limit, decision });
      if (forgotten > 0) metrics.counter("trestle_limit_keys_forgotten_total", { component, limit }).add(forgotten);
    },
    limitUnreachable(component, limit) {
      metrics.counter("trestle_limit_unreachable_total", { component, limit }).add();
    },
    limitLeases(component, limit, leases) {
      metrics.gauge("trestle_limit_leased_tokens", { component, limit }, () => leases.leasedTokens);
      metrics.gauge("trestle_limit_overshoot_tokens", { component, limit }, () => leases.overshootTokens);
    },
    span: (name, attributes, parent): Span | undefined => spans.start(name, attributes, parent),
    observed() {
      const nowMs = clock.monotonicMs();
      const traffic = (windows: Iterable<TrafficWindow>) => trafficOf(windows, nowMs, startedMs);
      return {
        gates: gates.view(nowMs, startedMs),
        components: new Map(
          [...components].map(([name, { operations }]) => [
            name,
            {
              traffic: traffic([...operations.values()].map(({ window }) => window)),
              operations: new Map([...operations].map(([operation, { window, total }]) => [operation, { ...traffic([window]), total }])),
            },
          ]),
        ),
        edges: [...edges].flatMap(([from, ofFrom]) =>
          [...ofFrom].map(([to, { window, calls, total }]) => {
            const { perSecond } = traffic([window]);
            // Rates of failure and durations are those of calls that were waited for; the rate is that of use.
            return { from, to, total, traffic: calls ? { ...traffic([calls.window]), perSecond } : { perSecond, refusedPerSecond: 0, faultsPerSecond: 0 } };
          }),
        ),
      };
    },
  };
}
