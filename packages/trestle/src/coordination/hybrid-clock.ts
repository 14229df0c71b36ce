/**
 * A hybrid logical clock: S. Kulkarni, M. Demirbas, D. Madappa, B. Avva, M. Leone, "Logical Physical Clocks", OPODIS 2014. Its stamps are wall time where that suffices, and count
 * on where it does not: if one event happened before another one, its stamp is smaller, also when the second machine's clock is behind, stands still or
 * is set back. So they order what happened, and still say when it was.
 *
 * A stamp is 64 bits: 48 of milliseconds, 16 of a counter within them. A counter that is full borrows from the next millisecond.
 *
 * No stamp is ever behind the wall clock of the process that made it, nor further ahead of it than `aheadMaxMs`. A clock that would have to be
 * says so by a fault and stays as it was: a stamp from the far future, once accepted, would travel with every message and never go away.
 */
import { Fault, integerWithin, type Clock } from "../kernel/index.ts";

export interface HybridStamp {
  /** Milliseconds since 1970, an integer below 2^48. */
  readonly wallMs: number;
  /** 0 to 65,535. */
  readonly counter: number;
}

export interface HybridClockOptions {
  /** The machine's clock; only its wall time is read. */
  readonly clock: Pick<Clock, "wallMs">;
  /** The most that clocks of the fleet are apart, in milliseconds. 1 to 86,400,000; default 500. */
  readonly aheadMaxMs?: number;
  /** The last stamp that was handed out here before a restart. Default: none. */
  readonly after?: HybridStamp;
}

export interface HybridClock {
  /** The stamp of an event that happens here now: of a send, it travels with the message. Larger than all before. Fault `hybrid-clock.too-far-ahead`. */
  now(): HybridStamp;
  /**
   * The stamp of the receipt of a message that carries `sent`. Larger than that, and than all before. Faults `hybrid-clock.stamp-too-far-ahead`,
   * `hybrid-clock.bad-stamp`, `hybrid-clock.too-far-ahead`.
   */
  receive(sent: HybridStamp): HybridStamp;
  /** How far the last stamp is ahead of the wall clock now; 0 when it is not. To be watched: it grows when clocks drift apart. */
  aheadMs(): number;
}

const counterMax = 0xffff;
const wallMsMax = 2 ** 48 - 1;

export function hybridClock({ clock, aheadMaxMs = 500, after = { wallMs: 0, counter: 0 } }: HybridClockOptions): HybridClock {
  integerWithin(aheadMaxMs, "aheadMaxMs", { least: 1, most: 86_400_000 });
  let last = checked(after);
  const wallNow = () => Math.floor(clock.wallMs()); // a virtual clock may stand between two milliseconds

  /** The least stamp after `before` that is not behind the wall clock. */
  const next = (before: HybridStamp): HybridStamp => {
    const nowMs = wallNow();
    if (before.wallMs < nowMs) last = { wallMs: nowMs, counter: 0 };
    else {
      const isFull = before.counter === counterMax;
      const wallMs = isFull ? before.wallMs + 1 : before.wallMs;
      if (wallMs - nowMs > aheadMaxMs)
        throw Fault.create(
          "hybrid-clock.too-far-ahead",
          `the next stamp would be ${wallMs - nowMs} ms ahead of the wall clock, which may be ${aheadMaxMs} (aheadMaxMs)`,
          "See whether this machine's clock was set back; the clock goes on when the difference is within aheadMaxMs again.",
          { details: { aheadMs: wallMs - nowMs, aheadMaxMs } },
        );
      last = { wallMs, counter: isFull ? 0 : before.counter + 1 };
    }
    return last;
  };

  return {
    now: () => next(last),
    receive(sent) {
      const aheadMs = checked(sent).wallMs - wallNow();
      if (aheadMs > aheadMaxMs)
        throw Fault.create(
          "hybrid-clock.stamp-too-far-ahead",
          `a message carries a stamp ${aheadMs} ms ahead of the wall clock, which may be ${aheadMaxMs} (aheadMaxMs)`,
          "Refuse the message, and see whose clock is wrong: the sender's or this machine's.",
          { details: { aheadMs, aheadMaxMs } },
        );
      return next(compareStamps(sent, last) > 0 ? sent : last);
    },
    aheadMs: () => Math.max(0, last.wallMs - wallNow()),
  };
}

/** Below 0 when the first is smaller, above 0 when it is larger, 0 when they are equal. For `sort`. */
export function compareStamps(one: HybridStamp, other: HybridStamp): number {
  return one.wallMs - other.wallMs || one.counter - other.counter;
}

/** 16 hexadecimal digits; they sort as text like the stamps. */
export function stampToText(stamp: HybridStamp): string {
  return stampToBigint(stamp).toString(16).padStart(16, "0");
}

/** Fault `hybrid-clock.bad-stamp`. */
export function stampFromText(text: string): HybridStamp {
  if (!/^[0-9a-f]{16}$/.test(text)) throw badStamp(text);
  return { wallMs: Number.parseInt(text.slice(0, 12), 16), counter: Number.parseInt(text.slice(12), 16) };
}

/** Below 2^64; until the year 6429 below 2^63, so that it fits a signed column of 64 bits. */
export function stampToBigint(stamp: HybridStamp): bigint {
  const { wallMs, counter } = checked(stamp);
  return (BigInt(wallMs) << 16n) | BigInt(counter);
}

/** Fault `hybrid-clock.bad-stamp`. */
export function stampFromBigint(packed: bigint): HybridStamp {
  if (packed < 0n || packed >= 1n << 64n) throw badStamp(packed);
  return { wallMs: Number(packed >> 16n), counter: Number(packed & 0xffffn) };
}

function checked(stamp: HybridStamp): HybridStamp {
  const { wallMs, counter } = stamp;
  const isRight = Number.isInteger(wallMs) && wallMs >= 0 && wallMs <= wallMsMax && Number.isInteger(counter) && counter >= 0 && counter <= counterMax;
  if (!isRight) throw badStamp(stamp);
  return stamp;
}

function badStamp(seen: unknown): Fault {
  return Fault.create(
    "hybrid-clock.bad-stamp",
    `a stamp has 48 bits of milliseconds and 16 bits of a counter, got ${typeof seen === "object" ? JSON.stringify(seen) : String(seen)}`,
    "Refuse the message: its sender is no hybrid clock.",
  );
}
