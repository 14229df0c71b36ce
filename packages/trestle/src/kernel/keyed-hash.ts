/**
 * 64 bits of a text that nobody can foresee who does not know the secret: so nobody can choose keys that meet in a table.
 *
 * HalfSipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, in its 32-bit form, which Linux uses for its own tables), over bytes where
 * every code unit fits into one, else over code units, with another start so that the two never meet. Its state is folded into two words instead of one:
 * nothing of it leaves the process.
 *
 * Reading a character costs more than mixing it (36 characters: 76 ns, of which 66 are `charCodeAt`), so the hashes of keys that come again and again are
 * remembered: comparing a text with a remembered one costs a fifth. What is remembered is found by length and three characters, which an attacker
 * may choose: what they win is that their own keys cost what they would cost without a memory.
 */
import type { Random } from "./random.ts";

const remembered = 256;
/** A longer key would be kept alive by being remembered. */
const rememberedCharsMax = 128;
/** One miss in so many is remembered: keys that come once do not drive out those that come often. */
const rememberOneIn = 8;

export class KeyedHash {
  /** The other half of the answer to the last `of`; never 0, which stands for nobody in tables. */
  second = 0;
  readonly #k0: number;
  readonly #k1: number;
  readonly #keys: (string | undefined)[] = new Array<string | undefined>(remembered).fill(undefined);
  readonly #hashes = new Int32Array(2 * remembered);
  #misses = 0;

  constructor(random: Random) {
    this.#k0 = random.uint32() | 0;
    this.#k1 = random.uint32() | 0;
  }

  /** One half, a signed 32-bit integer; the other half is in `second` until the next call. */
  of(key: string): number {
    const { length } = key;
    if (length === 0) return this.#hash(key);
    const at = (key.charCodeAt(length - 1) + 31 * key.charCodeAt(length >> 1) + 7 * key.charCodeAt((3 * length) >> 2) + length) & (remembered - 1);
    if (this.#keys[at] === key) {
      this.second = this.#hashes[2 * at + 1] as number;
      return this.#hashes[2 * at] as number;
    }
    const first = this.#hash(key);
    this.#misses = (this.#misses + 1) % rememberOneIn;
    if (this.#misses === 0 && length <= rememberedCharsMax) {
      this.#keys[at] = key;
      this.#hashes[2 * at] = first;
      this.#hashes[2 * at + 1] = this.second;
    }
    return first;
  }

  /** The rounds are written out: as calls that fill an array they take twice as long. */
  #hash(key: string): number {
    let v0 = this.#k0;
    let v1 = this.#k1;
    let v2 = 0x6c796765 ^ v0;
    let v3 = 0x74656462 ^ v1;
    const { length } = key;
    const whole = length & ~3;
    let at = 0;
    for (; at < whole; at += 4) {
      const c0 = key.charCodeAt(at);
      const c1 = key.charCodeAt(at + 1);
      const c2 = key.charCodeAt(at + 2);
      const c3 = key.charCodeAt(at + 3);
      if ((c0 | c1 | c2 | c3) > 0xff) return this.#wide(key);
      const word = c0 | (c1 << 8) | (c2 << 16) | (c3 << 24);
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
    }
    let last = length << 24;
    for (let shift = 0; at < length; at++, shift += 8) {
      const code = key.charCodeAt(at);
      if (code > 0xff) return this.#wide(key);
      last |= code << shift;
    }
    return this.#finish(v0, v1, v2, v3, last);
  }

  #wide(key: string): number {
    let v0 = this.#k0;
    let v1 = this.#k1 ^ 0xee;
    let v2 = 0x6c796765 ^ this.#k0;
    let v3 = 0x74656462 ^ this.#k1;
    const { length } = key;
    for (let at = 0; at + 1 < length; at += 2) {
      const word = key.charCodeAt(at) | (key.charCodeAt(at + 1) << 16);
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
    }
    return this.#finish(v0, v1, v2, v3, (length << 24) | (length & 1 ? key.charCodeAt(length - 1) : 0));
  }

  /** The last word, then three rounds. */
  #finish(v0: number, v1: number, v2: number, v3: number, last: number): number {
    let word = last;
    v3 ^= word;
    for (let round = 0; round < 4; round++) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
      if (round === 0) v2 ^= 0xff;
      word = 0;
    }
    this.second = v1 ^ v3 || 1;
    return v0 ^ v2;
  }
}
