/**
 * The world of a simulation: one time, and hosts that live in it. JavaScript is deterministic between two completions of something outside, so whoever
 * owns every completion owns the schedule: each is an *event* here, events happen one after the other, and between two of them every
 * promise that can settle does.
 *
 * Order: by time in whole microseconds, then by a draw from the world's chance, then by creation. So what happens at one instant happens in an
 * order that the seed decides, and the same seed gives the same order.
 *
 * A host is `up`, `paused` (its events wait until it goes on, or until the one before is over on a slow processor) or `down`. What runs on it between two crashes is a *life*: its clock, its chance and
 * its events. A crash ends the life: its events are dropped, so nothing it awaited ever comes, and no `finally` of it runs.
 */
import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import type { Exchange, Exchanged } from "../component/index.ts";
import { seededRandom, TaskHeap, uuidv7Ids, whenSettled, type Clock, type HeapEntry, type Ids, type Random, type Timer } from "../kernel/index.ts";

export interface WorldEvent extends HeapEntry {
  /** Whole microseconds since the world began. */
  atUs: number;
  /** When it was set off. */
  readonly sinceUs: number;
  readonly tie: number;
  readonly order: number;
  /** Whose it is: dropped with that life. `undefined` for the world's own. */
  readonly life: Life | undefined;
  readonly label: string;
}

export interface WorldOptions {
  /** Everything follows from it. */
  readonly seed: string;
  /** Told of each event before it happens. */
  readonly onEvent?: (event: WorldEvent, nowMs: number) => void;
}

/** What the hosts' clocks show at the beginning: 2024-01-01T00:30:00Z. */
export const startWallMs = 1_704_069_000_000;
/** Immediates that are set at once: Node runs them in one turn of its loop, with every promise settled in between, in a third of the time of a turn each. */
const armedMax = 64;

/** The life that the running code belongs to. */
const slot = new AsyncLocalStorage<Life>();
export const currentLife = (): Life | undefined => slot.getStore();
/** The slot with this in it, to be entered again and again: `slot.run` makes a new context for each event, which is most of what an event costs. */
const entryTo = (life: Life | undefined): AsyncResource => slot.run(life as Life, () => new AsyncResource("life"));

export class World {
  readonly seed: string;
  readonly hosts = new Map<string, Host>();
  /** Where its own events come among those of their instant. Each host has a stream of its own, so that what is left out in one place changes little elsewhere. */
  readonly #order: Random;
  readonly #events = new TaskHeap<WorldEvent>((a, b) => (a.atUs !== b.atUs ? a.atUs < b.atUs : a.tie !== b.tie ? a.tie < b.tie : a.order < b.order));
  readonly #onEvent: WorldOptions["onEvent"];
  #nowUs = 0;
  #happened = 0;
  #hash = 0x811c_9dc5;
  #count = 0;
  #armed = 0;
  #run: { readonly until: () => boolean; readonly done: (error?: unknown) => void } | undefined;
  #held = 0;
  readonly #entry = entryTo(undefined);

  constructor({ seed, onEvent }: WorldOptions) {
    this.seed = seed;
    this.#order = seededRandom(`${seed} order`);
    this.#onEvent = onEvent;
  }

  get nowMs(): number {
    return this.#nowUs / 1_000;
  }
  /** Events that have happened. */
  get happened(): number {
    return this.#happened;
  }
  /** Of every event so far, in its order: equal for two runs that went the same way. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  /** Of each life that waits for timers: how many, and when the next one is due. */
  timers(): ReadonlyMap<Life, { readonly count: number; readonly nextMs: number }> {
    const found = new Map<Life, { count: number; nextMs: number }>();
    for (const { life, label, atUs } of this.#events.entries()) {
      if (!life?.alive || label !== "timer") continue;
      const { count, nextMs } = found.get(life) ?? { count: 0, nextMs: Infinity };
      found.set(life, { count: count + 1, nextMs: Math.min(nextMs, atUs / 1_000) });
    }
    return found;
  }

  host(name: string): Host {
    if (this.hosts.has(name)) throw new Error(`there is a host ${name} already`);
    const host = new Host(this, name, this.hosts.size + 1);
    this.hosts.set(name, host);
    return host;
  }

