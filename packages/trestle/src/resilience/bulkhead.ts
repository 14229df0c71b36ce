/**
 * A bulkhead: how many calls may run at once, and how many wait for their turn. A place is held until the call has truly ended, not until its caller stopped waiting: otherwise a
 * dependency that hangs gets `running` more calls with every timeout. Who comes when the line is full is declined at once, with the reason and when to come back.
 */
import type { Clock, Random } from "../kernel/index.ts";
import { eventLoopLoad, Fault, integerWithin, numberWithin, oneOf, soonMs, systemClock, systemRandom } from "../kernel/index.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";
import type { AdaptiveOptions } from "./adaptive-limit.ts";
import { declined, waits } from "./gate.ts";
import type { Caller, Gate } from "./gate.ts";
import { acquire } from "./held-place.ts";
import type { Leave, PlaceOptions } from "./held-place.ts";
import type { Place } from "./line-order.ts";
import { gatePolicy } from "./passage.ts";
import type { Policy } from "./policy.ts";
import { WaitingLine } from "./waiting-line.ts";
import type { Order, Refusal } from "./waiting-line.ts";

interface CodelBounds {
  readonly targetMs?: number;
  readonly intervalMs?: number;
}

export interface BulkheadOptions {
  /** For faults. Default `bulkhead`. */
  readonly name?: string;
  /** At most this many, 1 to 1,000,000; `Infinity` only counts. `"adaptive"`, or bounds for it: as many as what is behind it works on (adaptive-limit.ts). */
  readonly running: number | "adaptive" | AdaptiveOptions;
  /**
   * How many may wait, 0 to 10,000,000. `{ from, most }`: above `from` ever more of those who come are declined, at `most` all. Default 0; with an adaptive limit
   * from two to three times the limit; when that sinks, three and a half times as many as it is then go on waiting.
   */
  readonly waiting?: number | { readonly from: number; readonly most: number };
  /** Who is next among those of one priority. Default `fifo`. `fair`: by key, each the same share of the time that places are held. */
  readonly order?: Order;
  /**
   * Whether those who have waited too long in a line that stands are declined (CoDel), and the bounds for it: a target from 0.1 ms to a day, default the longer of 5 ms and the average call;
   * an interval from 1 ms to a day, default 20 times the target. Default: nobody waits too long, as it must be for batches; with an adaptive limit they are declined.
   */
  readonly codel?: boolean | CodelBounds;
  /** Default: the system's. */
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface BulkheadCounts {
  /** Let pass, at once or after waiting. */
  readonly admitted: number;
  /** Put into the line. */
  readonly waited: number;
  /** Left the line: their caller went away or had no time left. */
  readonly left: number;
  readonly declined: Readonly<Record<Refusal, number>>;
}

export interface Bulkhead extends Policy<"bulkhead.full"> {
  readonly name: string;
  /** How many may run. */
  readonly running: number;
  /** Calls that have started and not ended, including those that nobody waits for any more. */
  readonly inFlight: number;
  readonly waiting: number;
  /** Since it was made. */
  readonly counts: BulkheadCounts;
  /** A place without waiting, for who does without a pipeline; call what is returned when the call has ended (twice is once). `undefined`: there is none, or others wait for it. */
  tryEnter(): (() => void) | undefined;
  /** A place, waiting for it if need be (held-place.ts); call what it answers with when it is free again. Faults: as a call; `bulkhead.full`, reason `waited`, after `waitMs`. */
  acquire(options?: PlaceOptions): Promise<Leave>;
  /** Another number of places, from now on. Fewer than are in flight: nobody passes until that many have ended. */
  resize(running: number): void;
}

/** Below this an average call is so short that reading the clock at the end of each would be felt: one of so many is measured. */
const briefMs = 1;
const measuredOf = 32;
const retryAfterMsMax = 30_000;
const costs = { least: 1e-6, most: 1e9 };

/** Faults: `bulkhead.full`, with `details.reason`, the numbers and `details.retryAfterMs`; `option.out-of-range`. */
export function bulkhead(options: BulkheadOptions): Bulkhead {
  const given = (options as BulkheadOptions | null | undefined) ?? ({} as BulkheadOptions);
  const places = new Places(given);
  return Object.defineProperties(gatePolicy("bulkhead", places, given.clock), {
    name: { value: places.name },
    running: { get: () => places.running },
    inFlight: { get: () => places.inFlight },
    waiting: { get: () => places.waiting },
    counts: { get: () => places.counts },
    tryEnter: { value: () => places.tryEnter() },
    acquire: { value: (options?: PlaceOptions) => acquire(places, places.clock, options) },
    resize: { value: (running: number) => places.resize(running) },
  }) as Bulkhead;
}

class Places implements Gate<"bulkhead.full"> {
  readonly refused = "bulkhead.full";
  readonly name: string;
  running: number;
  inFlight = 0;
  /** Only one that adapts listens. */
  readonly answered?: NonNullable<Gate["answered"]>;
  readonly #adaptive: AdaptiveLimit | undefined;
  /** Of one that adapts: calls that were cut off and have not ended. */
  readonly #givenUp: Set<Caller> | undefined;
  readonly #waitingFollows: boolean;
  readonly clock: Clock;
  readonly #line: WaitingLine<Caller>;
  readonly #fair: boolean;
  /** Of calls that had to wait and are running, by token: `fair` charges them when they end. Token 0 is nobody's. */
  readonly #held: (Place | undefined)[] = [undefined];
  readonly #freeTokens: number[] = [];
  #draining = false;
  /** How long a call of cost 1 holds a place on average; 0: not known. */
  #msPerUnit = 0;
  #isBrief = false;
  #unmeasured = 0;
  /** When a place was last given back, or the last one taken: since then nothing has moved. */
  #movedMs = 0;
  #admitted = 0;
  #waited = 0;
  #left = 0;

