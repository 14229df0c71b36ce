/**
 * HTTP in front of services: a fetch-style handler, callable without a socket. Hono's router finds the route; what follows is one
 * pipeline for all routes: limit, `Accept`, body within its bound, JSON, the operation, the answer. Everything that goes wrong is
 * `application/problem+json`.
 */
import { RegExpRouter } from "hono/router/reg-exp-router";
import { SmartRouter } from "hono/router/smart-router";
import { TrieRouter } from "hono/router/trie-router";
import type { Component, NodeServices, Principal } from "../component/index.ts";
import type { Answer } from "../resilience/index.ts";
import { contextOfHeaders, Fault, withContext, type AmbientContext } from "../kernel/index.ts";
import type { AdmittedRequest } from "./admission.ts";
import { assertJsonType, parseJson, parseQuery, readText } from "./body.ts";
import { variantOf } from "./degraded.ts";
import { parseIdempotencyKey, scopeOf } from "./idempotency-key.ts";
import { invoke, type Question, type Served } from "./invoke.ts";
import { limitHeaders, takeFromLimits, type Taken } from "./limit.ts";
import type { Operation, Raw } from "./operation.ts";
import { faultResponse, statusOf } from "./problem.ts";
import { responseOf, type Respond } from "./reply-wire.ts";
import { interiorOf } from "./interior.ts";
import { stateOf } from "./state.ts";
import { eventStream, openStream } from "./stream.ts";

/** Who is at the other end, as far as the server knows. */
export interface Peer {
  readonly address?: string | undefined;
  readonly tenant?: string | undefined;
  readonly principal?: Principal | undefined;
  /** How an answer that is at hand whole is given; default: as a Response. */
  readonly respond?: Respond;
}
/** As much of a Request as a route looks at. A server may have less than a whole one at hand; then `asRequest` makes it. */
export interface ArrivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
  readonly body: ReadableStream<Uint8Array> | null;
  readonly signal: AbortSignal;
  text(): Promise<string>;
  asRequest?(): Request;
}
export type FetchHandler = (request: ArrivedRequest, peer?: Peer) => Promise<Response>;

const targetCharactersMax = 8_192;
const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

/** Every route of these services. */
export function serviceRoutes(services: readonly Component[], node: NodeServices): FetchHandler {
  const router = routerOf(services);
  const served = new Map<Route, Served>();
  const servedAt = (route: Route): Served => {
    let here = served.get(route);
    if (!here) served.set(route, (here = { ...route, node, state: stateOf(route.component, node) }));
    return here;
  };
  return async (request, peer = {}) => {
    let invocation: string | undefined;
    let unfinished = false;
    let asked: Served | undefined;
    const startedMs = node.clock.monotonicMs();
    try {
      const target = targetOf(request.url);
      const { route, params } = find(router, request.method, pathOf(target));
      const here = (asked = servedAt(route));
      const serve = () => answerTo({ served: here, params, request, target, peer, onRun: (id) => (invocation = id), onUnfinished: () => (unfinished = true) });
      const response = await inCallersContext(request.headers, here, serve);
      return request.method === "HEAD" && response.body ? new Response(null, response) : response;
    } catch (fault) {
      // Of those who are not admitted there are many when there are too many; a rung without answers was told once, when the route came to it.
      const told = Fault.is(fault, "request.not-admitted") || Fault.is(fault, "degradation.unavailable");
      const broken = statusOf(fault) >= 500 && !told;
      if (broken)
        node
          .log(asked?.component.name ?? "http", { traceparent: undefined, tenant: peer.tenant, ...(invocation === undefined ? {} : { invocation }) })
          .error(`${asked?.operation.title ?? request.method} failed`, { code: Fault.is(fault) ? fault.code : "service.fault", fault: describe(fault) });
      // Turned away before any handler ran: nobody else has counted it.
      if (asked && invocation === undefined)
        node.observer.invoked(asked.component.name, asked.operation.name, broken ? "fault" : "refused", node.clock.monotonicMs() - startedMs, 0);
      return faultResponse(fault, { invocation, unfinished, reads: asked?.operation.mode === "read" });
    }
  };
}

function describe(fault: unknown): string {
  return fault instanceof Error ? (fault.stack ?? String(fault)) : String(fault);
}

// ---- finding the route ------------------------------------------------------------------------------------------------

