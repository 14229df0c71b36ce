/**
 * Turns between processes: the third rung of FINDINGS F2. Inside a process a hot key is taken in turns and each handler decides on what
 * the one before has staged; another process cannot see that, and its commits fall, chain after chain. So a key over which commits
 * have fallen that were staged in turn is, for a while, held by one process at a time: by a record with an expiry, `~turn//<key>`. Who
 * never loses would never ask: so all queue for a key as soon as the store tells that somebody has.
 *
 * A key is here, per process:
 *   free      not in the map. Whoever wants in begins to ask.
 *   asking    a commit expects the record to be absent and puts it. While another process has it, asked again when it changes.
 *   held      handlers enter, for `sliceMs`: one after the other by the turns of this process, many within one flush.
 *   leaving   the last of them has its outcome: the record is removed. After a whole slice this process does not ask for `pauseMs`.
 *   failed    the store took no commit. Who waits goes on without a turn; the next one asks anew.
 *
 * As turns, only a schedule: nothing is wrong when two processes hold a key at once (an expiry passed, a wait was given up); their
 * commits conflict and run again. A wait ends after `waitMsMax`. Who holds a key waits only for keys that sort behind it, so
 * that no two processes wait for each other; for others it enters when they happen to be held here.
 */
import type { Clock, Ids } from "../kernel/index.ts";
import { limits, storeKey, type Store, type StoreKey } from "../store/index.ts";
import type { StoreClock } from "./store-clock.ts";

/** Commits of one key that fell, staged in turn, within `rememberedForMs`: who else but another process can it be? */
const lossesMin = 2;
const rememberedForMs = 1_000;
const sliceMs = 50;
const pauseMs = 5;
const waitMsMax = 1_000;
/** Of a process that dies while it holds a key. */
const leaseMs = 2_000;
/** Notices of changes are hints. */
const askAgainMs = 50;
const keysMax = 10_000;

interface Turn {
  state: "asking" | "held" | "leaving" | "failed";
  /** Of its record. */
  version: number;
  entersUntilMs: number;
  inside: number;
  readonly waiting: Set<() => void>;
}

interface Turning {
  readonly store: Store;
  readonly clock: Clock;
  readonly storeClock: StoreClock;
  readonly ids: Ids;
  readonly holder: string;
  /** Called when this process gets a key: what it remembers of it is old. */
  readonly got: (key: StoreKey) => void;
}

export class StoreTurns {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #storeClock: StoreClock;
  readonly #ids: Ids;
  readonly #holder: Uint8Array;
  readonly #got: Turning["got"];
  readonly #losses = new Map<StoreKey, { count: number; untilMs: number }>();
  readonly #turns = new Map<StoreKey, Turn>();
  #quietAtMs = 0;

  constructor({ store, clock, storeClock, ids, holder, got }: Turning) {
    this.#store = store;
    this.#clock = clock;
    this.#storeClock = storeClock;
    this.#ids = ids;
    this.#holder = new TextEncoder().encode(holder);
    this.#got = got;
    store.onChange(({ keys }) => {
      for (const changed of keys) if (changed.startsWith(turnPrefix)) this.#fought(changed.slice(turnPrefix.length), lossesMin);
    });
  }

  /** Is any key fought over? */
  get isAtWork(): boolean {
    return this.#losses.size > 0 && this.#clock.monotonicMs() < this.#quietAtMs;
  }

  /** A commit that was staged in turn fell over this key. */
  lost(key: StoreKey): void {
    this.#fought(key, 1);
  }

  #fought(key: StoreKey, losses: number): void {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#losses.get(key);
    const count = (before && before.untilMs > nowMs ? before.count : 0) + losses;
    this.#quietAtMs = nowMs + rememberedForMs;
    this.#losses.set(key, { count, untilMs: this.#quietAtMs });
    if (this.#losses.size > keysMax) for (const [old, { untilMs }] of this.#losses) if (untilMs <= nowMs) this.#losses.delete(old);
  }

