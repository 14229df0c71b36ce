/** What one process knows of one key of a fleet: its budgets, who waits, and until when it is known to be over its limit. */
import type { Timer } from "../kernel/index.ts";

/** Who waits for one draw. */
export class Waiting {
  readonly costs: number[] = [];
  readonly settle: ((waitMs: number) => void)[] = [];
  sum = 0;
  least = Infinity;
  timer: Timer | undefined;
  /** They were answered by policy, which let in so much. */
  isOver = false;
  paid = 0;
}

export class Bucket {
  readonly key: string;
  readonly placeKey: string;
  /** The budget that is spent now, and the one that was drawn after it. */
  lot = 0;
  lotUntilMs = 0;
  next = 0;
  nextUntilMs = 0;
  /** A budget that falls below this is asked for ahead. */
  low = 0;
  size = 0;
  /** A budget was not spent in its time. */
  wasTooLarge = false;
  /** The most that stood at once, without what was given back of it. What is gone of that was spent later than it was drawn. */
  heldMost = 0;
  back = 0;
  fullAtMs = 0;
  knownUntilMs = 0;
  askAgainMs = 0;
  asking = false;
  waiting: Waiting | undefined;

  constructor(key: string, place: string) {
    this.key = key;
    this.placeKey = place;
  }

  /** What may be spent without asking. Of what is over, `turn` first. */
  get held(): number {
    return this.lot + this.next;
  }

  /** `cost` is at most what is held. */
  spend(cost: number): void {
    const ofLot = Math.min(this.lot, cost);
    this.lot -= ofLot;
    this.next -= cost - ofLot;
    if (this.lot === 0) this.#nextLot();
  }

  /** Budgets whose time is over are no longer spent. */
  turn(nowMs: number): void {
    while (this.lot > 0 && nowMs >= this.lotUntilMs) {
      this.size = Math.max(0, this.size - this.lot);
      this.heldMost -= this.lot;
      this.wasTooLarge = true;
      this.back += this.lot;
      this.#nextLot();
    }
  }

  /** One more budget. */
  keep(tokens: number, untilMs: number): void {
    this.nextUntilMs = this.next > 0 ? Math.min(this.nextUntilMs, untilMs) : untilMs;
    this.next += tokens;
    if (this.lot === 0) this.#nextLot();
    this.low = tokens / 4;
    this.heldMost = Math.max(this.heldMost, this.held);
  }

  /** How much more to draw than is needed at once: asked for again before its time was over, a budget was too small. */
  budget(needed: number, most: number): number {
    this.size = Math.min(most, Math.max(needed, this.wasTooLarge ? this.size : 2 * this.size));
    this.wasTooLarge = false;
    return Math.max(0, this.size - Math.floor(this.held));
  }

  #nextLot(): void {
    this.lot = this.next;
    this.lotUntilMs = this.nextUntilMs;
    this.next = 0;
  }
}
