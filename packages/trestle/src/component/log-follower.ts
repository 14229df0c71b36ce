/**
 * Following a source behind a durable position: what a subscription's feeder and a following projection share. A step reads the next
 * events, asks its owner what they mean as writes, and commits those writes with the new position, so each event is taken once,
 * whatever dies.
 *
 * Of several nodes one goes ahead. The position's record names its holder and until when; each step of the holder extends that. The others
 * rest until then, or until the holder says that it goes, and no longer than a hold after they last saw the position move: the holder's clock may be an hour ahead. The hold only saves work that would be refused: what keeps a step from being done
 * twice is the record's version, which every step expects (the fence). So clocks that differ between nodes cost time, never an event.
 *
 * States: `idle` (at the end of the log; a change wakes it), `working` (a batch is read, turned into writes, committed), `resting` (another
 * node holds it), `stopped`.
 */
import { Fault, sleep, type Timer } from "../kernel/index.ts";
import { storeKey, type EventRow, type Position, type StoreKey, type Write } from "../store/index.ts";
import { decode, encode } from "./codec.ts";
import type { Component } from "./component.ts";
import type { NodePart } from "./definition.ts";
import type { NodeServices } from "./node.ts";

/** A holder that died is followed by another node after this long. Each step extends it. */
const holdMs = 1_000;

export interface LogFollowing {
  /** `subscription` or `projection`, for people. */
  readonly kind: string;
  /** Names its position: the follower's name. */
  readonly name: string;
  readonly source: Component;
  /** Only these; the store does not hand out the others. */
  readonly types: readonly string[];
  /** Events of a step at the most. */
  batch(): number;
  /** What the commit that goes past these events writes. */
  writes(events: readonly EventRow[], position: Position): Promise<readonly Write[]> | readonly Write[];
  /** Resolves when it can take more. Answers `false` to look again where it stands. */
  room?(): Promise<void>;
  /** May it go on with what was taken under this layout? `false`: rest, and ask again later. */
  mayTake?(layout: number): Promise<boolean>;
  /** How the events are laid out in what is written; remembered with the position. Default 0. */
  readonly layout?: number;
  /** A step could not be committed. `true`: it was seen to, try again at once. */
  failed?(fault: unknown): boolean;
  taken?(writes: number): void;
}

interface Standing {
  readonly position: Position;
  readonly layout: number;
  readonly holder: string | undefined;
  readonly untilMs: number;
  /** Of the position's record. */
  readonly version: number;
}
type StoredPosition = Position & { readonly layout?: number; readonly holder?: string; readonly untilMs?: number };

export function positionKey(follower: string): StoreKey {
  return storeKey("~position", undefined, follower);
}
/** Written by a holder that goes, and read by nobody: the change wakes who rests. */
function handOverKey(follower: string): StoreKey {
  return storeKey("~hand-over", undefined, follower);
}

export class LogFollower implements NodePart {
  readonly name: string;
  readonly #node: NodeServices;
  readonly #following: LogFollowing;
  readonly #stopped = new AbortController();
  #working: Promise<void> | undefined;
  #again = false;
  /** Where it stands; forgotten when another node turns out to have gone on. */
  #standing: Standing | undefined;
  /** When this node first saw the position at this version, on its own clock. */
  #seen: { readonly version: number; readonly atMs: number } | undefined;
  #rest: Timer | undefined;
  #forget: (() => void) | undefined;

  constructor(node: NodeServices, following: LogFollowing) {
    this.name = `${following.kind} ${following.name}`;
    this.#node = node;
    this.#following = following;
  }

