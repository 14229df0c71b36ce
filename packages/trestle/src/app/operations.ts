/**
 * The node's own endpoints, under `/_trestle`: the console's page, metrics, health, the graph, the state of the node, queues and what
 * may be done with their jobs. docs/reference/operations.md lists them. Loaded at the first request for one of them.
 *
 * Health is open to everyone and says nothing but the state; everything else goes through access.ts.
 */
import type { NodeServices } from "../component/index.ts";
import { expositionContentType, Fault, type Metrics } from "../kernel/index.ts";
import { limits, type QueueDepth } from "../store/index.ts";
import type { Dependency } from "../external/index.ts";
import { access, type Access, type Peer } from "./access.ts";
import type { NodeDegradation } from "./degradation.ts";
import type { Graph } from "./graph.ts";
import { graphView, type GraphView } from "./graph-view.ts";
import type { NodeObserver, Observed } from "./observer.ts";
import { pageFile } from "./page-files.ts";
import { problem } from "./problem.ts";
import { simulatedFile, simulatedFolder, simulatedSeeds } from "./simulated-seeds.ts";
import { processMetrics } from "./process-metrics.ts";
import { jobStates, keptStates, queueAdmin, whichJobs, type QueueAdmin } from "./queue-admin.ts";
import { remembered, storeMetrics } from "./store-metrics.ts";
import type { Part, Supervised } from "./supervised.ts";
import { degradationOfAll, entriesOf, metricsOfAll, observedByAll, saidBy, type ProcessSays } from "./whole.ts";

/** What a running node shows of itself. */
export interface OperationsView {
  readonly app: string;
  readonly graph: Graph;
  readonly node: NodeServices;
  readonly metrics: Metrics;
  /** `undefined`: all. */
  readonly roles?: readonly string[] | undefined;
  readonly startedAtMs: number;
  phase(): "idle" | "starting" | "ready" | "draining" | "stopping" | "stopped";
  /** Which of several processes it is; `undefined` when nobody supervises it. */
  readonly process?: Supervised | undefined;
  /** The ladders of its routes, when it has policies. */
  readonly degradation?: Pick<NodeDegradation, "view" | "hold"> | undefined;
  /** The systems outside that it knows. */
  readonly dependencies?: readonly ({ readonly name: string } & Dependency)[];
  /** Default: the setting `TRESTLE_TOKEN`. */
  readonly token?: string | undefined;
  /** Where `trestle sim` writes; default `.trestle/simulation`. */
  readonly simulated?: string;
}

/** Answers requests for `/_trestle` and below; `undefined` for any other. Never throws. */
export interface Operations {
  (request: Request, peer: Peer): Promise<Response | undefined>;
  /** What this process says of itself to the others. */
  says(): Promise<ProcessSays>;
}

const bodyBytesMax = 65_536;
const storeAnswersWithinMs = 2_000;

