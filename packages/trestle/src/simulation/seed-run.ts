/**
 * One seed: one world, from its first event to its verdict.
 *
 * Two phases. *Safety*: clients go on for as long as the scenario says, and what the plan names goes wrong; `always` is checked after everything that
 * became durable. *Liveness*: everything is mended, every node runs, nobody asks for more; within ten minutes of the world's time what is due has to be
 * done and `eventually` has to hold.
 *
 * Everything that can differ between two runs of a seed comes from the seed: order, delays, faults, ids, and what clients do.
 *
 * Over 400 lines because all parts of one world meet here.
 */
import { startInside, type App, type DegradationGiven, type Node, type NodeInside } from "../app/index.ts";
import type { Component, Outside } from "../component/index.ts";
import { Fault, jsonLogger, metricsRegistry, onAssertion, seededRandom, sleep, type Clock } from "../kernel/index.ts";
import type { ArrivedRequest, Peer } from "../service/index.ts";
import type { SqliteStore } from "../sqlite/index.ts";
import type { Store } from "../store/index.ts";
import { blocked } from "./blocked.ts";
import { chanceOf } from "./chance.ts";
import type { Checked } from "./checkers/index.ts";
import type { DiskShelf } from "./disk-shelf.ts";
import { drawFaultPlan, type FaultKind, type FaultPlan } from "./fault-plan.ts";
import { carryOut } from "./fault-driver.ts";
import { lookingStore } from "./looking-store.ts";
import { Network } from "./network.ts";
import { exchangeHere, outsideOf, type Model } from "./outside.ts";
import { patient, reachOf } from "./reach.ts";
import { seedHistory, type SeedHistory } from "./seed-history.ts";
import { carrier, connect, type Carrier } from "./simulated-fetch.ts";
import { storeHandle } from "./store-handle.ts";
import { storeHost, type StoreKind } from "./store-host.ts";
import { isWeather } from "./weather.ts";
import { currentLife, startWallMs, World, type Host, type Life } from "./world.ts";

/** A scenario with everything settled, and the store as it is before the first event. */
export interface Scene {
  readonly app: App;
  readonly uses: Readonly<Record<string, Component>>;
  readonly nodes: number;
  readonly forMs: number;
  readonly outside: readonly Model[];
  readonly faults: readonly FaultKind[];
  readonly clients: number;
  readonly times: number;
  readonly evenly: boolean;
  readonly each: (world: never, chance: ReturnType<typeof chanceOf>, history: SeedHistory) => Promise<void>;
  readonly always: readonly (readonly [promise: string, holds: (world: never, history: SeedHistory) => unknown])[];
  readonly eventually: readonly (readonly [promise: string, holds: (world: never, history: SeedHistory) => unknown])[];
  readonly settings: Readonly<Record<string, string>>;
  readonly degradation: DegradationGiven | undefined;
  readonly store: StoreKind;
  readonly disks: DiskShelf;
}

export interface SeedOptions {
  /** In place of the plan that the seed draws: part of it, when a failure is made smaller. */
  readonly plan?: FaultPlan;
  /** At most so many clients, and each at most so often. */
  readonly clients?: number;
  readonly times?: number;
  /** Told of each event; costs time. */
  readonly onEvent?: (line: TraceLine) => void;
}
export interface TraceLine {
  readonly atMs: number;
  /** When it was set off: of a message, when it was sent. */
  readonly sinceMs: number;
  /** `node-1#2`: the second life of node-1. `""`: the world's own. */
  readonly life: string;
  readonly what: string;
}

export interface SeedResult {
  readonly seed: string;
  readonly failure: SeedFailure | undefined;
  readonly plan: FaultPlan;
  /** Equal for two runs that went the same way. */
  readonly hash: string;
  readonly events: number;
  readonly virtualMs: number;
  readonly calls: { readonly answered: number; readonly failed: number };
  /** Every `sometimes` and `reachable` that was come to, and whether it held. */
  readonly sometimes: ReadonlyMap<string, boolean>;
}
export interface SeedFailure {
  /** `always` and `eventually`: a promise of the scenario. `client`: a client threw what is no fault. `node`: a node could not start. `uncaught`: nobody caught it. */
  readonly kind: "always" | "eventually" | "client" | "node" | "uncaught";
  readonly what: string;
  readonly atMs: number;
  readonly error?: unknown;
  /** What `always` was told, or what a checker found. */
  readonly details?: unknown;
  /** Of what does not hold in the end: who waits, for what, since when. */
  readonly blocked?: readonly string[] | undefined;
}

