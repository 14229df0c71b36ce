/** A node to look at without an app: the shop's graph, traffic that does not change, and jobs of every state in a store in memory. */
import { makeObserver, type NodeObserver } from "../app/observer.ts";
import { operations, type OperationsView } from "../app/operations.ts";
import type { Graph } from "../app/graph.ts";
import { listen } from "../app/server.ts";
import { nodeServices } from "../app/services.ts";
import { Lane, StoreClock, type NodeServices } from "../component/index.ts";
import { metricsRegistry, systemClock, systemRandom, uuidv7Ids, type Clock, type Metrics } from "../kernel/index.ts";
import { bulkhead } from "../resilience/index.ts";
import { openStore } from "../sqlite/index.ts";
import type { JobEnd, Store } from "../store/index.ts";

const component = (kind: string, name: string, role = "any", annotations = {}) => ({ kind, name, role, annotations });
const edge = (from: string, to: string, operation: Graph["edges"][number]["operation"]) => ({ from, to, operation });

export const shopGraph: Graph = {
  components: [
    component("service", "shop", "web", {
      owner: "orders",
      summary: "Takes orders and shows them.",
      slo: { availability: 0.999, p99: "300ms" },
      runbook: "https://example.org/runbooks/shop",
    }),
    component("subscription", "shipping", "worker"),
    component("queue", "fulfilment", "worker", { owner: "orders" }),
    component("queue", "mail", "worker"),
    component("projection", "order-list", "worker"),
    component("aggregate", "orders", "any", { owner: "orders", dataClass: "confidential" }),
    component("aggregate", "stock"),
    component("records", "products"),
    component("external", "payments"),
    component("external", "mail-sink"),
    component("schedule", "nightly-report", "worker"),
    component("setting", "PAYMENTS_URL"),
  ],
  edges: [
    edge("shop", "products", "read"),
    edge("shop", "orders", "write"),
    edge("shop", "order-list", "read"),
    edge("shop", "fulfilment", "send"),
    edge("fulfilment", "orders", "write"),
    edge("fulfilment", "stock", "write"),
    edge("fulfilment", "payments", "call"),
    edge("order-list", "orders", "follow"),
    edge("shipping", "orders", "follow"),
    edge("shipping", "orders", "write"),
    edge("shipping", "mail", "send"),
    edge("mail", "mail-sink", "call"),
    edge("nightly-report", "order-list", "read"),
    edge("nightly-report", "mail", "send"),
    edge("payments", "PAYMENTS_URL", "read"),
  ],
};

export interface FakeNode {
  readonly view: OperationsView;
  readonly node: NodeServices;
  readonly store: Store;
  readonly metrics: Metrics;
  readonly observer: NodeObserver;
  /** A minute of the shop's traffic, seen at once. */
  traffic(times?: number): void;
  /** As `traffic` of what lets calls pass: an admission that is full, a limit, a system outside that is down. */
  overload(times?: number): void;
  /** Sends this many jobs to the queue, each of that group, and lets each end like this. */
  jobs(queue: string, count: number, end?: JobEnd, group?: string): Promise<readonly string[]>;
}

