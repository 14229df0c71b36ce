/**
 * A table from keys to a few numbers each, in typed arrays: bounded, without timers, and without a pause to grow.
 *
 * A place has two halves of a keyed hash (the key itself is not kept: two keys with the same 64 bits, one pair in 37 million tables of a million keys, share a
 * place), then the moment until which it means anything, then what the law keeps. **A place whose moment has passed is free.** A place that was never used is all
 * zeros, which has passed too. Two buckets of four places each belong to a key, one by either half of its hash (two choices: Azar, Broder, Karlin and
 * Upfal, "Balanced Allocations", 1994), so a key is found or missed after eight places at the most, whatever keys others choose.
 *
 * When all eight are taken: (1) one of them moves to its other bucket, if there is room (cuckoo hashing, cut off after a step or two); (2) the table doubles, up to its
 * cap; each later call moves two of the old buckets, so no call waits for all of them; (3) at the cap, the one that means least
 * (`weightOf`) is forgotten for the newcomer, and counted in `forgotten`. Nobody is refused for lack of room, and nobody is admitted without being counted.
 */
import { KeyedHash, type Random } from "../kernel/index.ts";

const perBucket = 4;
/** Of the places at the cap, what the declared keys take: all of them find room, nine of ten in the first bucket, for 32 B each if the law keeps one number. */
const loadMax = 0.5;
const bucketsLeast = 64;
const newcomersWithoutSearch = 64;

/** What is lost when a key is forgotten. Asked only when there is no room. */
export type Weight = (floats: Float64Array, place: number, now: number) => number;

export interface KeyTableOptions {
  /** So many find room; at most 2^25 or so. */
  readonly keys: number;
  /** How many numbers the law keeps for a key, beside the moment. */
  readonly numbersMore: number;
  readonly weightOf: Weight;
  readonly random: Random;
}

/** The table before it grew, with what was not yet moved. */
interface Outgrown {
  readonly floats: Float64Array;
  readonly hashes: Int32Array;
  readonly buckets: number;
  moved: number;
}

export class KeyTable {
  /** What a law reads and writes: `floats[place + 1]` is the moment, from `place + 2` on it is the law's own. Another array after the table grew. */
  floats: Float64Array;
  /** Keys that lost their place to another one before their moment had passed. */
  forgotten = 0;
  /** The sum of their weights, when they lost it. */
  forgottenWeight = 0;
  readonly #hash: KeyedHash;
  /** Of a place, in numbers of 8 B. */
  readonly #stride: number;
  readonly #bucketsMax: number;
  readonly #weightOf: Weight;
  #hashes: Int32Array;
  #buckets: number;
  #old: Outgrown | undefined;
  #untilNextSearch = 0;
  /** What the latest key was given, and that key, if it came twice in a row: one that comes again and again is neither hashed nor looked for. Keys that take turns neither write a text here nor compare one. */
  #lastPlace = -1;
  #lastKey: string | undefined;