export function operations(view: OperationsView): Operations {
  const { node } = view;
  const admit = access(view.token ?? node.setting("TRESTLE_TOKEN"));
  const admin = queueAdmin(node.store, node.ids);
  const { simulated = simulatedFolder } = view;
  const declared = view.graph.components.filter(({ kind }) => kind === "queue").map(({ name }) => name);
  const depths = remembered(view, () => admin.depths(declared));
  const scrape = storeMetrics(view, depths);
  processMetrics(view.metrics, node.clock);

  const routes: Readonly<Record<string, Readonly<Record<string, (request: Request) => Promise<Response>>>>> = {
    "": { GET: (request) => page(request, "index.html") },
    "/metrics": {
      GET: async () => new Response(await metricsOf(view, scrape), { headers: { "content-type": expositionContentType, "cache-control": "no-store" } }),
    },
    "/graph.json": { GET: async () => json(await graphOf(view, depths)) },
    "/status.json": { GET: async () => json(await statusOf(view, admin, depths)) },
    "/simulations.json": { GET: async () => json({ folder: simulated, seeds: await simulatedSeeds(simulated) }) },
  };

  async function answer(request: Request, peer: Peer, path: string): Promise<Response> {
    const method = request.method === "HEAD" ? "GET" : request.method;
    if (path === "/health/live" || path === "/health/ready") return method === "GET" ? health(view, path) : notAllowed(request, "GET, HEAD");
    const refused = letIn(admit, request, peer);
    if (refused) return refused;
    const methods = routes[path];
    if (methods) return methods[method]?.(request) ?? notAllowed(request, "GET, HEAD");
    if (path === "/degradation/hold") return method === "POST" ? hold(view, request) : notAllowed(request, "POST");
    if (path.startsWith("/assets/")) return method === "GET" ? page(request, path.slice("/assets/".length)) : notAllowed(request, "GET, HEAD");
    if (path.startsWith("/simulations/")) {
      if (method !== "GET") return notAllowed(request, "GET, HEAD");
      return (await simulatedFile(simulated, path.slice("/simulations/".length))) ?? notFound(path);
    }
    const [, queue, act] = /^\/queues\/(~?[a-z][a-z0-9-]{0,80})\/(jobs|groups|redrive|retry|cancel|pause|resume|edit)$/.exec(path) ?? [];
    if (queue === undefined || act === undefined) return notFound(path);
    if (act === "groups") return method === "GET" ? json({ queue, groups: await admin.groups(queue, limits.pageRowsMax) }) : notAllowed(request, "GET, HEAD");
    if (act === "jobs") return method === "GET" ? jobsOf(admin, queue, new URL(request.url).searchParams) : notAllowed(request, "GET, HEAD");
    return method === "POST" ? actOn(view, admin, queue, act as Act, request) : notAllowed(request, "POST");
  }

  const says = async (): Promise<ProcessSays> => ({
    metrics: await scrape(),
    phase: view.phase(),
    startedAtMs: view.startedAtMs,
    memoryBytes: process.memoryUsage.rss(),
    observed: entriesOf(observedHere(view)),
    ...(view.degradation && { degradation: view.degradation.view }),
  });
  const answers = async (request: Request, peer: Peer): Promise<Response | undefined> => {
    const { pathname } = new URL(request.url);
    if (pathname !== "/_trestle" && !pathname.startsWith("/_trestle/")) return undefined;
    const path = pathname.slice("/_trestle".length).replace(/\/$/, "");
    try {
      const response = await answer(request, peer, path);
      return request.method === "HEAD" && response.body !== null ? new Response(null, response) : response;
    } catch (thrown) {
      return problemOf(view, thrown, path);
    }
  };
  return Object.assign(answers, { says });
}

function letIn(admit: Access, request: Request, peer: Peer): Response | undefined {
  return admit(request, peer, request.method === "GET" || request.method === "HEAD" ? "look" : "act");
}

// ---- health ---------------------------------------------------------------------------------------------------------

/**
 * live: the process answers. ready: it is in service, and its store answers; a supervisor restarts on the first, a balancer looks at the second. A system outside that is down makes
 * nobody restart and takes no node out: all would go at once. It is told, without its name, which is for whoever may look.
 */
async function health(view: OperationsView, path: string): Promise<Response> {
  const phase = view.phase();
  const which = view.process && { process: view.process.name };
  if (path === "/health/live") return json({ status: "live", phase, ...which });
  if (phase !== "ready") return json({ status: "not-ready", phase, ...which }, 503, { "retry-after": "1" });
  return (await storeAnswers(view.node))
    ? json({ status: "ready", phase, ...which, ...dependencyHealth(view) })
    : json({ status: "not-ready", phase, ...which, why: "the store does not answer" }, 503, { "retry-after": "1" });
}

function dependencyHealth({ node, dependencies = [] }: OperationsView): { readonly dependencies?: "up" | "down" } {
  const checked = dependencies.flatMap((one) => one.health(node)?.status ?? []);
  return checked.length === 0 ? {} : { dependencies: checked.includes("down") ? "down" : "up" };
}

function storeAnswers({ store, clock }: NodeServices): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = clock.after(storeAnswersWithinMs, () => resolve(false));
    const done = (answers: boolean) => {
      timer.cancel();
      resolve(answers);
    };
    store.read.head().then(
      () => done(true),
      () => done(false),
    );
  });
}

// ---- looking --------------------------------------------------------------------------------------------------------

async function graphOf(view: OperationsView, depths: () => Promise<readonly QueueDepth[]>): Promise<GraphView> {
  const { clock } = view.node;
  const said = (await view.process?.whole())?.flatMap((part) => saidBy(part)?.observed ?? []);
  const observed = said ? observedByAll(said) : observedHere(view);
  return graphView({ app: view.app, phase: view.phase(), atMs: clock.wallMs(), graph: view.graph, observed, depths: await depths() });
}

function observedHere({ node: { observer } }: OperationsView): Observed {
  return "observed" in observer ? (observer as NodeObserver).observed() : { components: new Map(), edges: [], gates: [] };
}

async function metricsOf({ process }: OperationsView, scrape: () => Promise<string>): Promise<string> {
  if (!process) return scrape();
  const parts = await process.whole();
  const said = parts.flatMap((part) => {
    const text = saidBy(part)?.metrics;
    return text === undefined ? [] : [{ name: part.name, text }];
  });
  return metricsOfAll(said, process.name) + restartsOf(parts);
}

