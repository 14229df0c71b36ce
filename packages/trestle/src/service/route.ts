/**
 * Routes: what an operation of a service is declared with. A route is a value; `service` gives it its name.
 *
 * What a handler may answer is declared, because it is part of the interface and has to be documented without parsing code: `returns` (a
 * schema, optional) and `refuses` (code → HTTP status). Returning an undeclared refusal does not compile.
 */
import type {
  Annotations,
  Context,
  DurableContext,
  Handles,
  In,
  Mode,
  Open,
  Out,
  Payload,
  Refused,
  Schema,
  Uses,
  WorkSpec,
  WriteContext,
} from "../component/index.ts";
import type { OnlyInADurableHandler } from "../external/index.ts";
import { Fault, type Duration } from "../kernel/index.ts";
import type { Limit } from "./limit.ts";
import type { Reply } from "./reply.ts";

export type { OnlyInADurableHandler };

// ---- what people come for -------------------------------------------------------------------------------------------

export function get<
  const Path extends RoutePath,
  P extends Schema = PathSchema<Path>,
  Q extends Schema = Nothing,
  T extends Schema = Anything,
  const C extends Refusals = {},
  U extends Uses = {},
  R extends Returnable<T, C> = never,
>(
  path: Path,
  spec: GetSpec<Path, P, Q, T, C, U>,
  handler: Handler<Incoming<Out<P>, Out<Q>, undefined>, U, "read", Context, R>,
): Route<SafeCall<CallOf<In<P>, In<Q>, undefined>, AnswerOf<R>>, U>;
/** Without a handler it is part of a contract: whoever runs the service implements it. */
export function get<
  const Path extends RoutePath,
  T extends Schema,
  P extends Schema = PathSchema<Path>,
  Q extends Schema = Nothing,
  const C extends Refusals = {},
>(
  path: Path,
  contract: QuerySpec<Path, P, Q, T, C, {}> & { readonly returns: T },
): Contract<SafeCall<CallOf<In<P>, In<Q>, undefined>, ContractAnswer<Out<T>, keyof C & string>>>;
export function get(path: string, spec: object, handler?: unknown): never {
  return route("GET", path, spec, handler, false);
}

export const post: Writing = (path: string, spec: object, handler?: unknown) => route("POST", path, spec, handler, false);
export const put: Writing = (path: string, spec: object, handler?: unknown) => route("PUT", path, spec, handler, false);
export const patch: Writing = (path: string, spec: object, handler?: unknown) => route("PATCH", path, spec, handler, false);
export const del: Writing = (path: string, spec: object, handler?: unknown) => route("DELETE", path, spec, handler, false);

export interface Writing {
  <
    const Path extends RoutePath,
    P extends Schema = PathSchema<Path>,
    Q extends Schema = Nothing,
    B extends Schema = NoBody,
    T extends Schema = Anything,
    const C extends Refusals = {},
    U extends Uses = {},
    const I extends Idempotent = false,
    R extends Returnable<T, C> = never,
  >(
    path: Path,
    spec: CommandSpec<Path, P, Q, B, T, C, U, I>,
    handler: Handler<Incoming<Out<P>, Out<Q>, Out<B>>, U, ModeOf<I>, ContextOf<I>, R>,
  ): Route<CallBy<I, CallOf<In<P>, In<Q>, In<B>>, AnswerOf<R>>, U>;
  <
    const Path extends RoutePath,
    T extends Schema,
    P extends Schema = PathSchema<Path>,
    Q extends Schema = Nothing,
    B extends Schema = NoBody,
    const C extends Refusals = {},
    const I extends Idempotent = false,
  >(
    path: Path,
    contract: CommandSpec<Path, P, Q, B, T, C, {}, I> & { readonly returns: T },
  ): Contract<CallBy<I, CallOf<In<P>, In<Q>, In<B>>, ContractAnswer<Out<T>, keyof C & string>>>;
}

