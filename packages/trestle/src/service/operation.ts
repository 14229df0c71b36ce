/**
 * An operation: a route with its name, its limits settled and its schemas at hand. Both doors (HTTP and the typed client) ask it the same
 * way: check what came, run the handler, settle what it answered.
 */
import {
  acceptedAs,
  isRefused,
  parse,
  type Accepted,
  type Context,
  type Issue,
  type Mode,
  type Out,
  type Parsed,
  type Schema,
  type Uses,
} from "../component/index.ts";
import type { Rung } from "../degradation/index.ts";
import { durationMs, Fault, integerWithin, numberWithin } from "../kernel/index.ts";
import type { AdmissionRule } from "./admission.ts";
import { limitRules, type LimitRule } from "./limit.ts";
import { headersOf, isReply, type ReplyHeaders } from "./reply.ts";
import type { AnyDegrade, AnyHandler, Incoming, Method, RouteDeclaration } from "./route.ts";

export interface Operation {
  readonly service: string;
  readonly name: string;
  /** `shop.placeOrder`: for people, keys and faults. */
  readonly title: string;
  readonly method: Method;
  readonly path: string;
  readonly mode: Mode;
  readonly consistent: boolean;
  readonly uses: Uses | undefined;
  readonly handler: AnyHandler;
  readonly params: Schema | undefined;
  readonly query: Schema | undefined;
  readonly body: Schema | undefined;
  readonly returns: Schema | undefined;
  readonly refuses: Readonly<Record<string, number>>;
  readonly idempotent: { readonly keepForMs: number; readonly whenInFlight: "conflict" | "wait" } | undefined;
  /** Those of the service, which its operations share, then its own. */
  readonly limits: readonly LimitRule[];
  /** That of the service. */
  readonly admission: AdmissionRule | undefined;
  /** Of its requests, unless their callers say otherwise. */
  readonly priority: "high" | "normal" | "low";
  /** Whether a caller is believed that its request is of high priority. */
  readonly trustsCallers: boolean;
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
  readonly streams: boolean;
  /** What its rungs below the whole answer have. */
  readonly degrade: DegradeRules | undefined;
  /** Its handler is that of this rung. */
  readonly rung?: Rung;
}
export interface DegradeRules {
  readonly stale?: { readonly forMs: number; readonly keys: number };
  readonly partial?: AnyHandler;
  readonly static?: unknown;
}

const timeoutMsDefault = 30_000;
/** A stream lives until somebody ends it; a `timeout` of its own ends it earlier. */
const streamMsDefault = 365 * 86_400_000;
const keepForMsDefault = 86_400_000;
const keepForMsMax = 30 * 86_400_000;

export function operationOf(
  service: string,
  name: string,
  route: RouteDeclaration,
  from: {
    readonly uses: Uses | undefined;
    readonly timeoutMs: number | undefined;
    readonly maxBodyBytes: number;
    readonly limits: readonly LimitRule[];
    readonly admission?: AdmissionRule | undefined;
    readonly priority: Operation["priority"] | undefined;
    readonly trustsCallers: boolean;
  },
): Operation {
  const { method, path, spec, streams } = route;
  const title = `${service}.${name}`;
  const handler =
    route.handler ??
    (() => {
      throw notHere(title);
    });
  if (!/^[A-Za-z_]\w{0,63}$/.test(name)) {
    throw Fault.create(
      "service.bad-operation",
      `the name of an operation of service "${service}" must be an identifier of at most 64 characters, got ${JSON.stringify(name)}`,
      "Rename it: it is the method of the typed client and part of idempotency keys.",
    );
  }
  const { params, query, body, returns, refuses = {}, limit, idempotent = false, consistent = false, timeout, uses, priority, degrade } = spec;
  const keepFor = typeof idempotent === "object" ? idempotent.keepFor : undefined;
  const keepForMs = keepFor === undefined ? keepForMsDefault : durationMs(keepFor, `${title}: idempotent.keepFor`);
  if (keepForMs < 1_000 || keepForMs > keepForMsMax)
    throw Fault.create(
      "option.out-of-range",
      `${title}: idempotent.keepFor must be from 1s to 30d, got ${JSON.stringify(keepFor)}`,
      "Choose how long callers may ask again.",
    );
  return {
    service,
    name,
    title,
    method,
    path,
    handler,
    params,
    query,
    body,
    returns,
    refuses,
    streams,
    consistent: consistent && method === "GET" && !streams,
    mode: method === "GET" ? "read" : idempotent === false ? "write" : "durable",
    uses: uses ?? from.uses,
    idempotent:
      idempotent === false ? undefined : { keepForMs, whenInFlight: (typeof idempotent === "object" ? idempotent.whenInFlight : undefined) ?? "conflict" },
    limits: [...from.limits, ...limitRules(limit, `${title}: limit`, "route", title)],
    admission: from.admission,
    priority: priorityOf(priority ?? from.priority ?? "normal", `${title}: priority`),
    trustsCallers: from.trustsCallers,
    timeoutMs: timeout !== undefined ? durationMs(timeout, `${title}: timeout`) : streams ? streamMsDefault : (from.timeoutMs ?? timeoutMsDefault),
    maxBodyBytes: from.maxBodyBytes,
    degrade: degrade && degradeRules(degrade, title, { looks: method === "GET" && !streams, streams, returns: returns !== undefined }),
  };
}

