/**
 * A following projection on one node: reads the log behind its durable position and commits rows and the new position together.
 * Two nodes may run it; the position's version lets exactly one of them write each step.
 *
 * States: `idle` (at the end of the log; a change wakes it), `working` (a batch is read, folded, committed), `stopped`.
 */
import { decode, encode, readEvent, type Component, type NodePart, type NodeServices, userKey } from "../component/index.ts";
import { Fault, sleep } from "../kernel/index.ts";
import { parseKey, storeKey, type Position, type StoreKey, type Write } from "../store/index.ts";
import { concernsRow, encodeRow, foldRow, type RowFolds } from "./row-folds.ts";

// Rows read in a batch are preconditions of it, so it stays well below limits.expectationsMax.
const batchEvents = 200;

export class ProjectionFollower implements NodePart {
  readonly name: string;
  readonly #node: NodeServices;
  readonly #source: Component;
  readonly #folds: RowFolds;
  readonly #stopped = new AbortController();
  #working: Promise<void> | undefined;
  #again = false;
  /** Events of the next step: fewer after rows too large for one commit. */
  #batch = batchEvents;
  #forget: (() => void) | undefined;

  constructor(node: NodeServices, source: Component, folds: RowFolds) {
    this.name = `projection ${folds.name}`;
    this.#node = node;
    this.#source = source;
    this.#folds = folds;
  }

  start(): Promise<void> {
    const prefix = `${this.#source.name}/`;
    this.#forget = this.#node.store.onChange(({ keys }) => {
      if (keys.some((key) => key.startsWith(prefix))) this.#wake();
    });
    this.#wake();
    return Promise.resolve();
  }

  drain(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#forget?.();
    this.#stopped.abort();
    await this.#working;
  }

  async idle(): Promise<boolean> {
    if (this.#stopped.signal.aborted) return true;
    if (this.#working || this.#again) return false;
    const { position } = await this.#position();
    if ((await this.#node.store.read.log({ after: position, components: [this.#source.name], limit: 1 })).events.length === 0) return true;
    this.#wake();
    return false;
  }

  #wake(): void {
    this.#again = true;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#again && !this.#stopped.signal.aborted) this.#wake();
    });
  }

  async #work(): Promise<void> {
    for (let failures = 0; this.#again && !this.#stopped.signal.aborted;) {
      this.#again = false;
      try {
        while (!this.#stopped.signal.aborted && !(await this.#step())) failures = 0;
      } catch (fault) {
        if (Fault.is(fault, "store.closed")) return;
        if (Fault.is(fault, "commit.too-large") && this.#batch > 1) {
          // Nothing of it was applied. Rows grow: later steps try the full batch again.
          this.#batch = Math.ceil(this.#batch / 4);
          this.#again = true;
          continue;
        }
        this.#again = true;
        failures += 1;
        this.#node
          .log(this.#folds.name, { traceparent: undefined, tenant: undefined })
          .error("the projection could not go on; it tries again", { fault: String(fault), failures });
        await sleep(this.#node.clock, Math.min(30_000, 100 * 2 ** failures), this.#stopped.signal).catch(() => undefined);
      }
    }
  }

  async #position(): Promise<{ readonly key: StoreKey; readonly version: number; readonly position: Position }> {
    const { store } = this.#node;
    const key = storeKey("~position", undefined, this.#folds.name);
    const [row] = await store.read.records([key]);
    const { epoch, position } = row ? (decode(row.value) as Position) : { epoch: store.epoch, position: 0 };
    if (epoch !== store.epoch) {
      // The history was cut (restore, promotion). Rows and position lie in the same store and were cut with it, so the position
      // still names what has been folded; only one beyond the end cannot be believed.
      const head = await store.read.head();
      if (position > head.position) {
        throw Fault.create(
          "log.diverged",
          `projection "${this.#folds.name}" stands at ${epoch}-${position}; the log of epoch ${head.epoch} ends at ${head.position}`,
          "Restore rows and log together, or remove the projection's rows and position, and it is folded again.",
        );
      }
    }
    return { key, version: row?.version ?? 0, position: { epoch: store.epoch, position } };
  }

  /** One batch; `true` at the end of the log. */
  async #step(): Promise<boolean> {
    const { store } = this.#node;
    const { key: positionKey, version, position } = await this.#position();
    const page = await store.read.log({ after: position, components: [this.#source.name], limit: this.#batch });
    if (page.next.position === position.position) return true;
    const events = [];
    for (const row of page.events) {
      if (!concernsRow(this.#folds, row.type)) continue;
      const event = await readEvent(this.#source, row, store.epoch);
      if (event) events.push({ event, key: userKey(this.#folds.name, parseKey(row.stream).tenant, event.key) });
    }
    const keys = [...new Set(events.map(({ key }) => key))];
    const known = await store.read.records(keys);
    const rows = new Map(keys.map((key, i) => [key, known[i] && (decode(known[i].value) as object)] as const));
    const changed = new Map<StoreKey, object | null>();
    for (const { event, key } of events) {
      const row = foldRow(this.#folds, rows.get(key), event);
      if (row === undefined) continue;
      rows.set(key, row ?? undefined);
      changed.set(key, row);
    }
    const writes: Write[] = [...changed].map(([key, row]) => (row === null ? { kind: "remove", key } : { kind: "put", key, ...encodeRow(this.#folds, row) }));
    writes.push({ kind: "put", key: positionKey, value: encode(page.next, "position") });
    const outcome = await store.commit({ id: this.#node.ids.next(), expects: [{ kind: "record", key: positionKey, version }], writes });
    if (outcome.ok) this.#batch = Math.min(batchEvents, this.#batch * 2);
    return outcome.ok && page.atEnd;
  }
}
