/**
 * aggregate: one thing with a history. Its events are the truth; its state is their fold; commands decide which events
 * happen next. Commands are pure functions of state and input: they use nothing and read no clock, so they can be
 * re-run, tested as a table, and replayed over history.
 *
 * Guarantees: `log.expected-version`, `log.gapless`, `commit.serializable-over-keys`.
 */
import {
  changesOf,
  compressAbove,
  declareComponent,
  eventVersions,
  historyOf,
  isRefused,
  parseOrFault,
  stageEvent,
  withResumeId,
  type Annotations,
  type AnyEvent,
  type Component,
  type Compress,
  type EventSchemas,
  type Fold,
  type HistoryOptions,
  type In,
  type Invocation,
  type Out,
  type Payload,
  type ReadOptions,
  type Refused,
  type Schema,
  type Source,
  type SourceInterior,
  type StreamRead,
  type Usable,
  userKey,
  type Written,
} from "../component/index.ts";
import { Fault, integerWithin, numberWithin, type Instant } from "../kernel/index.ts";
import type { StoreKey } from "../store/index.ts";
import { evolved, foldTo, frozen, stageSnapshot, type Folding, type Until } from "./fold.ts";

export function aggregate<
  Id extends Schema<any, string | number>,
  E extends EventSchemas,
  State,
  F extends Evolve<State, E>,
  C extends { readonly [command: string]: Command<Schema, State, E, unknown> },
>(
  name: string,
  spec: AggregateSpec<Id, E, State, F>,
  commands: C & NoReservedNames<C>,
): Aggregate<Out<Id>, State, { [K in keyof E]: Out<E[K]> }, { [K in keyof C]: Signature<C[K], State> }> {
  const { id, events, initial, evolve, versions, compress, snapshotEvery = 100, ...annotations } = spec;
  const of = `aggregate "${name}"`;
  const written: Written = { versions: eventVersions(versions, of), compressAbove: compressAbove(compress, of) };
  integerWithin(snapshotEvery, `aggregate "${name}": snapshotEvery`, { least: 1, most: 1_000_000 });
  const folding: Folding = { name, events, initial: initial as Folding["initial"], evolve: evolve as unknown as Folding["evolve"], snapshotEvery };
  const shape = boundShape(name, commands as unknown as Readonly<Record<string, AnyCommand>>, events);
  const component: Component = declareComponent<Component<"aggregate">>("aggregate", name, {
    annotations,
    uses: {},
    edge: "write",
    role: "any",
    interior: { source: { events, ...written, key: keyReader(id) } } satisfies SourceInterior,
    bind: (invocation) => new shape(component, folding, invocation),
  });
  return component as unknown as Aggregate<Out<Id>, State, { [K in keyof E]: Out<E[K]> }, { [K in keyof C]: Signature<C[K], State> }>;
}

export interface AggregateSpec<Id extends Schema, E extends EventSchemas, State, F> extends Annotations {
  readonly id: Id;
  readonly events: E;
  /** The state before the first event. */
  readonly initial: (id: Out<Id>) => State;
  /** One function per event, no more and no less. */
  readonly evolve: F & { readonly [K in Exclude<keyof F, keyof E>]: never };
  /** Schema versions, by event; default 1. Told to readers in `event.meta`; raise one when its data changes what it means. */
  readonly versions?: { readonly [K in keyof E]?: number };
  /** Events longer than this are stored compressed (`true`: 1KB). Default: none. May change at any time. */
  readonly compress?: Compress;
  /** Fold less: keep a snapshot every so many events, 1 to 1,000,000. Default 100. Used while state is JSON and `evolve` unchanged. */
  readonly snapshotEvery?: number;
}

// A constraint rather than a parameter's type: only so do literals in the returned state keep their types.
export type Evolve<State, E extends EventSchemas> = { readonly [K in keyof E]: (state: State, data: Out<E[K]>) => State };

/** `command((order, emit) => …)` or, with input, `command(Schema, (order, input, emit) => …)`. */
export function command<State, E extends EventSchemas, R extends Decision<E>>(decide: (state: State, emit: Emit<E>) => R): Command<NoInput, State, E, R>;
export function command<S extends Schema, State, E extends EventSchemas, R extends Decision<E>>(
  input: S,
  decide: (state: State, input: Out<S>, emit: Emit<E>) => R,
): Command<S, State, E, R>;
export function command(...given: readonly unknown[]): Command<Schema, unknown, EventSchemas, unknown> {
  if (given.length === 1) {
    const decide = given[0] as (state: unknown, emit: unknown) => unknown;
    return { input: noInput, decide: (state, _input, emit) => decide(state, emit) };
  }
  return { input: given[0] as Schema, decide: given[1] as Command<Schema, unknown, EventSchemas, unknown>["decide"] };
}

