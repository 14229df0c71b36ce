/**
 * Moves new events of a source from the log into a subscription's own queue, a job per event that has a reaction. The jobs and the
 * position behind them are one commit, so each event becomes one job, whatever dies; see LogFollower for who feeds when several nodes run.
 *
 * A job's key is that of its event, so the queue keeps order per key and hands each key to one node at a time. With `partitions` it is the
 * event's partition, `hash(key) mod partitions`. Under another number keys meet others; so feeding waits until what was fed under
 * the old one has been worked through, and then goes on under the new one. No event is moved or fed twice.
 *
 * So many jobs may wait before feeding pauses; a look every second, or a job that leaves here, goes on.
 */
import { carriedBy, LogFollower, type Component, type LogFollowing, type NodePart, type NodeServices } from "../component/index.ts";
import { uuidv7Named, mintedAtMs, partitionOf } from "../kernel/index.ts";
import type { EventRow, StoreKey, Write } from "../store/index.ts";
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
  readonly types: readonly string[];
  /** `undefined`: order and turns per key. */
  readonly partitions: number | undefined;
}

export class Feeder implements NodePart {
  readonly name: string;
  readonly #node: NodeServices;
  readonly #feed: Feed;
  readonly #follower: LogFollower;
  #waitingJobs = 0;
  #full: (() => void) | undefined;
  #changingLayout = false;

  constructor(node: NodeServices, feed: Feed) {
    this.#node = node;
    this.#feed = feed;
    const { subscription, source, types, partitions } = feed;
    const following: LogFollowing = {
      kind: "subscription",
      name: subscription,
      source,
      types,
      layout: partitions ?? 0,
      batch: () => batchEvents,
      writes: (events) => events.map((row) => this.#job(row)),
      room: () => this.#room(),
      mayTake: () => this.#isWorkedThrough(),
      taken: (jobs) => {
        this.#waitingJobs += jobs;
        this.#changingLayout = false;
      },
    };
    this.#follower = new LogFollower(node, following);
    this.name = `feed of ${this.#follower.name}`;
  }

  start(): Promise<void> {
    return this.#follower.start();
  }

  drain(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    const stopping = this.#follower.stop();
    this.#full?.();
    await stopping;
  }

  idle(): Promise<boolean> {
    return this.#follower.idle();
  }

  /** A job of the subscription has left this node. */
  left(): void {
    if (this.#waitingJobs > 0) this.#waitingJobs -= 1;
    if (this.#full && this.#waitingJobs <= backlogJobsMax / 2) this.#full();
    if (this.#changingLayout) this.#follower.lookAgain();
  }

  #job(row: EventRow): Write {
    const { subscription, source, partitions } = this.#feed;
    const event: EventReference = { stream: row.stream, version: row.version, type: row.type };
    const tenantAndKey = row.stream.slice(source.name.length + 1);
    const slash = tenantAndKey.indexOf("/");
    const tenant = slash === 0 ? undefined : decodeURIComponent(tenantAndKey.slice(0, slash));
    return {
      kind: "enqueue",
      job: {
        // The same for this event and this subscription, always: calls made for it carry the same keys.
        id: uuidv7Named(mintedAtMs(row.id) ?? Math.floor(row.atMs), `${subscription} ${row.id}`),
        queue: subscription,
        key: partitions === undefined ? tenantAndKey : `partition ${partitionOf(tenantAndKey.slice(slash + 1), partitions)} of ${partitions}`,
        priority: 1,
        // A partition is one line of many tenants: there is no share to give each.
        ...(tenant === undefined || partitions !== undefined ? {} : { group: tenant }),
        payload: seal(event, { tenant, by: undefined, cause: row.id, ...carriedBy(row) }, `event of subscription "${subscription}"`),
      },
    };
  }

  /** Nothing that was fed under another number of partitions can still run beside what is fed now. */
  async #isWorkedThrough(): Promise<boolean> {
    const { waiting, running, parked, undetermined } = await this.#node.store.read.queue(this.#feed.subscription);
    this.#changingLayout = waiting + running + parked + undetermined > 0;
    return !this.#changingLayout;
  }

  /** Waits while too many jobs wait. */
  async #room(): Promise<void> {
    while (this.#waitingJobs >= backlogJobsMax && !this.#follower.signal.aborted) {
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
