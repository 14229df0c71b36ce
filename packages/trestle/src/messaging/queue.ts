/**
 * queue: work that will be done, by one worker at a time. Sending is a write of the sender's commit; finishing is a write
 * of the handler's commit. Guarantees: `queue.redelivers-after-crash`, `queue.finishes-with-effect`, `queue.fifo-per-key`.
 */
import {
  compressAbove,
  declareComponent,
  parse,
  type Annotations,
  type Component,
  type Compress,
  type Guarantee,
  type Handles,
  type Implementing,
  type In,
  type Inherit,
  type Invocation,
  type NodeServices,
  type Open,
  type Out,
  type Schema,
  type Usable,
  type Uses,
  type WorkSpec,
  type WriteContext,
} from "../component/index.ts";
import { durationMs, Fault, integerWithin, type Duration, type Instant } from "../kernel/index.ts";
import type { AdaptiveOptions } from "../resilience/index.ts";
import { batchMessagesMax, BatchRun, type BatchMessage, type HandleBatch } from "./batch.ts";
import { backlogOf, BoundPlainQueue, BoundTypedQueue, whatOf, type Settings } from "./handle.ts";
import { JobWorkContext, type JobContext, type JobEnd } from "./job-context.ts";
import { AskedEnd, type Handling, type JobRun } from "./job-run.ts";
import { keepOf, policyNeeds, policyOf, type FleetLimits } from "./policy.ts";
import { returned, type JobResult } from "./result.ts";
import { retryOf, type RetrySpec } from "./retry.ts";
import { Worker } from "./worker.ts";

/** With a handler it is complete; without one it is an interface, to be `implement`ed elsewhere in the app or fleet. */
export function queue<S extends Schema, U extends Uses = {}>(
  name: string,
  spec: QueueSpec<S> & QueueWork<U, Out<S>> & { readonly returns?: never; readonly batch?: never },
  handler: (message: Out<S>, uses: Handles<U>, job: JobContext) => JobEnd | Promise<JobEnd>,
): Queue<In<S>> & Inherit<U>;
/** One whose handler answers something, for whoever waits. */
export function queue<S extends Schema, R extends Schema, U extends Uses = {}>(
  name: string,
  spec: QueueSpec<S> & QueueWork<U, Out<S>> & { readonly returns: R; readonly batch?: never },
  handler: (message: Out<S>, uses: Handles<U>, job: JobContext) => In<R> | JobEnd | Promise<In<R> | JobEnd>,
): ReturningQueue<In<S>, Out<R>> & Inherit<U>;
/** Several types of messages in one queue, a handler for each. */
export function queue<M extends MessageSchemas, U extends Uses = {}>(
  name: string,
  spec: MessagesSpec<M> & QueueWork<U, TypedMessage<M>>,
  handlers: {
    readonly [Type in keyof M & string]: (message: Out<M[Type]>, uses: Handles<U>, job: JobContext) => JobEnd | Promise<JobEnd>;
  },
): TypedQueue<{ readonly [Type in keyof M & string]: In<M[Type]> }> & Inherit<U>;
/** One whose handler takes several messages at once; each is ended by itself. */
export function queue<S extends Schema, U extends Uses = {}>(
  name: string,
  spec: QueueSpec<S> & Omit<QueueWork<U>, "around"> & { readonly batch: number },
  handler: (messages: readonly BatchMessage<Out<S>>[], uses: Handles<U, "write">, context: WriteContext) => void | Promise<void>,
): Queue<In<S>> & Inherit<U>;
export function queue<const Name extends string, S extends Schema>(name: Name, spec: QueueSpec<S>): Queue<In<S>> & Open<Name, Messages<Out<S>>>;
export function queue(
  name: string,
  spec: Partial<QueueSpec<Schema>> & QueueWork<Uses> & { readonly messages?: MessageSchemas; readonly returns?: Schema; readonly batch?: number },
  behaviour?: Handler | Readonly<Record<string, Handler>>,
): unknown {
  const { input, messages, returns, batch, key, fairBy, capacity = 1_000_000, version = 1, compress, ...work } = spec;
  const handler = typeof behaviour === "object" ? byType(name, Object.keys(messages ?? {}), behaviour) : behaviour;
  const settings: Settings = {
    name,
    inputs: new Map(messages ? Object.entries(messages) : [[undefined, input as Schema]]),
    returns,
    key,
    fairBy,
    version: integerWithin(version, `queue "${name}": version`, { least: 1, most: 1_000_000 }),
    compressAbove: compressAbove(compress, `queue "${name}"`),
    capacity: integerWithin(capacity, `queue "${name}": capacity`, { least: 1, most: 1_000_000_000 }),
  };
  const component: Component<"queue"> = declareComponent<Component<"queue">>("queue", name, {
    ...(handler ? working(work, handler) : { ...waiting(work), open: (given, behaviour) => working(given as QueueWork<Uses>, behaviour as Handler) }),
    edge: "send",
    bind: (invocation) => new (messages ? BoundTypedQueue : BoundPlainQueue)(component, settings, invocation),
  });
  return component;

  /** Checked where it is declared, not where it first runs. */
  function working(work: QueueWork<Uses>, handle: Handler): Implementing {
    const {
      uses,
      role = "worker",
      timeout = "30s",
      retry,
      concurrency = concurrencyDefault,
      around = [],
      rate,
      fleetConcurrency,
      perTenant,
      keep,
      ...annotations
    } = work;
    const of = `queue "${name}"`;
    const policy = policyOf({ rate, fleetConcurrency, perTenant, keep }, of);
    const options = {
      uses,
      timeoutMs: durationMs(timeout, `${of}: timeout`),
      retry: retryOf(retry, of),
      concurrency: concurrencyOf(concurrency, of),
      policy,
      keep: keepOf(keep, of),
      returns: returns !== undefined,
      batch: batch === undefined ? undefined : batching(batch, of, settings, handle),
    };
    return {
      annotations,
      uses: uses ?? {},
      role,
      needs: needsOf(["queue.finishes-with-effect", "queue.fifo-per-key", ...policyNeeds(policy), ...(keep ? (["queue.keeps-ended"] as const) : [])]),
      part: (node) => new Worker(node, handlingOf(component, settings, within(around, handle), options, node)),
    };
  }
  function waiting(work: QueueWork<Uses>): Implementing {
    const { uses, role, timeout, retry, concurrency, around, rate, fleetConcurrency, perTenant, keep, ...annotations } = work;
    const [option] =
      Object.entries({ uses, role, timeout, retry, concurrency, around, rate, fleetConcurrency, perTenant, keep, returns, batch }).find(
        ([, value]) => value !== undefined,
      ) ?? [];
    if (option !== undefined)
      throw Fault.create(
        "queue.without-handler",
        `queue "${name}" has no handler, but says ${option} of it`,
        "Give it a handler, or say that where it is implemented.",
        { details: { queue: name, option } },
      );
    return { annotations, uses: {}, role: "any", needs: needsOf(["queue.finishes-with-effect", "queue.fifo-per-key"]) };
  }
}