  constructor(options: KeyTableOptions) {
    this.#hash = new KeyedHash(options.random);
    this.#stride = 2 + options.numbersMore;
    this.#weightOf = options.weightOf;
    this.#bucketsMax = bucketsFor(options.keys);
    this.#buckets = this.#bucketsMax;
    while (this.#buckets >= 2 * bucketsLeast) this.#buckets = Math.ceil(this.#buckets / 2);
    this.floats = placesFor(this.#buckets * perBucket * this.#stride);
    this.#hashes = hashesOf(this.floats);
  }

  /** What a table takes at its cap. */
  static bytesAt(keys: number, numbersMore: number): number {
    return bucketsFor(keys) * perBucket * (2 + numbersMore) * 8;
  }

  /** What it takes now. */
  get bytes(): number {
    return this.floats.byteLength + (this.#old?.floats.byteLength ?? 0);
  }

  /** The key's place, or a free one that is now its own. What a free one holds is over: its moment is at most `now`. */
  place(key: string, now: number): number {
    const last = this.#lastKey;
    if (last !== undefined) {
      if (key === last) return this.#lastPlace;
      this.#lastKey = undefined;
    }
    const first = this.#hash.of(key);
    const { second } = this.#hash;
    let place = this.#found(first, second);
    if (place < 0) place = this.#claim(first, second, now);
    if (place === this.#lastPlace) this.#lastKey = key;
    else this.#lastPlace = place;
    return place;
  }

  /** The key's place, or -1; what it holds may be over. */
  find(key: string, now: number): number {
    const first = this.#hash.of(key);
    const { second } = this.#hash;
    const found = this.#found(first, second);
    return found >= 0 || this.#old === undefined ? found : this.#bringOver(first, second, now);
  }

  #found(first: number, second: number): number {
    const a = this.#bucketAt(first);
    const inA = this.#placeIn(a, first, second);
    if (inA >= 0) return inA;
    return this.#placeIn(this.#bucketAt(second), first, second);
  }

  /**
   * Which of a bucket's four places has this hash, or -1. Where it stands is chance, so a branch for each would be mispredicted, and what the next calls need from
   * memory would not be fetched meanwhile: a third of the time with a million keys. At most one matches: no hash is all zeros, as unused places are.
   */
  #placeIn(bucket: number, first: number, second: number): number {
    const hashes = this.#hashes;
    const stride = this.#stride;
    const at0 = 2 * bucket;
    const at1 = at0 + 2 * stride;
    const at2 = at1 + 2 * stride;
    const at3 = at2 + 2 * stride;
    const not0 = differs((hashes[at0] as number) ^ first, (hashes[at0 + 1] as number) ^ second);
    const not1 = differs((hashes[at1] as number) ^ first, (hashes[at1 + 1] as number) ^ second);
    const not2 = differs((hashes[at2] as number) ^ first, (hashes[at2 + 1] as number) ^ second);
    const not3 = differs((hashes[at3] as number) ^ first, (hashes[at3 + 1] as number) ^ second);
    if ((not0 & not1 & not2 & not3) === 1) return -1;
    return bucket + stride * ((not1 ^ 1) + ((not2 ^ 1) << 1) + 3 * (not3 ^ 1));
  }

  /** Where the bucket begins to which half of a hash leads. */
  #bucketAt(half: number): number {
    return bucketOf(half, this.#buckets) * perBucket * this.#stride;
  }

  #claim(first: number, second: number, now: number): number {
    if (this.#old !== undefined) {
      const brought = this.#bringOver(first, second, now);
      if (brought >= 0) return brought;
      this.#moveSome(2, now);
    }
    let place = this.#free(first, second, now);
    if (place < 0) place = this.#makeRoom(first, second, now);
    this.#hashes[2 * place] = first;
    this.#hashes[2 * place + 1] = second;
    return place;
  }

  /** A free place in the first bucket, else in the second: most keys are then found in the first line of memory that is looked at. */
  #free(first: number, second: number, now: number): number {
    const inFirst = this.#freeIn(this.#bucketAt(first), now);
    return inFirst >= 0 ? inFirst : this.#freeIn(this.#bucketAt(second), now);
  }

