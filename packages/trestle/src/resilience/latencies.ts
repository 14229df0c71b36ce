/**
 * Quantiles of the latest durations, in fixed memory and constant time: a histogram of buckets that each are an eighth of an octave wide (at most 9 % off), of
 * which everything is halved when it holds `window` durations, so that what is old counts less and less.
 */
const perOctave = 8;
const leastMs = 1 / 64;
const buckets = 32 * perOctave; // up to 18 hours

export class Latencies {
  readonly #window: number;
  readonly #counts = new Float64Array(buckets);
  #sum = 0;

  constructor(window: number) {
    this.#window = window;
  }

  get count(): number {
    return this.#sum;
  }

  add(ms: number): void {
    const bucket = ms <= leastMs ? 0 : Math.min(buckets - 1, Math.ceil(Math.log2(ms / leastMs) * perOctave));
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    if (++this.#sum < this.#window) return;
    this.#sum = 0;
    for (let i = 0; i < buckets; i++) this.#sum += this.#counts[i] = Math.floor((this.#counts[i] as number) / 2);
  }

  /** The duration that the share `quantile` (0 to 1) stays at or below, `undefined` without any. */
  quantileMs(quantile: number): number | undefined {
    if (this.#sum === 0) return undefined;
    let left = quantile * this.#sum;
    for (let bucket = 0; bucket < buckets; bucket++) {
      left -= this.#counts[bucket] as number;
      if (left <= 0) return leastMs * 2 ** (bucket / perOctave);
    }
    return undefined;
  }
}
