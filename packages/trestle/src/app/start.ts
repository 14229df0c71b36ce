/**
 * start: binds an app to engines and runs it. Two starts are two nodes; they share nothing but their engines.
 *
 * Order: open the store, ask it what time it is, prepare every component (settings, migrations, seeds), start what works in the background, listen.
 * Stopping is the reverse, and may be asked for at any time, twice, and before the start is over.
 *
 * Over 400 lines because a node's ways in (commit, staged, transaction, open, fetch) share one life, which starts, drains and stops in order.
 */
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import type { Component, Handles, LimitPlace, Outside, Usable, Uses } from "../component/index.ts";
import { definitionOf, execute, isRefused, Lane, Invocation, StoreClock, type NodePart, bindUses } from "../component/index.ts";
import {
  durationMs,
  Fault,
  jsonLogger,
  lifecycle,
  metricsRegistry,
  systemClock,
  systemRandom,
  uuidv7Ids,
  type Clock,
  type Duration,
  type Lifecycle,
  type Logger,
  type Metrics,
  type Random,
} from "../kernel/index.ts";
import { dependencyOf } from "../external/index.ts";
import { followingStore, type Commit, type SqlConnection, type Store } from "../store/index.ts";
import type { App } from "./app.ts";
import type { DegradationGiven, NodeDegradation } from "./degradation.ts";
import { followChanges, type ChangesOptions, type CommitChange } from "./changes.ts";
import { openCountersAt, openStoreAt, storeUrl, type Engines } from "./engines.ts";
import { live, type Live } from "./live.ts";
import { makeObserver } from "./observer.ts";
import type { HttpServer } from "./server.ts";
import type { ArrivedRequest, Peer } from "../service/index.ts";
import type { Operations } from "./operations.ts";
import { nodeServices, type Services } from "./services.ts";
import { supervised } from "./supervised.ts";

export interface StartOptions extends Engines {
  /** Default: `TRESTLE_ROLES` (names and commas), else every role. `[]` runs nothing in the background and serves nothing: for scripts. */
  readonly roles?: readonly string[];
  /** Default: `PORT`, else any free port, and none for a node without services. 0 to 65535; 0 is any free port. */
  readonly port?: number;
  /** Where to listen; default `HOST`, else `localhost` only. `0.0.0.0` for everyone. */
  readonly host?: string;
  /** Other apps' services, by name. */
  readonly services?: { readonly [name: string]: `http://${string}` | `https://${string}` };
  readonly settings?: { readonly [name: string]: string };
  /** When routes answer with less: the path of a file of policies, or more of it. Default: the path in `TRESTLE_DEGRADATION`, if it is set. */
  readonly degradation?: string | DegradationGiven;
  /** Time and chance, for tests and the simulator. */
  readonly clock?: Clock;
  readonly random?: Random;
  /** Where JSON log lines go; default stderr, `TRESTLE_LOG` sets the level (default `info`). */
  readonly log?: (line: string) => void;
}

export interface Node extends AsyncDisposable {
  /** Where it listens; `""` when it serves nothing. */
  readonly url: string;
  /** Every route, without a socket. */
  fetch(request: Request): Promise<Response>;
  /** Several writes, one commit, outside any handler: scripts, tests, migrations, the glue of another framework. A refusal it returns discards. */
  commit<U extends Uses, T>(uses: U, write: (uses: Handles<U, "write">) => T | Promise<T>): Promise<T>;
  /**
   * The writes as a commit that is not applied: a value, for whoever applies it elsewhere (`stage` of `@trestle/postgres`, inside an ORM's own
   * transaction). What the handles read is among its expectations.
   */
  staged<U extends Uses>(uses: U, write: (uses: Handles<U, "write">) => unknown): Promise<Commit>;
  /** A database transaction that an ORM may share; the handles' writes are applied at its end. Rolled back with `transaction.overran` after `within`, default 250ms. */
  transaction<U extends Uses, T>(
    uses: U,
    work: (uses: Handles<U, "write">, tx: Transaction) => Promise<T>,
    options?: { readonly within?: Duration },
  ): Promise<T>;
  /** A component whose every call is a commit of its own. */
  open<C extends Usable>(component: C): Live<C>;
  /** What each commit wrote, of every kind of state, from a position on, as it happens; ends when the node drains. */
  changes(options?: ChangesOptions): AsyncIterable<CommitChange>;
  /** Everything due now has been done, and nothing is waiting for this node. */
  idle(): Promise<void>;
  /** Takes no new work, and finishes or hands back what it has. */
  drain(within: Duration): Promise<void>;
  stop(): Promise<void>;
}