export interface Command<S extends Schema, State, E extends EventSchemas, R> {
  readonly input: S;
  readonly decide: (state: State, input: any, emit: Emit<E>) => R;
}
type NoInput = Schema<undefined, undefined>;
const noInput: NoInput = { "~standard": { version: 1, vendor: "trestle", validate: () => ({ value: undefined }) } };

/** One constructor per event: `emit.OrderPlaced({ … })`. */
export type Emit<E extends EventSchemas> = { readonly [K in keyof E & string]: (...data: Payload<In<E[K]>>) => Emitted<K> };
export interface Emitted<Type extends string> {
  readonly emitted: Type;
}
/** An event, several, none (already so), or a refusal. */
export type Decision<E extends EventSchemas> = Emitted<keyof E & string> | readonly Emitted<keyof E & string>[] | Refused | undefined;

/** On hover a command reads as a function: input in, outcomes out. */
export type Signature<C, State> =
  C extends Command<infer S, any, any, infer R>
    ? (...input: [In<S>] extends [undefined] ? [] : [input: In<S>]) => Accepted<State> | Extract<R, Refused>
    : never;
type NoReservedNames<C> = { readonly [K in keyof C & ("get" | "getMany" | "history" | "watch")]: "this name is taken by the aggregate's own handle" };

export interface Aggregate<Id, State, Events, Commands>
  extends Component<"aggregate">, Source<Events, Id>, Usable<AggregateView<Id, State, Events>, AggregateHandle<Id, State, Events, Commands>> {}

export interface AggregateView<Id, State, Events> {
  /** The state now, or as it was; `initial` for an id without events. */
  get(id: Id, options?: ReadOptions & { readonly asOf?: Instant | { readonly version: number } }): Promise<State>;
  getMany(ids: Iterable<Id>, options?: ReadOptions): Promise<ReadonlyMap<Id, State>>;
  /** Its events, in either direction, between two versions. */
  history(id: Id, options?: HistoryOptions): AsyncIterable<AnyEvent<Events, Id>>;
  /** The state now and after each change; resumable. */
  watch(id: Id): AsyncIterable<State>;
}
export type AggregateHandle<Id, State, Events, Commands> = AggregateView<Id, State, Events> & {
  readonly [K in keyof Commands]: Commands[K] extends (...input: infer A) => infer R ? (id: Id, ...input: A) => Promise<R> : never;
};
export interface Accepted<State> {
  readonly ok: true;
  readonly state: State;
  readonly version: number;
}

// ---- the handle -----------------------------------------------------------------------------------------------------

type AnyCommand = Command<Schema, unknown, EventSchemas, unknown>;
/** What a handle offers besides commands, and what would make it a promise. */
const reserved: ReadonlySet<string> = new Set(["get", "getMany", "history", "watch", "constructor", "then"]);
interface EmittedWithData extends Emitted<string> {
  readonly data: unknown;
}

// Everything of its own is private: a command may have any name but those of AggregateView.
class BoundAggregate {
  readonly #component: Component;
  readonly #folding: Folding;
  readonly #invocation: Invocation;

  constructor(component: Component, folding: Folding, invocation: Invocation) {
    this.#component = component;
    this.#folding = folding;
    this.#invocation = invocation;
  }

  static run(bound: BoundAggregate, name: string, definition: AnyCommand, emit: Emit<EventSchemas>, id: string | number, given: unknown): Promise<unknown> {
    return bound.#command(name, definition, emit, id, given);
  }