  /** Do other processes write this key at the same time? */
  isFoughtOver(key: StoreKey): boolean {
    if (this.#losses.size === 0) return false;
    if (this.#turns.has(key)) return true;
    const losses = this.#losses.get(key);
    if (losses === undefined || losses.count < lossesMin) return false;
    if (losses.untilMs > this.#clock.monotonicMs()) return true;
    this.#losses.delete(key);
    return false;
  }

  /** `true`: it is this process's turn, until as many `leave` as entered. `false`: go on without. `held`: keys that whoever asks is in already. */
  async enter(key: StoreKey, held: Iterable<StoreKey>, deadlineMs: number): Promise<boolean> {
    let mayWait = Buffer.byteLength(turnKey(key)) <= limits.keyBytesMax;
    for (const other of held) if (other >= key) mayWait = false;
    const untilMs = Math.min(deadlineMs, this.#clock.monotonicMs() + waitMsMax);
    for (;;) {
      let turn = this.#turns.get(key);
      if (turn?.state === "held" && this.#clock.monotonicMs() < turn.entersUntilMs) {
        turn.inside += 1;
        return true;
      }
      const leftMs = untilMs - this.#clock.monotonicMs();
      if (!mayWait || leftMs <= 0) return false;
      if (!turn) {
        turn = { state: "asking", version: 0, entersUntilMs: 0, inside: 0, waiting: new Set() };
        this.#turns.set(key, turn);
        void this.#ask(key, turn);
      }
      await this.#change(turn, leftMs);
      if (turn.state === "failed") return false;
    }
  }

  /** The commit of who entered is decided, or there is none. */
  leave(key: StoreKey): void {
    const turn = this.#turns.get(key);
    if (!turn || turn.inside === 0) return;
    turn.inside -= 1;
    if (turn.inside === 0) void this.#giveUp(key, turn);
  }

  async #ask(key: StoreKey, turn: Turn): Promise<void> {
    const record = turnKey(key);
    for (let asked = false; turn.waiting.size > 0 || !asked; asked = true) {
      try {
        const outcome = await this.#store.commit({
          id: this.#ids.next(),
          expects: [{ kind: "record", key: record, version: 0 }],
          writes: [{ kind: "put", key: record, value: this.#holder, expiresAtMs: Math.ceil(this.#storeClock.latestMs() + leaseMs) }],
        });
        if (outcome.ok) return this.#hold(key, turn, outcome.n);
      } catch {
        turn.state = "failed"; // those who wait hear from their own commits what is wrong
        break;
      }
      this.lost(key);
      await this.#noticed(record);
    }
    this.#turns.delete(key);
    wake(turn);
  }

  #hold(key: StoreKey, turn: Turn, version: number): void {
    turn.state = "held";
    turn.version = version;
    turn.entersUntilMs = this.#clock.monotonicMs() + sliceMs;
    this.#got(key);
    wake(turn);
    // Nobody came: they had given up.
    this.#clock.after(sliceMs, () => {
      if (turn.inside === 0 && turn.state === "held") void this.#giveUp(key, turn);
    });
  }

  async #giveUp(key: StoreKey, turn: Turn): Promise<void> {
    turn.state = "leaving";
    const record = turnKey(key);
    await this.#store
      .commit({ id: this.#ids.next(), expects: [{ kind: "record", key: record, version: turn.version }], writes: [{ kind: "remove", key: record }] })
      .catch(() => undefined); // it expires
    const free = () => {
      this.#turns.delete(key);
      wake(turn);
    };
    // After a whole slice, who waits elsewhere hears of it first.
    if (this.#clock.monotonicMs() < turn.entersUntilMs) free();
    else this.#clock.after(pauseMs, free);
  }

  /** Resolves when the turn changes, or after so long. */
  #change(turn: Turn, withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const changed = () => {
        timer.cancel();
        turn.waiting.delete(changed);
        resolve();
      };
      const timer = this.#clock.after(withinMs, changed);
      turn.waiting.add(changed);
    });
  }

  /** Resolves when somebody has written the record, or when it is time to look again. */
  #noticed(record: StoreKey): Promise<void> {
    return new Promise((resolve) => {
      const noticed = () => {
        timer.cancel();
        stop();
        resolve();
      };
      const timer = this.#clock.after(askAgainMs, noticed);
      const stop = this.#store.onChange(({ keys }) => {
        if (keys.includes(record)) noticed();
      });
    });
  }
}

const turnPrefix = storeKey("~turn", undefined, "");

function turnKey(key: StoreKey): StoreKey {
  return `${turnPrefix}${key}`;
}

function wake(turn: Turn): void {
  for (const changed of Array.from(turn.waiting)) changed(); // they leave the set while it is gone through
}
