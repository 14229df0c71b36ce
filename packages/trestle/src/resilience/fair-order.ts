/**
 * `fair`: whoever asks for little does not wait behind whoever asks for much. Each key has a hand of 6 of 1,024 queues and stands in the shortest of them;
 * queues take turns, and a turn is worth the same everywhere: one average operation.
 *
 * - *Which queues* is a hash of the key under a secret of this process (KeyedHash): nobody can choose keys that share a victim's queues. A key that fills its hand leaves 1 in 1e15
 *   of the others without a queue of their own, four such keys 1 in 1e10, sixteen 5 in 1e7. Memory does not grow with the number of keys.
 * - *Turns* are deficit round robin (Shreedhar and Varghese, 1995). An operation is charged its `cost` when it begins, and what it took in truth when it ends: whoever says 1 and takes
 *   100 has its next turns later. A debt is remembered while the queue is empty, and forgiven at the rate of one place: what held a place for 3 s is forgotten 3 s later.
 * - *Queues that were empty* come before those that were not, for one turn (FQ-CoDel, RFC 8290): a key that asks seldom waits for the queues that got their first just before it, one turn each (a busy key has six of them), not
 *   for a round of the others. A queue
 *   that emptied in that turn stands behind the others once before it may do so again.
 * - Nothing stays free while somebody waits, whatever they owe.
 *
 * In one queue the first come is first; keys with several waiting stand in several queues, so their own order is not kept.
 */
import { KeyedHash, Linked } from "../kernel/index.ts";
import type { Random } from "../kernel/index.ts";
import { sweep } from "./line-order.ts";
import type { Bounds, LineOrder, Place, Waiter } from "./line-order.ts";
import { StandingDelay } from "./standing-delay.ts";

const queues = 1_024;
const handSize = 6;

class FlowQueue extends Linked {
  readonly places = new Linked();
  readonly delay = new StandingDelay();
  readonly rank = new Ranked(this);
  length = 0;
  /** In units of an average operation; at most one turn above 0. */
  deficit = 0;
  /** `new`: empty until now, served first. `old`: in the round. `idle`: in neither list. */
  state: "idle" | "new" | "old" = "idle";
  idleSinceMs = 0;
}

/** A queue's entry among those of about its length. */
class Ranked extends Linked {
  readonly queue: FlowQueue;
  rank = -1;

