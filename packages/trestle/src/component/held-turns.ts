/** The turns that one run holds on keys that are fought over: of this process (lane.ts) until its commit is staged, between processes (store-turns.ts) until that is known. */
import type { StoreKey } from "../store/index.ts";
import type { TurnTaker } from "./lane.ts";
import type { Run } from "./run.ts";
import { noMembers, withMember } from "./scarce.ts";

export class HeldTurns implements TurnTaker {
  waitsFor: StoreKey | undefined;
  readonly #run: Run;
  #turns: ReadonlySet<StoreKey> = noMembers;
  /** Of those, and of those before, the keys that this process holds against others until the outcome is known. */
  #storeTurns: ReadonlySet<StoreKey> = noMembers;

  constructor(run: Run) {
    this.#run = run;
  }

  async take(key: StoreKey): Promise<void> {
    const { node, frame } = this.#run;
    const { lane } = node;
    if (!lane.isContended(key) || !(await lane.takeTurn(key, this))) return;
    if (!this.#run.isOpen) return lane.endTurn(key, this); // it ended while it waited: nobody would give the turn on
    this.#turns = withMember(this.#turns, key);
    const { between } = lane;
    if (!between?.isFoughtOver(key) || this.#storeTurns.has(key) || !(await between.enter(key, this.#storeTurns, frame.deadlineMs))) return;
    if (this.#run.isOpen) this.#storeTurns = withMember(this.#storeTurns, key);
    else between.leave(key);
  }

  /** The commit that decides on these keys is staged: the next one may decide on it. */
  staged(outcome: Promise<unknown>): void {
    const entered = this.#storeTurns;
    if (entered !== noMembers) {
      this.#storeTurns = noMembers;
      const leave = () => this.#leave(entered);
      outcome.then(leave, leave);
    }
    this.end();
  }

  end(): void {
    if (this.#storeTurns !== noMembers) {
      this.#leave(this.#storeTurns);
      this.#storeTurns = noMembers;
    }
    if (this.#turns === noMembers) return;
    for (const key of this.#turns) this.#run.node.lane.endTurn(key, this);
    this.#turns = noMembers;
  }

  #leave(entered: ReadonlySet<StoreKey>): void {
    for (const key of entered) this.#run.node.lane.between?.leave(key);
  }
}
