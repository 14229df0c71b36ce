/**
 * A doubly linked circular list whose entries are the things themselves: putting one at the end and taking one out take constant time and allocate nothing.
 * A list is a `Linked` of its own, its head, which is no entry.
 */

/** What can be an entry: in no list it is linked to itself. A class that is made for each call has these fields by itself, because a constructor under another one is slower. */
export interface Link {
  next: Link;
  previous: Link;
}

/** Takes `entry` out of its list. In none: nothing happens. */
export function unlink(entry: Link): void {
  entry.previous.next = entry.next;
  entry.next.previous = entry.previous;
  entry.next = entry.previous = entry;
}

export class Linked implements Link {
  next: Link = this;
  previous: Link = this;

  /** Puts `entry`, which is in no list, at the end of the list of which this is the head. */
  append(entry: Link): void {
    entry.previous = this.previous;
    entry.next = this;
    this.previous.next = entry;
    this.previous = entry;
  }
}

/** Whether `entry` is in no list; of a head, whether nobody is in its. */
export function isAlone(entry: Link): boolean {
  return entry.next === entry;
}
