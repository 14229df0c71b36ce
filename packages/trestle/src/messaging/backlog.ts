/**
 * How much waits in a queue, as one node knows it: sampled, not exact, because an exact count would be a row that every sender
 * rewrites (FINDINGS F20). Between two samples it adds what this node has sent and takes off what it has worked through. A new sample is
 * asked for when half of what was left is used up, and while the queue seems full.
 */
import type { NodeServices } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";

/** While the queue seems full, senders make a new sample at most this often. */
const resampleMs = 50;

export class Backlog {
  readonly #node: NodeServices;
  readonly #queue: string;
  readonly #capacity: number;
  #waiting = 0;
  #resampleAt = 0;
  #sampling = false;
  /** Sent since the sample was asked for: not in it yet. */
  #sentSince = 0;
  #sampledAtMs = -Infinity;

  constructor(node: NodeServices, queue: string, capacity: number) {
    this.#node = node;
    this.#queue = queue;
    this.#capacity = capacity;
  }

  /** One more is sent from here. Faults: `queue.full`. */
  add(): void {
    if (this.#waiting >= this.#resampleAt) this.#sample();
    if (this.#waiting >= this.#capacity) {
      throw Fault.create(
        "queue.full",
        `queue "${this.#queue}" holds about ${this.#waiting} waiting messages; its capacity is ${this.#capacity}`,
        "Send more slowly, run more workers, or raise `capacity`.",
        { details: { queue: this.#queue, waiting: this.#waiting, capacity: this.#capacity, retryAfterMs: 1_000 } },
      );
    }
    this.#waiting += 1;
    this.#sentSince += 1;
  }

  /** One has left it on this node. */
  left(): void {
    if (this.#waiting > 0) this.#waiting -= 1;
  }

  #sample(): void {
    const nowMs = this.#node.clock.monotonicMs();
    if (this.#sampling || nowMs - this.#sampledAtMs < resampleMs) return;
    this.#sampling = true;
    this.#sentSince = 0;
    this.#sampledAtMs = nowMs;
    this.#node.store.read.queue(this.#queue).then(
      ({ waiting }) => {
        this.#sampling = false;
        this.#waiting = waiting + this.#sentSince;
        this.#resampleAt = this.#waiting + Math.max(1, Math.floor((this.#capacity - this.#waiting) / 2));
      },
      () => {
        this.#sampling = false; // the store is closing, or busy: the next sender asks again
      },
    );
  }
}
