/** How many of the latest answers were bad, over a stretch of time, in ten buckets: between 90 % and 100 % of it. Unlike a breaker's window it is asked while nothing comes in. */
const buckets = 10;

export class Outcomes {
  readonly #bucketMs: number;
  readonly #calls = new Float64Array(buckets);
  readonly #bad = new Float64Array(buckets);
  #newest = -1;
  calls = 0;
  bad = 0;

  constructor(windowMs: number) {
    this.#bucketMs = windowMs / buckets;
  }

  /** Forgets what is older than the window at this moment. */
  at(nowMs: number): this {
    const bucket = Math.floor(nowMs / this.#bucketMs);
    for (let passed = Math.max(this.#newest + 1, bucket - buckets + 1); passed <= bucket; passed++) {
      const slot = passed % buckets;
      this.calls -= this.#calls[slot] as number;
      this.bad -= this.#bad[slot] as number;
      this.#calls[slot] = this.#bad[slot] = 0;
    }
    if (bucket > this.#newest) this.#newest = bucket;
    return this;
  }

  add(nowMs: number, bad: boolean): void {
    const slot = this.at(nowMs).#newest % buckets;
    this.#calls[slot] = (this.#calls[slot] as number) + 1;
    this.calls++;
    if (!bad) return;
    this.#bad[slot] = (this.#bad[slot] as number) + 1;
    this.bad++;
  }
}