/** What Kysely, Drizzle and the like need to run their statements in it; adapters know its shape. */
export interface Transaction {
  readonly dialect: "sqlite" | "postgres";
  readonly connection: SqlConnection;
}

/** A node as whoever brings its engines has it. */
export interface NodeInside extends Node {
  /** Every route, as a server asks it: of as much of a request as it has at hand. */
  answer(request: ArrivedRequest, peer: Peer): Promise<Response>;
}

const handlerTimeoutMs = 30_000;

export async function start(app: App, options: StartOptions = {}): Promise<Node> {
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const where = storeUrl(app.name, options, process.env);
  const metrics = metricsRegistry();
  const logger = jsonLogger({ clock, write: options.log ?? ((line) => void process.stderr.write(`${line}\n`)), level: logLevel(process.env["TRESTLE_LOG"]) });
  if (options.port !== undefined) portOf(options.port, "port");
  const components = app.components; // duplicate names show here, before anything is opened
  // A store that is moved away while this node runs is followed to where it went.
  const open = (url: string) => openStoreAt(url, { clock, random });
  const serves = options.roles?.length !== 0 && components.some(({ kind }) => kind === "service");
  // While the store opens in its thread, this one loads what it will listen and answer with: 60 ms of the way to the first answer.
  const [opened] = await Promise.all([open(where.url), ...(serves ? [import("./server.ts"), (serving ??= import("../service/index.ts"))] : [])]);
  const store = followingStore(opened, { clock, open });
  const limitPlace = await openCountersAt(options, process.env, { app: app.name, clock, random }).catch(async (fault: unknown) => {
    await store.close();
    throw fault;
  });
  return startInside(app, options, { store, clock, random, metrics, logger, limitPlace, file: where.file, name: `${app.name} ${process.pid}`, listens: true });
}

/** What a node stands on. Whoever brings it (`start`, the simulator) hands over the store with it. */
export interface Inside {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** The store's, when it has one. */
  readonly file?: string | undefined;
  /** Whose claims and turns these are, for people. */
  readonly name: string;
  /** It may open a socket; else `fetch` is the only way in. */
  readonly listens: boolean;
  /** Stands in for what is outside. */
  readonly outside?: Outside;
  /** Where limits of the fleet are counted; else in the store. Closed with the node. */
  readonly limitPlace?: LimitPlace | undefined;
}

/** A node of the app on what it is given, which it closes when it stops or does not start. */
export async function startInside(app: App, options: StartOptions, inside: Inside): Promise<NodeInside> {
  try {
    return await RunningNode.start(app, app.components, options, inside);
  } catch (fault) {
    await Promise.all([inside.store.close(), inside.limitPlace?.close()]);
    throw fault;
  }
}

/** Loaded when the first node is asked something. For the next one too: to find a module that is there costs more than to answer a request. */
let serving: Promise<typeof import("../service/index.ts")> | undefined;

class RunningNode implements NodeInside {
  readonly #app: App;
  readonly #components: readonly Component[];
  readonly #options: StartOptions;
  readonly #inside: Inside;
  readonly #services: Services;
  readonly #parts: readonly NodePart[];
  readonly #lifecycle: Lifecycle;
  readonly #stopping = new AbortController();
  readonly #draining = new AbortController();
  readonly #startedAtMs: number;
  readonly #degradation: NodeDegradation | undefined;
  #server: HttpServer | undefined;
  #routes: ((request: ArrivedRequest, peer: Peer) => Promise<Response>) | undefined;
  #operations: Promise<Operations> | undefined;
  #stopped: Promise<void> | undefined;

