/**
 * `fair`: whoever asks for little does not wait behind whoever asks for much. Each key that waits has a queue of its own; queues take turns, and a turn is worth the same
 * everywhere: one average operation.
 *
 * - *Turns* are deficit round robin (Shreedhar and Varghese, 1995). An operation is charged its `cost` when it begins, and what it took in truth when it ends: whoever says 1 and takes 100 has its next turns
 *   later. While operations cost the same, and a key always has somebody waiting, no other key gets more than one turn more than it.
 * - *Newcomers* go before those who have had a turn (FQ-CoDel, RFC 8290), and every other turn at most: a newcomer does not wait for a round of the others, and however many newcomers there are, the others are
 *   served. Of no other key it waits for more than one turn. A key that has had its turn is a newcomer again when everybody who waited then has had one, so emptying its queue is no way past them.
 * - *Debts* outlive the queue (absent-debts.ts, where the hands of 6 of 1,024 are), and are forgiven at the rate of one place: what held a place for 3 s is forgotten 3 s later.
 * - Nothing stays free while somebody waits, whatever they owe. One key's calls are served in the order in which they came.
 *
 * Memory is that of those who wait: a queue goes when it is empty and its turn has come round. Whether 1,024 queues that keys share would be better: record 0022.
 */
import { isAlone, KeyedHash, Linked, PassingMap, unlink } from "../kernel/index.ts";
import type { Random } from "../kernel/index.ts";
import { AbsentDebts, hands, type Hand } from "./absent-debts.ts";
import { oldestOf, sweep } from "./line-order.ts";
import type { Bounds, LineOrder, Place, Waiter } from "./line-order.ts";
import { StandingDelay } from "./standing-delay.ts";

/** So many turns a queue can be behind at the most: whatever a call took, finding who is next stays short. */
const debtMost = 1_000;

/** Those of one key. In `#newcomers` until its first turn, then in `#round`, where it stays for one round without anybody. */
class Flow extends Linked implements Hand {
  readonly key: string;
  readonly first: number;
  readonly second: number;
  readonly places = new Linked();
  readonly rank = new Ranked(this);
  length = 0;
  /** In units of an average operation: what is left of its turn, and what it was charged too much. */
  deficit = 0;
  /** Turns of everybody when it came, and at its last one; -1: it has had none. */
  readonly cameAt: number;
  turnAt = -1;

  constructor(key: string, hand: Hand, cameAt: number) {
    super();
    this.key = key;
    this.first = hand.first;
    this.second = hand.second;
    this.cameAt = cameAt;
  }
}

/** A queue's entry among those of about its length. */
class Ranked extends Linked {
  readonly flow: Flow;
  rank = -1;

  constructor(flow: Flow) {
    super();
    this.flow = flow;
  }
}

/** Lengths in steps of at most a fourth: enough to tell who is long. 4 x 31 of them. */
function rankOf(length: number): number {
  if (length < 4) return length - 1;
  const bits = 31 - Math.clz32(length);
  return 4 * (bits - 2) + 3 + ((length >> (bits - 2)) & 3);
}

export class FairOrder implements LineOrder {
  readonly #hash: KeyedHash;
  readonly #bounds: Bounds;
  readonly #gone: Place[];
  readonly #flows = new PassingMap<string, Flow>();
  readonly #newcomers = new Linked();
  readonly #round = new Linked();
  #turns = 0;
  #newcomerHadTurn = false;
  /** By the first card of a key's hand: whether its line stands has to be known from one call to the next, of a key that has one waiting at a time. Until nobody waits: then no line stands. */
  readonly #delays = new Map<number, StandingDelay>();
  readonly #debts = new AbsentDebts();
  readonly #ranks = Array.from({ length: 128 }, () => new Linked());
  #longest = -1;
  /** The average cost of those who were served. */
  #cost = 1;
  /** What a turn is worth: that average, the same for everybody in a round, or else turns after dear calls would be worth more. */
  #quantum = 1;
  /** Turns of everybody when the round is over. */
  #roundEndsAt = 0;
  readonly #msPerUnit: () => number;

  /** `msPerUnit`: how long an operation of cost 1 takes on average, for the forgiving of debts. */
  constructor(random: Random, bounds: Bounds, msPerUnit: () => number, gone: Place[]) {
    this.#hash = new KeyedHash(random);
    this.#bounds = bounds;
    this.#msPerUnit = msPerUnit;
    this.#gone = gone;
  }

  /** Of a key that nobody waits for yet, those whose turn is next are looked at: they have waited for a round. */
  sweep(waiter: Waiter, nowMs: number): void {
    const flow = this.#flows.get(waiter.key) ?? this.#next();
    if (flow && flow.length > 0) this.#swept(flow, false, nowMs);
  }