type Route = Pick<Served, "operation" | "component">;
type ServiceRouter = SmartRouter<Route>;
interface Found {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

/** By the first of its services: a router is compiled once for all nodes of this process that serve the same. */
const routers = new WeakMap<Component, { readonly services: readonly Component[]; readonly router: ServiceRouter }>();

function routerOf(services: readonly Component[]): ServiceRouter {
  const [first] = services;
  const known = first && routers.get(first);
  if (known?.services.length === services.length && known.services.every((service, at) => service === services[at])) return known.router;
  const router: ServiceRouter = new SmartRouter({ routers: [new RegExpRouter(), new TrieRouter()] });
  const all = services.flatMap((serving) => {
    const { operations, component = serving } = interiorOf(serving);
    return [...operations.values()].map((operation): Route => ({ operation, component }));
  });
  // The router answers what was added first: a word goes before a name.
  for (const route of all.toSorted((a, b) => (specificity(a.operation.path) < specificity(b.operation.path) ? -1 : 1)))
    router.add(route.operation.method, route.operation.path, route);
  if (first) routers.set(first, { services, router });
  return router;
}

function specificity(path: string): string {
  return path
    .split("/")
    .map((segment) => (segment.startsWith(":") ? "1" : "0"))
    .join("");
}

function find(router: ServiceRouter, method: string, path: string): Found {
  const asked = method === "HEAD" ? "GET" : method;
  const found = match(router, asked, path);
  if (found) return found;
  const allowed = methods.filter((other) => other !== asked && match(router, other, path));
  if (allowed.length === 0) throw Fault.create("request.no-route", `there is nothing at ${JSON.stringify(path.slice(0, 200))}`, "Check the path.");
  const allow = [...allowed, ...(allowed.includes("GET") ? ["HEAD"] : [])].join(", ");
  throw Fault.create("request.method-not-allowed", `${method} is not a method of ${JSON.stringify(path.slice(0, 200))}`, `Use ${allow}.`, {
    details: { headers: { allow } },
  });
}

function match(router: ServiceRouter, method: string, path: string): Found | undefined {
  const [handlers, stash] = router.match(method, path) as [readonly [Route, Readonly<Record<string, number | string>>][], readonly string[] | undefined];
  const first = handlers[0];
  if (!first) return undefined;
  const [route, places] = first;
  const params: Record<string, string> = {};
  for (const name in places) {
    const place = places[name] as number | string;
    params[name] = decoded(typeof place === "number" ? (stash?.[place] ?? "") : place);
  }
  return { route, params };
}

function decoded(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw Fault.create(
      "request.malformed",
      `the path has an escape that is no UTF-8: ${JSON.stringify(text.slice(0, 100))}`,
      "Encode it with encodeURIComponent.",
    );
  }
}

/** Path and query of an absolute URL. */
function targetOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const target = start < 0 ? "/" : url.slice(start);
  if (target.length > targetCharactersMax)
    throw Fault.create(
      "request.uri-too-long",
      `path and query may have at most ${targetCharactersMax} characters, got ${target.length}`,
      "Ask for less, or send it in a body.",
    );
  return target;
}

function pathOf(target: string): string {
  for (let at = 0; at < target.length; at++) {
    const code = target.charCodeAt(at);
    if (code === 0x3f || code === 0x23) return target.slice(0, at);
  }
  return target;
}

// ---- answering --------------------------------------------------------------------------------------------------------

/** In what the caller says of its context, and the route of its priority: a caller can ask for less than that, and for more where the service trusts its callers. */
function inCallersContext(headers: ArrivedRequest["headers"], { node, operation }: Served, serve: () => Promise<Response>): Promise<Response> {
  const told = contextOfHeaders(headers, { nowMs: node.clock.monotonicMs(), trusted: operation.trustsCallers });
  const priority = told?.priority ?? operation.priority;
  if (!told && priority === "normal") return serve();
  return withContext({ ...told, priority } satisfies Partial<AmbientContext>, serve);
}

/** A request at its route. */
interface Asked {
  readonly served: Served;
  readonly params: Found["params"];
  readonly request: ArrivedRequest;
  readonly target: string;
  readonly peer: Peer;
  readonly onRun: (invocation: string) => void;
  readonly onUnfinished: () => void;
}

/** By limits, then by admission: whom that declines takes nothing from limits. */
async function answerTo(asked: Asked): Promise<Response> {
  const { served, request, peer } = asked;
  const taking = takeFromLimit(served, peer);
  const taken = taking instanceof Promise ? await taking : taking;
  const headers = taken && limitHeaders(taken.said, peer);
  const admission = served.state.admission(served);
  if (!admission) return answerAdmitted(asked, headers);
  const admitted = await admission.enter(served, request, peer, () => taken?.giveBack());
  let answer: Answer = "well";
  try {
    return await answerAdmitted(asked, headers, admitted);
  } catch (fault) {
    answer = request.signal.aborted ? "unknown" : statusOf(fault) >= 500 ? "unwell" : "well";
    throw fault;
  } finally {
    admitted.answered(answer);
  }
}

