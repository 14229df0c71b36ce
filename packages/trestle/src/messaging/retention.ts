/**
 * Retention of a topic: what is older than `keepFor`, or beyond the last `keepLast` of its key, is archived and removed, in small steps.
 *
 * A step reads what may go, hands it to `archive`, and then removes it in one commit with the place this has come to. So nothing is removed
 * that the archive has not taken; after a crash in between it is handed over again, under the same event ids. Of several nodes one wins each
 * step: the commit expects the place it began from. Versions and positions go on from where they were (`log.keeps-head`).
 *
 * Nothing goes that a follower of this app has still to see: neither what lies behind its position, nor what its jobs refer to that wait, run
 * or are kept for a person. A follower that stands still therefore holds retention back; that is seen in the topic's log line.
 */
import { decode, definitionOf, encode, positionKey, readEvent, type AnyEvent, type Component, type NodePart, type NodeServices } from "../component/index.ts";
import { Fault, mintedAtMs, type Timer } from "../kernel/index.ts";
import { storeKey, type EventRow, type JobState, type Position, type StoreKey, type Write } from "../store/index.ts";

const stepEvents = 256;
const lookEveryMsMax = 60_000;

export interface RetentionRule {
  readonly topic: Component;
  readonly keepForMs: number | undefined;
  readonly keepLast: number | undefined;
  readonly archive: ((events: readonly AnyEvent<Record<string, unknown>, string | number>[]) => Promise<void> | void) | undefined;
}

