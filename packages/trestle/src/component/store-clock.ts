/**
 * The store's clock, as a node can know it. What the store judges (when a job is due, a record expires, a lease ends) is told to it as an
 * instant of its own clock, and this machine's may be an hour wrong.
 *
 * The store tells its time with every claim. It was read between asking and hearing, so each answer bounds from both sides how far the store is
 * ahead of this process's monotonic clock, and where it agrees with what was known, both narrow each other (F. Cristian, "Probabilistic clock
 * synchronization", 1989). To take it for the time at which it was heard is not enough: it may have waited, on the network or because this process
 * stood still, and then the store seems as much behind. Where it contradicts what was known, one of the clocks was set, and the newer counts.
 *
 * While the machine sleeps the monotonic clock stands still, and the store is as much further ahead: a lease of a minute would be over when it is written. The wall clock, which goes
 * on, shows that something was; what the machine has slept is then known from its uptime, because a step of the wall clock looks the same from here. Either way what was heard before is doubted, and the
 * store is asked. Not seen: a virtual machine that was stopped from outside, whose own clocks all stood still, until its wall clock is set; and what clocks drift between two answers, 7 ms at the most
 * (500 ppm of 15 s), which is within what leases allow for. What is written on a wrong idea of the time is refused all the same where somebody else has written: every lease is a version too.
 */
import { emptyContext, inContext, type Clock } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";

/** How far wrong a clock may go by itself, as a share of the time that passes. Quartz stays within 0.0002; what was known is doubted sooner rather than later. */
const driftMax = 0.05;
/** Who claims hears from the store more often than that; for who does not, the next one who wants to know has it asked. */
const staleMs = 15_000;
/** An answer that took longer tells little: it is asked again, a few times. */
const quickMs = 100;
const askedMost = 3;
/** By so much the wall clock has to step, or the machine to have slept, to be noticed. */
const jumpMs = 100;
/** What a machine has slept is known to this. */
const sleptWithinMs = 1_000;
/** A claim needs one. Nobody sends to it. */
const noQueue = "~clock";

/** How far the store's clock is ahead of the monotonic one, at least and at most. */
interface Ahead {
  readonly leastMs: number;
  readonly mostMs: number;
  /** When that was so, on the monotonic clock. */
  readonly atMs: number;
}

export class StoreClock {
  readonly #store: Store;
  readonly #clock: Clock;
  #ahead: Ahead | undefined;
  /** When the newest answer that counts was asked for. */
  #askedMs = -Infinity;
  #asking: Promise<void> | undefined;
  /** How far the wall clock was ahead of the monotonic one, and how long the machine had slept, when something was last noticed: what was asked before that is doubted. */
  #wall: { readonly aheadMs: number; readonly sleptMs: number; readonly atMs: number };

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#wall = { aheadMs: clock.wallMs() - clock.monotonicMs(), sleptMs: clock.sleptMs?.() ?? 0, atMs: -Infinity };
  }

  /** Asks, once for all who want it. A node does so before it does anything else. Faults: those of `Store.claim`. */
  ask(): Promise<void> {
    return (this.#asking ??= inContext(emptyContext, () => this.#ask()).finally(() => (this.#asking = undefined)));
  }

  async #ask(): Promise<void> {
    for (let times = 1; times <= askedMost; times++) {
      const askedMs = this.#clock.monotonicMs();
      const { nowMs } = await this.#store.claim({ holder: noQueue, leaseMs: 1, queues: [{ queue: noQueue, limit: 0 }] });
      this.heard(nowMs, askedMs);
      if (this.#clock.monotonicMs() - askedMs <= quickMs) return;
    }
  }

  /** The store has answered that it is `nowMs` there, to a question of `askedMs` on the monotonic clock. */
  heard(nowMs: number, askedMs: number): void {
    const heardMs = this.#notice();
    if (this.#ahead && askedMs < Math.max(this.#askedMs, this.#wall.atMs)) return;
    this.#askedMs = askedMs;
    const told = { leastMs: nowMs - heardMs, mostMs: nowMs - askedMs, atMs: heardMs };
    this.#ahead = (this.#ahead && both(this.#ahead, told)) ?? told;
  }

  /** It is no earlier than this there: for what must be over. */
  earliestMs(): number {
    const ahead = this.#known();
    return ahead ? this.#clock.monotonicMs() + ahead.leastMs : this.#clock.wallMs();
  }

  /** It is no later than this there: for what must not begin, or end, too soon. */
  latestMs(): number {
    const ahead = this.#known();
    return ahead ? this.#clock.monotonicMs() + ahead.mostMs : this.#clock.wallMs();
  }

  #known(): Ahead | undefined {
    const nowMs = this.#notice();
    // What it cannot hear now it asks for again the next time.
    if (this.#ahead && (nowMs - this.#askedMs > staleMs || this.#askedMs < this.#wall.atMs)) void this.ask().catch(() => undefined);
    return this.#ahead;
  }

  /** Whether the machine has slept, or its clock was set. It is so late on the monotonic clock. */
  #notice(): number {
    const atMs = this.#clock.monotonicMs();
    const aheadMs = this.#clock.wallMs() - atMs;
    if (Math.abs(aheadMs - this.#wall.aheadMs) <= jumpMs) return atMs;
    const sleptMs = this.#clock.sleptMs?.() ?? 0;
    const forMs = sleptMs - this.#wall.sleptMs;
    this.#wall = { aheadMs, sleptMs, atMs };
    if (this.#ahead && forMs > jumpMs) {
      const { leastMs, mostMs } = this.#ahead;
      this.#ahead = { leastMs: leastMs + Math.max(0, forMs - sleptWithinMs), mostMs: mostMs + forMs + sleptWithinMs, atMs };
    }
    return atMs;
  }
}

/** What both say; `undefined` when they contradict each other. */
function both(before: Ahead, told: Ahead): Ahead | undefined {
  const driftMs = (told.atMs - before.atMs) * driftMax;
  const leastMs = Math.max(told.leastMs, before.leastMs - driftMs);
  const mostMs = Math.min(told.mostMs, before.mostMs + driftMs);
  return leastMs <= mostMs ? { leastMs, mostMs, atMs: told.atMs } : undefined;
}
