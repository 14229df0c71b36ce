/** What is to be done, first things first: a binary heap. What was cancelled stays, without its task, until it comes up. */
export interface HeapEntry {
  /** `undefined` once it was cancelled or done. */
  task: (() => void) | undefined;
}

export class TaskHeap<T extends HeapEntry> {
  readonly #heap: T[] = [];
  readonly #before: (a: T, b: T) => boolean;

  /** `before` is a total order. */
  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before;
  }

  push(entry: T): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(entry, heap[parent] as T)) break;
      heap[at] = heap[parent] as T;
      at = parent;
    }
    heap[at] = entry;
  }

  /** The first that was not cancelled; it stays. */
  peek(): T | undefined {
    while (this.#heap.length > 0 && !(this.#heap[0] as T).task) this.#removeFirst();
    return this.#heap[0];
  }

  /** Those that were not cancelled, in no order. */
  *entries(): Iterable<T> {
    for (const entry of this.#heap) if (entry.task) yield entry;
  }

  pop(): T | undefined {
    const first = this.peek();
    if (first) this.#removeFirst();
    return first;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop() as T;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1] as T, heap[child] as T)) child++;
      if (!this.#before(heap[child] as T, last)) break;
      heap[at] = heap[child] as T;
      at = child;
    }
    heap[at] = last;
  }
}
