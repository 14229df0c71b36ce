/**
 * topic: facts that anyone may follow. A topic's events are the public ones; an aggregate's events stay inside the module that
 * owns it. Publishing appends to the log in the publisher's commit: there is no event without the commit and no commit without
 * the event. Guarantees: `topic.gapless`, `topic.fifo-per-key`, `topic.replay`, `topic.survives-power-loss`.
 */
import {
  compressAbove,
  declareComponent,
  encode,
  eventVersions,
  historyOf,
  parseNow,
  stageEvent,
  type Annotations,
  type AnyEvent,
  type Component,
  type Compress,
  type EventSchemas,
  type Guarantee,
  type HistoryOptions,
  type In,
  type Invocation,
  type Out,
  type Payload,
  type Source,
  type SourceInterior,
  type Written,
  type Usable,
  userKey,
} from "../component/index.ts";
import type { StoreKey } from "../store/index.ts";
import { durationMs, Fault, integerWithin, type Duration } from "../kernel/index.ts";
import { followTopic, type FollowOptions } from "./follow.ts";
import { Retention, type RetentionRule } from "./retention.ts";

export function topic<E extends EventSchemas>(name: string, spec: TopicSpec<E>): Topic<{ [K in keyof E]: In<E[K]> }, { [K in keyof E]: Out<E[K]> }> {
  type Declared = Topic<{ [K in keyof E]: In<E[K]> }, { [K in keyof E]: Out<E[K]> }>;
  const { events, key, versions, compress, keepFor, keepLast, archive, needs = [], ...annotations } = spec;
  const of = `topic "${name}"`;
  const written: Written = { versions: eventVersions(versions, of), compressAbove: compressAbove(compress, of) };
  const settings: Settings = { name, events, key: key as Settings["key"] };
  const rule = retentionRule(of, { keepFor, keepLast, archive: archive as RetentionRule["archive"] });
  const interior: SourceInterior = { source: { events, ...written, key: (text) => text } };
  const component: Declared = declareComponent<Declared>("topic", name, {
    annotations,
    uses: {},
    edge: "publish",
    role: rule ? "worker" : "any",
    ...(rule ? { part: (node) => new Retention(node, { ...rule, topic: component as Component }) } : {}),
    interior,
    bind: (invocation) => new BoundTopic(component as Component, settings, invocation),
    needs: Object.fromEntries(needs.map((need) => [need, restsOn[need]])),
  });
  return component;
}

export interface TopicSpec<E extends EventSchemas> extends Annotations {
  readonly events: E;
  /** Events of one key keep their order. Default: one order for the whole topic. */
  readonly key?: (event: { [K in keyof E & string]: { readonly type: K; readonly data: Out<E[K]> } }[keyof E & string]) => string;
  /** Schema versions, by event; default 1. Told to readers in `event.meta`; raise one when its data changes what it means. */
  readonly versions?: { readonly [K in keyof E]?: number };
  /** Payloads longer than this are stored compressed (`true`: 1KB). Default: none. May change at any time. */
  readonly compress?: Compress;
  /** Older events are removed. Default: none ever is. What a follower in this app has not seen stays. */
  readonly keepFor?: Duration;
  /** Of each key, events before the last so many are removed. Not together with `keepFor`. */
  readonly keepLast?: number;
  /**
   * Takes events before they are removed, in order of position; what it does not take (it throws) stays. After a crash it may be given events
   * again, under the same ids. Default: what is removed is gone.
   */
  readonly archive?: (events: readonly AnyEvent<{ [K in keyof E]: Out<E[K]> }>[]) => Promise<void> | void;
  /** Engines that lack one of these are refused when the node starts. */
  readonly needs?: readonly TopicGuarantee[];
}
export type TopicGuarantee = "topic.gapless" | "topic.fifo-per-key" | "topic.replay" | "topic.survives-power-loss";

export interface Topic<Written, Read = Written> extends Component<"topic">, Source<Read>, Usable<TopicView<Read>, TopicHandle<Written, Read>> {}
export interface TopicView<Read> {
  /** The topic's events in order of position, and what comes after them, without end. A position is that of an event: go on after it. */
  follow(options?: FollowOptions<keyof Read & string>): AsyncIterable<AnyEvent<Read>>;
  /** The events of one key (default: of a topic without keys), in either direction, between two versions. */
  history(options?: HistoryOptions & { readonly key?: string }): AsyncIterable<AnyEvent<Read>>;
  /** How many events a key has had. Where something can be written it is a precondition: no other event of the key comes in between. */
  version(key?: string): Promise<number>;
}
export type TopicHandle<Written, Read> = TopicView<Read> & {
  /** `paid.publish.OrderPaid({ … })`: joins the commit. */
  readonly publish: { readonly [K in keyof Written]: (...data: Payload<Written[K]>) => void };
  /**
   * `await paid.publishOnce.OrderPaid(id, { … })`: under an id that the publisher minted (of a webhook, a message of another broker), once for
   * 24 hours at least. `false`: it has been published before, and nothing is now.
   */
  readonly publishOnce: { readonly [K in keyof Written]: (id: string, ...data: Payload<Written[K]>) => Promise<boolean> };
};

