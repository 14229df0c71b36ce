/**
 * Rows of 32-bit integers that were seen: hash tables in typed arrays, so that what they hold is known to the byte. Some columns, the last `bitColumns`, are
 * sets of bits of which fewer are as good: a row counts as seen, too, if one of the last rows that differ from it in these columns alone has no bit that it lacks.
 */
export class RowSet {
  readonly #width: number;
  readonly #plain: number;
  #rows: Int32Array;
  #hashes: Int32Array;
  /** By full hash, place of a row + 1; 0 is free. Its length is twice the rows there is room for, a power of two. */
  #table: Int32Array;
  /** By the hash without the bits, place + 1 of the last such row; and of each row, that of the one before. Empty without bit columns. */
  #latest: Int32Array;
  #before: Int32Array;
  #count = 0;

  constructor(width: number, bitColumns: number) {
    this.#width = width;
    this.#plain = width - bitColumns;
    this.#rows = new Int32Array(width * 64);
    this.#hashes = new Int32Array(64);
    this.#table = new Int32Array(128);
    this.#latest = new Int32Array(bitColumns > 0 ? 128 : 0);
    this.#before = new Int32Array(bitColumns > 0 ? 64 : 0);
  }

  get size(): number {
    return this.#count;
  }

  /** What it will hold while it adds the next row: for a moment half as much again as afterwards, if it has to grow. */
  get bytesForNext(): number {
    const room = this.#hashes.length;
    return 4 * (this.#width + (this.#before.length > 0 ? 6 : 3)) * (this.#count === room ? 3 * room : room);
  }

  /** False if it was seen. `hash` is that of all columns, `plainHash` of those without bits. */
  add(row: Int32Array, hash: number, plainHash: number): boolean {
    if (this.#count === this.#hashes.length) this.#grow();
    const mask = this.#table.length - 1;
    let slot = hash & mask;
    for (let entry = this.#table[slot] as number; entry !== 0; entry = this.#table[slot] as number) {
      if (this.#hashes[entry - 1] === hash && this.#same(entry - 1, row, this.#width)) return false;
      slot = (slot + 1) & mask;
    }
    if (this.#before.length > 0) {
      const head = this.#latest[plainHash & mask] as number;
      // Of a bounded number, so that a long chain costs no more than what it saves.
      for (let entry = head, looked = 0; entry !== 0 && looked < 64; entry = this.#before[entry - 1] as number, looked++)
        if (this.#same(entry - 1, row, this.#plain) && this.#needsNoMore(entry - 1, row)) return false;
      this.#before[this.#count] = head;
      this.#latest[plainHash & mask] = this.#count + 1;
    }
    this.#rows.set(row, this.#count * this.#width);
    this.#hashes[this.#count] = hash;
    this.#table[slot] = ++this.#count;
    return true;
  }

  #same(entry: number, row: Int32Array, columns: number): boolean {
    const rows = this.#rows;
    for (let at = 0, from = entry * this.#width; at < columns; at++) if (rows[from + at] !== row[at]) return false;
    return true;
  }

  #needsNoMore(entry: number, row: Int32Array): boolean {
    for (let at = this.#plain; at < this.#width; at++) if (((this.#rows[entry * this.#width + at] as number) & ~(row[at] as number)) !== 0) return false;
    return true;
  }

  #grow(): void {
    const room = this.#hashes.length * 2;
    this.#rows = grown(this.#rows, room * this.#width);
    this.#hashes = grown(this.#hashes, room);
    this.#table = new Int32Array(room * 2);
    const mask = this.#table.length - 1;
    if (this.#before.length > 0) {
      this.#before = grown(this.#before, room);
      this.#latest = new Int32Array(room * 2);
    }
    for (let entry = 0; entry < this.#count; entry++) {
      let slot = (this.#hashes[entry] as number) & mask;
      while (this.#table[slot] !== 0) slot = (slot + 1) & mask;
      this.#table[slot] = entry + 1;
      if (this.#before.length === 0) continue;
      let plainHash = 0;
      for (let at = 0; at < this.#plain; at++) plainHash ^= columnHash(at, this.#rows[entry * this.#width + at] as number);
      this.#before[entry] = this.#latest[plainHash & mask] as number;
      this.#latest[plainHash & mask] = entry + 1;
    }
  }
}

export function grown(array: Int32Array, length: number): Int32Array {
  const larger = new Int32Array(length);
  larger.set(array);
  return larger;
}

/** A hash of one column of a row. That of the row is the exclusive or of its columns', so that a change costs two of these. */
export function columnHash(column: number, value: number): number {
  let hash = Math.imul(value ^ Math.imul(column + 1, 0x9e37_79b1), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return hash ^ (hash >>> 16);
}