export async function fakeNode(
  options: {
    readonly graph?: Graph;
    readonly clock?: Clock;
    readonly token?: string;
    readonly phase?: () => ReturnType<OperationsView["phase"]>;
    /** A folder that `trestle sim` wrote to. */
    readonly simulated?: string;
  } = {},
): Promise<FakeNode> {
  const clock = options.clock ?? systemClock;
  const random = systemRandom;
  const graph = options.graph ?? shopGraph;
  const store = await openStore("memory:", { clock });
  const metrics = metricsRegistry();
  const ids = uuidv7Ids(clock, random);
  const observer = makeObserver({ metrics, clock, random });
  const node = nodeServices({
    app: "shop",
    name: "shop 1",
    components: [],
    store,
    lane: new Lane(store, clock),
    clock,
    storeClock: new StoreClock(store, clock),
    random,
    ids,
    observer,
    logger: { log: () => undefined, lost: 0 },
    draining: new AbortController().signal,
    settings: {},
    services: {},
  });
  const view: OperationsView = {
    app: "shop",
    graph,
    node,
    metrics,
    startedAtMs: clock.wallMs(),
    phase: options.phase ?? (() => "ready"),
    ...(options.token === undefined ? {} : { token: options.token }),
    simulated: options.simulated ?? "nowhere",
  };
  return {
    view,
    node,
    store,
    metrics,
    observer,
    traffic(times = 60) {
      for (let i = 0; i < times; i++) {
        observer.invoked("shop", "placeOrder", i % 23 === 0 ? "refused" : "ok", 6 + (i % 40), 1);
        for (let reads = 0; reads < 4; reads++) observer.invoked("shop", "listProducts", "ok", 0.6 + (reads % 3), 1);
        observer.invoked("shop", "getOrder", "ok", 0.8, 1);
        for (const to of ["products", "orders", "fulfilment"]) observer.used("shop", to);
        for (let reads = 0; reads < 5; reads++) observer.used("shop", "order-list");
        observer.invoked("fulfilment", "", i % 17 === 0 ? "fault" : "ok", 20 + (i % 60), 1 + (i % 3));
        for (const to of ["orders", "stock", "payments"]) observer.used("fulfilment", to);
        observer.called?.("fulfilment", "payments", i % 17 === 0 ? "fault" : "ok", 12 + (i % 30));
        observer.invoked("shipping", "PaymentCaptured", "ok", 3, 1);
        observer.invoked("shipping", "OrderShipped", "ok", 4, 1);
        for (const to of ["orders", "mail"]) observer.used("shipping", to);
        observer.invoked("mail", "", "ok", 9, 1);
        observer.used("mail", "mail-sink");
        observer.called?.("mail", "mail-sink", "ok", 8);
      }
    },
    overload(times = 60) {
      observer.admits?.("shop", () => ({ running: 64, places: 64, waiting: 117, overdue: 0 }));
      observer.bounded?.("payments", bulkhead({ running: 32 }));
      for (let i = 0; i < times; i++) {
        for (let passed = 0; passed < 4; passed++) observer.admission?.("shop", "normal", "admitted");
        observer.admission?.("shop", "low", i % 3 === 0 ? "displaced" : "full");
        for (const decision of ["admitted", "admitted", i % 5 === 0 ? "refused" : "admitted"] as const)
          observer.limited?.("shop", "placeOrder", "caller", decision, 0);
        observer.limited?.("shop", "listProducts", "address", i % 2 === 0 ? "would-refuse" : "admitted", 0);
        observer.failed?.("payments", i % 2 === 0 ? "omission" : "crash");
        observer.declined?.("payments", "breaker-open");
      }
      observer.broke?.("payments", "closed", "open");
    },
    async jobs(queue, count, end, group) {
      const sent = Array.from({ length: count }, () => ids.next());
      for (let first = 0; first < count; first += 500) {
        await store.commit({
          id: ids.next(),
          expects: [],
          writes: sent
            .slice(first, first + 500)
            .map((id) => ({ kind: "enqueue", job: { id, queue, payload: new Uint8Array(20), priority: 1, ...(group === undefined ? {} : { group }) } })),
        });
      }
      if (end) {
        const { jobs } = await store.claim({ holder: "fake", leaseMs: 60_000, queues: [{ queue, limit: count }] });
        await store.commit({ id: ids.next(), expects: [], writes: jobs.map(({ id, fence }) => ({ kind: "finish", job: id, fence, end })) });
      }
      return sent;
    },
  };
}

/** The node behind a socket, on a free port of this machine. */
export async function serve(fake: FakeNode, port = 0): Promise<{ readonly url: string; close(): Promise<void> }> {
  const answer = operations(fake.view);
  const server = await listen(
    async (request, peer) => (await answer(request.asRequest?.() ?? (request as Request), peer)) ?? new Response("no", { status: 404 }),
    { host: "localhost", port },
  );
  return { url: server.url, close: () => server.close() };
}