export interface QueueSpec<S extends Schema> extends Annotations {
  readonly input: S;
  /** Messages with the same key are handled one after the other, in order of sending. */
  readonly key?: (message: Out<S>) => string;
  /** Whose share this is: tenants are served in turns, and wait for their own backlog only. Default: the context's tenant. At most 512 bytes. */
  readonly fairBy?: (message: Out<S>) => string;
  /** Schema version of its messages, kept in each one's envelope; default 1. */
  readonly version?: number;
  /** Messages longer than this are stored compressed (`true`: 1KB). Default: none. May change at any time. */
  readonly compress?: Compress;
  /** Backlog at which `send` faults with `queue.full`; default 1,000,000. Sampled: it may be passed by what is sent between two looks. */
  readonly capacity?: number;
}
/** By the name of the type: `{ welcome: Welcome, receipt: Receipt }`. A type's name is stored with each message: it stays. */
export type MessageSchemas = { readonly [type: string]: Schema };
export type TypedMessage<M extends MessageSchemas> = { readonly [Type in keyof M & string]: { readonly type: Type; readonly data: Out<M[Type]> } }[keyof M &
  string];
export interface MessagesSpec<M extends MessageSchemas> extends Omit<QueueSpec<Schema>, "input" | "key" | "fairBy"> {
  readonly messages: M;
  /** Messages with the same key are handled one after the other, in order of sending, whatever their type. */
  readonly key?: (message: TypedMessage<M>) => string;
  /** As of a queue with one type. */
  readonly fairBy?: (message: TypedMessage<M>) => string;
}
export interface QueueWork<U extends Uses, Message = never> extends WorkSpec<U>, FleetLimits {
  /** Default 8 attempts, full jitter from 1s to 5m; a fault that carries `details.retryAfterMs` is not tried before. */
  readonly retry?: RetrySpec;
  /**
   * Handlers that run at once on one node, 1 to 1000; default 16. With 1, the next begins when the last one's commit is durable. One that goes on after its time is over holds its place until it has ended.
   * `"adaptive"`, or bounds for it within 1 to 1000, from 16 on: as many as what the handlers use works on, found from how long they take (less than 10 ms is 10 ms), whether more of them get more done, and failures
   * that speak against the other side. Not the default: a backlog then takes all that a database or another system can do, also from the requests that need it; and handlers that wait for nothing are done as quickly with 16.
   */
  readonly concurrency?: number | "adaptive" | AdaptiveOptions;
  /** Around the handler, the first one outermost, for what every job of the queue needs: `next()` goes on inwards, once. */
  readonly around?: readonly Around<Message>[];
}
/** Answers what the job ends with: as a rule what `next` answered. What it throws fails the job, as a handler's throw does. */
export type Around<Message> = (message: Message, next: () => Promise<unknown>, job: JobContext) => unknown;

