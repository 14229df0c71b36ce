/** What is to come, earliest first: a binary heap by time, then by draw, then by creation. A cancelled event stays, without effect, until it comes up. */
import type { Life } from "./world.ts";

export interface WorldEvent {
  /** Whole microseconds since the world began. */
  atUs: number;
  /** When it was set off. */
  readonly sinceUs: number;
  readonly tie: number;
  readonly order: number;
  /** Whose it is: dropped with that life. `undefined` for the world's own. */
  readonly life: Life | undefined;
  readonly label: string;
  /** `undefined` once it was cancelled. */
  task: (() => void) | undefined;
}

const before = (a: WorldEvent, b: WorldEvent): boolean => (a.atUs !== b.atUs ? a.atUs < b.atUs : a.tie !== b.tie ? a.tie < b.tie : a.order < b.order);

export class EventHeap {
  readonly #heap: WorldEvent[] = [];
  #cancelled = 0;

  /** Without those that were cancelled. */
  get size(): number {
    return this.#heap.length - this.#cancelled;
  }

  push(event: WorldEvent): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent] as WorldEvent)) break;
      heap[at] = heap[parent] as WorldEvent;
      at = parent;
    }
    heap[at] = event;
  }

  cancel(event: WorldEvent): void {
    if (!event.task) return;
    event.task = undefined;
    this.#cancelled++;
  }

  /** The next event that was not cancelled; `undefined` when there is none. */
  pop(): WorldEvent | undefined {
    for (;;) {
      const first = this.#heap[0];
      if (!first) return undefined;
      this.#removeFirst();
      if (first.task) return first;
      this.#cancelled--;
    }
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop() as WorldEvent;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as WorldEvent, heap[child] as WorldEvent)) child++;
      if (!before(heap[child] as WorldEvent, last)) break;
      heap[at] = heap[child] as WorldEvent;
      at = child;
    }
    heap[at] = last;
  }
}
