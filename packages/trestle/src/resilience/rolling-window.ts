/** Counts of the latest calls, for a breaker or a throttle: of a stretch of time, or of so many calls. Adding takes constant time, and memory does not grow. */

export interface Window {
  readonly calls: number;
  readonly failures: number;
  readonly slow: number;
  add(atMs: number, failed: boolean, slow: boolean): void;
  clear(): void;
}

const buckets = 10;

/** The last `windowMs`, in ten buckets: between 90 % and 100 % of it. What comes with an earlier time than the newest bucket counts there. */
export class TimeWindow implements Window {
  calls = 0;
  failures = 0;
  slow = 0;
  readonly #bucketMs: number;
  readonly #calls = new Int32Array(buckets);
  readonly #failures = new Int32Array(buckets);
  readonly #slow = new Int32Array(buckets);
  #newest = -1;
  /** The end of the newest bucket, and what was counted before it. */
  #untilMs = -Infinity;
  #callsBefore = 0;
  #failuresBefore = 0;
  #slowBefore = 0;

  constructor(windowMs: number) {
    this.#bucketMs = windowMs / buckets;
  }

  add(atMs: number, failed: boolean, tookLong: boolean): void {
    this.turn(atMs);
    this.calls++;
    if (failed) this.failures++;
    if (tookLong) this.slow++;
  }

  clear(): void {
    for (const counts of [this.#calls, this.#failures, this.#slow]) counts.fill(0);
    this.calls = this.failures = this.slow = 0;
    this.#callsBefore = this.#failuresBefore = this.#slowBefore = 0;
  }

  /** Whoever reads it without adding to it turns it first. */
  turn(atMs: number): void {
    if (atMs >= this.#untilMs) this.#turnTo(Math.floor(atMs / this.#bucketMs));
  }

  /** The newest bucket gets what was counted since it began, and those that are too old are emptied. */
  #turnTo(bucket: number): void {
    const filled = Math.max(0, this.#newest) % buckets;
    this.#calls[filled] = this.calls - this.#callsBefore;
    this.#failures[filled] = this.failures - this.#failuresBefore;
    this.#slow[filled] = this.slow - this.#slowBefore;
    for (let passed = Math.max(this.#newest + 1, bucket - buckets + 1); passed <= bucket; passed++) this.#drop(passed % buckets);
    this.#newest = Math.max(this.#newest, bucket);
    this.#untilMs = (this.#newest + 1) * this.#bucketMs;
    this.#callsBefore = this.calls;
    this.#failuresBefore = this.failures;
    this.#slowBefore = this.slow;
  }

  #drop(slot: number): void {
    this.calls -= this.#calls[slot] as number;
    this.failures -= this.#failures[slot] as number;
    this.slow -= this.#slow[slot] as number;
    this.#calls[slot] = this.#failures[slot] = this.#slow[slot] = 0;
  }
}

/** The last `size` calls. */
export function callWindow(size: number): Window {
  const outcomes = new Uint8Array(size); // 1: failed, 2: slow
  let next = 0;
  let [calls, failures, slow] = [0, 0, 0];
  return {
    get calls() {
      return calls;
    },
    get failures() {
      return failures;
    },
    get slow() {
      return slow;
    },
    add(_atMs, failed, tookLong) {
      if (calls === size) {
        const gone = outcomes[next] as number;
        failures -= gone & 1;
        slow -= gone >> 1;
      } else calls++;
      outcomes[next] = (failed ? 1 : 0) | (tookLong ? 2 : 0);
      if (failed) failures++;
      if (tookLong) slow++;
      next = next + 1 === size ? 0 : next + 1;
    },
    clear() {
      [next, calls, failures, slow] = [0, 0, 0, 0];
    },
  };
}
