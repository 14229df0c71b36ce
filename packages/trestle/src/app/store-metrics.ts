/** What the store counts, as metrics: asked when somebody looks, and no oftener than it is cheap to answer. */
import type { QueueDepth } from "../store/index.ts";
import type { OperationsView } from "./operations.ts";
import { countedStates } from "./queue-admin.ts";

/** Brings what the store counts into the registry, and answers the page for a scraper. */
export function storeMetrics(view: OperationsView, depths: () => Promise<readonly QueueDepth[]>): () => Promise<string> {
  const { metrics, node } = view;
  const counted = { commits: 0, refused: 0, batches: 0 };
  const counters = {
    commits: metrics.counter("trestle_store_commits_total"),
    refused: metrics.counter("trestle_store_commits_refused_total"),
    batches: metrics.counter("trestle_store_batches_total"),
  };
  metrics.describe("trestle_store_commits_total", "Commits that were applied and are durable.");
  metrics.describe("trestle_store_commits_refused_total", "Commits whose expectations did not hold.");
  metrics.describe("trestle_store_batches_total", "Storage transactions: each takes along what waits.");
  metrics.describe("trestle_store_waiting", "Commits waiting for the lane.");
  metrics.describe("trestle_queue_jobs", "Jobs by queue and state.");
  metrics.describe("trestle_queue_oldest_age_seconds", "Age of the oldest job that is due and waits.");
  metrics.describe("trestle_node_info", "Always 1; says which node this is.");
  metrics.gauge("trestle_store_waiting", {}, () => node.store.stats().waiting);
  metrics.gauge("trestle_node_info", { app: view.app, node: node.id, runtime: process.version, engine: node.store.engine }, () => 1);
  metrics.gauge("trestle_node_ready", {}, () => (view.phase() === "ready" ? 1 : 0));
  metrics.gauge("trestle_node_started_seconds", {}, () => view.startedAtMs / 1_000);
  let latest = new Map<string, QueueDepth>();
  const gauged = new Set<string>();

  return async () => {
    const stats = node.store.stats();
    for (const name of ["commits", "refused", "batches"] as const) {
      counters[name].add(stats[name] - counted[name]);
      counted[name] = stats[name];
    }
    latest = new Map((await depths()).map((depth) => [depth.queue, depth]));
    for (const queue of latest.keys()) {
      if (gauged.has(queue)) continue;
      gauged.add(queue);
      for (const state of countedStates) metrics.gauge("trestle_queue_jobs", { queue, state }, () => latest.get(queue)?.[state] ?? 0);
      metrics.gauge("trestle_queue_oldest_age_seconds", { queue }, () => (latest.get(queue)?.oldestAgeMs ?? 0) / 1_000);
    }
    return metrics.exposition();
  };
}

/**
 * Depths are counted, and counting a long queue takes time on the thread that serves: it is asked at most once a second, and for no more
 * than a twentieth of the time.
 */
export function remembered<T>(view: OperationsView, ask: () => Promise<T>): () => Promise<T> {
  const { clock } = view.node;
  let answer: Promise<T> | undefined;
  let untilMs = 0;
  return () => {
    const fromMs = clock.monotonicMs();
    if (answer && fromMs < untilMs) return answer;
    const asking = ask();
    answer = asking;
    untilMs = Infinity;
    asking.then(
      () => void (untilMs = clock.monotonicMs() + Math.max(1_000, (clock.monotonicMs() - fromMs) * 20)),
      () => void (untilMs = 0),
    );
    return asking;
  };
}
