/**
 * The ladders of a node: its policies, from a file that is followed or as they are given; the signals they look at; what is held by hand, which is one record of the store, so that
 * every process of the app holds the same; and who is told of changes.
 */
import type { Component, NodeServices } from "../component/index.ts";
import {
  checkHold,
  followPolicies,
  Ladders,
  readPolicies,
  rulesOf,
  type FollowedFile,
  type KnownFlaws,
  type Policies,
  type RouteRules,
  type RouteState,
  type Rung,
} from "../degradation/index.ts";
import { dependencyOf } from "../external/index.ts";
import { eventLoopLoad, Fault, systemClock, type Clock, type Ids, type Timer } from "../kernel/index.ts";
import { admittedLately, admittingOf, rungsOf } from "../service/index.ts";
import { storeKey, type Store } from "../store/index.ts";

export interface DegradationGiven {
  /** The path of a file of policies (YAML or JSON), which is followed, or the policies themselves. */
  readonly policies: string | Policies;
  /** How full things are, 0 to 1, for triggers that name them: `{ pool: () => inUse / size }`. `event-loop`, and each external with `concurrency`, are there already. */
  readonly saturation?: { readonly [name: string]: () => number };
}

/** What an app shows of its ladders. */
export interface DegradationView {
  /** `undefined`: they were given as data. */
  readonly file: string | undefined;
  /** Why the newest version of the file is not in force, in one of its processes at least. */
  readonly refused: string | undefined;
  readonly routes: readonly RouteView[];
}
/** Each process finds by itself on which rung a route stands. Of several the one that is furthest down is shown. */
export interface RouteView extends RouteState {
  /** Of an app with supervised processes: how many stand on which rung. */
  readonly processes?: Readonly<Partial<Record<Rung, number>>>;
}

const heldKey = storeKey("~degradation", undefined, "held");
const lookEveryMs = 1_000;
/** The event loop's load is that of the latest second. */
const loopMs = 1_000;
const holdTriesMax = 10;

/** What policies say that this app has not: routes, rungs without code, externals, fullness. */
export function flawsFor(components: readonly Component[], saturations: readonly string[]): KnownFlaws {
  const rungs = rungsOf(components);
  const externals = components.filter(({ kind }) => kind === "external");
  const admitting = admittingOf(components);
  const full = ["event-loop", ...saturations, ...externals.filter((external) => dependencyOf(external).has("saturation")).map(({ name }) => name)];
  return (rules) =>
    rules.flatMap(({ route, ladder, triggers }) => {
      const path = ["routes", route];
      const has = rungs.get(route);
      if (!has) return [{ path, rule: `is no operation of this app; it has ${[...rungs.keys()].join(", ") || "none"}` }];
      const bare = ladder.filter((rung) => !has.has(rung));
      return [
        ...bare.map((rung) => ({
          path: [...path, "ladder", ladder.indexOf(rung)],
          rule: `is ${rung}, for which the code of ${route} has nothing (degrade: { ${rung}: … })`,
        })),
        ...triggers.flatMap(({ kind, of }, at) => {
          const where = [...path, "when", at, kind];
          if (kind === "burn") return [];
          if (kind === "saturation") return full.includes(of) ? [] : [{ path: where, rule: `must be one of ${full.join(", ")}, got ${of}` }];
          if (kind === "admission")
            return admitting.has(of)
              ? []
              : [{ path: where, rule: `must be a service with admission (${[...admitting.keys()].join(", ") || "this app has none"}), got ${of}` }];
          const external = externals.find(({ name }) => name === of);
          if (!external)
            return [{ path: where, rule: `must be an external of this app (${externals.map(({ name }) => name).join(", ") || "it has none"}), got ${of}` }];
          return dependencyOf(external).has(kind)
            ? []
            : [{ path: where, rule: `must be an external with a ${kind === "health" ? "health check" : kind}, and ${of} has none` }];
        }),
      ];
    });
}

/** `undefined`: it was given none. Faults: `degradation.no-file`, `degradation.bad-policy`. */
export async function degradationOf(given: DegradationGiven | string, components: readonly Component[]): Promise<NodeDegradation> {
  const { policies, saturation = {} } = typeof given === "string" ? { policies: given } : given;
  const known = flawsFor(components, Object.keys(saturation));
  if (typeof policies !== "string")
    return new NodeDegradation({ file: undefined, stamp: "", rules: rulesOf(policies, "degradation", undefined, known), known, saturation });
  return new NodeDegradation({ file: policies, ...(await readPolicies(policies, known)), known, saturation });
}

interface Given {
  readonly file: string | undefined;
  readonly stamp: string;
  readonly rules: readonly RouteRules[];
  readonly known: KnownFlaws;
  readonly saturation: Readonly<Record<string, () => number>>;
}

/** Part of a node: made before it, told of it, started and stopped with it. */
export class NodeDegradation {
  readonly name = "degradation";
  readonly #given: Given;
  #ladders: Ladders | undefined;
  #node: NodeServices | undefined;
  #followed: FollowedFile | undefined;
  #timer: Timer | undefined;
  #stopped = false;
  #heldText = "{}";

