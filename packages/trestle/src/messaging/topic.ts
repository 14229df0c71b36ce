/**
 * topic: facts that anyone may follow. A topic's events are the public ones; an aggregate's events stay inside the module that
 * owns it. Publishing appends to the log in the publisher's commit: there is no event without the commit and no commit without
 * the event. Guarantees: `topic.gapless`, `topic.fifo-per-key`, `topic.replay`, `topic.survives-power-loss`.
 */
import {
  compressAbove,
  declareComponent,
  eventVersions,
  parseNow,
  stageEvent,
  type Annotations,
  type AnyEvent,
  type Component,
  type Compress,
  type EventSchemas,
  type Guarantee,
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
import { followTopic, type FollowOptions } from "./follow.ts";

export function topic<E extends EventSchemas>(name: string, spec: TopicSpec<E>): Topic<{ [K in keyof E]: In<E[K]> }, { [K in keyof E]: Out<E[K]> }> {
  type Declared = Topic<{ [K in keyof E]: In<E[K]> }, { [K in keyof E]: Out<E[K]> }>;
  const { events, key, versions, compress, needs = [], ...annotations } = spec;
  const of = `topic "${name}"`;
  const written: Written = { versions: eventVersions(versions, of), compressAbove: compressAbove(compress, of) };
  const settings: Settings = { name, events, key: key as Settings["key"] };
  const interior: SourceInterior = { source: { events, ...written, key: (text) => text } };
  const component: Declared = declareComponent<Declared>("topic", name, {
    annotations,
    uses: {},
    edge: "publish",
    role: "any",
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
  /** Engines that lack one of these are refused when the node starts. */
  readonly needs?: readonly TopicGuarantee[];
}
export type TopicGuarantee = "topic.gapless" | "topic.fifo-per-key" | "topic.replay" | "topic.survives-power-loss";

export interface Topic<Written, Read = Written> extends Component<"topic">, Source<Read>, Usable<TopicView<Read>, TopicHandle<Written, Read>> {}
export interface TopicView<Read> {
  /** The topic's events in order of position, and what comes after them, without end. A position is that of an event: go on after it. */
  follow(options?: FollowOptions): AsyncIterable<AnyEvent<Read>>;
}
export type TopicHandle<Written, Read> = TopicView<Read> & {
  /** `paid.publish.OrderPaid({ … })`: joins the commit. */
  readonly publish: { readonly [K in keyof Written]: (...data: Payload<Written[K]>) => void };
};

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

  constructor(component: Component, settings: Settings, invocation: Invocation) {
    this.#component = component;
    this.#settings = settings;
    this.#invocation = invocation;
  }

  get publish(): Readonly<Record<string, (data?: unknown) => void>> {
    return (this.#publish ??= Object.fromEntries(Object.keys(this.#settings.events).map((type) => [type, (data: unknown = {}) => this.#append(type, data)])));
  }

  follow(options: FollowOptions = {}): AsyncIterable<AnyEvent<Record<string, unknown>, string | number>> {
    this.#invocation.assertOpen();
    return followTopic(this.#component, this.#invocation, options);
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
