/**
 * A doubly linked circular list whose entries are the things themselves: putting one at the end and taking one out take constant time and allocate nothing.
 * A list is a `Linked` of its own, its head, which is no entry.
 */
export class Linked {
  next: Linked = this;
  previous: Linked = this;

  /** Puts `entry`, which is in no list, at the end of the list of which this is the head. */
  append(entry: Linked): void {
    entry.previous = this.previous;
    entry.next = this;
    this.previous.next = entry;
    this.previous = entry;
  }

  /** Takes this entry out of its list. In none: nothing happens. */
  unlink(): void {
    this.previous.next = this.next;
    this.next.previous = this.previous;
    this.next = this.previous = this;
  }

  get isAlone(): boolean {
    return this.next === this;
  }
}
