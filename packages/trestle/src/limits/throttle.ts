/**
 * throttle: calls to the outside go out no faster than was agreed. A gate of a pipeline on a token bucket (`rateLimit`): who finds no token is declined, or waits for it. It knows nothing of how the other side is:
 * that is `adaptiveThrottle`, which declines calls when few are accepted.
 *
 * **Waiting** (`wait`). Urgent ones first, each priority in the order in which its callers came (waiting-line.ts). At most one is at the *head*: it has left the line and is the next one to pass, as soon as the bucket
 * holds its cost, whoever comes meanwhile. There is one timer for it, whatever the number of those behind it, and one for the longest wait of all. Nobody waits in vain if it can be known: whose tokens
 * will not be there within `wait`, or by its deadline, is declined when it comes. Urgent ones that come later may still push it beyond `wait`; then it is declined, and at its deadline the pipeline takes it out.
 */
import {
  DueList,
  durationMs,
  emptyContext,
  Fault,
  inContext,
  integerWithin,
  numberWithin,
  oneOf,
  systemClock,
  systemRandom,
  unlink,
  type Clock,
  type Due,
  type Duration,
  type Link,
  type Random,
  type Rate,
  type Timer,
} from "../kernel/index.ts";
import { declined, gatePolicy, waits, WaitingLine, type Caller, type Gate, type Policy, type Waiter } from "../resilience/index.ts";
import { assertCost, bucketRule, givenTo, isCost } from "./checks.ts";
import { TokenBuckets } from "./rate-limit.ts";

export interface ThrottleOptions {
  /** For faults. Default `throttle`. */
  readonly name?: string;
  /** `"100/s"`, from 1e-9 to 1e9 a second. */
  readonly rate: Rate;
  /** How many may go out at once, from 1 to 1e9; default: what the rate allows in one second, at least 1. */
  readonly burst?: number;
  /** A bucket and a line for each key that calls name (`CallOptions.key`, or the tenant); default one for all. */
  readonly per?: "key";
  /** With `per`: for so many keys in use at once there is room, from 1 to 16,777,216; default 100,000. */
  readonly keys?: number;
  /** The longest that a call waits for its turn, from 1 ms to a day; default: it does not wait. */
  readonly wait?: Duration;
  /** How many wait at most for each key, from 1 to 1,000,000; default 1,000. */
  readonly waiting?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface Throttle extends Policy<"limiter.exceeded"> {
  readonly name: string;
  /** How many wait now. */
  readonly waitingCalls: number;
}

/**
 * In any time t at most `burst + rate * t` go out, by their costs. What a gate behind it declines has taken its token: it stands last.
 * Faults: `limiter.exceeded`, with `details.retryAfterMs`; `option.out-of-range`, of a call too whose `cost` is not from 1e-6 to `burst`: it could never go out.
 */
export function throttle(options: ThrottleOptions): Throttle {
  const given = givenTo(options);
  const { name = "throttle", clock = systemClock, random = systemRandom } = given;
  const gate = new ThrottleGate(name, given, clock, random);
  return Object.defineProperties(gatePolicy(name, gate, given.clock), {
    name: { value: name },
    waitingCalls: { get: () => gate.waitingCalls },
  }) as Throttle;
}

/** Somebody who waits. */
class Turn implements Waiter, Due {
  next: Link = this;
  previous: Link = this;
  readonly dueMs: number;
  place: unknown = undefined;
  readonly key: string;
  readonly priority: Caller["priority"];
  readonly untilMs: number;
  readonly cost: number;
  readonly caller: Caller;
  readonly lane: Lane;
  isOver = false;

  constructor(caller: Caller, lane: Lane, dueMs: number) {
    this.dueMs = dueMs;
    this.key = caller.key;
    this.priority = caller.priority;
    this.untilMs = caller.untilMs;
    this.cost = caller.cost;
    this.caller = caller;
    this.lane = lane;
    lane.ahead[caller.priority] += caller.cost;
  }