interface Broken {
  readonly promise: string;
  readonly error?: unknown;
  readonly details?: unknown;
}
/** Of what a checker found, so much is told. */
const problemsTold = 2;

/** Within which everything has to come to rest once the world has healed. */
const restWithinMs = 600_000;
const restartAfterMs = 300;
const lookEveryMs = 250;
/** It has come to rest when nothing was committed for so long: longer than most things that are tried again wait. */
const restMs = 5_000;
/** An app with a schedule never rests: from then on it is looked at all the same. */
const neverRestsMs = 20_000;

export async function runSeed(scene: Scene, seed: string, options: SeedOptions = {}): Promise<SeedResult> {
  return new SeedRun(scene, seed, options).result();
}

class SeedRun {
  readonly #scene: Scene;
  readonly #seed: string;
  readonly #options: SeedOptions;
  readonly #world: World;
  readonly #history: ReturnType<typeof seedHistory>;
  readonly #network: Network;
  readonly #plan: FaultPlan;
  /** When something goes wrong in this seed, whatever part of its plan is carried out. */
  readonly #moments: readonly number[];
  readonly #nodes: Host[] = [];
  readonly #running = new Map<Life, NodeInside>();
  #failure: SeedFailure | undefined;
  #done = false;
  #healed = false;
  /** Clients in a call, and since when. */
  readonly #inCalls = new Map<Life, number>();
  #answered = 0;
  #failed = 0;
  #checking = false;
  /** What promises look at, and how many commits there were when they last did. */
  #open: object | undefined;
  #looked = { store: undefined as Store | undefined, commits: 0 };
  readonly #sometimes = new Map<string, boolean>();