  /** An event of this life, or of the world itself; `label` is for people and for the hash. */
  at(delayMs: number, life: Life | undefined, label: string, task: () => void): WorldEvent {
    const event: WorldEvent = {
      atUs: this.#nowUs + (delayMs > 0 ? Math.max(1, Math.round(delayMs * 1_000)) : 0),
      sinceUs: this.#nowUs,
      tie: (life?.host.order ?? this.#order).uint32(),
      order: this.#count++,
      life,
      label,
      task,
    };
    this.#events.push(event);
    return event;
  }

  /** Nothing comes of it any more. Safe to call twice, and after it happened. */
  cancel(event: WorldEvent): void {
    event.task = undefined;
  }

  /** Something that happened without an event of its own (an answer, a draw) becomes part of the hash. */
  note(text: string): void {
    let hash = this.#hash;
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193);
    this.#hash = hash;
  }

  /** Lets events happen until `until` holds, or none is left. Rejects with what an event threw. */
  run(until: () => boolean): Promise<void> {
    if (this.#run) throw new Error("the world runs already");
    return new Promise((resolve, reject) => {
      this.#run = {
        until,
        done: (error) => {
          this.#run = undefined;
          if (error === undefined) resolve();
          else reject(error as Error);
        },
      };
      this.#arm();
    });
  }