/** Faults: `service.bad-degrade`, `option.out-of-range`. */
function degradeRules(
  { stale, ...others }: AnyDegrade,
  title: string,
  route: { readonly looks: boolean; readonly streams: boolean; readonly returns: boolean },
): DegradeRules {
  const bad = (rule: string, remedy: string) => Fault.create("service.bad-degrade", `${title}: degrade${rule}`, remedy);
  if (route.streams) throw bad(" is not for streams", "Let the policy's ladder of this route be full and unavailable.");
  if (!route.looks && (stale || "static" in others))
    throw bad(
      ": stale and static are for GET; what changes something was not done when neither has run",
      "Give it a partial handler that does what can be done.",
    );
  if (!route.returns && (others.partial || "static" in others))
    throw bad(": partial and static need `returns`, because callers count on the shape of what the whole handler answers", "Declare `returns`.");
  const forMs = stale && numberWithin(durationMs(stale.for, `${title}: degrade.stale.for`), `${title}: degrade.stale.for`, { least: 1, most: 7 * 86_400_000 });
  return {
    ...(forMs !== undefined && { stale: { forMs, keys: integerWithin(stale?.keys ?? 1_000, `${title}: degrade.stale.keys`, { least: 1, most: 1_000_000 }) } }),
    ...others,
  };
}

function priorityOf(priority: Operation["priority"], option: string): Operation["priority"] {
  if (priority === "high" || priority === "normal" || priority === "low") return priority;
  throw Fault.create("option.out-of-range", `${option} must be "high", "normal" or "low", got ${JSON.stringify(priority)}`, "Choose one of the three.");
}

/** A contract that nobody implements here was asked without a URL. */
export function notHere(title: string): Fault {
  return Fault.create(
    "service.not-here",
    `${title} is part of a contract that this app does not implement, and nobody said where it runs`,
    "List its implement(…) in app([...]), or pass services: { name: url } to start().",
  );
}

// ---- what came ------------------------------------------------------------------------------------------------------

/** A request before its schemas have seen it, from either door. */
export interface Raw {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
  /** The request as it came, or one like it. Made when the handler looks. */
  raw(): Request;
}

export class Arrived implements Incoming<unknown, unknown, unknown> {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly #raw: Raw;

  constructor(params: unknown, query: unknown, body: unknown, raw: Raw) {
    this.params = params;
    this.query = query;
    this.body = body;
    this.#raw = raw;
  }

