/** What a node offers to kinds: NodeServices, from its parts. */
import {
  definitionOf,
  type Component,
  type Invocation,
  type Lane,
  type LimitPlace,
  type NodeServices,
  type Observer,
  type Outside,
  type StoreClock,
  type StagedEvent,
} from "../component/index.ts";
import { boundLog, type Clock, type Ids, type Logger, type Random } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";

export interface Services extends NodeServices {}

interface Made {
  readonly app: string;
  readonly name: string;
  readonly components: readonly Component[];
  readonly store: Store;
  readonly lane: Lane;
  readonly clock: Clock;
  readonly storeClock: StoreClock;
  readonly random: Random;
  readonly ids: Ids;
  readonly observer: Observer;
  readonly logger: Logger;
  readonly draining: AbortSignal;
  readonly settings: Readonly<Record<string, string>>;
  readonly services: Readonly<Record<string, string>>;
  readonly outside?: Outside | undefined;
  readonly limitPlace?: LimitPlace | undefined;
  readonly degradation?: NodeServices["degradation"];
}
type Reaction = { react(event: StagedEvent, invocation: Invocation): Promise<void> | void };

const none: readonly Reaction[] = [];

export function nodeServices(made: Made): Services {
  const locals = new Map<Component, unknown>();
  const reactions = new Map<Component, Reaction[]>();
  for (const component of made.components) {
    const { inCommit } = definitionOf(component);
    if (!inCommit) continue;
    const known = reactions.get(inCommit.source);
    if (known) known.push(inCommit);
    else reactions.set(inCommit.source, [inCommit]);
  }
  const implementations = new Map<Component, Component>();
  for (const component of made.components) {
    const open = definitionOf(component).implements;
    if (open) implementations.set(open, component);
  }
  const { app, name, store, lane, clock, storeClock, random, ids, observer, logger, draining, settings, services, outside, limitPlace, degradation } = made;
  return {
    app,
    store,
    lane,
    clock,
    storeClock,
    random,
    ids,
    observer,
    draining,
    id: `${name.replace(" ", "-")}-${ids.next().slice(-6)}`,
    log: (component, { invocation }) => boundLog(logger, { app, component, ...(invocation === undefined ? {} : { invocation }) }),
    setting: (name) => own(settings, name) ?? own(process.env, name),
    local<T>(component: Component, make: () => T): T {
      if (!locals.has(component)) locals.set(component, make());
      return locals.get(component) as T;
    },
    inCommit: (source) => reactions.get(source) ?? none,
    followers: (source) => made.components.filter((component) => isFollower(component, source)),
    implementation: (open) => implementations.get(open),
    serviceUrl: (service) => own(services, service),
    outside,
    limitPlace,
    degradation,
  };
}

/** A service may be called `constructor`: only what was given counts. */
function own(given: Readonly<Record<string, string | undefined>>, name: string): string | undefined {
  return Object.hasOwn(given, name) ? given[name] : undefined;
}

function isFollower(component: Component, source: Component): boolean {
  const { takes, follows } = definitionOf(component);
  return takes !== undefined && (follows?.includes(source) ?? false);
}