  /** Nothing happens until `work` has settled: for looks at the world that need promises of their own. A rejection ends the run. */
  hold(work: Promise<unknown>): void {
    this.#held++;
    work.then(
      () => {
        this.#held--;
        if (this.#armed === 0) this.#arm();
      },
      (error: unknown) => {
        this.#held--;
        this.#run?.done(error);
      },
    );
  }

  #arm(): void {
    for (; this.#armed < armedMax; this.#armed++) whenSettled(this.#step);
  }

  readonly #step = (): void => {
    this.#armed--;
    const run = this.#run;
    if (!run || this.#held > 0) return;
    if (run.until()) return run.done();
    const event = this.#events.pop();
    if (!event) return run.done();
    if (this.#armed === 0) this.#arm();
    const { life } = event;
    if (life) {
      if (!life.alive) return;
      const free = life.host.pausedUntilUs;
      if (free > event.atUs) {
        event.atUs = free;
        this.#events.push(event);
        return;
      }
    }
    this.#nowUs = Math.max(this.#nowUs, event.atUs);
    this.#happened++;
    this.#mark(event);
    life?.host.worked();
    this.#onEvent?.(event, this.nowMs);
    try {
      const task = event.task as () => void;
      event.task = undefined;
      if (life) life.run(task);
      else this.#entry.runInAsyncScope(task);
    } catch (error) {
      run.done(error);
    }
  };

  #mark({ life, label }: WorldEvent): void {
    let hash = Math.imul(this.#hash ^ (this.#nowUs | 0), 0x0100_0193);
    hash = Math.imul(hash ^ ((this.#nowUs / 4_294_967_296) | 0) ^ ((life?.host.index ?? 0) << 16), 0x0100_0193);
    // Labels are few and long: their length and ends tell them apart well enough, and the order is theirs.
    hash = Math.imul(hash ^ (label.length << 8) ^ label.charCodeAt(label.length - 1) ^ (label.charCodeAt(0) << 16), 0x0100_0193);
    this.#hash = hash;
  }
}

/** A machine of the world, or a program outside of it: what can crash by itself. */
export class Host {
  readonly name: string;
  readonly index: number;
  readonly world: World;
  /** Where its events come among those of their instant. */
  readonly order: Random;
  #life: Life | undefined;
  #lives = 0;
  #pausedUntilUs = 0;
  /** Which each of its events takes. */
  #eventUs = 0;
  /** What its clock shows beyond the world's time. */
  #skewMs = 0;
  /** How much faster its clocks go: 0.001 is a millisecond a second. */
  #drift = 0;
  #driftFromMs = 0;
  #driftedMs = 0;

  constructor(world: World, name: string, index: number) {
    this.world = world;
    this.name = name;
    this.index = index;
    this.order = seededRandom(`${world.seed} order of ${name}`);
  }

  get life(): Life | undefined {
    return this.#life;
  }
  /** Until then its events wait. */
  get pausedUntilUs(): number {
    return this.#pausedUntilUs;
  }

  /** It has time for it: an event of the world becomes one of this host. */
  takesUp(life: Life, task: () => void): void {
    this.worked();
    life.run(task);
  }

  get isPaused(): boolean {
    return this.#pausedUntilUs > this.world.nowMs * 1_000;
  }

  /** Begins a life. `main` is its first event. */
  boot(main: (life: Life) => void): Life {
    if (this.#life) throw new Error(`${this.name} is up already`);
    const life = new Life(this, ++this.#lives);
    this.#life = life;
    this.#pausedUntilUs = 0;
    this.world.at(0, life, "boot", () => main(life));
    return life;
  }

  /** Ends its life, wherever it is. */
  crash(): void {
    const life = this.#life;
    this.#life = undefined;
    life?.end();
  }

  /** It stands still, and its clocks go on: a long collection, a stopped process, a frozen container. */
  pause(forMs: number): void {
    this.#pausedUntilUs = Math.max(this.#pausedUntilUs, Math.round((this.world.nowMs + forMs) * 1_000));
  }

  /** The pause is over. */
  goOn(): void {
    this.#pausedUntilUs = Math.min(this.#pausedUntilUs, Math.round(this.world.nowMs * 1_000));
  }

  /** From now on each of its events takes so long, and no other one of it happens meanwhile: a processor that is slow, or that others use. 0: none does. */
  slowDown(eventMs: number): void {
    this.#eventUs = Math.round(eventMs * 1_000);
  }
  /** One of its events happens. */
  worked(): void {
    if (this.#eventUs > 0) this.#pausedUntilUs = Math.max(this.#pausedUntilUs, Math.round(this.world.nowMs * 1_000) + this.#eventUs);
  }

  /** Its wall clock jumps, as by NTP or an administrator. */
  jumpWall(byMs: number): void {
    this.#skewMs += byMs;
  }
  /** From now on its clocks go faster by this part, or slower. */
  drift(part: number): void {
    this.#driftedMs = this.#extraMs();
    this.#driftFromMs = this.world.nowMs;
    this.#drift = part;
  }
  #extraMs(): number {
    return this.#driftedMs + (this.world.nowMs - this.#driftFromMs) * this.#drift;
  }

  wallMs(): number {
    return Math.round((startWallMs + this.world.nowMs + this.#extraMs() + this.#skewMs) * 1_000) / 1_000;
  }
  monotonicMs(): number {
    return Math.round((this.world.nowMs + this.#extraMs()) * 1_000) / 1_000;
  }
  /** How long a span of its clock takes in the world. */
  worldMs(spanMs: number): number {
    return spanMs / (1 + this.#drift);
  }
}

/** From one boot of a host to its crash: what production code is given for time, chance and identity. */
export class Life {
  readonly host: Host;
  /** 1 for the host's first. */
  readonly number: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  /** What `fetch` is in its code. */
  fetch: typeof globalThis.fetch = () => Promise.reject(new TypeError("fetch failed: this host has no network"));
  /** How its typed clients ask services elsewhere. */
  exchange: (asked: Exchange) => Promise<Exchanged> = () => Promise.reject(new TypeError("fetch failed: this host has no network"));
  #alive = true;
  readonly #onEnd = new Set<() => void>();
  readonly #entry = entryTo(this);

  constructor(host: Host, number: number) {
    this.host = host;
    this.number = number;
    const { world } = host;
    const bornMs = host.monotonicMs();
    this.random = seededRandom(`${world.seed} ${host.name} ${number}`);
    this.clock = {
      wallMs: () => host.wallMs(),
      monotonicMs: () => host.monotonicMs() - bornMs,
      after: (delayMs, task): Timer => {
        const event = world.at(host.worldMs(delayMs), this, "timer", task);
        return { cancel: () => world.cancel(event) };
      },
      // Whoever waits in turns of `soon` would wait at one instant for ever.
      soon: (task) => void world.at(0.001, this, "soon", task),
    };
    this.ids = uuidv7Ids(this.clock, this.random);
  }

  get alive(): boolean {
    return this.#alive;
  }
  get name(): string {
    return `${this.host.name}#${this.number}`;
  }
  /** Runs `work` as this life, now. */
  run<T>(work: () => T): T {
    return this.#entry.runInAsyncScope(work);
  }

  onEnd(listener: () => void): () => void {
    this.#onEnd.add(listener);
    return () => void this.#onEnd.delete(listener);
  }

  end(): void {
    this.#alive = false;
    for (const listener of this.#onEnd) listener();
    this.#onEnd.clear();
  }
}