  constructor(queue: FlowQueue) {
    super();
    this.queue = queue;
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
  readonly #queues: (FlowQueue | undefined)[] = new Array<FlowQueue | undefined>(queues).fill(undefined);
  readonly #new = new Linked();
  readonly #old = new Linked();
  readonly #ranks = Array.from({ length: 128 }, () => new Linked());
  #longest = -1;
  /** What a turn is worth: the average cost of those who were served. */
  #quantum = 1;
  readonly #msPerUnit: () => number;

  /** `msPerUnit`: how long an operation of cost 1 takes on average, for the forgiving of debts. */
  constructor(random: Random, bounds: Bounds, msPerUnit: () => number, gone: Place[]) {
    this.#hash = new KeyedHash(random);
    this.#bounds = bounds;
    this.#msPerUnit = msPerUnit;
    this.#gone = gone;
  }

  sweep(waiter: Waiter, nowMs: number): void {
    this.#swept(this.#shortestOf(waiter.key), false, nowMs);
  }

  add(place: Place, nowMs: number): void {
    const queue = this.#shortestOf(place.waiter.key);
    place.queue = queue;
    queue.places.append(place);
    queue.length++;
    this.#rank(queue);
    if (queue.state === "idle") {
      this.#forgive(queue, nowMs);
      queue.state = "new"; // in debt it goes to the others as soon as it is looked at
      queue.deficit += this.#quantum;
      this.#new.append(queue);
    }
  }

  remove(place: Place, nowMs: number): void {
    place.unlink();
    const queue = place.queue as FlowQueue;
    this.#shrunk(queue);
    if (queue.length === 0) this.#emptied(queue, nowMs);
  }

  next(nowMs: number): Place | undefined {
    for (;;) {
      const list = this.#new.isAlone ? this.#old : this.#new;
      if (list.isAlone) return undefined;
      const queue = list.next as FlowQueue;
      if (queue.length === 0) {
        this.#emptied(queue, nowMs);
        continue;
      }
      if (queue.deficit <= 0) {
        // Every step here is paid for: a turn more is what an average operation costs.
        queue.deficit += this.#quantum;
        this.#toTheEnd(queue);
        continue;
      }
      this.#swept(queue, true, nowMs);
      if (queue.length === 0) continue;
      const place = queue.places.next as Place;
      place.unlink();
      this.#shrunk(queue);
      const { cost } = place.waiter;
      queue.deficit -= cost;
      this.#quantum += (cost - this.#quantum) / 64;
      if (queue.length === 0) this.#emptied(queue, nowMs);
      return place;
    }
  }

  last(): Place | undefined {
    const longest = this.#longestQueue();
    return longest && (longest.places.previous as Place);
  }

  /** The last of the longest queue, unless the newcomer's own would be as long. */
  displacedBy(waiter: Waiter): Place | undefined {
    const longest = this.#longestQueue();
    const own = this.#shortestOf(waiter.key);
    return longest && longest.length > 1.25 * (own.length + 1) ? (longest.places.previous as Place) : undefined;
  }

  charge(place: Place, units: number, nowMs: number): void {
    const queue = place.queue as FlowQueue;
    if (queue.state === "idle") this.#forgive(queue, nowMs);
    queue.deficit -= units - place.waiter.cost;
  }

  /** Ten bits of the hash for each card. One hand in seventy has a card twice: five queues instead of six. */
  #shortestOf(key: string): FlowQueue {
    const first = this.#hash.of(key);
    const { second } = this.#hash;
    let shortest: FlowQueue | undefined;
    for (let card = 0; card < handSize; card++) {
      const at = (card < 3 ? first >>> (10 * card) : second >>> (10 * (card - 3))) & (queues - 1);
      const queue = (this.#queues[at] ??= new FlowQueue());
      if (!shortest || queue.length < shortest.length) shortest = queue;
    }
    return shortest as FlowQueue;
  }

  /** Of an empty queue: what it owes, less what time has paid. It saves nothing up. */
  #forgive(queue: FlowQueue, nowMs: number): void {
    queue.deficit = Math.min(0, queue.deficit + (nowMs - queue.idleSinceMs) / this.#msPerUnit());
    queue.idleSinceMs = nowMs;
  }

  #swept(queue: FlowQueue, serving: boolean, nowMs: number): void {
    const before = this.#gone.length;
    sweep(queue.places, queue.delay, this.#bounds(), serving, nowMs, this.#gone);
    for (let gone = before; gone < this.#gone.length; gone++) this.#shrunk(queue);
  }

  #shrunk(queue: FlowQueue): void {
    queue.length--;
    this.#rank(queue);
  }

  /** A queue of the new ones stays for one round of the others, so that emptying it is no way past them. */
  #emptied(queue: FlowQueue, nowMs: number): void {
    if (queue.state === "new" && !this.#old.isAlone) {
      this.#toTheEnd(queue);
      return;
    }
    queue.unlink();
    queue.state = "idle";
    queue.idleSinceMs = nowMs;
    queue.deficit = Math.min(0, queue.deficit);
  }

  #toTheEnd(queue: FlowQueue): void {
    queue.unlink();
    queue.state = "old";
    this.#old.append(queue);
  }

  #rank(queue: FlowQueue): void {
    const rank = rankOf(queue.length);
    if (rank === queue.rank.rank) return;
    queue.rank.unlink();
    queue.rank.rank = rank;
    if (rank < 0) return;
    (this.#ranks[rank] as Linked).append(queue.rank);
    if (rank > this.#longest) this.#longest = rank;
  }

  #longestQueue(): FlowQueue | undefined {
    while (this.#longest >= 0 && (this.#ranks[this.#longest] as Linked).isAlone) this.#longest--;
    return this.#longest < 0 ? undefined : ((this.#ranks[this.#longest] as Linked).next as Ranked).queue;
  }
}
