/**
 * Buckets in the app's store. Each is a record under `~limits` that says when it is full again, and a draw is a commit that moves this on (the merge `take`): judged by the
 * store's clock on the newest value, so a hot key gives nobody a conflict, and commits of many keys share the store's batch. Full buckets expire.
 *
 * A process is known to the others by a bucket of its own, which it keeps from getting full.
 */
import type { Draw, Drawn, LimitPlace } from "../component/index.ts";
import { emptyContext, Fault, inContext, type Clock, type Ids } from "../kernel/index.ts";
import { limits, storeKey, type CommitOutcome, type Merge, type Store, type Write } from "../store/index.ts";

const component = "~limits";
const seenEveryMs = 10_000;
/** Of those that start together, too, each knows the others soon. */
const seenAgainMs = 1_000;
const seenForMs = 30_000;
/** A draw that was refused is made again with what is there; another process may have taken that meanwhile. */
const attemptsMax = 4;

export class StorePlace implements LimitPlace {
  processes = 1;
  readonly #store: Store;
  readonly #ids: Ids;
  readonly #clock: Clock;
  readonly #seen: Write;
  #seeAtMs = 0;
  #sawBefore = false;

  constructor(node: { readonly store: Store; readonly ids: Ids; readonly clock: Clock; readonly id: string }) {
    this.#store = node.store;
    this.#ids = node.ids;
    this.#clock = node.clock;
    this.#seen = take(storeKey(component, "~processes", node.id), { amountUs: (seenForMs / 2) * 1_000, burstUs: seenForMs * 1_000 });
  }

  draw(draw: Draw): Promise<Drawn> {
    // Not in the context of whoever waits: the deadline of one is not that of all.
    return inContext(emptyContext, () => {
      this.#beSeen();
      return this.#draw(draw);
    });
  }

  async #draw({ key, perMs, burst, least, wanted, back }: Draw): Promise<Drawn> {
    const record = storeKey(component, undefined, key);
    const usOf = (tokens: number) => Math.ceil((tokens / perMs) * 1_000 - 1e-3);
    const burstUs = usOf(burst);
    const giveBack = back > 0 ? [take(record, { amountUs: -Math.floor((back / perMs) * 1_000), burstUs })] : [];
    let amount = wanted;
    let there = burst;
    for (let attempt = 0; attempt < attemptsMax && amount > 0; attempt++) {
      const outcome = await this.#commit([...giveBack, take(record, { amountUs: Math.min(usOf(amount), burstUs), burstUs })]);
      // An outcome that is heard of again does not say what was taken, only that it was.
      if (outcome.ok) return { granted: amount, taken: tokensOf(outcome.takenUs, perMs) };
      if (outcome.refused !== "guard") throw unexpected(outcome);
      there = Math.max(0, amount - (outcome.value / 1_000) * perMs);
      amount = Math.min(amount, Math.floor(there / least + 1e-9) * least);
    }
    if (giveBack.length > 0 || wanted === 0) {
      const outcome = await this.#commit(giveBack.length > 0 ? giveBack : [take(record, { amountUs: 0, burstUs })]);
      if (!outcome.ok) throw unexpected(outcome);
      return { granted: 0, taken: tokensOf(outcome.takenUs, perMs) };
    }
    return { granted: 0, taken: burst - there };
  }

  #commit(writes: readonly Write[]): Promise<CommitOutcome> {
    return this.#store.commit({ id: this.#ids.next(), expects: [], writes });
  }

  /** Behind the draw that it comes with: nobody waits for it, and what fails is tried again with the next one. */
  #beSeen(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs < this.#seeAtMs) return;
    this.#seeAtMs = nowMs + (this.#sawBefore ? seenEveryMs : seenAgainMs);
    this.#sawBefore = true;
    this.#countProcesses().catch(() => undefined);
  }

  async #countProcesses(): Promise<void> {
    await this.#commit([this.#seen]);
    const seen = await this.#store.read.list({ prefix: storeKey(component, "~processes", ""), order: "key", limit: limits.pageRowsMax });
    this.processes = Math.max(1, seen.length);
  }

  async close(): Promise<void> {}
}

const take = (key: string, of: Omit<Merge & { readonly kind: "take" }, "kind">): Write => ({ kind: "merge", key, merge: { kind: "take", ...of } });
const tokensOf = (us: number | undefined, perMs: number): number => ((us ?? 0) / 1_000) * perMs;

function unexpected(outcome: CommitOutcome & { readonly ok: false }): Fault {
  return Fault.create(
    "limits.place-unfit",
    `a record under ${component} is no token bucket: ${outcome.refused}`,
    `Remove what else was written under ${component}.`,
    {
      details: { outcome },
    },
  );
}