/** What an implementation of an open queue takes. */
export interface Messages<Message> {
  readonly message: Message;
}
export interface Queue<Input> extends Component<"queue">, Usable<QueueView, QueueHandle<Input>> {}
/** A queue with several types of messages. */
export interface TypedQueue<Inputs> extends Component<"queue">, Usable<QueueView, TypedQueueHandle<Inputs>> {}
export interface TypedQueueHandle<Inputs> extends QueueControl {
  /** `mail.send.welcome({ … })`: joins the commit. */
  readonly send: { readonly [Type in keyof Inputs]: (message: Inputs[Type], options?: SendOptions) => JobRef };
}
/** A queue whose jobs answer something. */
export interface ReturningQueue<Input, Result> extends Component<"queue">, Usable<QueueView & Results<Result>, QueueHandle<Input> & Results<Result>> {}
export interface Results<Result> {
  /**
   * What the job answered, waiting at most `within` for its end (default: not at all), and no longer than its caller has time. Told when it
   * ends, nothing is polled; of one that was cancelled, or that nobody began in time, it hears when its own time is over. A job is not there
   * before its sender's commit: wait outside of that handler.
   */
  result(job: JobRef | string, options?: { readonly within?: Duration }): Promise<JobResult<Result>>;
}

export interface QueueView {
  /** `waiting`: due or not. `oldestAgeMs`: of the oldest that is due and waits. */
  depth(): Promise<{ readonly waiting: number; readonly running: number; readonly dead: number; readonly oldestAgeMs: number; readonly paused: boolean }>;
}
export interface QueueHandle<Input> extends QueueControl {
  /** Joins the commit; nothing is sent if the commit is not made. */
  send(message: Input, options?: SendOptions): JobRef;
  sendMany(messages: Iterable<Input>, options?: SendOptions): readonly JobRef[];
}
export interface QueueControl extends QueueView {
  /** Removes a job that waits or is kept, tells the handler of a running one through its signal. `false`: there is no such job any more. */
  cancel(job: JobRef | string): Promise<boolean>;
  /** Joins the commit. Nothing of the queue is begun anywhere until it is resumed, over restarts too; what runs goes on. */
  pause(): void;
  resume(): void;
}
export interface SendOptions {
  /** Due this long after it is sent, by the store's clock, whatever the sender's says. Default: at once. Not together with `at`. */
  readonly in?: Duration;
  /** Due at this instant of the store's clock, milliseconds since 1970. */
  readonly at?: Instant;
  /** Default: that of whoever sends, `normal` unless its route or message says otherwise. Orders keys, never the messages of one key; what the handler sends and calls carries it on. */
  readonly priority?: "high" | "normal" | "low";
  /**
   * At most one waiting message with this key; a second one is dropped. That is decided in the commit, when `send` has answered: the `JobRef` of a dropped one names
   * nothing (`cancel` answers `false`, `result` `unknown`). What all senders of a key want to know, the handler keeps in a record under that key.
   */
  readonly unique?: string;
  /**
   * Handled once nothing more is sent under this key for `wait`, and at the latest `atMost` after the first (default: no limit): the last
   * message, in place of the ones before. Instead of `unique`, `in` and `at`. One that has been tried already is not replaced.
   */
  readonly debounce?: { readonly key: string; readonly wait: Duration; readonly atMost?: Duration };
  /** Not begun later than this after sending, tries included: dead instead. Default: no deadline. */
  readonly startWithin?: Duration;
}
export interface JobRef {
  readonly id: string;
}

type Handler = (message: never, uses: never, job: JobContext) => unknown;

// ---- the worker's side ------------------------------------------------------------------------------------------------