  /** For the doors inside the handler: what `schema` has made of this body. */
  static acceptedBy(schema: Schema | undefined, arrived: Arrived): Accepted | undefined {
    return schema && acceptedAs(schema, arrived.#raw.body, arrived.body);
  }

  get raw(): Request {
    return this.#raw.raw();
  }
}

/** Parses what came. Faults: `request.params-invalid`, `request.query-invalid` (400), `request.body-invalid` (422). */
export function check(operation: Operation, raw: Raw): Arrived | Promise<Arrived> {
  const params = operation.params ? parse(operation.params, raw.params) : undefined;
  const query = operation.query ? parse(operation.query, raw.query) : undefined;
  const body = operation.body ? parse(operation.body, raw.body) : undefined;
  if (params instanceof Promise || query instanceof Promise || body instanceof Promise)
    return Promise.all([params, query, body]).then((parsed) => arrivedOf(operation, raw, ...parsed));
  return arrivedOf(operation, raw, params, query, body);
}

function arrivedOf(operation: Operation, raw: Raw, params: AnyParsed, query: AnyParsed, body: AnyParsed): Arrived {
  return new Arrived(
    params ? fits(params, operation, "params", "path") : raw.params,
    query ? fits(query, operation, "query", "query") : {},
    body ? fits(body, operation, "body", "body") : undefined,
    raw,
  );
}
type AnyParsed = Parsed<Out<Schema>> | undefined;

function fits(parsed: Parsed<Out<Schema>>, operation: Operation, part: "params" | "query" | "body", called: string): unknown {
  if (parsed.ok) return parsed.value;
  const listed = parsed.issues
    .slice(0, 3)
    .map(({ path, message }) => (path === "" ? message : `${path}: ${message}`))
    .join("; ");
  throw Fault.create(`request.${part}-invalid`, `the ${called} does not fit ${operation.title}: ${listed}`, "Correct what is listed under `issues`.", {
    details: { issues: parsed.issues.slice(0, 20).map(({ path, message }: Issue) => ({ in: called, path, message })) },
  });
}

// ---- what was answered ----------------------------------------------------------------------------------------------

export type Answered =
  | {
      readonly kind: "body";
      readonly status: number;
      readonly headers: ReplyHeaders | undefined;
      /** `undefined`: no body. */ readonly text: string | undefined;
    }
  | { readonly kind: "refused"; readonly status: number; readonly refusal: { readonly ok: false; readonly refused: string } }
  | { readonly kind: "response"; readonly response: Response };

/** Runs the handler and makes its answer ready for the wire. */
export function answer(operation: Operation, arrived: Arrived, uses: object, context: Context): Answered | Promise<Answered> {
  const given = operation.handler(arrived, uses, context);
  return isThenable(given) ? given.then((value) => settle(operation, value)) : settle(operation, given);
}

export function settle(operation: Operation, given: unknown): Answered | Promise<Answered> {
  if (isResponse(given)) return { kind: "response", response: given };
  if (isRefused(given)) {
    const code = given.refused;
    const status = Object.hasOwn(operation.refuses, code) ? operation.refuses[code] : undefined;
    if (status === undefined)
      throw Fault.create(
        "service.refusal-undeclared",
        `${operation.title} answered the refusal ${JSON.stringify(code)}, which its \`refuses\` does not declare`,
        "Declare it with its HTTP status.",
      );
    return { kind: "refused", status, refusal: { ...given, ok: false, refused: code } };
  }
  const reply = isReply(given);
  const body = reply ? given.body : given;
  const settled = (): Answered => ({
    kind: "body",
    status: reply ? given.status : 200,
    headers: reply ? headersOf(given) : undefined,
    text: reply && body === undefined ? undefined : textOf(operation, body),
  });
  if (!operation.returns || (reply && given.status === 204)) return settled();
  const parsed = parse(operation.returns, body);
  if (isThenable(parsed)) return parsed.then((known) => (assertReturns(operation, known as Parsed<unknown>), settled()));
  assertReturns(operation, parsed as Parsed<unknown>);
  return settled();
}

/** The name Response is looked up only for what may be one: Node loads all of fetch with it, 25 ms of the way to a first answer. */
function isResponse(given: unknown): given is Response {
  return typeof given === "object" && given !== null && Symbol.toStringTag in given && given instanceof Response;
}

function assertReturns(operation: Operation, parsed: Parsed<unknown>): void {
  if (parsed.ok) return;
  const listed = parsed.issues
    .slice(0, 3)
    .map(({ path, message }) => `${path === "" ? "the body" : path}: ${message}`)
    .join("; ");
  throw Fault.create(
    "service.answer-invalid",
    `${operation.title} answered a body that its \`returns\` does not describe: ${listed}`,
    "Correct the handler or the schema.",
    { details: { issues: parsed.issues } },
  );
}

function textOf(operation: Operation, body: unknown): string {
  const text = JSON.stringify(body) as string | undefined;
  if (text !== undefined) return text;
  throw Fault.create("service.answer-missing", `${operation.title} answered ${typeof body}, which is no JSON`, "Answer a value, or noContent().");
}

export function isThenable(value: unknown): value is Promise<unknown> {
  return value instanceof Promise || (typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function");
}
