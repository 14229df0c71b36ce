/** Ids and chance of a run: the same on every run of its invocation. */
import { seededRandom, seriesLength, uuidv7Series, type Random } from "../kernel/index.ts";
import type { Run } from "./run.ts";

export class Chance {
  readonly #run: Run;
  #minted = 0;
  #ids: (at: number) => string = String;
  #random: Random | undefined;

  constructor(run: Run) {
    this.#run = run;
  }

  random(): number {
    this.#run.assertFree();
    this.#random ??= seededRandom(this.#run.frame.id);
    return this.#random.next();
  }

  /** A UUIDv7 from the invocation's id, its start and a count. */
  newId(): string {
    this.#run.assertFree();
    const at = this.#minted++ % seriesLength;
    if (at === 0) this.#ids = uuidv7Series(Math.floor(this.#run.replay.startedAtMs), `${this.#run.frame.id}#${this.#minted}`);
    return this.#ids(at);
  }

  /** Was this id minted here, in the first run that this invocation ever had? Then nobody else can have used it, as its commit will find out. */
  isNew(id: string | number): boolean {
    if (this.#run.frame.first !== true || this.#minted === 0 || typeof id !== "string" || id.length !== 36) return false;
    const at = Number.parseInt(id.slice(15, 18), 16);
    return at < this.#minted && this.#ids(at) === id;
  }
}