  static async start(app: App, components: readonly Component[], options: StartOptions, inside: Inside): Promise<RunningNode> {
    const given = options.roles?.length === 0 ? undefined : (options.degradation ?? process.env["TRESTLE_DEGRADATION"]);
    const degradation = given === undefined ? undefined : await (await import("./degradation.ts")).degradationOf(given, components);
    const node = new RunningNode(app, components, options, inside, degradation);
    try {
      for (const component of components) checkNeeds(component, inside.store);
      await node.#services.storeClock.ask();
      for (const component of components) await definitionOf(component).prepare?.(node.#services);
      await node.#lifecycle.start();
      await node.#listen();
      node.#tellSupervisor();
      return node;
    } catch (fault) {
      await node.stop().catch(() => undefined); // why it did not start matters more
      throw fault;
    }
  }

  private constructor(app: App, components: readonly Component[], options: StartOptions, inside: Inside, degradation: NodeDegradation | undefined) {
    this.#app = app;
    this.#degradation = degradation;
    this.#components = components;
    this.#options = options;
    this.#inside = inside;
    this.#startedAtMs = inside.clock.wallMs();
    const { store, clock, random, metrics, logger, name, outside } = inside;
    const ids = uuidv7Ids(clock, random);
    const storeClock = new StoreClock(store, clock);
    this.#services = nodeServices({
      app: app.name,
      name,
      components,
      store,
      lane: new Lane(store, clock, { ids, holder: inside.name, storeClock }),
      clock,
      storeClock,
      random,
      ids,
      observer: makeObserver({ metrics, clock, random }),
      logger,
      draining: this.#draining.signal,
      settings: options.settings ?? {},
      services: options.services ?? {},
      outside,
      degradation,
      limitPlace: inside.limitPlace,
    });
    degradation?.attach(this.#services, components);
    this.#parts = components.filter((component) => this.#runs(component)).flatMap((component) => definitionOf(component).part?.(this.#services) ?? []);
    this.#lifecycle = lifecycle(
      [
        ...this.#parts.map((part) => ({
          name: part.name,
          start: () => part.start(),
          drain: (withinMs: number) => part.drain(withinMs),
          stop: () => part.stop(),
        })),
        ...(degradation ? [{ name: degradation.name, start: () => degradation.start(), stop: () => degradation.stop() }] : []),
      ],
      clock,
    );
  }

  get url(): string {
    return this.#server?.url ?? "";
  }

  async fetch(request: Request): Promise<Response> {
    return this.answer(request, {});
  }

  answer(request: ArrivedRequest, peer: Peer): Promise<Response> {
    const isOperation = request.url.startsWith("/_trestle", request.url.indexOf("/", request.url.indexOf("://") + 3));
    return this.#routes && !isOperation ? this.#routes(request, peer) : this.#answerRarely(request, peer);
  }

  async commit<U extends Uses, T>(uses: U, write: (uses: Handles<U, "write">) => T | Promise<T>): Promise<T> {
    const ended = await execute<T>({
      node: this.#services,
      component: this.#script,
      operation: "commit",
      mode: "write",
      uses,
      id: this.#services.ids.next(),
      timeoutMs: handlerTimeoutMs,
      signal: this.#stopping.signal,
      run: (handles) => write(handles as Handles<U, "write">),
      conclude: (answer) => (isRefused(answer) ? { keep: false, end: "refused" } : { keep: true, end: "ok" }),
    });
    if (ended.kind === "answered") return ended.answer;
    throw ended.kind === "failed" ? ended.fault : Fault.create("commit.conflict", "the commit was taken over by another run", "Try again.");
  }

  async staged<U extends Uses>(uses: U, write: (uses: Handles<U, "write">) => unknown): Promise<Commit> {
    const { store, clock } = this.#inside;
    const invocation = this.#apart("staged", { ...this.#services, lane: new Lane(store, clock) }, handlerTimeoutMs);
    try {
      await write(bindUses(uses, invocation) as Handles<U, "write">);
      return await invocation.staged();
    } finally {
      invocation.settle();
    }
  }

  /** An invocation whose writes are not submitted by itself. */
  #apart(operation: string, node: Services, withinMs: number): Invocation {
    const { clock } = this.#inside;
    return new Invocation({
      node,
      mode: "write",
      id: node.ids.next(),
      component: this.#script,
      operation,
      tenant: undefined,
      principal: undefined,
      attempt: 1,
      startedAtMs: clock.wallMs(),
      deadlineMs: clock.monotonicMs() + withinMs,
      signal: this.#stopping.signal,
    });
  }

  async transaction<U extends Uses, T>(
    uses: U,
    work: (uses: Handles<U, "write">, tx: Transaction) => Promise<T>,
    options: { readonly within?: Duration } = {},
  ): Promise<T> {
    const { store, clock } = this.#inside;
    const withinMs = options.within === undefined ? 250 : durationMs(options.within, "transaction: within");
    return store.transaction(async (connection) => {
      // A lane of its own: it alone is in the store, so what others have staged waits for it, and nothing of theirs can be rested on.
      const node = { ...this.#services, lane: new Lane(store, clock) };
      const invocation = this.#apart("transaction", node, withinMs);
      try {
        const result = await work(bindUses(uses, invocation) as Handles<U, "write">, { dialect: store.dialect, connection });
        const unread = invocation.unreadRefusal();
        if (unread !== undefined)
          throw Fault.create(
            "outcome.refusal-unread",
            `a transaction ended without looking at a refusal: ${unread}`,
            "Look at `.ok` of what the command answered, and say what then.",
          );
        return { result, commit: await invocation.staged() };
      } finally {
        invocation.settle();
      }
    }, withinMs);
  }

  open<C extends Usable>(component: C): Live<C> {
    const inert = component as unknown as Component;
    if (!this.#components.includes(inert)) {
      throw Fault.create(
        "app.component-not-listed",
        `${inert.kind} "${inert.name}" is not part of app "${this.#app.name}"`,
        "List it in app([...]), or something that uses it.",
      );
    }
    return live(this.#services, inert, this.#stopping.signal) as Live<C>;
  }

  changes(options: ChangesOptions = {}): AsyncIterable<CommitChange> {
    return followChanges(this.#inside.store, this.#components, this.#draining.signal, options);
  }

  async idle(): Promise<void> {
    for (let quiet = 0; quiet < 2 && !this.#stopping.signal.aborted;) {
      const idle = await Promise.all(this.#parts.map((part) => part.idle?.() ?? Promise.resolve(true)));
      quiet = idle.every(Boolean) && this.#inside.store.stats().waiting === 0 ? quiet + 1 : 0;
      // Between two looks everything that is ready runs, so "idle twice" means that nobody woke anybody.
      await new Promise<void>((resolve) => this.#inside.clock.soon(resolve));
    }
  }

  async drain(within: Duration): Promise<void> {
    const withinMs = durationMs(within, "drain: within");
    this.#draining.abort();
    this.#server?.drain(this.#inside.clock);
    await Promise.all([this.#lifecycle.drain(withinMs), this.#server?.settled(withinMs, this.#inside.clock)]);
  }

  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    this.#draining.abort();
    this.#stopping.abort(Fault.create("node.stopped", `node of app "${this.#app.name}" was stopped`, "Start it again, or ask another node."));
    try {
      await this.#server?.close();
      await this.#lifecycle.stop();
    } finally {
      if (this.#inside.file !== undefined && this.#server) removeOwnNote(`${this.#inside.file}.node.json`);
      await Promise.all([this.#inside.store.close(), this.#inside.limitPlace?.close()]);
      supervised()?.over();
    }
  }

  async #listen(): Promise<void> {
    const { file, listens } = this.#inside;
    if (!listens) return;
    // A node without services listens only when it is told where: a worker then has its health, metrics and console too.
    const serves = this.#components.some((component) => this.#serves(component));
    // One port for several processes is for those of them that serve.
    if (!serves && (this.#options.port === undefined || (supervised() && this.#components.some(({ kind }) => kind === "service")))) return;
    const { listen } = await import("./server.ts");
    const port = supervised()?.port ?? this.#options.port ?? portOf(process.env["PORT"] ?? 0, "PORT");
    this.#server = await listen((request, peer) => this.answer(request, peer), { port, host: this.#options.host ?? process.env["HOST"] ?? "localhost" });
    // Where the CLI finds the node that holds the store.
    if (file !== undefined)
      writeFileSync(
        `${file}.node.json`,
        `${JSON.stringify({ url: this.#server.url, pid: process.pid, startedAt: new Date(this.#startedAtMs).toISOString() })}\n`,
      );
  }

  /** Ready; and from now on what the others ask of this process is answered. */
  #tellSupervisor(): void {
    const process = supervised();
    process?.tells(async () => (await this.#loadOperations()).says());
    process?.ready(this.url);
  }

  #loadOperations(): Promise<Operations> {
    return (this.#operations ??= import("./operations.ts").then(({ operations }) => operations(this.#view())));
  }

  async #answerRarely(request: ArrivedRequest, peer: Peer): Promise<Response> {
    if (new URL(request.url).pathname.startsWith("/_trestle")) {
      const answer = await (await this.#loadOperations())(request.asRequest?.() ?? (request as Request), peer);
      if (answer) return answer;
    }
    const { serviceRoutes } = await (serving ??= import("../service/index.ts"));
    this.#routes ??= serviceRoutes(
      this.#components.filter((component) => this.#serves(component)),
      this.#services,
    );
    return this.#routes(request, peer);
  }

  #view() {
    return {
      app: this.#app.name,
      graph: this.#app.graph,
      node: this.#services,
      metrics: this.#inside.metrics,
      roles: this.#roles,
      startedAtMs: this.#startedAtMs,
      phase: () => this.#lifecycle.state,
      process: supervised(),
      degradation: this.#degradation,
      dependencies: this.#components.filter(({ kind }) => kind === "external").map((external) => ({ name: external.name, ...dependencyOf(external) })),
    };
  }

  /** It has routes, and this node answers them. A contract has none: its implementation does. */
  #serves(component: Component): boolean {
    const { implements: contract, open } = definitionOf(component);
    return (contract ?? component).kind === "service" && !open && this.#runs(component);
  }

  get #roles(): readonly string[] | undefined {
    return this.#options.roles ?? process.env["TRESTLE_ROLES"]?.split(",").map((role) => role.trim());
  }

  #runs(component: Component): boolean {
    const roles = this.#roles;
    const { role } = definitionOf(component);
    return roles === undefined || (role === "any" ? roles.length > 0 : roles.includes(role));
  }

  get #script(): Component {
    return { kind: "script", name: "(script)" }; // no component can have this name
  }
}

function checkNeeds(component: Component, store: Store): void {
  for (const [need, restsOn] of Object.entries(definitionOf(component).needs ?? {})) {
    const lacking = restsOn.filter((guarantee) => !store.guarantees.has(guarantee));
    if (lacking.length > 0)
      throw Fault.create(
        "app.guarantee-missing",
        `${component.kind} "${component.name}" needs ${need}; the store (${store.engine}) lacks ${lacking.join(", ")}`,
        "Choose a store that has it, or drop the need.",
        { details: { component: component.name, need, lacking } },
      );
  }
}

function portOf(given: string | number, option: string): number {
  const port = Number(given);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw Fault.create(
    "http.bad-port",
    `${option} must be an integer from 0 to 65535, got ${typeof given === "number" ? given : JSON.stringify(given)}`,
    "Choose a free port, or 0 for any.",
  );
}

function logLevel(text: string | undefined): "debug" | "info" | "warn" | "error" {
  if (text === undefined) return "info";
  if (text === "debug" || text === "info" || text === "warn" || text === "error") return text;
  throw Fault.create("log.bad-level", `TRESTLE_LOG must be debug, info, warn or error, got ${JSON.stringify(text)}`, "Set one of them.");
}

/** Of several processes on one store the last one has written it. */
function removeOwnNote(path: string): void {
  try {
    if ((JSON.parse(readFileSync(path, "utf8")) as { pid?: unknown }).pid === process.pid) unlinkSync(path);
  } catch {
    // somebody tidied up before us
  }
}
