/** What one process knows of one key of a fleet: its budgets, who waits, and until when it is known to be over its limit. */
import type { Due, Link } from "../kernel/index.ts";
import { leaseMs } from "./across.ts";

/** What is done with what is due. */
export interface WhenDue {
  tend(bucket: Bucket, nowMs: number): void;
  overdue(waiting: Waiting, nowMs: number): void;
}

/** Who waits for one draw. */
export class Waiting implements Due {
  next: Link = this;
  previous: Link = this;
  readonly dueMs: number;
  readonly bucket: Bucket;
  readonly costs: number[] = [];
  readonly settle: ((waitMs: number) => void)[] = [];
  sum = 0;
  least = Infinity;
  /** They were answered by policy, which let in so much. */
  isOver = false;
  paid = 0;

  constructor(bucket: Bucket, dueMs: number) {
    this.bucket = bucket;
    this.dueMs = dueMs;
  }

  due(nowMs: number): void {
    this.bucket.whenDue.overdue(this, nowMs);
  }
}

export class Bucket implements Due {
  next: Link = this;
  previous: Link = this;
  dueMs = 0;
  readonly whenDue: WhenDue;
  readonly key: string;
  readonly placeKey: string;
  /** The budget that is spent now, and the one that was drawn after it. */
  lot = 0;
  lotUntilMs = 0;
  after = 0;
  afterUntilMs = 0;
  /** A budget that falls below this is asked for ahead. */
  low = 0;
  size = 0;
  /** The latest draw, and the one before it. */
  drawnAtMs = -Infinity;
  drawnBeforeMs = -Infinity;
  /** A budget was not spent in its time. */
  wasTooLarge = false;
  /** The most that stood at once, without what was given back of it. What is gone of that was spent later than it was drawn. */
  heldMost = 0;
  back = 0;
  fullAtMs = 0;
  knownUntilMs = 0;
  askAgainMs = 0;
  asking = false;
  /** It has fallen below `low`. */
  isLow = false;
  waiting: Waiting | undefined;

  constructor(key: string, place: string, whenDue: WhenDue) {
    this.whenDue = whenDue;
    this.key = key;
    this.placeKey = place;
  }

  due(nowMs: number): void {
    this.whenDue.tend(this, nowMs);
  }

  /** What may be spent without asking. Of what is over, `turn` first. */
  get held(): number {
    return this.lot + this.after;
  }

  get isIdle(): boolean {
    return !this.asking && this.waiting === undefined && this.back === 0 && this.held === 0;
  }

  /** `cost` is at most what is held. */
  spend(cost: number): void {
    const ofLot = Math.min(this.lot, cost);
    this.lot -= ofLot;
    this.after -= cost - ofLot;
    if (this.lot === 0) this.#nextLot();
  }

  /** Budgets whose time is over are no longer spent. */
  turn(nowMs: number): void {
    if (this.lot === 0) this.#nextLot();
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
    this.afterUntilMs = this.after > 0 ? Math.min(this.afterUntilMs, untilMs) : untilMs;
    this.after += tokens;
    if (this.lot === 0) this.#nextLot();
    this.low = tokens / 4;
    this.heldMost = Math.max(this.heldMost, this.held);
  }

  /**
   * How much more to draw than is needed at once. Nothing for a key that is not drawn from three times within a lease: it would give it back, which is a draw too. A budget that was spent before its
   * time was over was too small.
   */
  budget(needed: number, most: number, nowMs: number): number {
    if (nowMs - this.drawnAtMs >= leaseMs) this.size = 0;
    else if (this.size === 0) this.size = nowMs - this.drawnBeforeMs < leaseMs ? Math.min(most, needed) : 0;
    else if (!this.wasTooLarge) this.size = Math.min(most, Math.max(needed, 2 * this.size));
    this.drawnBeforeMs = this.drawnAtMs;
    this.drawnAtMs = nowMs;
    this.wasTooLarge = false;
    return Math.max(0, this.size - Math.floor(this.held));
  }

  #nextLot(): void {
    this.lot = this.after;
    this.lotUntilMs = this.afterUntilMs;
    this.after = 0;
  }
}