export class Retention implements NodePart {
  readonly name: string;
  readonly #node: NodeServices;
  readonly #rule: RetentionRule;
  readonly #key: StoreKey;
  #working: Promise<void> | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(node: NodeServices, rule: RetentionRule) {
    this.name = `retention of topic ${rule.topic.name}`;
    this.#node = node;
    this.#rule = rule;
    this.#key = retentionKey(rule.topic.name);
  }

  start(): Promise<void> {
    this.#look();
    return Promise.resolve();
  }

  drain(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#working;
  }

  #look(): void {
    if (this.#stopped) return;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#stopped) return;
      const { keepForMs = lookEveryMsMax } = this.#rule;
      this.#timer = this.#node.clock.after(Math.max(1_000, Math.min(lookEveryMsMax, keepForMs / 10)), () => this.#look());
    });
  }

  async #work(): Promise<void> {
    try {
      while (!this.#stopped && (await this.#step()));
    } catch (fault) {
      if (Fault.is(fault, "store.closed")) return;
      this.#node
        .log(this.#rule.topic.name, { traceparent: undefined, tenant: undefined })
        .error("old events could not be archived and removed; it tries again", { fault: String(fault) });
    }
  }

  /** `true`: there may be more to do now. */
  async #step(): Promise<boolean> {
    const { store, ids } = this.#node;
    const { topic, archive, keepForMs } = this.#rule;
    const [row] = await store.read.records([this.#key]);
    const place = row && (decode(row.value) as Place);
    const after: Position = { epoch: store.epoch, position: place?.position ?? 0 };
    const page = await store.read.log({ after, components: [topic.name], limit: stepEvents });
    if (page.next.position === after.position) return false;
    const { rows, next } = await this.#goes(page.events, page.next, await this.#seenByAll());
    if (next === after.position && rows.length === 0) return false;
    if (archive && rows.length > 0) {
      const events = [];
      for (const one of rows) {
        const event = await readEvent(topic, one, store.epoch);
        if (event) events.push(event);
      }
      await archive(events);
    }
    const upTo = new Map<StoreKey, number>();
    for (const { stream, version } of rows) upTo.set(stream, Math.max(version, upTo.get(stream) ?? 0));
    const writes: Write[] = [...upTo].map(([stream, version]) => ({ kind: "trim", stream, upTo: version }));
    // By age, what lies before the last one removed is gone whole: a reader who asks for it is told.
    const removedTo = keepForMs === undefined ? 0 : (rows.at(-1)?.position ?? place?.removedTo ?? 0);
    writes.push({ kind: "put", key: this.#key, value: encode({ epoch: store.epoch, position: next, removedTo } satisfies Place, "place of a retention") });
    await store.commit({ id: ids.next(), expects: [{ kind: "record", key: this.#key, version: row?.version ?? 0 }], writes });
    // Refused: another node was quicker, and goes on.
    return true;
  }

  /** What of a page, or of the keys it touches, may be removed now, and the place to go on from. */
  async #goes(events: readonly EventRow[], end: Position, seen: Seen): Promise<{ readonly rows: readonly EventRow[]; readonly next: number }> {
    const { store, storeClock } = this.#node;
    const { keepForMs, keepLast } = this.#rule;
    const isSeen = (row: EventRow) => row.position <= seen.position && (mintedAtMs(row.id) ?? row.atMs) < seen.mintedBeforeMs;
    if (keepForMs !== undefined) {
      const cutoffMs = storeClock.earliestMs() - keepForMs;
      const stop = events.findIndex((row) => row.atMs > cutoffMs || !isSeen(row));
      const rows = stop < 0 ? events : events.slice(0, stop);
      return { rows, next: stop < 0 ? end.position : (rows.at(-1)?.position ?? (events[0] as EventRow).position - 1) };
    }
    const rows: EventRow[] = [];
    for (const stream of new Set(events.map((row) => row.stream))) {
      const last = (await store.read.streamVersion(stream)) - (keepLast as number);
      const old = last <= 0 ? [] : await store.read.stream(stream, { after: 0, before: last + 1, limit: stepEvents });
      const stop = old.findIndex((row) => !isSeen(row));
      rows.push(...(stop < 0 ? old : old.slice(0, stop)));
      // More of this key than one step takes, or not yet seen: the place stays, and the next look goes on here.
      if (stop >= 0 || old.length === stepEvents || rows.length >= stepEvents) return { rows, next: (events[0] as EventRow).position - 1 };
    }
    return { rows, next: end.position };
  }

  /** How far everybody who follows in this app has come, and what they are still at work on. */
  async #seenByAll(): Promise<Seen> {
    const { store, followers } = this.#node;
    const { topic } = this.#rule;
    const { epoch, position: head } = await store.read.head();
    let [position, mintedBeforeMs] = [head, Number.POSITIVE_INFINITY];
    for (const follower of followers(topic)) {
      const [row] = await store.read.records([positionKey(follower.name)]);
      const types = definitionOf(follower).takes ?? [];
      for (let after: Position = { epoch, position: row ? (decode(row.value) as Position).position : 0 }; ;) {
        const page = await store.read.log({ after, components: [topic.name], types, limit: 1 });
        const [unseen] = page.events;
        if (unseen) position = Math.min(position, unseen.position - 1);
        if (unseen || page.atEnd) break;
        after = page.next;
      }
      if (follower.kind !== "subscription") continue;
      for (const state of atWork) {
        const [job] = await store.read.jobs({ queue: follower.name, state, limit: 1 });
        if (job) mintedBeforeMs = Math.min(mintedBeforeMs, mintedAtMs(job.id) ?? 0);
      }
    }
    return { position, mintedBeforeMs };
  }
}

interface Place extends Position {
  readonly removedTo: number;
}

function retentionKey(topic: string): StoreKey {
  return storeKey("~retention", undefined, topic);
}

/** A reader that goes on after this position has missed nothing: else `log.trimmed`. */
export async function assertRetained(node: NodeServices, topic: string, { position }: Position): Promise<void> {
  const [row] = await node.store.read.records([retentionKey(topic)]);
  const removedTo = row ? (decode(row.value) as Place).removedTo : 0;
  if (removedTo > position)
    throw Fault.create(
      "log.trimmed",
      `topic "${topic}" has been kept from position ${removedTo + 1} on; a reader asked to go on after ${position}`,
      "Start from `start`, the oldest event kept, or read the archive first.",
      { details: { topic, asked: position, keptFrom: removedTo + 1 } },
    );
}

const atWork: readonly JobState[] = ["waiting", "running", "parked", "undetermined"];

interface Seen {
  readonly position: number;
  readonly mintedBeforeMs: number;
}