async function answerAdmitted(asked: Asked, limited: Record<string, string> | undefined, admitted?: AdmittedRequest): Promise<Response> {
  const { served, params, request, target, peer, onRun, onUnfinished } = asked;
  const { operation } = served;
  const accept = request.headers.get("accept");
  // Before anything is done; what a read answers decides for itself.
  if (operation.streams) assertAcceptable(accept, "text/event-stream", operation);
  else if (operation.mode !== "read") assertAcceptable(accept, "application/json", operation);
  const key = operation.idempotent ? parseIdempotencyKey(request.headers.get("idempotency-key"), operation.title) : undefined;
  const read = () => bodyOf(operation, request);
  const { text, body } = !operation.body ? nothing : await (admitted ? admitted.reading(read) : read());
  const raw: Raw = { params, query: parseQuery(target), body, raw: () => request.asRequest?.() ?? (request as Request) };
  // An idempotent request is finished whether or not its caller waits.
  const question: Question = {
    raw,
    tenant: peer.tenant,
    principal: peer.principal,
    scope: scopeOf(peer.principal),
    key,
    target,
    text,
    ...(operation.degrade?.stale && { variant: variantOf(request.headers) }),
    signal: operation.idempotent ? undefined : request.signal,
    onRun,
    onUnfinished,
    outlived: admitted?.outlived,
  };

  if (operation.streams) {
    const after = request.headers.get("last-event-id");
    return eventStream(served, await openStream(served, question, after === null || after === "" ? undefined : after));
  }
  const outcome = await invoke(served, question);
  if (outcome.kind === "response") {
    if (limited) for (const [name, value] of Object.entries(limited)) outcome.response.headers.set(name, value);
    return outcome.response;
  }
  const { answer, replayed } = outcome;
  if (replayed) served.node.observer.invoked(served.component.name, operation.name, answer.refused ? "refused" : "ok", 0, 0);
  if (operation.mode === "read" && answer.body !== undefined) assertAcceptable(accept, answer.headers["content-type"] ?? "application/json", operation);
  return responseOf(answer, replayed ? { ...limited, "idempotency-replayed": "true" } : limited, peer.respond);
}
const nothing = { text: "", body: undefined };

async function bodyOf(operation: Operation, request: ArrivedRequest): Promise<{ readonly text: string; readonly body: unknown }> {
  const contentType = request.headers.get("content-type");
  if (contentType !== null) assertJsonType(contentType);
  const text = await readText(request, operation.maxBodyBytes);
  if (text !== "") {
    assertJsonType(contentType);
    return { text, body: parseJson(text) };
  }
  const accepted = await operation.body?.["~standard"].validate(undefined);
  if (accepted?.issues) throw Fault.create("request.body-missing", `${operation.title} needs a body`, "Send JSON.");
  return nothing;
}

function takeFromLimit({ component, operation, state, node }: Served, peer: Peer): Taken | Promise<Taken> | undefined {
  if (operation.limits.length === 0) return undefined;
  return takeFromLimits(state.limits(operation), peer, operation.title, ({ rule }, decision, forgotten) =>
    node.observer.limited?.(component.name, operation.name, rule.name, decision, forgotten),
  );
}

/** RFC 9110, 12.5.1, as far as one type is concerned. */
function assertAcceptable(accept: string | null, contentType: string, operation: Operation): void {
  if (accept === null || accept === "*/*" || accept === "") return;
  const type = (contentType.split(";")[0] as string).trim().toLowerCase();
  const family = `${type.split("/")[0]}/*`;
  let best: { readonly specific: number; readonly quality: number } | undefined;
  for (const part of accept.split(",")) {
    const [range = "", ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
    const specific = range === type ? 3 : range === family ? 2 : range === "*/*" ? 1 : 0;
    if (specific === 0 || (best && best.specific >= specific)) continue;
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    best = { specific, quality: q === undefined ? 1 : Number(q.slice(2)) };
  }
  if (best && best.quality > 0) return;
  throw Fault.create(
    "request.not-acceptable",
    `${operation.title} answers ${type}, which the header Accept does not allow: ${JSON.stringify(accept.slice(0, 100))}`,
    `Accept ${type}.`,
  );
}