  constructor(options: BulkheadOptions) {
    this.name = options.name ?? "bulkhead";
    const { running } = options;
    this.clock = options.clock ?? systemClock;
    if (running === "adaptive" || (typeof running === "object" && running !== null))
      this.#adaptive = new AdaptiveLimit({ ...(this.clock === systemClock && { loop: eventLoopLoad }), ...(running === "adaptive" ? {} : running) });
    const adaptive = this.#adaptive;
    this.running = adaptive ? adaptive.limit : runningWithin(running as number);
    if (adaptive) {
      const givenUp = (this.#givenUp = new Set());
      this.answered = (caller, _token, answer) => {
        const nowMs = this.clock.monotonicMs();
        // An answer that came when the time was over is none: what failed sooner has ended.
        const how = answer === "well" ? "well" : answer === "unknown" || caller.untilMs <= nowMs + soonMs ? "cut" : "failed";
        const { size } = givenUp;
        if (how === "cut") givenUp.add(caller);
        if (adaptive.answered(nowMs - caller.startedMs, how, this.inFlight, nowMs, size)) this.#changed(adaptive.limit, nowMs);
      };
    }
    const order = oneOf(options.order ?? "fifo", "bulkhead.order", ["fifo", "lifo", "fair", "deadline"]);
    this.#fair = order === "fair";
    const { codel = this.#adaptive !== undefined } = options;
    this.#line = new WaitingLine({ order, random: options.random ?? systemRandom, codel: codel === true ? {} : codel ? requiredCodel(codel) : undefined });
    const { waiting = this.#adaptive ? undefined : 0 } = options;
    this.#waitingFollows = waiting === undefined;
    if (waiting === undefined) this.#follow();
    else {
      const { from, most } = typeof waiting === "number" ? { from: waiting, most: waiting } : waiting;
      this.#line.most = integerWithin(most, "bulkhead.waiting", { least: 0, most: 10_000_000 });
      this.#line.from = integerWithin(from, "bulkhead.waiting.from", { least: 0, most: this.#line.most });
    }
  }

  get waiting(): number {
    return this.#line.size;
  }

  get counts(): BulkheadCounts {
    return { admitted: this.#admitted, waited: this.#waited, left: this.#left + this.#line.passedOver, declined: { ...this.#line.refusals } };
  }

  /** Faults: `option.out-of-range`, of a cost or a key that would spoil the shares of everybody else for good. */
  enter(caller: Caller, nowMs: number): number {
    numberWithin(caller.cost, "cost", costs);
    if (this.inFlight < this.running && this.#line.size === 0 && caller.untilMs > nowMs) {
      this.#admit(nowMs);
      return 0;
    }
    if (this.#fair) oneOf(typeof caller.key, "typeof key", ["string"]);
    this.#adaptive?.wanted();
    if (this.#line.push(caller, nowMs)) return declined;
    this.#waited++;
    return waits;
  }

  leave(caller: Caller, nowMs: number): void {
    if (this.#line.remove(caller, nowMs)) this.#left++;
  }

  ended(caller: Caller, token: number, unheard = false): void {
    this.inFlight--;
    this.#givenUp?.delete(caller);
    if (this.#isBrief && token === 0 && this.#line.size === 0 && ++this.#unmeasured < measuredOf) return;
    const nowMs = this.clock.monotonicMs();
    this.#measured(caller, token, nowMs, unheard);
    this.#drain(nowMs);
  }

  fault(caller: Caller, nowMs: number): Fault {
    const { name, inFlight, running, waiting } = this;
    const reason = (typeof caller.place === "string" ? caller.place : "full") as Refusal;
    const retryAfterMs = this.#retryAfterMs(nowMs);
    const { most } = this.#line;
    return Fault.create(
      this.refused,
      `${name}: ${inFlight} calls are running and at most ${running} may; ${waiting} wait and at most ${most} may. ${why[reason](caller)}`,
      "Come back after details.retryAfterMs, or allow more if what is behind it can take more.",
      { details: { name, reason, inFlight, running, waiting, waitingMost: most, priority: caller.priority, retryAfterMs } },
    );
  }

  tryEnter(): (() => void) | undefined {
    if (this.inFlight >= this.running || this.#line.size > 0) return undefined;
    const startedMs = this.clock.monotonicMs();
    this.#admit(startedMs);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.ended({ ...byHand, startedMs }, 0);
    };
  }

  resize(running: number): void {
    if (this.#adaptive)
      throw Fault.create(
        "bulkhead.adaptive",
        `${this.name} finds its number of places itself, and was to be resized to ${running}`,
        "Give it bounds, or a number, when it is made.",
      );
    this.#changed(runningWithin(running), this.clock.monotonicMs());
  }

  #changed(running: number, nowMs: number): void {
    this.running = running;
    if (this.#waitingFollows) {
      this.#follow();
      // Not down to what may wait from now on: a limit that dips for a moment would leave nobody to let pass after it.
      this.#line.shorten(3.5 * running, nowMs);
    }
    this.#drain(nowMs);
  }

  #follow(): void {
    this.#line.from = 2 * this.running;
    this.#line.most = 3 * this.running;
  }

  #admit(nowMs: number, waited = false): void {
    this.#admitted++;
    this.#adaptive?.began(this.inFlight + 1, waited);
    if (++this.inFlight >= this.running) this.#movedMs = nowMs;
  }

  /** Lets pass whoever is next. What they run may end at once, and those who are declined may come again: all that only makes this loop longer. */
  #drain(nowMs: number): void {
    if (this.#draining) return;
    this.#draining = true;
    try {
      while (this.inFlight < this.running && this.#line.size > 0) {
        const place = this.#line.take(nowMs);
        if (!place) break;
        this.#admit(nowMs, true);
        let token = 0;
        if (this.#fair) {
          token = this.#freeTokens.pop() ?? this.#held.length;
          this.#held[token] = place;
        }
        (place.waiter as Caller).admitted(token, nowMs);
      }
    } finally {
      this.#draining = false;
    }
  }

  #measured(caller: Caller, token: number, nowMs: number, unheard: boolean): void {
    this.#movedMs = nowMs;
    const place = this.#held[token];
    if (!unheard) this.#took((nowMs - caller.startedMs) / (place ? place.waiter.cost : caller.cost));
    if (!place) return;
    this.#held[token] = undefined;
    this.#freeTokens.push(token);
    if (this.#msPerUnit > 0) this.#line.charge(place, (nowMs - caller.startedMs) / this.#msPerUnit, nowMs);
  }

  #took(perUnit: number): void {
    this.#unmeasured = 0;
    // A call that hung says little about the others: it counts as twice the average at most, and one that was given up and failed then not at all.
    this.#msPerUnit = this.#msPerUnit === 0 ? perUnit : this.#msPerUnit + (Math.min(perUnit, 2 * this.#msPerUnit) - this.#msPerUnit) / (this.#isBrief ? 4 : 16);
    this.#isBrief = this.#msPerUnit > 0 && this.#msPerUnit < briefMs;
    this.#line.paced(this.#msPerUnit);
  }

  /** When those who wait now will have been served, at the rate at which places come free; while nothing moves, as long again as nothing has moved. */
  #retryAfterMs(nowMs: number): number {
    const drainedMs = ((this.#line.size + 1) * this.#msPerUnit) / Math.max(1, Math.min(this.running, this.inFlight));
    return Math.ceil(Math.min(retryAfterMsMax, Math.max(1, drainedMs, nowMs - this.#movedMs)));
  }
}

const why: Readonly<Record<Refusal, (caller: Caller) => string>> = {
  full: () => "Nobody who waits is less urgent.",
  early: () => "So many wait that some of those who come are declined.",
  displaced: ({ priority }) => `Its place in the line was needed for a call that goes before it; its own priority is ${priority}.`,
  share: ({ key }) => `${JSON.stringify(key)} has more calls waiting than others, and this one's place in the line was needed for one of theirs.`,
  waited: () => "It has waited for longer than is of use.",
  late: () => "It had less time left than a call takes.",
};

const byHand = {
  key: "",
  priority: "normal",
  untilMs: Infinity,
  cost: 1,
  place: undefined,
  admitted: () => undefined,
  declined: () => undefined,
} as const;

function runningWithin(running: number): number {
  return running === Infinity ? Infinity : integerWithin(running, "bulkhead.running", { least: 1, most: 1_000_000 });
}

function requiredCodel(codel: CodelBounds): CodelBounds {
  const within = (name: keyof CodelBounds, least: number) =>
    codel[name] !== undefined && { [name]: numberWithin(codel[name], `bulkhead.codel.${name}`, { least, most: 86_400_000 }) };
  return { ...within("targetMs", 0.1), ...within("intervalMs", 1) };
}