  constructor(scene: Scene, seed: string, options: SeedOptions) {
    this.#scene = scene;
    this.#seed = seed;
    this.#options = options;
    const { onEvent } = options;
    this.#world = new World({
      seed,
      ...(onEvent && { onEvent: ({ life, label, sinceUs }, atMs) => onEvent({ atMs, sinceMs: sinceUs / 1_000, life: life?.name ?? "", what: label }) }),
    });
    this.#history = seedHistory(() => this.#world.nowMs);
    this.#network = new Network(this.#world);
    const names = (name: string, count: number) => Array.from({ length: count }, (_, at) => `${name}-${at + 1}`);
    const plan = drawFaultPlan(chanceOf(seededRandom(`${seed} faults`)), {
      kinds: scene.faults,
      nodes: names("node", scene.nodes),
      clients: names("client", scene.clients),
      withinMs: scene.forMs,
    });
    this.#plan = options.plan ?? plan;
    this.#moments = plan.flatMap(({ atMs, forMs }) => [atMs, Math.min(scene.forMs, atMs + forMs)]);
  }

  async result(): Promise<SeedResult> {
    const { clients, times } = { ...this.#scene, ...this.#options };
    const disk = this.#scene.disks.take();
    const at = storeHost(this.#world, this.#scene.disks.engine, disk, { kind: this.#scene.store });
    const uncaught = (error: unknown): void => this.#fail("uncaught", messageOf(error), error);
    process.on("unhandledRejection", uncaught);
    const unlisten = onAssertion({
      always: (promise, holds, details) => {
        if (!holds) this.#fail("always", promise, undefined, details);
      },
      sometimes: (what, holds) => void this.#sometimes.set(what, holds || this.#sometimes.get(what) === true),
    });
    try {
      at.boot();
      await this.#world.run(() => at.store !== undefined);
      const observer = await this.#observer(() => at.store);
      if (this.#scene.always.length > 0) at.onDurable(() => this.#checkAlways(observer, at.store as SqliteStore | undefined));
      const outside = outsideOf(this.#world, this.#network, this.#scene.outside);
      const start = (host: Host): void =>
        void host.boot((life) => {
          connect(life, this.#carrier(life), this.#network);
          void this.#start(life, () => storeHandle(life, { network: this.#network, at }), outside);
        });
      for (let n = 1; n <= this.#scene.nodes; n++) {
        const host = this.#world.host(`node-${n}`);
        this.#nodes.push(host);
        this.#world.at(5, undefined, `start ${host.name}`, () => start(host));
      }
      for (let n = 1; n <= Math.min(clients, this.#scene.clients); n++) this.#startClient(n, Math.min(times, this.#scene.times), observer);
      const heal = carryOut(this.#plan, { world: this.#world, network: this.#network, at, start });
      const judge = this.#world.host("judge");
      judge.boot((life) => void this.#judge(life, heal, observer, () => at.store));
      await this.#world.run(() => this.#done || this.#failure !== undefined);
      if (!this.#done && !this.#failure)
        this.#fail("eventually", "nothing is left that could happen, and not everything has ended", undefined, undefined, await this.#blocked());
    } catch (error) {
      this.#fail("uncaught", messageOf(error), error);
    } finally {
      process.off("unhandledRejection", uncaught);
      unlisten();
      for (const host of this.#world.hosts.values()) host.crash();
      this.#scene.disks.putBack(disk);
    }
    return {
      seed: this.#seed,
      failure: this.#failure,
      plan: this.#plan,
      hash: this.#world.hash,
      events: this.#world.happened,
      virtualMs: this.#world.nowMs,
      calls: { answered: this.#answered, failed: this.#failed },
      sometimes: this.#sometimes,
    };
  }

  #fail(kind: SeedFailure["kind"], what: string, error?: unknown, details?: unknown, blocked?: readonly string[]): void {
    this.#failure ??= { kind, what, atMs: this.#world.nowMs, error, details, blocked };
  }
  #blocked(store?: Store): Promise<readonly string[]> {
    return blocked({ world: this.#world, network: this.#network, inCalls: this.#inCalls, store });
  }

  // ---- nodes ----------------------------------------------------------------------------------------------------------

  /** As a supervisor would: again and again, as long as it is the weather that keeps it from starting. */
  async #start(life: Life, store: () => Store, outside: ReturnType<typeof outsideOf>): Promise<void> {
    for (;;) {
      try {
        const node = await startInside(
          this.#scene.app,
          { settings: this.#scene.settings, ...(this.#scene.degradation && { degradation: this.#scene.degradation }) },
          {
            store: store(),
            clock: life.clock,
            random: life.random,
            metrics: metricsRegistry(),
            logger: this.#logger(life),
            name: life.name,
            listens: false,
            outside,
          },
        );
        this.#running.set(life, node);
        life.onEnd(() => this.#running.delete(life));
        return;
      } catch (error) {
        if (!isWeather(error)) return this.#fail("node", `${life.name} could not start: ${messageOf(error)}`, error);
      }
      await sleep(life.clock, restartAfterMs);
    }
  }

  #logger(life: Life) {
    const { onEvent } = this.#options;
    const write = onEvent
      ? (line: string) => onEvent({ atMs: this.#world.nowMs, sinceMs: this.#world.nowMs, life: life.name, what: `log ${line.trimEnd()}` })
      : () => undefined;
    return jsonLogger({ clock: life.clock, write, level: onEvent ? "info" : "error" });
  }

  /**
   * A node that runs nothing and looks straight at the store, at no cost of time: for promises, and for the clients' typed calls. The world stands still
   * while it looks, so what it read stands together.
   */
  #observer(store: () => Store | undefined): Promise<Node> {
    const there = (): Store => {
      const open = store();
      if (!open) throw Fault.create("store.unreachable", "the store is down", "Look again when it is up.");
      return open;
    };
    const world = this.#world;
    const clock: Clock = {
      wallMs: () => startWallMs + world.nowMs,
      monotonicMs: () => world.nowMs,
      after: () => ({ cancel: () => undefined }),
      soon: (task) => void Promise.resolve().then(task),
    };
    const random = seededRandom(`${this.#seed} observer`);
    return startInside(
      this.#scene.app,
      { settings: this.#scene.settings, roles: [], services: this.#servicesByUrl() },
      {
        store: lookingStore(there, clock),
        clock,
        random,
        metrics: metricsRegistry(),
        logger: jsonLogger({ clock, write: () => undefined, level: "error" }),
        name: "observer",
        listens: false,
        outside: outsideOfObserver,
      },
    );
  }

  #servicesByUrl(): Record<string, `http://${string}`> {
    return Object.fromEntries(this.#scene.app.components.filter(({ kind }) => kind === "service").map(({ name }) => [name, `http://${name}.app` as const]));
  }

  #carrier(life: Life): Carrier {
    return carrier(life, { network: this.#network, find: (url) => this.#find(url) });
  }

  /** A balancer that knows no health: any node, up or down. */
  #find(url: URL) {
    if (!url.hostname.endsWith(".app")) return undefined;
    const host = this.#nodes[Math.floor((currentLife()?.random.next() ?? 0) * this.#nodes.length)] as Host;
    return {
      host,
      answer: async (life: Life, request: ArrivedRequest, peer: Peer) =>
        (await this.#running.get(life)?.answer(request, peer)) ?? new Response("starting", { status: 503, headers: { "retry-after": "1" } }),
    };
  }

  // ---- clients --------------------------------------------------------------------------------------------------------

  #startClient(n: number, times: number, observer: Node): void {
    const host = this.#world.host(`client-${n}`);
    const { forMs, evenly, each } = this.#scene;
    host.boot((life) => {
      connect(life, patient(life, this.#network, this.#carrier(life)), this.#network);
      const chance = chanceOf(life.random);
      const history = this.#history(host.name);
      const reach = reachOf(this.#scene.uses, { life, network: this.#network, observer, chance, nodes: this.#nodes, running: this.#running });
      // Most requests that nothing happens to show nothing: two of three are asked just before something begins, or ends.
      const moment = (): number =>
        evenly || this.#moments.length === 0 || chance.next() < 0.33 ? chance.next() * forMs : chance.pick(this.#moments) - chance.next() * 20;
      const moments = Array.from({ length: times }, moment).sort((a, b) => a - b);
      void (async () => {
        for (const atMs of moments) {
          await sleep(life.clock, atMs - life.clock.monotonicMs());
          if (this.#healed) return;
          this.#inCalls.set(life, this.#world.nowMs);
          try {
            await each(reach as never, chance, history);
            this.#answered++;
            this.#world.note("answered");
          } catch (error) {
            if (!isWeather(error)) this.#fail("client", `client ${n}: ${messageOf(error)}`, error);
            this.#failed++;
            this.#world.note("failed");
          } finally {
            this.#inCalls.delete(life);
          }
        }
      })();
    });
  }

  // ---- verdicts -------------------------------------------------------------------------------------------------------

  #checkAlways(observer: Node, store: SqliteStore | undefined): void {
    // An open transaction is seen by its own connection only; what it commits is looked at when it is durable.
    if (this.#checking || !store || store.whenNoTransaction() !== undefined) return;
    const { commits } = store.stats();
    if (this.#looked.store === store && this.#looked.commits === commits) return; // a flush of claims
    this.#looked = { store, commits };
    this.#checking = true;
    this.#world.hold(
      this.#broken(this.#scene.always, observer).then((broken) => {
        this.#checking = false;
        if (broken !== undefined) this.#fail("always", broken.promise, broken.error, broken.details);
      }),
    );
  }

  async #broken(promises: Scene["always"], observer: Node): Promise<Broken | undefined> {
    const open = (this.#open ??= Object.fromEntries(Object.entries(this.#scene.uses).map(([name, component]) => [name, observer.open(component as never)])));
    const history = this.#history("judge");
    for (const [promise, holds] of promises) {
      try {
        const answer = await holds(open as never, history);
        if (!answer) return { promise };
        if (answer === true) continue;
        const { verdict, problems } = answer as Checked;
        if (verdict === "violation") return { promise, details: problems.slice(0, problemsTold).map(({ kind, text }) => `${kind}: ${text}`) };
        this.#sometimes.set(promise, verdict === "ok" || this.#sometimes.get(promise) === true);
      } catch (error) {
        return { promise, error };
      }
    }
    return undefined;
  }

  async #judge(life: Life, heal: () => void, observer: Node, store: () => Store | undefined): Promise<void> {
    const commits = () => store()?.stats().commits;
    await sleep(life.clock, this.#scene.forMs);
    this.#healed = true;
    heal();
    const untilMs = this.#world.nowMs + restWithinMs;
    let broken: Broken | undefined;
    let lookAnywayAtMs = this.#world.nowMs + neverRestsMs;
    for (let [restedSinceMs, before] = [this.#world.nowMs, commits()]; ;) {
      await sleep(life.clock, lookEveryMs);
      const now = commits();
      if (now !== before || this.#inCalls.size > 0) [restedSinceMs, before] = [this.#world.nowMs, now];
      const isOver = this.#world.nowMs > untilMs;
      const isRested = this.#world.nowMs - restedSinceMs >= restMs;
      const isPatient = this.#world.nowMs >= lookAnywayAtMs;
      if (isRested || isPatient || isOver) {
        lookAnywayAtMs = this.#world.nowMs + restMs;
        broken = await this.#broken(this.#scene.eventually, observer);
        if (!broken && this.#inCalls.size === 0) return void (this.#done = true);
      }
      if (!isOver) continue;
      const stuck = `after ${restWithinMs / 60_000} minutes without faults ${this.#inCalls.size} calls of clients are not answered`;
      return this.#fail("eventually", broken?.promise ?? stuck, broken?.error, broken?.details, await this.#blocked(store()));
    }
  }
}

/** It runs no handlers, so what it asks are services. */
const outsideOfObserver: Outside = {
  exchange: exchangeHere,
  call: ({ external }) => Promise.reject(new Error(`the observer has called external "${external}"`)),
  lookup: ({ external }) => Promise.reject(new Error(`the observer has called external "${external}"`)),
};

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