const onceForMs = 24 * 3_600_000;

/** `undefined`: everything is kept. */
function retentionRule(
  of: string,
  { keepFor, keepLast, archive }: { readonly keepFor: Duration | undefined; readonly keepLast: number | undefined; readonly archive: RetentionRule["archive"] },
): Omit<RetentionRule, "topic"> | undefined {
  if (keepFor === undefined && keepLast === undefined) {
    if (archive === undefined) return undefined;
    throw Fault.create(
      "topic.bad-option",
      `${of}: archive takes what is removed, and nothing is: there is neither keepFor nor keepLast`,
      "Say how long events are kept.",
    );
  }
  if (keepFor !== undefined && keepLast !== undefined) throw Fault.create("topic.bad-option", `${of}: it has both keepFor and keepLast`, "Choose one of them.");
  return {
    keepForMs: keepFor === undefined ? undefined : durationMs(keepFor, `${of}: keepFor`),
    keepLast: keepLast === undefined ? undefined : integerWithin(keepLast, `${of}: keepLast`, { least: 1, most: 1_000_000_000 }),
    archive,
  };
}

interface Settings {
  readonly name: string;
  readonly events: EventSchemas;
  readonly key: ((event: { readonly type: string; readonly data: unknown }) => string) | undefined;
}

class BoundTopic {
  readonly #component: Component;
  readonly #settings: Settings;
  readonly #invocation: Invocation;
  #publish: Readonly<Record<string, (data?: unknown) => void>> | undefined;
  #publishOnce: Readonly<Record<string, (id: string, data?: unknown) => Promise<boolean>>> | undefined;
  readonly #once = new Set<string>();

  constructor(component: Component, settings: Settings, invocation: Invocation) {
    this.#component = component;
    this.#settings = settings;
    this.#invocation = invocation;
  }

  get publish(): Readonly<Record<string, (data?: unknown) => void>> {
    return (this.#publish ??= Object.fromEntries(Object.keys(this.#settings.events).map((type) => [type, (data: unknown = {}) => this.#append(type, data)])));
  }

  get publishOnce(): Readonly<Record<string, (id: string, data?: unknown) => Promise<boolean>>> {
    return (this.#publishOnce ??= Object.fromEntries(
      Object.keys(this.#settings.events).map((type) => [type, (id: string, data: unknown = {}) => this.#appendOnce(id, type, data)]),
    ));
  }

  history({ key = "", ...options }: HistoryOptions & { readonly key?: string } = {}): AsyncIterable<AnyEvent<Record<string, unknown>, string | number>> {
    this.#invocation.assertOpen();
    return historyOf(this.#invocation, this.#component, this.#stream(key), options);
  }

  async version(key = ""): Promise<number> {
    return (await this.#invocation.stream(this.#stream(key))).version;
  }

  follow(options: FollowOptions = {}): AsyncIterable<AnyEvent<Record<string, unknown>, string | number>> {
    this.#invocation.assertOpen();
    return followTopic(this.#component, this.#invocation, options);
  }

  /** The token is the memory: it expects that nobody has written it, so of two commits with one id the second is refused and finds it. */
  async #appendOnce(id: string, type: string, data: unknown): Promise<boolean> {
    const invocation = this.#invocation;
    const key = userKey("~once", invocation.tenant, `${this.#settings.name}/${id}`);
    const known = await invocation.recall(`once ${key}`, async () => (await invocation.node.store.read.token(key)) !== undefined);
    if (known || this.#once.has(id)) return false;
    this.#once.add(id);
    invocation.expect({ kind: "token", key, version: 0 });
    invocation.write({ kind: "token", key, value: encode(type, "id of an event"), keepForMs: onceForMs });
    this.#append(type, data);
    return true;
  }

  #stream(key: string): StoreKey {
    return userKey(this.#settings.name, this.#invocation.tenant, key);
  }

  #append(type: string, data: unknown): void {
    const { name, events, key } = this.#settings;
    // Parsed for its key here, and again where it is staged; only topics with a key pay for it.
    const of = key ? key({ type, data: parseNow(events[type] as EventSchemas[string], data, `event ${type} of topic "${name}"`) }) : "";
    const { staged, encoded } = stageEvent(this.#invocation, this.#component, userKey(name, this.#invocation.tenant, of), of, type, data, undefined);
    this.#invocation.append([staged], [encoded]);
  }
}

/** What each guarantee of a topic rests on in the store. */
const restsOn: Readonly<Record<TopicGuarantee, readonly Guarantee[]>> = {
  "topic.gapless": ["log.gapless"],
  "topic.fifo-per-key": ["log.gapless", "queue.fifo-per-key"],
  "topic.replay": ["log.immutable"],
  "topic.survives-power-loss": ["commit.durable"],
};