  constructor(given: Given) {
    this.#given = given;
  }

  /** The ladder of an operation; none before the node is there. */
  of(route: string) {
    return this.#ladders?.of(route);
  }

  /** Which node it is part of. Before it starts. */
  attach(node: NodeServices, components: readonly Component[]): void {
    this.#node = node;
    const dependencies = new Map(components.filter(({ kind }) => kind === "external").map((external) => [external.name, dependencyOf(external)]));
    const admitting = admittingOf(components);
    const { saturation } = this.#given;
    this.#ladders = new Ladders(this.#given.rules, {
      clock: node.clock,
      signals: {
        breaker: (external) => dependencies.get(external)?.breaker(node),
        health: (external) => {
          const status = dependencies.get(external)?.health(node)?.status;
          return status === "unknown" ? undefined : status;
        },
        saturation: (name) =>
          Object.hasOwn(saturation, name)
            ? saturation[name]?.()
            : name === "event-loop"
              ? loopUtilization(node.clock)
              : dependencies.get(name)?.saturation(node),
        admission: (service) => {
          const admits = admitting.get(service);
          return admits && admittedLately(admits, node);
        },
      },
      onChange: ({ route, from, to, why, mode }) => {
        const [component, operation] = route.split(".") as [string, string];
        node.observer.degraded?.(component, operation, from, to);
        const log = node.log(component, { traceparent: undefined, tenant: undefined });
        const fields = { operation, from, to, why, mode };
        if (to === "full") log.info(`${route} is whole again`, fields);
        else log.warn(`${route} ${mode === "dark" ? "would answer" : "answers"} with ${to}`, fields);
      },
      onAnswer: (route, rung) => {
        const [component, operation] = route.split(".") as [string, string];
        node.observer.answeredBelow?.(component, operation, rung);
      },
    });
  }

  async start(): Promise<void> {
    const { file, stamp, known } = this.#given;
    const node = this.#node as NodeServices;
    const log = node.log("degradation", { traceparent: undefined, tenant: undefined });
    if (file !== undefined)
      this.#followed = followPolicies(file, stamp, {
        clock: node.clock,
        known,
        onRules: (rules) => {
          this.#ladders?.follow(rules);
          log.info("the policies have changed", { file, routes: rules.length });
        },
        onRefused: ({ code, message, details }) =>
          log.error(`a version of the policies is refused, the last good one stays: ${message}`, { code, flaws: details["flaws"] }),
      });
    const look = async (): Promise<void> => {
      await this.#lookHeld(node.store);
      if (!this.#stopped) this.#timer = node.clock.after(lookEveryMs, () => void look());
    };
    await look(); // what is held is held from the first request on
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#followed?.stop();
  }

  get view(): DegradationView {
    return { file: this.#given.file, refused: this.#followed?.refused?.message, routes: this.#ladders?.states ?? [] };
  }

  /** Holds a route in every process of the app, or lets it go. Faults: `degradation.no-such-route`, `degradation.no-such-rung`, `degradation.hold-contended`. */
  async hold(route: string, rung: string | undefined): Promise<void> {
    const { store, ids } = this.#node as NodeServices;
    checkHold(this.of(route)?.rules, route, rung);
    await holdIn(store, ids, route, rung);
    await this.#lookHeld(store);
  }

  async #lookHeld(store: Store): Promise<void> {
    try {
      const held = await heldIn(store);
      const text = JSON.stringify(held);
      if (text === this.#heldText) return;
      this.#heldText = text;
      this.#ladders?.holdAll(new Map(Object.entries(held)));
    } catch {
      // The store does not answer: what was held stays held.
    }
  }
}

/** What is held by hand, by route. */
export async function heldIn(store: Pick<Store, "read">): Promise<Readonly<Record<string, Rung>>> {
  const [record] = await store.read.records([heldKey]);
  return heldOf(record?.value);
}

/** Fault: `degradation.hold-contended`. */
export async function holdIn(store: Pick<Store, "read" | "commit">, ids: Ids, route: string, rung: Rung | undefined): Promise<void> {
  for (let tries = 0; tries < holdTriesMax; tries++) {
    const [record] = await store.read.records([heldKey]);
    const held = { ...heldOf(record?.value) };
    if (rung === undefined) delete held[route];
    else held[route] = rung;
    const { ok } = await store.commit({
      id: ids.next(),
      expects: [{ kind: "record", key: heldKey, version: record?.version ?? 0 }],
      writes: [{ kind: "put", key: heldKey, value: Buffer.from(JSON.stringify(held)) }],
    });
    if (ok) return;
  }
  throw Fault.create("degradation.hold-contended", `${route} could not be held: others hold routes at the same time`, "Try again.");
}

function heldOf(value: Uint8Array | undefined): Record<string, Rung> {
  return value ? (JSON.parse(Buffer.from(value).toString("utf8")) as Record<string, Rung>) : {};
}

function loopUtilization(clock: Clock): number | undefined {
  return clock === systemClock ? eventLoopLoad(clock.monotonicMs() - loopMs).utilization : undefined;
}
