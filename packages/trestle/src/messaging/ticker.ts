/**
 * What makes a schedule tick: one job in a queue of the schedule's own, due at the next tick. Its commit ends the job, sends the
 * run, notes the tick in the schedule's record and sends the next ticker, all or nothing. The record's version decides between
 * tickers: however many nodes start the schedule, and whatever dies, a tick happens once.
 *
 * The record `{ fingerprint, anchor, last }`: which rhythm it is, when it began, the last tick that was dealt with. A start with
 * another rhythm begins anew; a ticker of the old one finds another fingerprint, and ends without a successor.
 */
import { decode, encode, type Component, type NodeServices } from "../component/index.ts";
import { Fault, sleep, type Instant } from "../kernel/index.ts";
import { storeKey, type ClaimedJob, type JobEnd, type StoreKey, type Write } from "../store/index.ts";
import { dispatcherOf, type Claimant, type HeldJob } from "./dispatcher.ts";
import { seal, unseal } from "./envelope.ts";
import { errorText } from "./retry.ts";
import type { Ticks } from "./ticks.ts";

export interface Tick {
  /** When it was meant to happen. */
  readonly due: Instant;
  /** Ticks before this one that nobody was there for, and that it stands for; counted up to 999. */
  readonly missed: number;
}

export interface TickerSpec {
  readonly schedule: Component;
  readonly ticks: Ticks;
  readonly overlap: "skip" | "queue" | "allow";
  readonly missed: "once" | "each" | "drop";
}

interface ScheduleRecord {
  readonly fingerprint: string;
  readonly anchor: Instant;
  readonly last: Instant;
}
interface TickerMessage {
  readonly fingerprint: string;
  readonly due: Instant;
}

/** A tick that comes later than this was missed: nothing ran that could have made it. */
const lateMs = 60_000;
/** Ticks dealt with in one commit; the next ticker, due at once, deals with more. */
const ticksPerCommit = 500;
/** Missed ticks are counted up to here. */
const countedTicksMax = 1_000;
const tryAgainMs = 1_000;
const noSender = { tenant: undefined, by: undefined, trace: undefined };

export function tickerQueue(schedule: string): string {
  return `~ticker/${schedule}`;
}

export class Ticker implements Claimant {
  readonly queue: string;
  readonly #node: NodeServices;
  readonly #spec: TickerSpec;
  readonly #key: StoreKey;
  #working = 0;

  constructor(node: NodeServices, spec: TickerSpec) {
    this.queue = tickerQueue(spec.schedule.name);
    this.#node = node;
    this.#spec = spec;
    this.#key = storeKey("~schedule", undefined, spec.schedule.name);
  }