/** Server-sent events: the handler answers an async iterable; `Last-Event-ID` resumes it where the client left off. */
export function sse<const Path extends RoutePath, Item, P extends Schema = PathSchema<Path>, Q extends Schema = Nothing, U extends Uses = {}>(
  path: Path,
  spec: QuerySpec<Path, P, Q, Anything, {}, U>,
  handler: (request: Incoming<Out<P>, Out<Q>, undefined>, uses: Handles<U, "read">, context: Context) => AsyncIterable<Item>,
): Route<SafeCall<CallOf<In<P>, In<Q>, undefined>, AsyncIterable<Item>>, U> {
  return route("GET", path, spec, handler, true);
}

// ---- what a route declares ------------------------------------------------------------------------------------------

interface RouteSpec<Path extends string, P extends Schema, Q extends Schema, T extends Schema, C extends Refusals, U extends Uses> extends WorkSpec<U> {
  /** Default: the path's parameters as strings. */
  readonly params?: P & NamesOf<Path, P>;
  readonly query?: Q;
  /** Schema of a successful body, as the wire carries it: documents the operation, and a body that does not fit it is a fault. */
  readonly returns?: T;
  /** Every refusal this operation may answer, with its HTTP status. */
  readonly refuses?: C;
  /** Several: all must admit, and a refusal takes nothing from the others. */
  readonly limit?: Limit | readonly Limit[];
  /**
   * Who is served first where there is not enough for all: waiting lines, load shedding, and whatever this request sends and calls, which carry it on. A caller may ask
   * for less by the header `trestle-priority`, and for more where the service trusts its callers. Default: the service's, `normal`.
   */
  readonly priority?: "high" | "normal" | "low";
}
export interface QuerySpec<Path extends string, P extends Schema, Q extends Schema, T extends Schema, C extends Refusals, U extends Uses> extends RouteSpec<
  Path,
  P,
  Q,
  T,
  C,
  U
> {}
export interface GetSpec<Path extends string, P extends Schema, Q extends Schema, T extends Schema, C extends Refusals, U extends Uses> extends QuerySpec<
  Path,
  P,
  Q,
  T,
  C,
  U
> {
  /**
   * Everything the handler reads by key, and every aggregate, is of one moment: looked at again at its end, and where something has
   * changed the handler runs again, until its deadline. Lists, histories and SQL rows stay snapshots of their own. Default false.
   */
  readonly consistent?: boolean;
  /** What this route answers on the rungs below the whole handler; a policy says when (docs/guides/degradation.md). */
  readonly degrade?: DegradedReads<Incoming<Out<P>, Out<Q>, undefined>, U, T, C>;
}
export interface CommandSpec<
  Path extends string,
  P extends Schema,
  Q extends Schema,
  B extends Schema,
  T extends Schema,
  C extends Refusals,
  U extends Uses,
  I extends Idempotent,
> extends RouteSpec<Path, P, Q, T, C, U> {
  readonly body?: B;
  /**
   * The caller sends `Idempotency-Key`; the answer is stored in the effect's commit and repeated to whoever asks again.
   * Makes the handler durable: it is finished even if the process dies between two foreign calls.
   */
  readonly idempotent?: I;
  /** What this route does on the rungs below the whole handler; a policy says when (docs/guides/degradation.md). */
  readonly degrade?: DegradedWrites<Incoming<Out<P>, Out<Q>, Out<B>>, U, T, C>;
}

export interface DegradedReads<Request, U extends Uses, T extends Schema, C> {
  /** The last good answer to the same request, when it is not older than `for` (1ms to 7d). Of so many requests, the latest; default 1,000, to 1,000,000. Answers above 64 kB are not kept. */
  readonly stale?: { readonly for: Duration; readonly keys?: number };
  /** Does without what fails. Answers what `returns` describes. */
  readonly partial?: Standing<T, Handler<Request, U, "read", Context, Returnable<T, C>>>;
  /** One body for everybody, as `returns` describes it. */
  readonly static?: Standing<T, In<T>>;
}
export interface DegradedWrites<Request, U extends Uses, T extends Schema, C> {
  /** Does what can be done now, in one commit: it calls nothing outside that changes something. Answers what `returns` describes. */
  readonly partial?: Standing<T, Handler<Request, U, "write", WriteContext, Returnable<T, C>>>;
}
/** Callers count on the shape of what the whole handler answers, so what stands in for it is held to `returns`. */
type Standing<T extends Schema, Stands> = unknown extends In<T> ? DeclareReturns : Stands;
export interface DeclareReturns {
  readonly "declare `returns`: what stands in for an answer is held to it": never;
}

