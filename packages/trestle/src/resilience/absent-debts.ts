/**
 * What keys owe while nobody of theirs waits, in memory that does not grow with the number of keys (16 kB): a key has a hand of 6 of 1,024 cells, each of which says until when the one who owes most of
 * those that have it in their hand is in debt; a key owes what the least of its six cells says.
 *
 * Whose hand is which is a hash of the key under a secret of this process (KeyedHash): nobody can choose keys that cover a victim's. A key that owes nothing is held for one that does when its six cells are all in the
 * hands of debtors (shuffle sharding): with one debtor once in 2e13, with 4 in 6e9, with 16 in 2e6, with 100 in 130.
 * It then has its next turn when the least of these debts is paid, at the latest.
 */
export const hands = { of: 1_024, size: 6 } as const;

/** The two halves of a key's hash: three cards of ten bits in each. One hand in seventy has a card twice. */
export interface Hand {
  readonly first: number;
  readonly second: number;
}

export class AbsentDebts {
  /** Of the monotonic clock. */
  readonly #untilMs = new Float64Array(hands.of);

  /** In milliseconds of one place; at most too much. */
  of(hand: Hand, nowMs: number): number {
    return Math.max(0, this.#least(hand) - nowMs);
  }

  /** From now on it owes `ms`. */
  set(hand: Hand, ms: number, nowMs: number): void {
    const untilMs = nowMs + ms;
    // A cell that says more is another key's; one that says what this key owed is most likely its own.
    const ownMs = Math.max(untilMs, this.#least(hand));
    for (let card = 0; card < hands.size; card++) {
      const at = cell(hand, card);
      if ((this.#untilMs[at] as number) <= ownMs) this.#untilMs[at] = untilMs;
    }
  }

  #least(hand: Hand): number {
    let least = Infinity;
    for (let card = 0; card < hands.size; card++) least = Math.min(least, this.#untilMs[cell(hand, card)] as number);
    return least;
  }
}

const cell = ({ first, second }: Hand, card: number): number => (card < 3 ? first >>> (10 * card) : second >>> (10 * (card - 3))) & (hands.of - 1);