  /** Makes sure that there is a ticker. Many nodes may do so at once. */
  async start(): Promise<void> {
    const { ticks } = this.#spec;
    for (;;) {
      const nowMs = Math.ceil(this.#node.storeClock.earliestMs());
      const [row] = await this.#node.store.read.records([this.#key]);
      const known = row && (decode(row.value) as ScheduleRecord);
      const same = known?.fingerprint === ticks.fingerprint;
      const record: ScheduleRecord = same ? known : { fingerprint: ticks.fingerprint, anchor: nowMs, last: nowMs };
      const due = ticks.after(record.last, record.anchor);
      const outcome = await this.#node.store.commit({
        id: this.#node.ids.next(),
        expects: [{ kind: "record", key: this.#key, version: row?.version ?? 0 }],
        writes: [...(same ? [] : [this.#put(record)]), ...this.#next(due)],
      });
      if (outcome.ok) break;
    }
    dispatcherOf(this.#node).add(this);
  }

  stop(): void {
    dispatcherOf(this.#node).remove(this);
  }

  room(): number {
    return 1 - this.#working;
  }

  take(claim: ClaimedJob): HeldJob {
    this.#working += 1;
    const settled = this.#tick(claim).finally(() => {
      this.#working -= 1;
      dispatcherOf(this.#node).settled(claim.id);
      dispatcherOf(this.#node).roomIn(this);
    });
    // A tick is one commit under the claim's fence: there is nothing to abort.
    return { claim, settled, abort: () => undefined };
  }

  /** Everything taken has begun. */
  handBackWaiting(): void {}

  async #tick(claim: ClaimedJob): Promise<void> {
    const finish = (end: JobEnd): Write => ({ kind: "finish", job: claim.id, fence: claim.fence, end });
    const message = unseal(claim.payload)?.data as TickerMessage | undefined;
    for (let tries = 1; ; tries++) {
      try {
        const [row] = await this.#node.store.read.records([this.#key]);
        const record = row && (decode(row.value) as ScheduleRecord);
        // Of a rhythm that is not the schedule's any more: its successor was sent when the rhythm changed.
        if (!row || !message || record?.fingerprint !== message.fingerprint)
          return void (await this.#node.store.commit({ id: this.#node.ids.next(), expects: [], writes: [finish({ kind: "done" })] }));
        const mine = record.fingerprint === this.#spec.ticks.fingerprint;
        const writes = mine
          ? [finish({ kind: "done" }), ...(await this.#deal(record, message))]
          : [finish({ kind: "later", dueAtMs: this.#nowMs(message) + tryAgainMs, reason: "a node with another rhythm took it" })]; // while versions are rolled out
        const outcome = await this.#node.store.commit({
          id: this.#node.ids.next(),
          expects: [{ kind: "record", key: this.#key, version: row.version }],
          writes,
        });
        // `conflict`: another ticker was first; look again. `fenced`: another node has this one.
        if (outcome.ok || outcome.refused === "fenced") return;
      } catch (fault) {
        if (Fault.is(fault, "store.closed")) return;
        this.#node
          .log(this.#spec.schedule.name, { traceparent: undefined, tenant: undefined })
          .error("a tick could not be made; it tries again", { error: errorText(fault), tries });
        await sleep(this.#node.clock, tryAgainMs * Math.min(tries, 10), this.#node.draining).catch(() => undefined);
        if (this.#node.draining.aborted) return;
      }
    }
  }

  /** The store's clock; it has reached the due time of a ticker that it handed out. */
  #nowMs(message: TickerMessage): number {
    return Math.ceil(Math.max(this.#node.storeClock.earliestMs(), message.due));
  }

  /** What the ticks after `record.last` that are due by now come to: runs, the record, the next ticker. */
  async #deal(record: ScheduleRecord, message: TickerMessage): Promise<readonly Write[]> {
    const { ticks, missed } = this.#spec;
    const nowMs = this.#nowMs(message);
    const due: Instant[] = [];
    const most = missed === "each" ? ticksPerCommit : countedTicksMax;
    for (let next = ticks.after(record.last, record.anchor); next !== undefined && next <= nowMs && due.length < most; next = ticks.after(next, record.anchor))
      due.push(next);
    // Too many to count: go to the latest.
    const latest = missed !== "each" && due.length === most ? ticks.latest(nowMs, record.anchor) : due.at(-1);
    if (latest === undefined) return this.#next(ticks.after(record.last, record.anchor));
    const late = missed === "drop" && nowMs - latest > lateMs;
    const runs: readonly Tick[] = missed === "each" ? due.map((at) => ({ due: at, missed: 0 })) : late ? [] : [{ due: latest, missed: due.length - 1 }];
    return [this.#put({ ...record, last: latest }), ...(await this.#runs(runs)), ...this.#next(ticks.after(latest, record.anchor))];
  }

  async #runs(runs: readonly Tick[]): Promise<readonly Write[]> {
    const { schedule, overlap } = this.#spec;
    if (runs.length === 0) return [];
    if (overlap === "skip") {
      const { waiting, running } = await this.#node.store.read.queue(schedule.name);
      if (waiting + running > 0) {
        this.#node
          .log(schedule.name, { traceparent: undefined, tenant: undefined })
          .info("a tick is skipped: the run before it has not ended", { due: runs.at(-1)?.due });
        return [];
      }
    }
    // `queue`: one after the other. `skip` comes with several only after a pause (`missed: "each"`): these too, one after the other.
    const key = overlap === "queue" ? "run" : overlap === "skip" && runs.length > 1 ? `from ${runs[0]?.due}` : undefined;
    return runs.map((tick): Write => ({
      kind: "enqueue",
      job: {
        id: this.#node.ids.next(),
        queue: schedule.name,
        priority: 1,
        payload: seal(tick, noSender, `tick of schedule "${schedule.name}"`),
        ...(key === undefined ? {} : { key }),
      },
    }));
  }

  #put(record: ScheduleRecord): Write {
    return { kind: "put", key: this.#key, value: encode(record, `record of schedule "${this.#spec.schedule.name}"`) };
  }

  #next(due: Instant | undefined): readonly Write[] {
    if (due === undefined) return [];
    const { fingerprint } = this.#spec.ticks;
    const message: TickerMessage = { fingerprint, due };
    return [
      {
        kind: "enqueue",
        job: { id: this.#node.ids.next(), queue: this.queue, priority: 0, dueAtMs: due, unique: fingerprint, payload: seal(message, noSender, "ticker") },
      },
    ];
  }
}