/** `keepFor`: how long an answer is repeated; default 24h, at most 30d. `whenInFlight`: what a second caller gets meanwhile; default `conflict`. */
export type Idempotent = boolean | { readonly keepFor?: Duration; readonly whenInFlight?: "conflict" | "wait" };
export type Refusals = { readonly [code: string]: RefusalStatus };
export type RefusalStatus = 400 | 401 | 402 | 403 | 404 | 405 | 409 | 410 | 412 | 413 | 415 | 422 | 423 | 428 | 429 | 451;

// ---- what a handler receives and answers ----------------------------------------------------------------------------

export interface Incoming<P, Q, B> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  /** The request as it came, for what the schemas do not cover. Its body has been read. */
  readonly raw: Request;
}

// ---- the machinery --------------------------------------------------------------------------------------------------

/**
 * `U` lets the compiler hand the service's uses to a route written inside it. It is `never` as a member, so it does not
 * take part in assignability: a route with uses of its own, in a file of its own, still joins any service.
 */
export interface Route<Operation, U extends Uses> {
  readonly "~route": Operation;
  readonly "~uses"?: U & never;
}
/** An operation without its handler. */
export interface Contract<Operation> {
  readonly "~route": Operation;
  readonly "~contract": true;
}
/** An operation that only looks. */
export interface SafeCall<Request, Answer> {
  readonly safe: true;
  readonly request: Request;
  readonly answer: Answer;
}
/** An operation that may be asked again: the answer is the same. */
export interface IdempotentCall<Request, Answer> {
  readonly safe: false;
  readonly again: true;
  readonly request: Request;
  readonly answer: Answer;
}
/** An operation that may change something each time it is asked. */
export interface Call<Request, Answer> {
  readonly safe: false;
  readonly again: false;
  readonly request: Request;
  readonly answer: Answer;
}
export type CallBy<I, Request, Answer> = I extends false ? Call<Request, Answer> : IdempotentCall<Request, Answer>;

export type Handler<Request, U extends Uses, M extends Mode, X extends Context, R> = (request: Request, uses: Handles<U, M>, context: X) => R | Promise<R>;

export type RoutePath = `/${string}`;
export type PathName<Path extends string> = Path extends `${string}:${infer Name}/${infer Rest}`
  ? Name | PathName<`/${Rest}`>
  : Path extends `${string}:${infer Name}`
    ? Name
    : never;
export type PathSchema<Path extends string> = Schema<{ readonly [Name in PathName<Path>]: string }, { readonly [Name in PathName<Path>]: string }>;
export type NamesOf<Path extends string, P extends Schema> = [keyof In<P>] extends [PathName<Path>]
  ? [PathName<Path>] extends [keyof In<P>]
    ? unknown
    : WrongParams<Path>
  : WrongParams<Path>;
export interface WrongParams<Path extends string> {
  readonly "the schema's keys must be the path's": PathName<Path>;
}
export type Nothing = Schema<{}, {}>;
export type NoBody = Schema<undefined, undefined>;
export type Anything = Schema<any, any>;

export type ModeOf<I> = I extends false ? "write" : "durable";
export type ContextOf<I> = I extends false ? WriteContext : DurableContext;