function handlingOf(
  component: Component,
  settings: Settings,
  handler: Handler,
  work: Pick<Handling, "uses" | "timeoutMs" | "retry" | "concurrency" | "policy" | "keep" | "returns" | "batch">,
  node: NodeServices,
): Handling {
  const { name, inputs, returns } = settings;
  const backlog = backlogOf(node, component, settings);
  const answered = (answer: unknown): unknown =>
    !returns || answer instanceof AskedEnd ? answer : returned(returns, answer, `the answer of a job of queue "${name}"`);
  const handle = (message: unknown, uses: object, invocation: Invocation, run: JobRun) => {
    const answer = handler(message as never, uses as never, new JobWorkContext(invocation, run));
    if (!returns) return answer;
    return answer instanceof Promise ? answer.then(answered) : answered(answer);
  };
  return {
    component,
    queue: name,
    exhausted: "dead",
    ...work,
    operation: (_message, type) => type ?? "",
    settled: () => backlog.left(),
    handle(message, uses, _context, invocation, run) {
      const type = run.messageType;
      const input = inputs.get(type);
      if (!input) throw run.poison(noSuchType(name, type));
      const parsed = parse(input, message);
      const go = (result: Awaited<typeof parsed>) => {
        if (!result.ok) throw run.poison(unfit(whatOf(name, type), result.issues));
        return handle(type === undefined ? result.value : { type, data: result.value }, uses, invocation, run);
      };
      return parsed instanceof Promise ? parsed.then(go) : go(parsed);
    },
  };
}

/** One handler for all types: `{ type, data }` comes in, as layers around it see it. */
function byType(name: string, types: readonly string[], handlers: Readonly<Record<string, Handler>>): Handler {
  for (const type of types)
    if (typeof handlers[type] !== "function")
      throw Fault.create("queue.without-handler", `queue "${name}" has no handler for messages of the type ${type}`, "Give each type a handler.", {
        details: { queue: name, type },
      });
  return (message: { readonly type: string; readonly data: never }, uses, job) => handlers[message.type]?.(message.data, uses, job);
}

function noSuchType(name: string, type: string | undefined): Fault {
  return Fault.create(
    "queue.unknown-type",
    type === undefined
      ? `queue "${name}" has types of messages, and this one was sent without`
      : `queue "${name}" has no messages of the type ${JSON.stringify(type)}`,
    "Let the queue know the type as long as such messages may wait, then put the job back.",
    { details: { queue: name, type } },
  );
}

function batching(most: number, of: string, { name, inputs }: Settings, handler: Handler): Handling["batch"] {
  integerWithin(most, `${of}: batch`, { least: 2, most: batchMessagesMax });
  const read = async (item: JobRun) => {
    const input = inputs.get(item.messageType);
    if (!input) throw item.poison(noSuchType(name, item.messageType));
    const parsed = await parse(input, item.message);
    if (parsed.ok) return parsed.value;
    throw item.poison(unfit(`message of queue "${name}"`, parsed.issues));
  };
  return { most, begin: (owner, runs) => new BatchRun(owner, runs, read, handler as unknown as HandleBatch).begin() };
}

/** The handler inside its layers. */
function within(around: readonly Around<never>[], handler: Handler): Handler {
  return around.reduceRight<Handler>((inner, layer) => (message, uses, job) => layer(message, async () => inner(message, uses, job), job), handler);
}

const needsOf = (guarantees: readonly Guarantee[]): Readonly<Record<Guarantee, readonly Guarantee[]>> =>
  Object.fromEntries(guarantees.map((guarantee) => [guarantee, [guarantee]]));

/** What a person reads beside a message that its queue cannot read any more. */
export function unfit(what: string, issues: readonly { readonly path: string; readonly message: string }[]): Fault {
  const listed = issues
    .slice(0, 5)
    .map(({ path, message }) => (path === "" ? message : `${path}: ${message}`))
    .join("; ");
  return Fault.create("payload.invalid", `${what} does not fit its schema: ${listed}`, "Let the schema accept what was sent before, then put the job back.", {
    details: { issues },
  });
}

function concurrencyOf(concurrency: number | "adaptive" | AdaptiveOptions, of: string): number | AdaptiveOptions {
  const option = `${of}: concurrency`;
  if (typeof concurrency !== "object" && concurrency !== "adaptive") return integerWithin(concurrency, option, { least: 1, most: concurrencyMax });
  const bounds = concurrency === "adaptive" ? {} : concurrency;
  const { least = 1, most = concurrencyMax, first = Math.min(most, Math.max(least, concurrencyDefault)) } = bounds;
  integerWithin(least, `${option}.least`, { least: 1, most: concurrencyMax });
  integerWithin(most, `${option}.most`, { least, most: concurrencyMax });
  integerWithin(first, `${option}.first`, { least, most });
  return { ...bounds, most, first };
}
const concurrencyDefault = 16;
const concurrencyMax = 1_000;