/** Also of a process that does not answer. */
function restartsOf(parts: readonly Part[]): string {
  const name = "trestle_process_restarts_total";
  const lines = parts.map((part) => `${name}{process="${part.name}"} ${part.restarts}\n`);
  return `# HELP ${name} How often the process was started again by its supervisor.\n# TYPE ${name} counter\n${lines.join("")}`;
}

/** Every process of the app, whether or not it answers. */
function processesOf(parts: readonly Part[]) {
  return parts.map((part) => {
    const said = saidBy(part);
    return {
      name: part.name,
      pid: part.pid,
      role: part.role,
      restarts: part.restarts,
      phase: said?.phase ?? "not-answering",
      startedAtMs: said?.startedAtMs,
      memoryBytes: said?.memoryBytes,
    };
  });
}

async function statusOf(view: OperationsView, admin: QueueAdmin, depths: () => Promise<readonly QueueDepth[]>) {
  const { node } = view;
  const { store, clock } = node;
  const [queues, head, kept, parts] = await Promise.all([depths(), store.read.head(), admin.kept(100), view.process?.whole()]);
  const degradation = (parts && degradationOfAll(parts.flatMap((part) => saidBy(part)?.degradation ?? []))) ?? view.degradation?.view;
  const roles = view.roles ?? [...new Set(view.graph.components.map(({ role }) => role))].filter((role) => role !== "any").sort();
  return {
    app: view.app,
    node: {
      id: node.id,
      pid: process.pid,
      ...(view.process && { process: view.process.name }),
      roles,
      phase: view.phase(),
      startedAtMs: view.startedAtMs,
      uptimeMs: Math.max(0, clock.wallMs() - view.startedAtMs),
      runtime: process.version,
    },
    ...(parts && { processes: processesOf(parts) }),
    store: { engine: store.engine, ...head, stats: store.stats(), guarantees: [...store.guarantees].sort() },
    ...(degradation && { degradation }),
    dependencies: dependenciesOf(view),
    queues,
    kept,
    keptTotal: queues.reduce((sum, depth) => sum + keptStates.reduce((ofQueue, state) => ofQueue + depth[state], 0), 0),
  };
}

/** Those that have a breaker or a health check. */
function dependenciesOf({ node, dependencies = [] }: OperationsView) {
  const nowMs = node.clock.wallMs();
  return dependencies.flatMap((one) => {
    const [breaker, health] = [one.breaker(node), one.health(node)];
    if (breaker === undefined && health === undefined) return [];
    return [
      {
        name: one.name,
        breaker,
        ...(health && { health: { status: health.status, forMs: nowMs - health.sinceMs, failures: health.failures, why: health.why } }),
      },
    ];
  });
}

async function jobsOf(admin: QueueAdmin, queue: string, query: URLSearchParams): Promise<Response> {
  const state = query.get("state");
  if (state !== null && !jobStates.some((known) => known === state))
    return problem(400, "queue.bad-selection", "Bad request", `state must be one of ${jobStates.join(", ")}, got ${JSON.stringify(state.slice(0, 60))}`);
  const limit = Number(query.get("limit") ?? 100);
  if (!Number.isInteger(limit) || limit < 1 || limit > limits.pageRowsMax)
    return problem(
      400,
      "queue.bad-selection",
      "Bad request",
      `limit must be an integer from 1 to ${limits.pageRowsMax}, got ${JSON.stringify(query.get("limit")?.slice(0, 60))}`,
    );
  const after = query.get("after");
  if (after !== null && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(after))
    return problem(400, "queue.bad-selection", "Bad request", "after must be the id of a job");
  const jobs = await admin.jobs({
    queue,
    limit,
    ...(state === null ? {} : { state: state as (typeof jobStates)[number] }),
    ...(after === null ? {} : { after }),
  });
  return json({ queue, jobs, next: jobs.length === limit ? jobs.at(-1)?.id : undefined });
}

async function page(request: Request, name: string): Promise<Response> {
  return (await pageFile(name, request)) ?? notFound(`/assets/${name}`);
}

// ---- acting ---------------------------------------------------------------------------------------------------------

type Act = "redrive" | "retry" | "cancel" | "pause" | "resume" | "edit";