/** A plain value is a 200; anything with `ok: false` must be a declared refusal. */
export type Plain = string | number | boolean | null | (object & { readonly ok?: never; readonly then?: never });
export type Body<T extends Schema> = unknown extends In<T> ? Plain : In<T>;
export type Returnable<T extends Schema, C> = Body<T> | Reply<number, unknown extends In<T> ? unknown : In<T>> | Refused<keyof C & string> | Response;
export type AnswerOf<R> = R extends Response ? Response : R extends Reply<number, unknown> | Refused ? R : Reply<200, R>;

export type ContractAnswer<Content, Codes extends string> = Reply<number, Content> | ([Codes] extends [never] ? never : Refused<Codes>);
export type OpenIfContract<Name extends string, R> = [Extract<R[keyof R], { readonly "~contract": true }>] extends [never] ? unknown : Open<Name>;

export type CallOf<P, Q, B> = ([keyof P] extends [never] ? {} : { readonly params: P }) &
  ([keyof Q] extends [never] ? {} : {} extends Q ? { readonly query?: Q } : { readonly query: Q }) &
  ([B] extends [undefined] ? {} : { readonly body: B });

export type OperationOf<R> = R extends { readonly "~route": infer Operation } ? Operation : never;

export type Client<Operations, M extends Mode> = {
  readonly [K in keyof Operations]: Operations[K] extends SafeCall<infer Request, infer Answer>
    ? (...request: Payload<Request>) => Promise<Answer>
    : M extends "durable"
      ? Operations[K] extends IdempotentCall<infer Request, infer Answer>
        ? (...request: Payload<Request>) => Promise<Answer>
        : Operations[K] extends Call<infer Request, infer Answer>
          ? (...request: Payload<Request>) => Promise<Answer | Refused<"outcome-unknown">>
          : never
      : OnlyInADurableHandler;
};

// ---- what a route is at run time ------------------------------------------------------------------------------------

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface AnySpec extends Annotations {
  readonly uses?: Uses;
  readonly timeout?: Duration;
  readonly params?: Schema;
  readonly query?: Schema;
  readonly body?: Schema;
  readonly returns?: Schema;
  readonly refuses?: Refusals;
  readonly limit?: Limit | readonly Limit[];
  readonly priority?: "high" | "normal" | "low";
  readonly idempotent?: Idempotent;
  readonly consistent?: boolean;
  readonly degrade?: AnyDegrade;
}
export interface AnyDegrade {
  readonly stale?: { readonly for: Duration; readonly keys?: number };
  readonly partial?: AnyHandler;
  readonly static?: unknown;
}
export type AnyHandler = (request: Incoming<unknown, unknown, unknown>, uses: object, context: Context) => unknown;

/** What `get`, `post` … really answer; `service` turns it into an operation. */
export class RouteDeclaration {
  readonly method: Method;
  readonly path: string;
  readonly spec: AnySpec;
  /** `undefined` in a contract. */
  readonly handler: AnyHandler | undefined;
  readonly streams: boolean;

  constructor(method: Method, path: string, spec: AnySpec, handler: AnyHandler | undefined, streams: boolean) {
    this.method = method;
    this.path = path;
    this.spec = spec;
    this.handler = handler;
    this.streams = streams;
  }

  with(spec: AnySpec): RouteDeclaration {
    return new RouteDeclaration(this.method, this.path, { ...this.spec, ...spec }, this.handler, this.streams);
  }
}

const pathShape = /^(?:\/|(?:\/(?::[A-Za-z_]\w*|[A-Za-z0-9._~!$&'()+,;=@%-]+))+)$/;

// The declared types say what comes in and goes out; from here on a route is data. `as never` because each caller has its own.
function route(method: Method, path: string, spec: object, handler: unknown, streams: boolean): never {
  if (!pathShape.test(path)) {
    throw Fault.create(
      "service.bad-path",
      `the path of a route must be /segments of letters, digits and -._~ or :names, without a slash at the end, got ${JSON.stringify(path)}`,
      'Write it like "/orders/:id".',
    );
  }
  return new RouteDeclaration(method, path, spec as AnySpec, handler as AnyHandler | undefined, streams) as never;
}
