/**
 * kind: how a kind of component is made, ours and yours. A kind says what its handle is for one invocation, on top of the
 * store's three primitives; joining the commit, telemetry, graph and console follow from that.
 *
 * A key or stream of a kind lies below its component's name and the invocation's tenant, as those of Trestle's own kinds do.
 */
import {
  decode,
  declareComponent,
  encode,
  execute,
  parse,
  WorkContext,
  type Annotations,
  type Component,
  type Context,
  type Guarantee,
  type In,
  type Invocation,
  type NodePart,
  type NodeServices,
  type Out,
  type Schema,
  type Usable,
} from "../component/index.ts";
import { Fault, sleep, type Instant } from "../kernel/index.ts";
import { seal, senderOf } from "../messaging/index.ts";
import { storeKey } from "../store/index.ts";

export function kind<O extends Schema, View, Handle extends View>(
  name: string,
  definition: KindDefinition<O, View, Handle>,
): (name: string, spec: Annotations & In<O>) => Component & Usable<View, Handle> {
  const { options, needs, gives, view, handle, run } = definition;
  for (const guarantee of [...needs, ...gives]) checkGuarantee(name, guarantee);
  return (componentName, spec) => {
    const declared: Declared<O> = { name: componentName, options: parsedOptions(name, componentName, options, spec) };
    const component: Component = declareComponent<Component>(name, componentName, {
      annotations: annotationsOf(spec, declared.options),
      uses: {},
      edge: "write",
      role: "any",
      needs: Object.fromEntries(needs.map((need) => [need, [need]])),
      bind(invocation) {
        const bound = new BoundStore(component, invocation);
        return (invocation.mode === "read" ? view(declared, bound.reads) : handle(declared, bound.writes)) as object;
      },
      ...(run ? { part: (node) => new OwnWork(component, node, (running) => run(declared, running)) } : {}),
      interior: { gives },
    });
    return component as Component & Usable<View, Handle>;
  };
}

export interface KindDefinition<O extends Schema, View, Handle extends View> {
  /** What one declares of it. Checked where it is declared, so its schema must answer at once. */
  readonly options: O;
  /** What it needs of its engine: a node does not start on a store that lacks one, and says which. */
  readonly needs: readonly Guarantee[];
  /** What it promises in return; each id has a test or conformance case of its author's. */
  readonly gives: readonly Guarantee[];
  readonly view: (component: Declared<O>, invocation: Reads) => View;
  readonly handle: (component: Declared<O>, invocation: Reads & Writes) => Handle;
  /**
   * Work of its own on every node, outside any handler; stopped in reverse order. When it fails it is begun again, after a pause that
   * grows to 30 s.
   */
  readonly run?: (component: Declared<O>, node: RunningKind) => Promise<void>;
}
export interface Declared<O extends Schema> {
  readonly name: string;
  readonly options: Out<O>;
}
export interface RunningKind {
  /** One commit, run again on a conflict. */
  commit<T>(write: (invocation: Reads & Writes) => T | Promise<T>): Promise<T>;
  /** Aborts when the node drains. */
  readonly signal: AbortSignal;
}

/** What is read becomes a precondition of the invocation's commit. */
export interface Reads {
  readonly context: Context;
  readonly records: { get(key: string): Promise<unknown> };
  /** Events from version `from` (default 1) on, up to the version the stream has when it is first read. */
  readonly log: { read(stream: string, from?: number): AsyncIterable<{ readonly type: string; readonly data: unknown; readonly version: number }> };
}
/** What is staged joins it. */
export interface Writes {
  readonly records: Reads["records"] & { put(key: string, value: unknown): void; remove(key: string): void };
  readonly log: Reads["log"] & { append(stream: string, events: readonly { readonly type: string; readonly data: unknown }[]): void };
  /** `queue`: the name of a queue of the app, whose handler gets the payload as its message. */
  readonly queue: { add(item: { readonly queue: string; readonly payload: unknown; readonly due?: Instant }): void };
}

// ---- declaring ------------------------------------------------------------------------------------------------------

function checkGuarantee(name: string, guarantee: string): void {
  if (/^[a-z][a-z0-9-]*\.[a-z][a-z0-9-]*$/.test(guarantee)) return;
  throw Fault.create(
    "kind.bad-guarantee",
    `a guarantee of kind "${name}" must look like part.what-it-does, got ${JSON.stringify(guarantee)}`,
    "Name the part and what it does: `sequence.without-gaps`.",
  );
}

function parsedOptions<O extends Schema>(name: string, componentName: string, schema: O, spec: unknown): Out<O> {
  const parsed = parse(schema, spec);
  if (parsed instanceof Promise)
    throw Fault.create("schema.asynchronous", `the options of kind "${name}" have a schema that answers asynchronously`, "Use one that answers at once.");
  if (parsed.ok) return parsed.value;
  const [{ path, message } = { path: "", message: "" }] = parsed.issues;
  throw Fault.create("kind.bad-options", `${name} "${componentName}": ${path === "" ? "its options" : path}: ${message}`, "Correct what is declared.", {
    details: { issues: parsed.issues },
  });
}

