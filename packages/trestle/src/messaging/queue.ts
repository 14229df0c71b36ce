/**
 * queue: work that will be done, by one worker at a time. Sending is a write of the sender's commit; finishing is a write
 * of the handler's commit. Guarantees: `queue.redelivers-after-crash`, `queue.finishes-with-effect`, `queue.fifo-per-key`.
 */
import {
  declareComponent,
  journalKey,
  parse,
  parseNow,
  type Annotations,
  type Component,
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
  keyText,
} from "../component/index.ts";
import { durationMs, Fault, integerWithin, type Duration, type Instant } from "../kernel/index.ts";
import type { JobId } from "../store/index.ts";
import { Backlog } from "./backlog.ts";
import { seal, senderOf, tenantKey } from "./envelope.ts";
import { JobWorkContext, type JobContext, type JobEnd } from "./job-context.ts";
import type { Handling, JobRun } from "./job-run.ts";
import { keepOf, policyNeeds, policyOf, type FleetLimits } from "./policy.ts";
import { retryOf, type RetrySpec } from "./retry.ts";
import { Worker } from "./worker.ts";

/** With a handler it is complete; without one it is an interface, to be `implement`ed elsewhere in the app or fleet. */
export function queue<S extends Schema, U extends Uses = {}>(
  name: string,
  spec: QueueSpec<S> & QueueWork<U>,
  handler: (message: Out<S>, uses: Handles<U>, job: JobContext) => JobEnd | Promise<JobEnd>,
): Queue<In<S>> & Inherit<U>;
export function queue<const Name extends string, S extends Schema>(name: Name, spec: QueueSpec<S>): Queue<In<S>> & Open<Name, Messages<Out<S>>>;
export function queue(name: string, spec: QueueSpec<Schema> & QueueWork<Uses>, handler?: Handler): unknown {
  const { input, key, fairBy, capacity = 1_000_000, ...work } = spec;
  const settings: Settings = {
    name,
    input,
    key,
    fairBy,
    capacity: integerWithin(capacity, `queue "${name}": capacity`, { least: 1, most: 1_000_000_000 }),
  };
  const component: Component<"queue"> = declareComponent<Component<"queue">>("queue", name, {
    ...(handler ? working(work, handler) : { ...waiting(work), open: (given, behaviour) => working(given as QueueWork<Uses>, behaviour as Handler) }),
    edge: "send",
    bind: (invocation) => new BoundQueue(component, settings, invocation),
  });
  return component;

  /** Checked where it is declared, not where it first runs. */
  function working(work: QueueWork<Uses>, handle: Handler): Implementing {
    const { uses, role = "worker", timeout = "30s", retry, concurrency = 16, rate, fleetConcurrency, perTenant, keep, ...annotations } = work;
    const of = `queue "${name}"`;
    const policy = policyOf({ rate, fleetConcurrency, perTenant, keep }, of);
    const options = {
      uses,
      timeoutMs: durationMs(timeout, `${of}: timeout`),
      retry: retryOf(retry, of),
      concurrency: concurrencyOf(concurrency, of),
      policy,
      keep: keepOf(keep, of),
    };
    return {
      annotations,
      uses: uses ?? {},
      role,
      needs: needsOf(["queue.finishes-with-effect", "queue.fifo-per-key", ...policyNeeds(policy), ...(keep ? (["queue.keeps-ended"] as const) : [])]),
      part: (node) => new Worker(node, handlingOf(component, settings, handle, options, node)),
    };
  }
  function waiting({ uses, role, timeout, retry, concurrency, rate, fleetConcurrency, perTenant, keep, ...annotations }: QueueWork<Uses>): Implementing {
    const [option] =
      Object.entries({ uses, role, timeout, retry, concurrency, rate, fleetConcurrency, perTenant, keep }).find(([, value]) => value !== undefined) ?? [];
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
  /** Backlog at which `send` faults with `queue.full`; default 1,000,000. Sampled: it may be passed by what is sent between two looks. */
  readonly capacity?: number;
}
export interface QueueWork<U extends Uses> extends WorkSpec<U>, FleetLimits {
  /** Default 8 attempts, full jitter from 1s to 5m; a fault that carries `details.retryAfterMs` is not tried before. */
  readonly retry?: RetrySpec;
  /** Handlers that run at once on one node, 1 to 1000; default 16. With 1, the next begins when the last one's commit is durable. */
  readonly concurrency?: number;
}

/** What an implementation of an open queue takes. */
export interface Messages<Message> {
  readonly message: Message;
}
export interface Queue<Input> extends Component<"queue">, Usable<QueueView, QueueHandle<Input>> {}

export interface QueueView {
  /** `waiting`: due or not. `oldestAgeMs`: of the oldest that is due and waits. */
  depth(): Promise<{ readonly waiting: number; readonly running: number; readonly dead: number; readonly oldestAgeMs: number; readonly paused: boolean }>;
}
export interface QueueHandle<Input> extends QueueView {
  /** Joins the commit; nothing is sent if the commit is not made. */
  send(message: Input, options?: SendOptions): JobRef;
  sendMany(messages: Iterable<Input>, options?: SendOptions): readonly JobRef[];
  /** Removes a job that waits or is kept, tells the handler of a running one through its signal. `false`: there is no such job any more. */
  cancel(job: JobRef | string): Promise<boolean>;
  /** Joins the commit. Nothing of the queue is begun anywhere until it is resumed, over restarts too; what runs goes on. */
  pause(): void;
  resume(): void;
}
export interface SendOptions {
  readonly in?: Duration;
  readonly at?: Instant;
  /** Default `normal`. Orders keys, never the messages of one key. */
  readonly priority?: "high" | "normal" | "low";
  /** At most one waiting message with this key; a second one is dropped, and its `JobRef` names nothing. */
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

// ---- the handle -----------------------------------------------------------------------------------------------------

interface Settings {
  readonly name: string;
  readonly input: Schema;
  readonly key: ((message: never) => string) | undefined;
  readonly fairBy: ((message: never) => string) | undefined;
  readonly capacity: number;
}
type Handler = (message: never, uses: never, job: JobContext) => unknown;

const priorities = { high: 0, normal: 1, low: 2 } as const;

class BoundQueue implements QueueHandle<unknown> {
  readonly #component: Component;
  readonly #settings: Settings;
  readonly #invocation: Invocation;

  constructor(component: Component, settings: Settings, invocation: Invocation) {
    this.#component = component;
    this.#settings = settings;
    this.#invocation = invocation;
  }

  send(message: unknown, options: SendOptions = {}): JobRef {
    const invocation = this.#invocation;
    const { name, input, key, fairBy } = this.#settings;
    const id = invocation.newId(); // also when it is not sent in the end: ids are counted
    const what = `message of queue "${name}"`;
    const parsed: unknown = parseNow(input, message, what);
    const payload = seal(message, senderOf(invocation), what);
    if (!invocation.replaying) backlogOf(invocation.node, this.#component, this.#settings).add();
    const { debounce } = options;
    const dueAtMs = debounce ? this.#fromNow(debounce.wait, "debounce.wait") : this.#dueAtMs(options);
    const unique = debounce ? debounce.key : options.unique;
    const group = fairBy ? fairBy(parsed as never) : invocation.tenant;
    invocation.enqueue({
      id,
      queue: name,
      payload,
      priority: priorityOf(options.priority, name),
      ...(dueAtMs === undefined ? {} : { dueAtMs }),
      ...(key ? { key: tenantKey(invocation.tenant, keyText(key(parsed as never), name)) } : {}),
      ...(unique === undefined ? {} : { unique: tenantKey(invocation.tenant, keyText(unique, name)) }),
      ...(group === undefined ? {} : { group: keyText(group, name) }),
      ...(debounce ? { replace: this.#replace(options) } : {}),
      ...(options.startWithin === undefined ? {} : { startByMs: this.#fromNow(options.startWithin, "startWithin") }),
    });
    return { id };
  }

  sendMany(messages: Iterable<unknown>, options?: SendOptions): readonly JobRef[] {
    return Array.from(messages, (message) => this.send(message, options));
  }

  async cancel(job: JobRef | string): Promise<boolean> {
    const id = typeof job === "string" ? job : job.id;
    const { name } = this.#settings;
    const state = await this.#invocation.recall(`job ${id} of queue ${name}`, async () => {
      const before = idBefore(id);
      if (before === undefined) return undefined;
      const [row] = await this.#invocation.node.store.read.jobs({ queue: name, limit: 1, after: before });
      return row?.id === id ? row.state : undefined;
    });
    if (state === undefined) return false;
    this.#invocation.write({ kind: "cancel", job: id });
    // What an earlier run had learned. The holder of a running one takes its own away when it hears of this.
    if (state !== "running") this.#invocation.write({ kind: "remove", key: journalKey(id) });
    return true;
  }

  pause(): void {
    this.#invocation.write({ kind: "pause", queue: this.#settings.name, paused: true });
  }

  resume(): void {
    this.#invocation.write({ kind: "pause", queue: this.#settings.name, paused: false });
  }

  async depth(): ReturnType<QueueView["depth"]> {
    const { name } = this.#settings;
    const { waiting, running, dead, oldestAgeMs, paused } = await this.#invocation.recall(`depth of queue ${name}`, () =>
      this.#invocation.node.store.read.queue(name),
    );
    return { waiting, running, dead, oldestAgeMs, paused };
  }

  #dueAtMs({ in: delay, at }: SendOptions): number | undefined {
    const { name } = this.#settings;
    if (delay !== undefined && at !== undefined)
      throw Fault.create("queue.bad-options", `send to queue "${name}" got both in (${String(delay)}) and at (${at})`, "Say when it is due in one way.");
    if (at !== undefined) {
      if (!Number.isFinite(at) || at < 0)
        throw Fault.create(
          "queue.bad-options",
          `send to queue "${name}": at must be milliseconds since 1970, got ${String(at)}`,
          "Pass an instant, or use `in`.",
        );
      return Math.ceil(at);
    }
    return delay === undefined ? undefined : this.#fromNow(delay, "in");
  }

  #fromNow(duration: Duration, option: string): number {
    return Math.ceil(this.#invocation.node.clock.wallMs() + durationMs(duration, `send to queue "${this.#settings.name}": ${option}`));
  }

  #replace({ debounce, unique, in: delay, at }: SendOptions): { readonly atMostMs?: number } {
    const { name } = this.#settings;
    if (unique !== undefined || delay !== undefined || at !== undefined)
      throw Fault.create("queue.bad-options", `send to queue "${name}" got debounce beside unique, in or at`, "debounce says all of that; leave them out.");
    return debounce?.atMost === undefined ? {} : { atMostMs: durationMs(debounce.atMost, `send to queue "${name}": debounce.atMost`) };
  }
}

function priorityOf(priority: SendOptions["priority"], name: string): number {
  const number = priorities[priority ?? "normal"] as number | undefined;
  if (number !== undefined) return number;
  throw Fault.create(
    "queue.bad-options",
    `send to queue "${name}": priority must be high, normal or low, got ${JSON.stringify(priority)}`,
    "Name one of them.",
  );
}

/** The UUID just before this one: the store lists jobs after an id. `undefined` when the text is no id. */
function idBefore(id: JobId): JobId | undefined {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) return undefined;
  const number = BigInt(`0x${id.replaceAll("-", "")}`);
  if (number === 0n) return undefined;
  return (number - 1n)
    .toString(16)
    .padStart(32, "0")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function backlogOf(node: NodeServices, component: Component, { name, capacity }: Settings): Backlog {
  return node.local(component, () => new Backlog(node, name, capacity));
}

// ---- the worker's side ------------------------------------------------------------------------------------------------

function handlingOf(
  component: Component,
  settings: Settings,
  handler: Handler,
  work: Pick<Handling, "uses" | "timeoutMs" | "retry" | "concurrency" | "policy" | "keep">,
  node: NodeServices,
): Handling {
  const { name, input } = settings;
  const what = `message of queue "${name}"`;
  const backlog = backlogOf(node, component, settings);
  const handle = (message: unknown, uses: object, invocation: Invocation, run: JobRun) =>
    handler(message as never, uses as never, new JobWorkContext(invocation, run));
  return {
    component,
    queue: name,
    exhausted: "dead",
    ...work,
    operation: () => "",
    settled: () => backlog.left(),
    handle(message, uses, _context, invocation, run) {
      const parsed = parse(input, message);
      if (parsed instanceof Promise) {
        return parsed.then((result) => {
          if (!result.ok) throw run.poison(unfit(what, result.issues));
          return handle(result.value, uses, invocation, run);
        });
      }
      if (!parsed.ok) throw run.poison(unfit(what, parsed.issues));
      return handle(parsed.value, uses, invocation, run);
    },
  };
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

export function concurrencyOf(concurrency: number, of: string): number {
  return integerWithin(concurrency, `${of}: concurrency`, { least: 1, most: 1_000 });
}
