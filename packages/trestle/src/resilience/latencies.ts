/**
 * Quantiles of durations, in fixed memory and constant time: a histogram of buckets that each are a sixteenth of an octave wide (at most 5 % off), from a microsecond to 12 days.
 * With a `window` everything is halved when it holds so many, so that what is old counts less and less.
 *
 * Whoever was cut off says only that it takes longer than that: what is known then is the estimate of Kaplan and Meier (1958), by which at each duration the share ends that did so of those
 * still running then. To leave them out, or to take them for ended, would call a dependency quick or hung for what its callers' deadlines are.
 */
const perOctave = 16;
const leastMs = 1 / 1_024;
const buckets = 40 * perOctave;

export interface Estimate {
  /** The duration that the share asked for stays at or below; where fewer ended at all, the longest seen. */
  readonly quantileMs: number;
  /** The share that goes on after the longest seen. */
  readonly unended: number;
  /** Of the natural logarithms of all, in milliseconds; what goes on counts as the longest seen. */
  readonly logMean: number;
  readonly logVariance: number;
}

export class Latencies {
  readonly #window: number;
  readonly #ended = new Float64Array(buckets);
  readonly #cut = new Float64Array(buckets);
  #sum = 0;
  /** The lowest bucket that holds any. */
  #first = buckets;
  /** The shortest since it was made or cleared. */
  leastMs = Infinity;

  constructor(window = Infinity) {
    this.#window = window;
  }

  get count(): number {
    return this.#sum;
  }

  /** One that ended, or was cut off. */
  add(ms: number, hasEnded = true): void {
    const counts = hasEnded ? this.#ended : this.#cut;
    if (ms < this.leastMs) this.leastMs = ms;
    const bucket = ms <= leastMs ? 0 : Math.min(buckets - 1, Math.ceil(Math.log2(ms / leastMs) * perOctave));
    counts[bucket] = (counts[bucket] as number) + 1;
    if (bucket < this.#first) this.#first = bucket;
    if (++this.#sum < this.#window) return;
    this.#sum = 0;
    for (const some of [this.#ended, this.#cut]) for (let i = 0; i < buckets; i++) this.#sum += some[i] = Math.floor((some[i] as number) / 2);
    while (this.#ended[this.#first] === 0 && this.#cut[this.#first] === 0) this.#first++;
  }

  /** Of the share `quantile` (0 to 1), `undefined` without any duration. */
  estimate(quantile: number): Estimate | undefined {
    const quantileMs = this.quantileMs(quantile);
    if (quantileMs === undefined) return undefined;
    let unended = 1;
    let longest = 0;
    let mean = 0;
    let squares = 0;
    this.#walk((bucket, share, left) => {
      longest = bucket;
      unended = left;
      mean += share * bucket;
      squares += share * bucket * bucket;
      return false;
    });
    mean += unended * longest;
    squares += unended * longest * longest;
    const logOf = (bucket: number) => (bucket * Math.LN2) / perOctave;
    return {
      quantileMs,
      unended: Math.max(0, unended),
      logMean: Math.log(leastMs) + logOf(mean),
      logVariance: logOf(1) * logOf(Math.max(1, squares - mean * mean)),
    };
  }

  /** The duration that the share `quantile` (0 to 1) stays at or below, `undefined` without any. A hedge asks for each call: it looks no further than that. */
  quantileMs(quantile: number): number | undefined {
    if (this.#sum === 0) return undefined;
    let at = 0;
    this.#walk((bucket, _share, unended) => {
      at = bucket;
      return 1 - unended >= quantile - 1e-9;
    });
    return leastMs * 2 ** (at / perOctave);
  }

  /** From the shortest on, until `visit` says that it has seen enough: which share ends in a bucket, and which has not ended after it. */
  #walk(visit: (bucket: number, share: number, unended: number) => boolean): void {
    let running = this.#sum;
    let unended = 1;
    for (let bucket = this.#first; bucket < buckets && running > 0; bucket++) {
      const ended = this.#ended[bucket] as number;
      const seen = ended + (this.#cut[bucket] as number);
      if (seen === 0) continue;
      const share = (unended * ended) / running;
      unended -= share;
      running -= seen;
      if (visit(bucket, share, unended)) return;
    }
  }

  clear(): void {
    this.#ended.fill(0);
    this.#cut.fill(0);
    this.#sum = 0;
    this.#first = buckets;
    this.leastMs = Infinity;
  }
}
