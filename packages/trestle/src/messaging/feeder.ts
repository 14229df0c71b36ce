/**
 * Moves new events of a source from the log into a subscription's own queue, a job per event that has a reaction. The jobs and the
 * position behind them are one commit, so each event becomes one job, whatever dies. Two nodes may feed one subscription: the
 * position's version lets one of them write each step.
 *
 * States: `idle` (at the end of the log; a change wakes it), `feeding`, `full` (so many jobs wait that feeding pauses; a look
 * every second, or a job that leaves here, goes on), `stopped`.
 */
import { decode, encode, traceOf, type Component, type NodePart, type NodeServices } from "../component/index.ts";
import { Fault, sleep, uuidv7Named, mintedAtMs } from "../kernel/index.ts";
import { storeKey, type EventRow, type Position, type StoreKey, type Write } from "../store/index.ts";
import { seal } from "./envelope.ts";

const batchEvents = 256;
/** Jobs that wait in the subscription's queue before feeding pauses. */
export const backlogJobsMax = 4_096;
const fullLookMs = 1_000;

/** What a job of a subscription carries: where its event lies in the log. */
export interface EventReference {
  readonly stream: StoreKey;
  readonly version: number;
  readonly type: string;
}

export interface Feed {
  readonly subscription: string;
  readonly source: Component;
  concerns(type: string): boolean;
}

/** The position record's version, and how far this node has looked since. */
interface Cursor {
  readonly version: number;
  readonly position: Position;
}

export function positionKey(follower: string): StoreKey {
  return storeKey("~position", undefined, follower);
}

export class Feeder implements NodePart {
  readonly name: string;
  readonly #node: NodeServices;
  readonly #feed: Feed;
  readonly #stopped = new AbortController();
  #working: Promise<void> | undefined;
  #again = false;
  #waitingJobs = 0;
  /** Where it stands; forgotten when another node turns out to have gone on. */
  #cursor: Cursor | undefined;
  #full: (() => void) | undefined;
  #forget: (() => void) | undefined;

  constructor(node: NodeServices, feed: Feed) {
    this.name = `feed of subscription ${feed.subscription}`;
    this.#node = node;
    this.#feed = feed;
  }

  start(): Promise<void> {
    const prefix = `${this.#feed.source.name}/`;
    this.#forget = this.#node.store.onChange(({ keys }) => {
      if (keys.some((key) => key.startsWith(prefix))) this.#wake();
    });
    this.#wake();
    return Promise.resolve();
  }

  drain(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#forget?.();
    this.#stopped.abort();
    this.#full?.();
    await this.#working;
  }

  async idle(): Promise<boolean> {
    if (this.#stopped.signal.aborted) return true;
    if (this.#working || this.#again) return false;
    const { position } = await this.#stand();
    if ((await this.#node.store.read.log({ after: position, components: [this.#feed.source.name], limit: 1 })).events.length === 0) return true;
    this.#wake();
    return false;
  }

  /** A job of the subscription has left this node. */
  left(): void {
    if (this.#waitingJobs > 0) this.#waitingJobs -= 1;
    if (this.#full && this.#waitingJobs <= backlogJobsMax / 2) this.#full();
  }

  #wake(): void {
    this.#again = true;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#again && !this.#stopped.signal.aborted) this.#wake();
    });
  }

  async #work(): Promise<void> {
    for (let failures = 0; this.#again && !this.#stopped.signal.aborted;) {
      this.#again = false;
      try {
        while (!this.#stopped.signal.aborted && !(await this.#step())) failures = 0;
      } catch (fault) {
        if (Fault.is(fault, "store.closed")) return;
        this.#again = true;
        failures += 1;
        this.#node
          .log(this.#feed.subscription, { traceparent: undefined, tenant: undefined })
          .error("events could not be moved to the subscription; it tries again", { fault: String(fault), failures });
        await sleep(this.#node.clock, Math.min(30_000, 100 * 2 ** failures), this.#stopped.signal).catch(() => undefined);
      }
    }
  }

  /** One batch; `true` at the end of the log. */
  async #step(): Promise<boolean> {
    const { store } = this.#node;
    await this.#room();
    const { version, position } = await this.#stand();
    const page = await store.read.log({ after: position, components: [this.#feed.source.name], limit: batchEvents });
    if (page.next.position === position.position) return true;
    const jobs = page.events.filter((row) => this.#feed.concerns(row.type)).map((row) => this.#job(row));
    if (jobs.length === 0 && page.atEnd) {
      // Nothing to remember durably: another start looks at these events again.
      this.#cursor = { version, position: page.next };
      return true;
    }
    const outcome = await store.commit({
      id: this.#node.ids.next(),
      expects: [{ kind: "record", key: positionKey(this.#feed.subscription), version }],
      writes: [...jobs, { kind: "put", key: positionKey(this.#feed.subscription), value: encode(page.next, "position") }],
    });
    this.#cursor = outcome.ok ? { version: outcome.n, position: page.next } : undefined;
    if (outcome.ok) this.#waitingJobs += jobs.length;
    return outcome.ok && page.atEnd;
  }

  #job(row: EventRow): Write {
    const { subscription, source } = this.#feed;
    const event: EventReference = { stream: row.stream, version: row.version, type: row.type };
    const tenantAndKey = row.stream.slice(source.name.length + 1);
    const encoded = tenantAndKey.slice(0, tenantAndKey.indexOf("/"));
    const tenant = encoded === "" ? undefined : decodeURIComponent(encoded);
    return {
      kind: "enqueue",
      job: {
        // The same for this event and this subscription, always: calls made for it carry the same keys.
        id: uuidv7Named(mintedAtMs(row.id) ?? Math.floor(row.atMs), `${subscription} ${row.id}`),
        queue: subscription,
        key: tenantAndKey,
        priority: 1,
        ...(tenant === undefined ? {} : { group: tenant }),
        payload: seal(event, { tenant, by: undefined, trace: traceOf(row) }, `event of subscription "${subscription}"`),
      },
    };
  }

  async #stand(): Promise<Cursor> {
    if (this.#cursor) return this.#cursor;
    const { store } = this.#node;
    const [row] = await store.read.records([positionKey(this.#feed.subscription)]);
    const position = row ? (decode(row.value) as Position) : { epoch: store.epoch, position: 0 };
    if (position.epoch !== store.epoch) {
      // The history was cut (restore, promotion). This position lies in the same store and was cut with it, so it still names
      // what has been fed; only one that lies beyond the end cannot be believed.
      const head = await store.read.head();
      if (position.position > head.position) {
        throw Fault.create(
          "log.diverged",
          `subscription "${this.#feed.subscription}" stands at ${position.epoch}-${position.position}; the log of epoch ${head.epoch} ends at ${head.position}`,
          "Restore position and log together, or set the subscription's position by hand.",
        );
      }
    }
    return (this.#cursor = { version: row?.version ?? 0, position: { epoch: store.epoch, position: position.position } });
  }

  /** Waits while too many jobs wait. */
  async #room(): Promise<void> {
    while (this.#waitingJobs >= backlogJobsMax && !this.#stopped.signal.aborted) {
      this.#waitingJobs = (await this.#node.store.read.queue(this.#feed.subscription)).waiting;
      if (this.#waitingJobs < backlogJobsMax) return;
      await new Promise<void>((resolve) => {
        const timer = this.#node.clock.after(fullLookMs, resolve);
        this.#full = () => {
          timer.cancel();
          resolve();
        };
      });
      this.#full = undefined;
    }
  }
}
