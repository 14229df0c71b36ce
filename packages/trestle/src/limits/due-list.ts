/** What is due so long after it began: a list in that order, and one timer for all of it. */
import { emptyContext, inContext, Linked, unlink, type Clock, type Link } from "../kernel/index.ts";

/** `unlink` ends it. */
export interface Due extends Link {
  /** The list's. */
  dueAtMs: number;
}

export interface DueListParts<T extends Due> {
  readonly ms: number;
  /** Called when its time is over and it is in no list any more. */
  readonly due: (entry: T, nowMs: number) => void;
  readonly clock: Clock;
  /** What is due within so many milliseconds after others is due together; default 0. */
  readonly togetherMs?: number;
}

export class DueList<T extends Due> {
  readonly #parts: DueListParts<T>;
  readonly #head = new Linked();
  /** Whether there is a timer, or the list is being looked at. */
  #isWatched = false;

  constructor(parts: DueListParts<T>) {
    this.#parts = parts;
  }

  /** Anew, if it is in the list already. */
  begin(entry: T, nowMs: number): void {
    unlink(entry);
    entry.dueAtMs = nowMs + this.#parts.ms;
    this.#head.append(entry);
    if (!this.#isWatched) this.#watch(this.#parts.ms);
  }

  #watch(inMs: number): void {
    this.#isWatched = true;
    inContext(emptyContext, () => void this.#parts.clock.after(inMs, this.#look));
  }

  readonly #look = (): void => {
    const { clock, due, togetherMs = 0 } = this.#parts;
    const nowMs = clock.monotonicMs();
    try {
      for (let first = this.#head.next; first !== this.#head && (first as T).dueAtMs <= nowMs; first = this.#head.next) {
        unlink(first);
        due(first as T, nowMs);
      }
    } finally {
      // Whatever one of them throws, the others are still to be told.
      if (this.#head.isAlone) this.#isWatched = false;
      else this.#watch(Math.max(togetherMs, (this.#head.next as T).dueAtMs - nowMs));
    }
  };
}