  add(place: Place, nowMs: number): void {
    const { key } = place.waiter;
    let flow = this.#flows.get(key);
    if (!flow) {
      flow = new Flow(key, this.#handOf(key), this.#turns);
      flow.deficit = this.#quantum - this.#debts.of(flow, nowMs) / this.#msPerUnit();
      this.#flows.set(key, flow);
      this.#newcomers.append(flow);
    }
    place.queue = flow;
    flow.places.append(place);
    flow.length++;
    this.#rank(flow);
  }

  remove(place: Place, nowMs: number): void {
    unlink(place);
    this.#shrunk(place.queue as Flow, nowMs);
  }

  next(nowMs: number): Place | undefined {
    for (let flow = this.#next(); flow; flow = this.#next()) {
      if (flow.deficit <= 0) {
        // Every step here is paid for: a turn more is what an average operation costs.
        this.#endTurn(flow, nowMs);
        continue;
      }
      if (this.#swept(flow, true, nowMs)) continue;
      const place = flow.places.next as Place;
      const { cost } = place.waiter;
      unlink(place);
      flow.deficit -= cost;
      this.#cost += (cost - this.#cost) / 64;
      flow.length--;
      this.#rank(flow);
      if (flow.length === 0 || flow.deficit <= 0) this.#endTurn(flow, nowMs);
      return place;
    }
    return undefined;
  }

  last(): Place | undefined {
    const longest = this.#longestFlow();
    return longest && (longest.places.previous as Place);
  }

  /** The last of the longest queue, unless the newcomer's own would be as long. */
  displacedBy(waiter: Waiter): Place | undefined {
    const longest = this.#longestFlow();
    const own = this.#flows.get(waiter.key)?.length ?? 0;
    return longest && longest.length > 1.25 * (own + 1) ? (longest.places.previous as Place) : undefined;
  }

  charge(place: Place, units: number, nowMs: number): void {
    const { key, cost } = place.waiter;
    const flow = this.#flows.get(key);
    const most = debtMost * this.#quantum;
    if (flow) {
      flow.deficit = Math.max(flow.deficit - (units - cost), -most);
      return;
    }
    const hand = this.#handOf(key);
    const ms = this.#debts.of(hand, nowMs) + (units - cost) * this.#msPerUnit();
    this.#debts.set(hand, Math.max(0, Math.min(ms, most * this.#msPerUnit())), nowMs);
  }

  #handOf(key: string): Hand {
    const first = this.#hash.of(key);
    return { first, second: this.#hash.second };
  }

  /** Whose turn it is. Who stands first in the round has waited longest since its turn: if that was after the newcomer came, so was everybody's. */
  #next(): Flow | undefined {
    const newcomer = isAlone(this.#newcomers) ? undefined : (this.#newcomers.next as Flow);
    const old = isAlone(this.#round) ? undefined : (this.#round.next as Flow);
    if (newcomer && old) return this.#newcomerHadTurn && old.turnAt <= newcomer.cameAt ? old : newcomer;
    return newcomer ?? old;
  }

  #endTurn(flow: Flow, nowMs: number): void {
    this.#newcomerHadTurn = flow.turnAt < 0;
    flow.turnAt = ++this.#turns;
    if (this.#turns >= this.#roundEndsAt) {
      this.#quantum = this.#cost;
      this.#roundEndsAt = this.#turns + this.#flows.size;
    }
    flow.deficit = Math.min(0, flow.deficit) + this.#quantum;
    unlink(flow);
    this.#round.append(flow);
    this.#forgetEmpty(nowMs);
  }

  /** Queues without anybody that have come to the head of the round. */
  #forgetEmpty(nowMs: number): void {
    for (let flow = this.#round.next as Flow; flow !== (this.#round as Linked) && flow.length === 0; flow = this.#round.next as Flow) this.#forget(flow, nowMs);
  }

  #forget(flow: Flow, nowMs: number): void {
    unlink(flow);
    this.#flows.delete(flow.key);
    this.#debts.set(flow, Math.max(0, this.#quantum - flow.deficit) * this.#msPerUnit(), nowMs);
    if (this.#flows.size === 0) this.#delays.clear();
  }

  /** `true`: nobody is left in it. */
  #swept(flow: Flow, serving: boolean, nowMs: number): boolean {
    const bounds = this.#bounds();
    if (!bounds) return false;
    const card = flow.first & (hands.of - 1);
    let delay = this.#delays.get(card);
    if (!delay) this.#delays.set(card, (delay = new StandingDelay()));
    const before = this.#gone.length;
    sweep(() => oldestOf(flow.places), unlink, this.#gone, delay, bounds, serving, nowMs);
    for (let gone = before; gone < this.#gone.length; gone++) this.#shrunk(flow, nowMs);
    return flow.length === 0;
  }

  #shrunk(flow: Flow, nowMs: number): void {
    flow.length--;
    this.#rank(flow);
    if (flow.length > 0) return;
    if (flow.turnAt < 0) this.#forget(flow, nowMs);
    else this.#forgetEmpty(nowMs);
  }

  #rank(flow: Flow): void {
    const rank = rankOf(flow.length);
    if (rank === flow.rank.rank) return;
    unlink(flow.rank);
    flow.rank.rank = rank;
    if (rank < 0) return;
    (this.#ranks[rank] as Linked).append(flow.rank);
    if (rank > this.#longest) this.#longest = rank;
  }

  #longestFlow(): Flow | undefined {
    while (this.#longest >= 0 && isAlone(this.#ranks[this.#longest] as Linked)) this.#longest--;
    return this.#longest < 0 ? undefined : ((this.#ranks[this.#longest] as Linked).next as Ranked).flow;
  }
}