  #freeIn(bucket: number, now: number): number {
    const { floats } = this;
    const stride = this.#stride;
    for (let at = bucket; at < bucket + perBucket * stride; at += stride) if ((floats[at + 1] as number) <= now) return at;
    return -1;
  }

  #makeRoom(first: number, second: number, now: number): number {
    if (this.#old !== undefined) {
      this.#moveSome(Infinity, now);
      const free = this.#free(first, second, now);
      if (free >= 0) return free;
    }
    if (this.#buckets < this.#bucketsMax) {
      const place = this.#stepAside(first, second, now, 1);
      if (place >= 0) return place;
      this.#old = { floats: this.floats, hashes: this.#hashes, buckets: this.#buckets, moved: 0 };
      this.#buckets = Math.min(this.#bucketsMax, 2 * this.#buckets);
      this.floats = placesFor(this.#buckets * perBucket * this.#stride);
      this.#hashes = hashesOf(this.floats);
      return this.#bucketAt(first);
    }
    // In a table that is full of keys in use, looking for two steps with each newcomer would cost microseconds and find nothing.
    if (this.#untilNextSearch > 0) this.#untilNextSearch--;
    else {
      const place = this.#stepAside(first, second, now, 2);
      if (place >= 0) return place;
      this.#untilNextSearch = newcomersWithoutSearch;
    }
    return this.#forgetLeast(first, second, now);
  }

  /** Makes a key of one of two buckets go to its other bucket, from which, with two steps, another one may go to its own; the place it leaves, or -1. */
  #stepAside(first: number, second: number, now: number, steps: 1 | 2): number {
    const place = this.#leaveBucket(this.#bucketAt(first), now, steps);
    return place >= 0 ? place : this.#leaveBucket(this.#bucketAt(second), now, steps);
  }

  #leaveBucket(bucket: number, now: number, steps: number): number {
    for (let at = bucket; at < bucket + perBucket * this.#stride; at += this.#stride) {
      const [first, second] = [this.#hashes[2 * at] as number, this.#hashes[2 * at + 1] as number];
      const other = this.#bucketAt(first) === bucket ? this.#bucketAt(second) : this.#bucketAt(first);
      if (other === bucket) continue;
      let free = this.#freeIn(other, now);
      // The second step cannot come back to this bucket: nothing is free in it.
      if (free < 0 && steps > 1) free = this.#leaveBucket(other, now, steps - 1);
      if (free < 0) continue;
      this.floats.copyWithin(free, at, at + this.#stride);
      this.floats.fill(0, at, at + this.#stride);
      return at;
    }
    return -1;
  }

  #forgetLeast(first: number, second: number, now: number): number {
    let least = -1;
    let leastWeight = Infinity;
    for (const bucket of [this.#bucketAt(first), this.#bucketAt(second)])
      for (let at = bucket; at < bucket + perBucket * this.#stride; at += this.#stride) {
        const weight = this.#weightOf(this.floats, at, now);
        if (weight < leastWeight) [least, leastWeight] = [at, weight];
      }
    this.forgotten++;
    this.forgottenWeight += leastWeight;
    this.floats.fill(0, least, least + this.#stride);
    return least;
  }

  // ---- growing ------------------------------------------------------------------------------------------------------

  /** Moves what still means something out of so many of the old buckets. */
  #moveSome(buckets: number, now: number): void {
    const old = this.#old as Outgrown;
    const until = Math.min(old.buckets, old.moved + buckets);
    for (; old.moved < until; old.moved++) for (let nth = 0; nth < perBucket; nth++) this.#bring((old.moved * perBucket + nth) * this.#stride, now);
    if (old.moved === old.buckets) this.#old = undefined;
  }

  /** The key's place if it was still in the old table, from where it is brought over; else -1. */
  #bringOver(first: number, second: number, now: number): number {
    const { hashes, buckets } = this.#old as Outgrown;
    for (const half of [first, second])
      for (let nth = 0; nth < perBucket; nth++) {
        const at = (bucketOf(half, buckets) * perBucket + nth) * this.#stride;
        if (hashes[2 * at] === first && hashes[2 * at + 1] === second) {
          const brought = this.#bring(at, now);
          if (brought >= 0) return brought;
        }
      }
    return -1;
  }

  #bring(from: number, now: number): number {
    const { floats, hashes } = this.#old as Outgrown;
    if ((floats[from + 1] as number) <= now) return -1;
    const [first, second] = [hashes[2 * from] as number, hashes[2 * from + 1] as number];
    this.#lastKey = undefined; // it may be who steps aside
    let to = this.#free(first, second, now);
    if (to < 0) to = this.#stepAside(first, second, now, 2);
    if (to < 0) to = this.#forgetLeast(first, second, now);
    // As integers: a half of a hash read as a float may be a NaN, of which there are many, and come out as another one.
    for (let nth = 0; nth < 2 * this.#stride; nth++) this.#hashes[2 * to + nth] = hashes[2 * from + nth] as number;
    floats[from + 1] = 0;
    return to;
  }
}

const bucketsFor = (keys: number): number => Math.max(bucketsLeast, Math.ceil(keys / (perBucket * loadMax)));

/** Large blocks of memory begin 16 B after a page with glibc: 48 B later a bucket of 64 B is one line of the cache, and elsewhere nothing is lost. */
const placesFor = (numbers: number): Float64Array => new Float64Array(new ArrayBuffer(8 * numbers + 64), 48, numbers);
const hashesOf = (places: Float64Array): Int32Array => new Int32Array(places.buffer, places.byteOffset, 2 * places.length);

/** Buckets need not be a power of two: the half of the hash is taken as a fraction of them. */
const bucketOf = (half: number, buckets: number): number => ((half >>> 0) * (buckets / 4_294_967_296)) | 0;

/** 1 when one of them is not 0, else 0, without a branch. */
const differs = (a: number, b: number): number => {
  const bits = a | b;
  return (bits | -bits) >>> 31;
};