async function actOn(view: OperationsView, admin: QueueAdmin, queue: string, act: Act, request: Request): Promise<Response> {
  if (view.phase() !== "ready") return problem(503, "console.not-ready", "Not ready", `the node is ${view.phase()}`, { headers: { "retry-after": "1" } });
  const body = await bodyOf(request);
  if (body instanceof Response) return body;
  const log = view.node.log("console", { traceparent: undefined, tenant: undefined });
  if (act === "pause" || act === "resume") {
    await admin.pause(queue, act === "pause");
    log.info(`a queue was ${act}d by hand`, { queue });
    return json({ queue, paused: act === "pause" });
  }
  if (act === "edit") {
    const which = whichJobs({ ids: body.ids }, { states: [] });
    if (!("ids" in which) || which.ids.length !== 1 || !("message" in body))
      throw Fault.create("queue.bad-selection", "edit takes ids, with one job, and its message", 'Send {"ids": ["<job>"], "message": …}.');
    await admin.edit(queue, which.ids[0] as string, body.message);
    log.info("a job was edited and put back by hand", { queue, job: which.ids[0] });
    return json({ queue, jobs: 1, more: false, missing: [] });
  }
  if (act === "retry" && body.ids === undefined)
    throw Fault.create("queue.bad-selection", "retry takes ids: the jobs to try again", "Use redrive for all jobs of a state.");
  const which = act === "cancel" ? whichJobs(body, { states: jobStates }) : whichJobs(body, { states: keptStates, otherwise: "dead" });
  const acted = act === "cancel" ? await admin.cancel(queue, which) : await admin.redrive(queue, which);
  log.info(`jobs ${act === "cancel" ? "cancelled" : "put back"} by hand`, { queue, jobs: acted.jobs, ...("state" in which ? { state: which.state } : {}) });
  return json(acted);
}

/** `{"route": "shop.catalogue", "rung": "static"}`; without a rung it is let go. Of every process of the app. */
async function hold(view: OperationsView, request: Request): Promise<Response> {
  const { degradation, node } = view;
  if (view.phase() !== "ready") return problem(503, "console.not-ready", "Not ready", `the node is ${view.phase()}`, { headers: { "retry-after": "1" } });
  const body = await bodyOf(request);
  if (body instanceof Response) return body;
  const { route, rung = null } = body;
  if (!degradation || typeof route !== "string" || !(rung === null || typeof rung === "string"))
    throw Fault.create(
      "degradation.no-such-route",
      degradation ? `route and rung must be texts, got ${JSON.stringify({ route, rung })?.slice(0, 200)}` : "this node has no degradation policies",
      'Send {"route": "shop.catalogue", "rung": "static"}, or without rung to let it go.',
    );
  await degradation.hold(route, rung ?? undefined);
  node.log("console", { traceparent: undefined, tenant: undefined }).warn(`a route was ${rung === null ? "let go" : "held"} by hand`, { route, rung });
  return json({ route, rung });
}

type Body = Readonly<Partial<Record<"ids" | "state" | "message" | "route" | "rung", unknown>>>;

async function bodyOf(request: Request): Promise<Body | Response> {
  if (!/^application\/json\b/i.test(request.headers.get("content-type") ?? ""))
    return problem(
      415,
      "console.not-json",
      "Unsupported media type",
      `the body must be application/json, got ${JSON.stringify(request.headers.get("content-type"))}`,
    );
  const bytes: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > bodyBytesMax) return problem(413, "console.body-too-large", "Content too large", `the body may have ${bodyBytesMax} bytes`);
    bytes.push(chunk);
  }
  const text = Buffer.concat(bytes).toString("utf8");
  try {
    const body: unknown = text === "" ? {} : JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return body;
  } catch {
    // answered below
  }
  return problem(400, "console.not-json", "Bad request", 'the body must be a JSON object: {"ids": [...]} or {"state": "dead"}');
}

// ---- answers --------------------------------------------------------------------------------------------------------

function json(body: object, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${JSON.stringify(body)}\n`, { status, headers: { "content-type": "application/json", "cache-control": "no-store", ...headers } });
}

const notFound = (path: string) =>
  problem(404, "console.no-such-page", "Not found", `there is nothing at /_trestle${path.slice(0, 200)}`, { remedy: "Open /_trestle for the console." });
const notAllowed = (request: Request, allow: string) =>
  problem(405, "console.method-not-allowed", "Method not allowed", `${request.method} is not for this path`, { headers: { allow } });

const badRequests = new Set(["queue.bad-selection", "degradation.no-such-route", "degradation.no-such-rung"]);

function problemOf(view: OperationsView, thrown: unknown, path: string): Response {
  if (Fault.is(thrown))
    return problem(
      badRequests.has(thrown.code) ? 400 : thrown.code === "queue.edit-refused" ? 409 : 503,
      thrown.code,
      badRequests.has(thrown.code) ? "Bad request" : "Not possible now",
      thrown.message,
      { remedy: thrown.remedy },
    );
  view.node.log("console", { traceparent: undefined, tenant: undefined }).error("an endpoint of the console failed", { path, error: thrown });
  return problem(500, "console.failed", "Internal error", "the console ran into an error; the node's log has it");
}