const annotationNames = ["summary", "owner", "slo", "dataClass", "runbook", "decisions", "cost"] as const;

/** What is said for people and tools, unless the kind takes it for an option of its own. */
function annotationsOf(spec: object, options: unknown): Annotations {
  const own = typeof options === "object" && options !== null ? options : {};
  return Object.fromEntries(
    annotationNames.flatMap((name) => (Object.hasOwn(spec, name) && !Object.hasOwn(own, name) ? [[name, (spec as Annotations)[name]]] : [])),
  );
}

// ---- the store, as a kind sees it -----------------------------------------------------------------------------------

class BoundStore {
  readonly reads: Reads;
  readonly writes: Reads & Writes;

  constructor(component: Component, invocation: Invocation) {
    const of = `${component.kind} "${component.name}"`;
    const key = (own: string) => storeKey(component.name, invocation.tenant, own);
    const records = {
      async get(own: string): Promise<unknown> {
        const bytes = await invocation.record(key(own));
        return bytes && decode(bytes);
      },
      put: (own: string, value: unknown) => invocation.put(key(own), encode(value, `a record of ${of}`)),
      remove: (own: string) => invocation.remove(key(own)),
    };
    const log = {
      read: (stream: string, from = 1) => eventsOf(invocation, key(stream), from),
      append(stream: string, events: readonly { readonly type: string; readonly data: unknown }[]): void {
        const encoded = events.map(({ type, data }) => ({ id: invocation.newId(), type, data: encode(data, `event ${type} of ${of}`) }));
        if (encoded.length > 0) invocation.write({ kind: "append", stream: key(stream), events: encoded });
      },
    };
    const queue = {
      add: ({ queue: name, payload, due }: { readonly queue: string; readonly payload: unknown; readonly due?: Instant }) =>
        invocation.enqueue({
          id: invocation.newId(),
          queue: name,
          priority: 1,
          payload: seal(payload, senderOf(invocation), `message of queue "${name}"`),
          ...(due === undefined ? {} : { dueAtMs: Math.ceil(due) }),
        }),
    };
    const context: Context = new WorkContext(invocation);
    this.reads = { context, records: { get: records.get }, log: { read: log.read } };
    this.writes = { context, records, log, queue };
  }
}

const pageEvents = 256;

async function* eventsOf(invocation: Invocation, stream: string, from: number): AsyncGenerator<{ type: string; data: unknown; version: number }> {
  const { version: last } = await invocation.stream(stream);
  for (let after = from - 1; after < last;) {
    const begin = after;
    const rows = await invocation.recall(`${stream} after ${begin}`, () =>
      invocation.node.store.read.stream(stream, { after: begin, before: last + 1, limit: pageEvents }),
    );
    for (const row of rows) {
      yield { type: row.type, data: decode(row.data), version: row.version };
      after = row.version;
    }
    if (rows.length < pageEvents) return;
  }
}

// ---- work of its own ------------------------------------------------------------------------------------------------

const commitTimeoutMs = 30_000;

class OwnWork implements NodePart {
  readonly name: string;
  readonly #component: Component;
  readonly #node: NodeServices;
  readonly #run: (running: RunningKind) => Promise<void>;
  readonly #stopped = new AbortController();
  #running: Promise<void> | undefined;

  constructor(component: Component, node: NodeServices, run: (running: RunningKind) => Promise<void>) {
    this.name = `${component.kind} ${component.name}`;
    this.#component = component;
    this.#node = node;
    this.#run = run;
  }

  start(): Promise<void> {
    this.#running ??= this.#keepRunning();
    return Promise.resolve();
  }

  drain(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #keepRunning(): Promise<void> {
    const { signal } = this.#stopped;
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        return await this.#run({ signal, commit: (write) => this.#commit(write) });
      } catch (fault) {
        if (signal.aborted || Fault.is(fault, "store.closed")) return;
        this.#node
          .log(this.#component.name, { traceparent: undefined, tenant: undefined })
          .error(`the work of ${this.name} failed; it is begun again`, { fault: String(fault), failures: failures + 1 });
        await sleep(this.#node.clock, Math.min(30_000, 100 * 2 ** failures), signal).catch(() => undefined);
      }
    }
  }

  async #commit<T>(write: (invocation: Reads & Writes) => T | Promise<T>): Promise<T> {
    const ended = await execute<T>({
      node: this.#node,
      component: this.#component,
      operation: "run",
      mode: "write",
      uses: undefined,
      id: this.#node.ids.next(),
      timeoutMs: commitTimeoutMs,
      signal: this.#stopped.signal,
      run: (_uses, _context, invocation) => write(new BoundStore(this.#component, invocation).writes),
      conclude: () => ({ keep: true, end: "ok" }),
    });
    if (ended.kind === "answered") return ended.answer;
    throw ended.kind === "failed" ? ended.fault : Fault.create("commit.conflict", `a commit of ${this.name} was taken over by another run`, "Try again.");
  }
}
