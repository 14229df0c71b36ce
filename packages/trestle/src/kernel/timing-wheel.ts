/**
 * A hierarchical timing wheel: any number of timers on one timer of the clock below. Setting and cancelling take constant time
 * and no system call; made for deadlines and heartbeats, most of which are cancelled before they fire.
 *
 * Source: G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 7, with a bitmap of the occupied
 * slots of each level (so an empty stretch is skipped, not ticked through).
 *
 * Time is cut into ticks of `grainMs`. Level 0 has a slot for each of the 64 ticks of the current block; a slot of level n
 * holds 64^n ticks, and its timers move one or more levels down when its time begins. A timer fires on the first tick at or
 * after its due time: never early, late by less than one grain plus the lateness of the clock below. Timers of one tick fire in
 * the order they were set. The wheel is one function of more than 60 lines: its steps share the slots and the tick reached.
 */
import type { Clock, Timer } from "./clock.ts";

export interface TimingWheel extends Clock {
  /** Runs `task` once after `delayMs`. What a task throws is thrown from `soon` of the clock below; the others still run. */
  after(delayMs: number, task: () => void, options?: { readonly keepsAlive: boolean }): Timer;
  /** Timers that are set and have neither fired nor been cancelled. */
  readonly size: number;
}

const slotBits = 6;
const slots = 1 << slotBits;
const levels = 8; // 64^8 ticks: 8,900 years of milliseconds
const delayMsMax = 2 ** 46;
// ticksPer[n]: ticks in one slot of level n. All are powers of two, so multiplying by the inverse is exact.
const ticksPer = /* @__PURE__ */ Array.from({ length: levels + 1 }, (_, level) => 2 ** (slotBits * level));
const slotsPer = /* @__PURE__ */ ticksPer.map((ticks) => 1 / ticks);

/** An entry of a circular list. A slot's head is an entry without a task. */
class Entry implements Timer {
  tick = 0;
  task: (() => void) | undefined;
  next: Entry = this;
  previous: Entry = this;
  readonly onCancel: (entry: Entry) => void;

  constructor(task: (() => void) | undefined, onCancel: (entry: Entry) => void) {
    this.task = task;
    this.onCancel = onCancel;
  }

  cancel(): void {
    if (this.task) this.onCancel(this);
  }
}

function append(head: Entry, entry: Entry): void {
  entry.previous = head.previous;
  entry.next = head;
  head.previous.next = entry;
  head.previous = entry;
}

function unlink(entry: Entry): void {
  entry.previous.next = entry.next;
  entry.next.previous = entry.previous;
  entry.next = entry.previous = entry;
}

export function timingWheel(clock: Clock, options: { readonly grainMs?: number } = {}): TimingWheel {
  const { grainMs = 1 } = options;
  const originMs = clock.monotonicMs();
  const heads: (Entry | undefined)[] = new Array(levels * slots).fill(undefined);
  // Two words of 32 slots for each level. A bit may outlive its timers (a cancel does not look): whoever meets it clears it.
  const occupied = new Uint32Array(levels * 2);
  /** Every tick up to here has been dealt with; timers are placed relative to it. */
  let reached = 0;
  let size = 0;
  let armed: Timer | undefined;
  let armedTick = Infinity;

  const onCancel = (entry: Entry) => {
    entry.task = undefined;
    unlink(entry);
    size--;
  };

  function place(entry: Entry): void {
    const tick = entry.tick;
    let level = 0;
    while (level < levels - 1 && Math.floor(tick * (slotsPer[level + 1] as number)) !== Math.floor(reached * (slotsPer[level + 1] as number))) level++;
    const slot = Math.floor(tick * (slotsPer[level] as number)) % slots;
    const index = level * slots + slot;
    append((heads[index] ??= new Entry(undefined, onCancel)), entry);
    occupied[index >>> 5] = (occupied[index >>> 5] as number) | (1 << (index & 31));
  }

  /** The first occupied slot: lower levels lie before higher ones, so the first level with one has it. */
  function earliest(): { readonly index: number; readonly level: number; readonly tick: number } | undefined {
    for (let word = 0; word < occupied.length; word++) {
      while (occupied[word] !== 0) {
        const bits = occupied[word] as number;
        const index = word * 32 + (31 - Math.clz32(bits & -bits));
        const head = heads[index] as Entry;
        if (head.next === head) {
          occupied[word] = bits & (bits - 1);
          continue;
        }
        const level = index >>> slotBits;
        const blockTicks = ticksPer[level + 1] as number;
        return { index, level, tick: Math.floor(reached / blockTicks) * blockTicks + (index % slots) * (ticksPer[level] as number) };
      }
    }
    return undefined;
  }

  function arm(): void {
    const first = earliest();
    if (!first) return;
    if (armed && armedTick <= first.tick) return;
    armed?.cancel();
    armedTick = first.tick;
    armed = clock.after(Math.max(0, originMs + first.tick * grainMs - clock.monotonicMs()), fire);
  }

  /** First collects all that is due, then runs it: a task that sets or cancels timers meets a wheel at rest. */
  function fire(): void {
    armed = undefined;
    armedTick = Infinity;
    // A millionth of a tick of slack: a sum of fractions that falls short by one bit must not mean another wake-up.
    const nowTick = Math.floor((clock.monotonicMs() - originMs) / grainMs + 1e-6);
    const due = new Entry(undefined, onCancel);
    for (let first = earliest(); first && first.tick <= nowTick; first = earliest()) {
      reached = Math.max(reached, first.tick);
      const head = heads[first.index] as Entry;
      while (head.next !== head) {
        const entry = head.next;
        unlink(entry);
        if (first.level === 0) append(due, entry);
        else place(entry);
      }
    }
    reached = Math.max(reached, nowTick);
    while (due.next !== due) {
      const entry = due.next;
      const task = entry.task as () => void;
      onCancel(entry);
      try {
        task();
      } catch (thrown) {
        clock.soon(() => {
          throw thrown;
        });
      }
    }
    arm();
  }

  return {
    wallMs: () => clock.wallMs(),
    monotonicMs: () => clock.monotonicMs(),
    soon: (task) => clock.soon(task),
    get size() {
      return size;
    },
    after(delayMs, task, options) {
      if (options?.keepsAlive) return clock.after(delayMs, task, options); // rare, and the wheel's own timer is everybody's
      const entry = new Entry(task, onCancel);
      const delay = delayMs > 0 ? Math.min(delayMs, delayMsMax) : 0;
      const sinceOriginMs = clock.monotonicMs() - originMs;
      if (size === 0) reached = Math.max(reached, Math.floor(sinceOriginMs / grainMs)); // nothing to pass over: place it near, to be moved less
      entry.tick = Math.max(reached, Math.ceil((sinceOriginMs + delay) / grainMs));
      place(entry);
      size++;
      if (entry.tick < armedTick) arm();
      return entry;
    },
  };
}

const shared = new WeakMap<Clock, TimingWheel>();

/** The wheel of a clock for all who want a timer that is nearly always cancelled, of 5 ms grain. */
export function sharedWheel(clock: Clock): TimingWheel {
  let wheel = shared.get(clock);
  if (!wheel) shared.set(clock, (wheel = timingWheel(clock, { grainMs: 5 })));
  return wheel;
}
