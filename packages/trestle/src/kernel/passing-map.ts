/**
 * A map of what comes and goes: entries that live for milliseconds, in a map that lives as long as the process.
 *
 * In a Map that is what makes the garbage collector slow. Every so many deletions V8 copies its table; once the Map has become old the copies
 * are allocated old as well, and each abandoned one goes on holding what it held, so that everything that ever passed through the Map survives until the next
 * full collection: 7 % of a worker's time, in pauses of 10 ms (`node --trace-gc` of `npm run bench -- queue`). A Map made anew before V8 copies it is young, and dies young.
 */
export class PassingMap<K, V> {
  #entries = new Map<K, V>();
  /** Entries that the present Map has seen. */
  #seen = 0;

  get size(): number {
    return this.#entries.size;
  }

  get(key: K): V | undefined {
    return this.#entries.get(key);
  }

  has(key: K): boolean {
    return this.#entries.has(key);
  }

  set(key: K, value: V): void {
    // Not before it has seen twice what it holds, so that no entry is copied more often than another one comes.
    if (++this.#seen > renewAfter && this.#seen > 2 * this.#entries.size) {
      this.#entries = new Map(this.#entries);
      this.#seen = this.#entries.size + 1;
    }
    this.#entries.set(key, value);
  }

  delete(key: K): boolean {
    return this.#entries.delete(key);
  }

  values(): MapIterator<V> {
    return this.#entries.values();
  }
}

const renewAfter = 256;