  start(): Promise<void> {
    const prefix = `${this.#following.source.name}/`;
    const handOver = handOverKey(this.#following.name);
    this.#forget = this.#node.store.onChange(({ keys }) => {
      if (keys.includes(handOver)) this.lookAgain();
      else if (keys.some((key) => key.startsWith(prefix))) this.#wake();
    });
    this.#wake();
    return Promise.resolve();
  }

  drain(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#forget?.();
    this.#rest?.cancel();
    const first = !this.#stopped.signal.aborted;
    this.#stopped.abort();
    await this.#working;
    if (first) await this.#handOver();
  }

  async idle(): Promise<boolean> {
    if (this.#stopped.signal.aborted) return true;
    if (this.#working || this.#again) return false;
    const standing = await this.#stand();
    const { position } = standing;
    if (this.#heldElsewhereForMs(standing) > 0) return true;
    const { source, types } = this.#following;
    for (let after = position; ;) {
      const { events, next, atEnd } = await this.#node.store.read.log({ after, components: [source.name], types, limit: 1 });
      if (events.length > 0) break;
      if (atEnd) return true;
      after = next;
    }
    this.#wake();
    return false;
  }

  get signal(): AbortSignal {
    return this.#stopped.signal;
  }

  /** Something has changed that it rests on: the other holder has gone, or there is room. */
  lookAgain(): void {
    this.#standing = undefined;
    this.#wake();
  }

  #wake(): void {
    if (this.#stopped.signal.aborted) return;
    this.#again = true;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#again && !this.#stopped.signal.aborted) this.#wake();
    });
  }

  async #work(): Promise<void> {
    const { signal } = this.#stopped;
    for (let failures = 0; this.#again && !signal.aborted;) {
      this.#again = false;
      try {
        while (!signal.aborted && !(await this.#step())) failures = 0;
      } catch (fault) {
        if (Fault.is(fault, "store.closed")) return;
        this.#again = true;
        if (this.#following.failed?.(fault)) continue;
        failures += 1;
        this.#standing = undefined;
        this.#node
          .log(this.#following.name, { traceparent: undefined, tenant: undefined })
          .error(`${this.name} could not go on in the log; it tries again`, { fault: String(fault), failures });
        await sleep(this.#node.clock, Math.min(30_000, 100 * 2 ** failures), signal).catch(() => undefined);
      }
    }
  }

  /** One batch; `true` when there is nothing to do for now. */
  async #step(): Promise<boolean> {
    const { store } = this.#node;
    const { source, types, layout = 0 } = this.#following;
    await this.#following.room?.();
    const standing = await this.#stand();
    const { position, version } = standing;
    const heldForMs = this.#heldElsewhereForMs(standing);
    if (heldForMs > 0) return this.#restFor(heldForMs);
    const page = await store.read.log({ after: position, components: [source.name], types, limit: this.#following.batch() });
    if (page.next.position === position.position) return true;
    if (page.events.length === 0 && page.atEnd) {
      // Nothing to remember durably: another start looks at these events again.
      this.#standing = { ...standing, position: page.next };
      return true;
    }
    if (standing.layout !== layout && position.position > 0 && !(await this.#following.mayTake?.(standing.layout))) return this.#restFor(holdMs);
    const writes = page.events.length === 0 ? [] : await this.#following.writes(page.events, page.next);
    const untilMs = Math.floor(this.#node.storeClock.latestMs()) + holdMs;
    const next: Standing = { position: page.next, layout, holder: this.#node.id, untilMs, version };
    const outcome = await store.commit({
      id: this.#node.ids.next(),
      expects: [{ kind: "record", key: positionKey(this.#following.name), version }],
      writes: [...writes, this.#positionWrite(next)],
    });
    if (!outcome.ok) {
      this.#standing = undefined;
      return false;
    }
    this.#standing = { ...next, version: outcome.n };
    this.#following.taken?.(writes.length);
    return page.atEnd;
  }

  #heldElsewhereForMs({ holder, untilMs, version }: Standing): number {
    const { clock, storeClock, id } = this.#node;
    const leftMs = untilMs - storeClock.earliestMs();
    if (holder === undefined || holder === id || leftMs <= 0) return 0;
    const nowMs = clock.monotonicMs();
    if (this.#seen?.version !== version) this.#seen = { version, atMs: nowMs };
    return Math.max(0, Math.min(leftMs, this.#seen.atMs + holdMs - nowMs));
  }

  /** Sleeps without keeping anybody waiting; a hand-over ends it sooner. */
  #restFor(ms: number): true {
    this.#rest?.cancel();
    this.#rest = this.#node.clock.after(Math.max(1, ms), () => this.lookAgain());
    return true;
  }

  async #stand(): Promise<Standing> {
    if (this.#standing) return this.#standing;
    const { store } = this.#node;
    const { kind, name, layout = 0 } = this.#following;
    const [row] = await store.read.records([positionKey(name)]);
    const stored: StoredPosition = row ? (decode(row.value) as StoredPosition) : { epoch: store.epoch, position: 0, layout };
    if (stored.epoch !== store.epoch) {
      // The history was cut (restore, promotion). This position lies in the same store and was cut with it, so it still names
      // what has been taken; only one that lies beyond the end cannot be believed.
      const head = await store.read.head();
      if (stored.position > head.position) {
        throw Fault.create(
          "log.diverged",
          `${kind} "${name}" stands at ${stored.epoch}-${stored.position}; the log of epoch ${head.epoch} ends at ${head.position}`,
          "Restore position and log together, or set the position by hand; a projection without position and rows is folded again.",
        );
      }
    }
    return (this.#standing = {
      position: { epoch: store.epoch, position: stored.position },
      layout: stored.layout ?? 0,
      holder: stored.holder,
      untilMs: stored.untilMs ?? 0,
      version: row?.version ?? 0,
    });
  }

  #positionWrite({ position, layout, holder, untilMs }: Standing): Write {
    const stored: StoredPosition = { ...position, ...(layout === 0 ? {} : { layout }), ...(holder === undefined ? {} : { holder, untilMs }) };
    return { kind: "put", key: positionKey(this.#following.name), value: encode(stored, "position") };
  }

  /** Lets go at once, so that nobody waits for the end of the hold. Only who holds it, and only as a courtesy. */
  async #handOver(): Promise<void> {
    const { storeClock, ids, store } = this.#node;
    const standing = this.#standing;
    if (standing?.holder !== this.#node.id || standing.untilMs <= storeClock.earliestMs()) return;
    await store
      .commit({
        id: ids.next(),
        expects: [{ kind: "record", key: positionKey(this.#following.name), version: standing.version }],
        writes: [
          this.#positionWrite({ ...standing, holder: undefined }),
          { kind: "put", key: handOverKey(this.#following.name), value: encode(true, "hand-over"), expiresAtMs: Math.ceil(storeClock.latestMs()) + 60_000 },
        ],
      })
      .catch(() => undefined); // the store closes: the hold runs out
  }
}

/** The first start in the life of the store fixes where a follower begins, before anything else runs. */
export async function beginNow(node: NodeServices, follower: string): Promise<void> {
  const key = positionKey(follower);
  const [row] = await node.store.read.records([key]);
  if (row) return;
  const { epoch, position } = await node.store.read.head();
  // Refused when another node was first: then its position stands.
  await node.store.commit({
    id: node.ids.next(),
    expects: [{ kind: "record", key, version: 0 }],
    writes: [{ kind: "put", key, value: encode({ epoch, position }, "position") }],
  });
}
