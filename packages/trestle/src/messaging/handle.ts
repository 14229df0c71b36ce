/** A queue's handle for one invocation: sending, cancelling, pausing, and looking. What it stages is the invocation's commit. */
import { journalKey, keyText, parseNow, type Component, type Invocation, type NodeServices, type Schema } from "../component/index.ts";
import { currentContext, durationMs, Fault, type Duration } from "../kernel/index.ts";
import type { JobId, JobRow } from "../store/index.ts";
import { Backlog } from "./backlog.ts";
import { seal, senderOf, tenantKey } from "./envelope.ts";
import type { JobRef, QueueControl, QueueHandle, QueueView, SendOptions, TypedQueueHandle } from "./queue.ts";
import { awaitResult, type JobResult } from "./result.ts";

/** What a queue's handle needs to know of its declaration. */
export interface Settings {
  readonly name: string;
  /** By type; the one of a queue without types is `undefined`'s. */
  readonly inputs: ReadonlyMap<string | undefined, Schema>;
  readonly returns: Schema | undefined;
  readonly key: ((message: never) => string) | undefined;
  readonly fairBy: ((message: never) => string) | undefined;
  readonly capacity: number;
  readonly version: number;
  readonly compressAbove: number | undefined;
}

const priorities = { high: 0, normal: 1, low: 2 } as const;

class BoundQueue implements QueueControl {
  readonly #component: Component;
  readonly #settings: Settings;
  readonly #invocation: Invocation;

  constructor(component: Component, settings: Settings, invocation: Invocation) {
    this.#component = component;
    this.#settings = settings;
    this.#invocation = invocation;
  }

  /** Types of a queue that has some. */
  protected get types(): readonly string[] {
    return [...this.#settings.inputs.keys()].filter((type) => type !== undefined);
  }

  protected sendAs(type: string | undefined, message: unknown, options: SendOptions = {}): JobRef {
    const invocation = this.#invocation;
    const { name, inputs, key, fairBy, version, compressAbove } = this.#settings;
    const id = invocation.newId(); // also when it is not sent in the end: ids are counted
    const what = whatOf(name, type);
    const input = inputs.get(type) as Schema;
    const data: unknown = invocation.accepted(input, message) ?? parseNow(input, message, what);
    const parsed = type === undefined ? data : { type, data };
    const { priority = currentContext().priority } = options;
    const payload = seal(message, { ...senderOf(invocation), schema: version }, what, { type, above: compressAbove, priority });
    if (!invocation.replaying) backlogOf(invocation.node, this.#component, this.#settings).add();
    const { debounce } = options;
    const dueAtMs = debounce ? this.#fromNow(debounce.wait, "debounce.wait") : this.#dueAtMs(options);
    const unique = debounce ? debounce.key : options.unique;
    const group = fairBy ? fairBy(parsed as never) : invocation.tenant;
    invocation.enqueue({
      id,
      queue: name,
      payload,
      priority: priorityOf(priority, name),
      ...(dueAtMs === undefined ? {} : { dueAtMs }),
      ...(key ? { key: tenantKey(invocation.tenant, keyText(key(parsed as never), name)) } : {}),
      ...(unique === undefined ? {} : { unique: tenantKey(invocation.tenant, keyText(unique, name)) }),
      ...(group === undefined ? {} : { group: keyText(group, name) }),
      ...(debounce ? { replace: this.#replace(options) } : {}),
      ...(options.startWithin === undefined ? {} : { startByMs: this.#fromNow(options.startWithin, "startWithin") }),
    });
    return { id };
  }

  async cancel(job: JobRef | string): Promise<boolean> {
    const id = typeof job === "string" ? job : job.id;
    const { name } = this.#settings;
    const state = await this.#invocation.recall(`job ${id} of queue ${name}`, async () => (await this.#row(id))?.state);
    if (state === undefined) return false;
    this.#invocation.write({ kind: "cancel", job: id });
    // What an earlier run had learned. The holder of a running one takes its own away when it hears of this.
    if (state !== "running") this.#invocation.write({ kind: "remove", key: journalKey(id) });
    return true;
  }

  /** On handles of a queue that returns something. */
  result(job: JobRef | string, { within }: { readonly within?: Duration } = {}): Promise<JobResult<unknown>> {
    const id = typeof job === "string" ? job : job.id;
    const { name, returns } = this.#settings;
    if (!returns) throw Fault.create("queue.no-results", `the jobs of queue "${name}" answer nothing`, "Declare what they answer with `returns`.");
    const withinMs = within === undefined ? 0 : durationMs(within, `result of queue "${name}": within`);
    return this.#invocation.recall(`result of job ${id} of queue ${name}`, () =>
      awaitResult(this.#invocation, { queue: name, job: id, schema: returns, withinMs, row: () => this.#row(id) }),
    );
  }

  async #row(id: JobId): Promise<JobRow | undefined> {
    const before = idBefore(id);
    if (before === undefined) return undefined;
    const [row] = await this.#invocation.node.store.read.jobs({ queue: this.#settings.name, limit: 1, after: before });
    return row?.id === id ? row : undefined;
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
    // By the store's clock, which judges it, and not before.
    return Math.ceil(this.#invocation.node.storeClock.latestMs() + durationMs(duration, `send to queue "${this.#settings.name}": ${option}`));
  }

  #replace({ debounce, unique, in: delay, at }: SendOptions): { readonly atMostMs?: number } {
    const { name } = this.#settings;
    if (unique !== undefined || delay !== undefined || at !== undefined)
      throw Fault.create("queue.bad-options", `send to queue "${name}" got debounce beside unique, in or at`, "debounce says all of that; leave them out.");
    return debounce?.atMost === undefined ? {} : { atMostMs: durationMs(debounce.atMost, `send to queue "${name}": debounce.atMost`) };
  }
}

export class BoundPlainQueue extends BoundQueue implements QueueHandle<unknown> {
  send(message: unknown, options?: SendOptions): JobRef {
    return this.sendAs(undefined, message, options);
  }
  sendMany(messages: Iterable<unknown>, options?: SendOptions): readonly JobRef[] {
    return Array.from(messages, (message) => this.send(message, options));
  }
}

export class BoundTypedQueue extends BoundQueue implements TypedQueueHandle<Readonly<Record<string, unknown>>> {
  #send: TypedQueueHandle<Readonly<Record<string, unknown>>>["send"] | undefined;

  get send(): TypedQueueHandle<Readonly<Record<string, unknown>>>["send"] {
    return (this.#send ??= Object.fromEntries(
      this.types.map((type) => [type, (message: unknown, options?: SendOptions) => this.sendAs(type, message, options)]),
    ));
  }
}

export const whatOf = (name: string, type: string | undefined) => `message${type === undefined ? "" : ` ${type}`} of queue "${name}"`;

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

export function backlogOf(node: NodeServices, component: Component, { name, capacity }: Settings): Backlog {
  return node.local(component, () => new Backlog(node, name, capacity));
}