  /** It does not wait any more. `false`: it did not before. */
  end(): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    unlink(this);
    this.lane.ahead[this.priority] -= this.cost;
    return true;
  }

  due(nowMs: number): void {
    this.lane.waitedTooLong(this, nowMs);
  }

  declined(nowMs: number): void {
    if (this.end()) this.caller.declined(nowMs);
  }
}

/** Those who wait for one bucket. It is there while somebody does. */
interface Lane {
  readonly key: string;
  readonly line: WaitingLine<Turn>;
  /** What those who wait cost, together. */
  readonly ahead: Record<Caller["priority"], number>;
  head: Turn | undefined;
  timer: Timer | undefined;
  isServing: boolean;
  readonly waitedTooLong: (turn: Turn, nowMs: number) => void;
}

class ThrottleGate implements Gate<"limiter.exceeded"> {
  readonly refused = "limiter.exceeded";
  readonly #name: string;
  readonly #perKey: boolean;
  readonly #buckets: TokenBuckets;
  readonly #perMs: number;
  readonly #waitMs: number | undefined;
  readonly #waitingMost: number;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #lanes = new Map<string, Lane>();
  readonly #waiting: DueList;

  constructor(name: string, { rate, burst, per, keys, wait, waiting = 1_000 }: ThrottleOptions, clock: Clock, random: Random) {
    const rule = bucketRule({ rate, burst, keys: per === "key" ? keys : 1 }, name);
    this.#name = name;
    this.#perKey = per !== undefined && oneOf(per, `${name}: per`, ["key"]) === "key";
    this.#buckets = new TokenBuckets(rule, clock, random);
    this.#perMs = rule.perSecond / 1_000;
    this.#waitMs =
      wait === undefined ? undefined : numberWithin(durationMs(wait, `${name}: wait`), `${name}: wait, in milliseconds,`, { least: 1, most: 86_400_000 });
    this.#waitingMost = integerWithin(waiting, `${name}: waiting`, { least: 1, most: 1_000_000 });
    this.#clock = clock;
    this.#random = random;
    this.#waiting = new DueList(this.#waitMs ?? 0, clock);
  }