  async get(id: string | number, options: ReadOptions & { readonly asOf?: Instant | { readonly version: number } } = {}): Promise<unknown> {
    const stream = this.#stream(id);
    return options.asOf === undefined ? (await this.#current(stream, id, options)).state : this.#asOf(stream, id, options.asOf);
  }

  async getMany(ids: Iterable<string | number>, options?: ReadOptions): Promise<ReadonlyMap<string | number, unknown>> {
    return new Map(await Promise.all([...ids].map(async (id) => [id, await this.get(id, options)] as const)));
  }

  history(id: string | number, options?: HistoryOptions): AsyncIterable<unknown> {
    this.#invocation.assertOpen();
    return historyOf(this.#invocation, this.#component, this.#stream(id), options);
  }

  async *watch(id: string | number): AsyncIterable<unknown> {
    this.#invocation.assertOpen();
    const { node, frame } = this.#invocation;
    const stream = this.#stream(id);
    let seen = frame.resumeAfter;
    for await (const _ of changesOf(node.store, (key) => key === stream, frame.signal)) {
      const version = await node.store.read.streamVersion(stream);
      if (String(version) === seen) continue;
      seen = String(version);
      yield withResumeId((await foldTo(node, this.#component, this.#folding, stream, id, { version })).state, seen);
    }
  }

  /** The state this invocation decides on: its own, or the one of the version it has read. */
  #current(stream: StoreKey, id: string | number, options?: ReadOptions): Fold | Promise<Fold> {
    const own = this.#invocation.ownFold(stream);
    if (own) return own;
    const isTail = !this.#invocation.replaying;
    const read = this.#invocation.stream(stream, { ...options, of: id });
    return read instanceof Promise ? read.then((known) => this.#folded(stream, id, known, isTail)) : this.#folded(stream, id, read, isTail);
  }

  #folded(stream: StoreKey, id: string | number, { version, fold }: StreamRead, isTail: boolean): Fold | Promise<Fold> {
    if (fold) return this.#invocation.ownFold(stream) ?? fold;
    if (version === 0) return this.#invocation.ownFold(stream) ?? { version, state: frozen(this.#folding.initial(id)) };
    return foldTo(this.#invocation.node, this.#component, this.#folding, stream, id, { version }, isTail).then(
      (folded) => this.#invocation.ownFold(stream) ?? folded,
    );
  }

  /** Which version it was is learned once: a later run may find events that have come since. */
  async #asOf(stream: StoreKey, id: string | number, asOf: Instant | { readonly version: number }): Promise<unknown> {
    const of = `asOf for aggregate "${this.#folding.name}"`;
    const until =
      typeof asOf === "number"
        ? { atMs: numberWithin(asOf, of, { least: 0, most: Number.MAX_SAFE_INTEGER }) }
        : { version: integerWithin(asOf.version, `${of}: version`, { least: 0, most: Number.MAX_SAFE_INTEGER }) };
    const fold = (to: Until) => foldTo(this.#invocation.node, this.#component, this.#folding, stream, id, to);
    let found: Fold | undefined;
    const version = await this.#invocation.recall(`${stream} as of ${JSON.stringify(until)}`, async () => (found = await fold(until)).version);
    return (found ?? (await fold({ version }))).state;
  }

  async #command(name: string, definition: AnyCommand, emit: Emit<EventSchemas>, id: string | number, given: unknown): Promise<unknown> {
    const invocation = this.#invocation;
    const what = `${name} of aggregate "${this.#folding.name}"`;
    const parsing: unknown =
      definition.input === noInput ? undefined : (invocation.accepted(definition.input, given) ?? parseOrFault(definition.input, given, `input of ${what}`));
    const input: unknown = parsing instanceof Promise ? await parsing : parsing;
    const stream = this.#stream(id);
    const reading = this.#current(stream, id);
    const read = reading instanceof Promise ? await reading : reading;
    // Another command on this id may have decided while this one waited; from here to the append nothing waits.
    const before = invocation.ownFold(stream) ?? read;
    const decided = definition.decide(before.state, input, emit);
    if (isRefused(decided)) return invocation.watchRefusal(decided, what, true);
    const emitted = (decided === undefined ? [] : Array.isArray(decided) ? decided : [decided]) as readonly EmittedWithData[];
    let { version, state } = before;
    const events = emitted.map(({ emitted: type, data }) => {
      const event = stageEvent(invocation, this.#component, stream, id, type, data, (version += 1));
      state = evolved(this.#folding, type, state, event.staged.parsed);
      return event;
    });
    if (events.length > 0) {
      const after: Fold = { version, state: frozen(state) };
      invocation.append(
        events.map(({ staged }) => staged),
        events.map(({ encoded }) => encoded),
        after,
      );
      stageSnapshot(invocation, this.#folding, stream, before.version, after);
      const reacting = invocation.react();
      if (reacting) await reacting;
    }
    return { ok: true, state, version };
  }

  #stream(id: string | number): StoreKey {
    return userKey(this.#folding.name, this.#invocation.tenant, id);
  }
}

/** One class per aggregate, with a method per command: an invocation then allocates three fields and no closures. */
function boundShape(aggregateName: string, commands: Readonly<Record<string, AnyCommand>>, events: EventSchemas): typeof BoundAggregate {
  const emit = Object.fromEntries(
    Object.keys(events).map((type) => [type, (data: unknown): EmittedWithData => ({ emitted: type, data: data ?? {} })]),
  ) as unknown as Emit<EventSchemas>;
  class Shape extends BoundAggregate {}
  for (const [name, definition] of Object.entries(commands)) {
    if (reserved.has(name))
      throw Fault.create(
        "aggregate.bad-command",
        `aggregate "${aggregateName}" has a command ${JSON.stringify(name)}; that name is taken by its handle`,
        "Name the command differently.",
      );
    Object.defineProperty(Shape.prototype, name, {
      value(this: BoundAggregate, id: string | number, input: unknown) {
        return BoundAggregate.run(this, name, definition, emit, id, input);
      },
    });
  }
  return Shape;
}

/** Keys come back from the log as text; a numeric id is a number again. */
function keyReader(id: Schema): (text: string) => string | number {
  const accepts = (value: unknown): boolean => {
    const result = id["~standard"].validate(value);
    return result instanceof Promise || !result.issues;
  };
  return (text) => {
    const number = Number(text);
    return String(number) === text && !accepts(text) && accepts(number) ? number : text;
  };
}
