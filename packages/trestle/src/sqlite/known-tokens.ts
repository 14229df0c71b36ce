/**
 * Which keys a table of tokens certainly does not have. An idempotent request begins by asking for its token, and nearly always there is none: to
 * find that out in the index is one random page for each, read again behind every commit (6 µs; as much as checking a body). Rows
 * of such a table are never removed but with the table, and their ids rise. So it is enough to go over the rows that have come since the last
 * look, whichever process wrote them, and to remember a few bits of each key.
 *
 * Exact within the snapshot it is used in: a key that is not among the bits is absent; one that may be is looked for. What is remembered is
 * Bloom filters, each twice as large as the one before it, 12 bits for a key: one look in a hundred is made in vain.
 */
import type { StoreKey } from "../store/index.ts";
import type { Prepared } from "./statements.ts";

/** Rows that a look goes over: more than that is caught up with over several, and until then nothing is known. */
const rowsPerLook = 500;
/** 4 MB of bits. A table with more rows is looked up in as it stands. */
const keysMax = 2_000_000;
/** So is one of which more are left to go over: it was large when the process came, or others write faster than this one looks. */
const behindMax = 100_000;
const firstFilterKeys = 16_384;
const bitsPerKey = 12;
const probes = 6;

export class KnownTokens {
  readonly #newest: string;
  readonly #since: string;
  readonly #keyOf: string;
  #filters: KeyFilter[] | undefined = [];
  #lastId = 0;
  #lastKey: StoreKey | undefined;
  #keys = 0;

  constructor(table: string) {
    this.#newest = `select max(id) from ${table}`;
    this.#since = `select id, key from ${table} where id > ? order by id limit ${rowsPerLook}`;
    this.#keyOf = `select key from ${table} where id = ?`;
  }

  /** The table is the one that was gone over, and none that was made again under its name (a clock was set back). */
  isStill(sql: (text: string) => Prepared): boolean {
    return this.#lastKey === undefined || sql(this.#keyOf).get(this.#lastId)?.[0] === this.#lastKey;
  }

  /** Takes in what has come. Answers whether in this snapshot each key is known about; inside a read transaction. */
  catchUp(sql: (text: string) => Prepared): boolean {
    if (!this.#filters) return false;
    const rows = sql(this.#since).all(this.#lastId);
    for (const [, key] of rows) this.#add(key as string);
    const last = rows.at(-1);
    if (last) [this.#lastId, this.#lastKey] = last as unknown as [number, string];
    if (rows.length < rowsPerLook && this.#keys <= keysMax) return true;
    if (this.#keys > keysMax || Number(sql(this.#newest).get()?.[0]) - this.#lastId > behindMax) this.#filters = undefined;
    return false;
  }

  /** `false`: no row that `catchUp` has gone over has this key. */
  mayHave(key: StoreKey): boolean {
    const [a, b] = hashesOf(key);
    for (const filter of this.#filters ?? []) if (filter.mayHave(a, b)) return true;
    return false;
  }

  #add(key: StoreKey): void {
    const filters = this.#filters as KeyFilter[];
    let last = filters.at(-1);
    if (!last || last.isFull) filters.push((last = new KeyFilter(firstFilterKeys * 2 ** filters.length)));
    const [a, b] = hashesOf(key);
    last.add(a, b);
    this.#keys++;
  }
}

/** A Bloom filter (Bloom 1970); its probes come of two hashes (Kirsch and Mitzenmacher, 2006). */
class KeyFilter {
  readonly #bits: Uint32Array;
  readonly #mask: number;
  #room: number;

  /** `keys`: a power of two. */
  constructor(keys: number) {
    const bits = 2 ** Math.ceil(Math.log2(keys * bitsPerKey));
    this.#bits = new Uint32Array(bits / 32);
    this.#mask = bits - 1;
    this.#room = bits / bitsPerKey;
  }
  get isFull(): boolean {
    return this.#room < 1;
  }
  add(a: number, b: number): void {
    this.#room--;
    for (let probe = 0; probe < probes; probe++) {
      const bit = (a + Math.imul(probe, b)) & this.#mask;
      this.#bits[bit >>> 5] = (this.#bits[bit >>> 5] as number) | (1 << (bit & 31));
    }
  }
  mayHave(a: number, b: number): boolean {
    for (let probe = 0; probe < probes; probe++) {
      const bit = (a + Math.imul(probe, b)) & this.#mask;
      if (((this.#bits[bit >>> 5] as number) & (1 << (bit & 31))) === 0) return false;
    }
    return true;
  }
}

/** Two hashes of a text, multiplied and mixed as MurmurHash3 does; the second is odd, so that probes differ. */
function hashesOf(text: string): readonly [number, number] {
  let a = 0x9e37_79b9;
  let b = 0x85eb_ca6b;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    a = Math.imul(a ^ code, 0xcc9e_2d51);
    a ^= a >>> 15;
    b = Math.imul(b ^ code, 0x1b87_3593);
    b ^= b >>> 13;
  }
  return [Math.imul(a ^ (a >>> 16), 0x85eb_ca6b), Math.imul(b ^ (b >>> 16), 0xc2b2_ae35) | 1];
}