  get waitingCalls(): number {
    let sum = 0;
    for (const { line, head } of this.#lanes.values()) sum += line.size + (head ? 1 : 0);
    return sum;
  }

  enter(caller: Caller, nowMs: number): number {
    const key = this.#keyOf(caller);
    const lane = this.#lanes.get(key);
    // Answered like any other that cannot pass: a gate that throws would do it in the timer of the gate before it, and keep that one's place.
    if (!isCost(caller.cost, this.#buckets.limit)) return declined;
    if (lane === undefined && this.#buckets.take(key, caller.cost, nowMs) === 0) return 0;
    const waitMs = this.#waitMsOf(caller, nowMs);
    if (this.#waitMs === undefined || waitMs > this.#waitMs || nowMs + waitMs > caller.untilMs) return declined;
    return this.#wait(lane ?? this.#newLane(key), caller, nowMs);
  }

  leave(caller: Caller, nowMs: number): void {
    const turn = caller.place as Turn;
    if (!turn.end()) return;
    turn.lane.line.remove(turn, nowMs);
    this.#vacate(turn, nowMs);
  }

  fault(caller: Caller, nowMs: number): Fault {
    try {
      assertCost(caller.cost, this.#buckets.limit, `${this.#name}: cost`);
    } catch (fault) {
      return fault as Fault;
    }
    const retryAfterMs = Math.max(1, Math.ceil(this.#waitMsOf(caller, nowMs)));
    const key = this.#keyOf(caller);
    return Fault.create(
      "limiter.exceeded",
      `${this.#name}: ${this.#perKey ? `calls for ${JSON.stringify(key)}` : "calls"} go out no faster than was declared, and this one's turn comes in ${retryAfterMs} ms`,
      "Come back after details.retryAfterMs, or let the policy wait.",
      { details: { name: this.#name, ...(this.#perKey && { key }), retryAfterMs } },
    );
  }

  #keyOf({ key }: Caller): string {
    return this.#perKey ? key : "";
  }

  /** Until it would pass: when the bucket has gained its cost, and that of everybody before it. */
  #waitMsOf(caller: Caller, nowMs: number): number {
    const key = this.#keyOf(caller);
    const { limit } = this.#buckets;
    const missing = this.#buckets.look(key, limit, nowMs).retryAfterMs * this.#perMs;
    return Math.max(0, this.#before(caller, this.#lanes.get(key)) + caller.cost - (limit - missing)) / this.#perMs;
  }

  /** What those cost who pass before it. */
  #before({ priority }: Caller, lane: Lane | undefined): number {
    if (lane === undefined) return 0;
    const { ahead, head } = lane;
    const ofItsClass = ahead.high + (priority === "high" ? 0 : ahead.normal) + (priority === "low" ? ahead.low : 0);
    return head !== undefined && urgency[head.priority] < urgency[priority] ? ofItsClass + head.cost : ofItsClass;
  }

  // ---- waiting ------------------------------------------------------------------------------------------------------

  #newLane(key: string): Lane {
    const line = new WaitingLine<Turn>({ order: "fifo", random: this.#random });
    line.from = line.most = this.#waitingMost;
    const lane: Lane = {
      key,
      line,
      ahead: { high: 0, normal: 0, low: 0 },
      head: undefined,
      timer: undefined,
      isServing: false,
      waitedTooLong: this.#waitedTooLong,
    };
    this.#lanes.set(key, lane);
    return lane;
  }

  #wait(lane: Lane, caller: Caller, nowMs: number): number {
    const turn = new Turn(caller, lane, nowMs + this.#waiting.ms);
    caller.place = turn;
    if (lane.line.push(turn, nowMs)) {
      turn.end();
      return declined;
    }
    this.#waiting.begin(turn);
    if (lane.head === undefined && !lane.isServing) this.#serve(lane, nowMs);
    return waits;
  }

  /** Lets pass whom the bucket has tokens for, in their order. */
  #serve(lane: Lane, nowMs: number): void {
    lane.isServing = true;
    lane.timer?.cancel();
    try {
      for (let turn = this.#next(lane, nowMs); turn !== undefined; turn = this.#next(lane, nowMs)) {
        const waitMs = this.#buckets.take(lane.key, turn.cost, nowMs);
        if (waitMs > 0) {
          lane.head = turn;
          return this.#serveIn(lane, waitMs);
        }
        turn.end();
        turn.caller.admitted(0, nowMs);
      }
    } finally {
      lane.isServing = false;
      if (lane.head === undefined && lane.line.size === 0) this.#lanes.delete(lane.key);
      else if (lane.head === undefined) this.#serveIn(lane, 0); // a gate behind this one threw: that is not the others' affair
    }
  }

  /** Whose turn it is. Whose deadline is over is passed over: the pipeline answers it. */
  #next(lane: Lane, nowMs: number): Turn | undefined {
    const { head } = lane;
    lane.head = undefined;
    if (head !== undefined && head.untilMs > nowMs) return head;
    head?.end();
    return lane.line.take(nowMs)?.waiter as Turn | undefined;
  }

  #serveIn(lane: Lane, waitMs: number): void {
    // Somebody waits for it: the process is not to end meanwhile.
    inContext(emptyContext, () => {
      lane.timer = this.#clock.after(waitMs, () => this.#serve(lane, this.#clock.monotonicMs()), { keepsAlive: true });
    });
  }

  readonly #waitedTooLong = (turn: Turn, nowMs: number): void => {
    turn.end();
    turn.lane.line.remove(turn, nowMs);
    this.#vacate(turn, nowMs);
    turn.caller.declined(nowMs);
  };

  /** Whoever is behind it may be content with what the bucket holds. */
  #vacate(turn: Turn, nowMs: number): void {
    const { lane } = turn;
    if (lane.head !== turn) return;
    lane.head = undefined;
    if (!lane.isServing) this.#serve(lane, nowMs);
  }
}

const urgency = { high: 2, normal: 1, low: 0 } as const;
