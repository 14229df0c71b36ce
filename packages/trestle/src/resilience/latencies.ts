/**
 * Quantiles of durations, in fixed memory and constant time: a histogram of buckets that each are a sixteenth of an octave wide (at most 5 % off), from a microsecond to 12 days.
 * With a `window` everything is halved when it holds so many, so that what is old counts less and less.
 */
const perOctave = 16;
const leastMs = 1 / 1_024;
const buckets = 40 * perOctave;

export class Latencies {
  readonly #window: number;
  readonly #counts = new Float64Array(buckets);
  #sum = 0;
  /** The shortest since it was made or cleared. */
  leastMs = Infinity;

  constructor(window = Infinity) {
    this.#window = window;
  }

  get count(): number {
    return this.#sum;
  }

  add(ms: number): void {
    if (ms < this.leastMs) this.leastMs = ms;
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
    let bucket = 0;
    while (bucket < buckets - 1 && (left -= this.#counts[bucket] as number) > 0) bucket++;
    return leastMs * 2 ** (bucket / perOctave);
  }

  clear(): void {
    this.#counts.fill(0);
    this.#sum = 0;
    this.leastMs = Infinity;
  }
}
