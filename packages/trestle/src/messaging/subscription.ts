/**
 * subscription: someone who follows a topic or an aggregate, at their own pace, from a durable position.
 *
 * `following`: a feeder moves events from the log into the subscription's own queue (feeder.ts), where the worker all durable
 * handlers share runs their reactions: in order per key, tried again, resumed after crashes. `in-commit`: the reaction is part
 * of the commit that records the event, and falls with it.
 */
import {
  beginNow,
  bindUses,
  declareComponent,
  pendingEvent,
  readEvent,
  WorkContext,
  type Component,
  type DurableContext,
  type Event,
  type Handles,
  type Inherit,
  type Invocation,
  type NodePart,
  type NodeServices,
  type Source,
  type StagedEvent,
  type Uses,
  type When,
  type WorkSpec,
  type WriteContext,
} from "../component/index.ts";
import { durationMs, Fault, integerWithin } from "../kernel/index.ts";
import { Feeder, type EventReference } from "./feeder.ts";
import type { Handling, JobRun } from "./job-run.ts";
import { retryOf, type RetrySpec } from "./retry.ts";
import { Worker } from "./worker.ts";

export function subscription<S extends Source<any, any>, U extends Uses = {}, const W extends When = "following">(
  name: string,
  spec: SubscriptionSpec<S, U, W>,
  reactions: Reactions<S, U, W>,
): Subscription & Inherit<U> {
  const {
    to,
    uses,
    when = "following",
    from = "start",
    retry,
    onPoison = "stop-key",
    partitions,
    role = "worker",
    timeout = "30s",
    ...annotations
  } = spec as SubscriptionSpec<S, U, When>;
  const source = to as unknown as Component;
  const settings: Settings = {
    name,
    source,
    uses,
    from,
    onPoison,
    partitions: partitions === undefined ? undefined : integerWithin(partitions, `subscription "${name}": partitions`, { least: 1, most: 4_096 }),
    reactions: reactions as unknown as AnyReactions,
    timeoutMs: durationMs(timeout, `subscription "${name}": timeout`),
    retry: retryOf(retry, `subscription "${name}"`),
  };
  if (onPoison !== "stop-key" && onPoison !== "set-aside")
    throw Fault.create(
      "subscription.bad-option",
      `subscription "${name}": onPoison must be "stop-key" or "set-aside", got ${JSON.stringify(onPoison)}`,
      "Choose one of them.",
    );
  if (from !== "start" && from !== "now")
    throw Fault.create("subscription.bad-option", `subscription "${name}": from must be "start" or "now", got ${JSON.stringify(from)}`, "Choose one of them.");
  const shared = { annotations, uses: uses ?? {}, edge: "follow", follows: [source] } as const;
  if (when === "in-commit") {
    if (partitions !== undefined)
      throw Fault.create(
        "subscription.bad-option",
        `subscription "${name}": partitions divide what follows the commit; it is in-commit, and part of it`,
        "Leave `partitions` out, or make it `following`.",
      );
    const component: Subscription = declareComponent<Subscription>("subscription", name, {
      ...shared,
      role: "any",
      inCommit: { source, react: (event, invocation) => reactInCommit(settings, event, invocation) },
    });
    return component as Subscription & Inherit<U>;
  }
  const component: Subscription = declareComponent<Subscription>("subscription", name, {
    ...shared,
    role,
    takes: typesOf(settings.reactions),
    ...(from === "now" ? { prepare: (node: NodeServices) => beginNow(node, name) } : {}),
    part: (node) => new FollowingSubscription(node, component, settings),
  });
  return component as Subscription & Inherit<U>;
}

export interface SubscriptionSpec<S extends Source<any, any>, U extends Uses, W extends When> extends WorkSpec<U> {
  readonly to: S;
  /** Default `following`. */
  readonly when?: W;
  /** Where it begins when it starts for the first time in the life of the store; default `start`: nothing is missed. */
  readonly from?: "start" | "now";
  /** Default 8 attempts, full jitter from 1s to 5m. */
  readonly retry?: RetrySpec;
  /**
   * What happens to the rest of a key when an event keeps failing: wait for a person (`stop-key`, the default), or set it aside and
   * go on.
   */
  readonly onPoison?: "stop-key" | "set-aside";
  /**
   * Default: order and turns per key. With a number, 1 to 4096, each partition (`partitionOf(key, partitions)`) is one line: at most so
   * many reactions run at once in the whole fleet, and keys of one partition keep one order. Another number is safe at any time: events
   * taken under the old one are worked through first.
   */
  readonly partitions?: number;
}
export type Reactions<S, U extends Uses, W extends When> =
  S extends Source<infer Events, infer Key>
    ? {
        readonly [K in keyof Events & string]?: (
          event: Event<K, Events[K], Key>,
          uses: Handles<U, W extends "in-commit" ? "write" : "durable">,
          context: W extends "in-commit" ? WriteContext : DurableContext,
        ) => void | Promise<void>;
      }
    : never;

export interface Subscription extends Component<"subscription"> {}

type AnyReactions = Readonly<Record<string, ((event: unknown, uses: object, context: DurableContext) => void | Promise<void>) | undefined>>;
interface Settings extends Pick<Handling, "uses" | "timeoutMs" | "retry"> {
  readonly name: string;
  readonly source: Component;
  readonly from: "start" | "now";
  readonly onPoison: "stop-key" | "set-aside";
  readonly partitions: number | undefined;
  readonly reactions: AnyReactions;
}

// ---- as part of the commit ------------------------------------------------------------------------------------------

async function reactInCommit(settings: Settings, event: StagedEvent, invocation: Invocation): Promise<void> {
  const reaction = reactionTo(settings, event.type);
  if (!reaction) return;
  const { clock, observer } = invocation.node;
  const startedMs = clock.monotonicMs();
  let end: "ok" | "fault" = "fault";
  try {
    await reaction(pendingEvent(event, invocation), bindUses(settings.uses, invocation), new WorkContext(invocation));
    end = "ok";
  } finally {
    observer.invoked(settings.name, event.type, end, clock.monotonicMs() - startedMs, 1);
  }
}

// ---- after it -------------------------------------------------------------------------------------------------------

class FollowingSubscription implements NodePart {
  readonly name: string;
  readonly #feeder: Feeder;
  readonly #worker: Worker;

  constructor(node: NodeServices, component: Component, settings: Settings) {
    this.name = `subscription ${settings.name}`;
    const { name, source, reactions, partitions } = settings;
    this.#feeder = new Feeder(node, { subscription: name, source, types: typesOf(reactions), partitions });
    this.#worker = new Worker(node, handlingOf(component, settings, this.#feeder));
  }

  async start(): Promise<void> {
    await this.#worker.start();
    await this.#feeder.start();
  }
  async drain(withinMs: number): Promise<void> {
    await Promise.all([this.#feeder.drain(), this.#worker.drain(withinMs)]);
  }
  async stop(): Promise<void> {
    await this.#feeder.stop();
    await this.#worker.stop();
  }
  async idle(): Promise<boolean> {
    return (await this.#feeder.idle()) && this.#worker.idle();
  }
}

function handlingOf(component: Component, settings: Settings, feeder: Feeder): Handling {
  const { name, source, uses, timeoutMs, retry, onPoison } = settings;
  return {
    component,
    queue: name,
    uses,
    timeoutMs,
    retry,
    concurrency: 16,
    exhausted: onPoison === "stop-key" ? "parked" : "dead",
    operation: (message) => (message as EventReference).type,
    settled: () => feeder.left(),
    async handle(message, handles, context, invocation, run: JobRun) {
      const reference = message as EventReference;
      const reaction = reactionTo(settings, reference.type);
      if (!reaction) return; // the subscription has lost this reaction since
      const { store } = invocation.node;
      const [row] = await store.read.stream(reference.stream, { after: reference.version - 1, limit: 1 });
      if (row?.version !== reference.version)
        throw run.poison(
          Fault.create(
            "subscription.event-gone",
            `event ${reference.version} of ${reference.stream} is not in the log any more, and subscription "${name}" has not handled it`,
            "Cancel the job if the event was erased on purpose.",
          ),
        );
      let event;
      try {
        event = await readEvent(source, row, store.epoch);
      } catch (fault) {
        throw Fault.is(fault) ? run.poison(fault) : fault;
      }
      if (event) await reaction(event, handles, context); // the source no longer knows the type: nobody can read it
    },
  };
}

function typesOf(reactions: AnyReactions): readonly string[] {
  return Object.keys(reactions).filter((type) => reactions[type] !== undefined);
}

function reactionTo({ reactions }: Settings, type: string): AnyReactions[string] {
  return Object.hasOwn(reactions, type) ? reactions[type] : undefined;
}
