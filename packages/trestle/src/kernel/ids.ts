/**
 * Identity. Ids that Trestle mints are UUIDv7 (RFC 9562): time first, so that they are appended and not scattered in an
 * index. Within one millisecond a counter keeps them rising, so ids of one process sort in the order they were minted.
 */
import { hash } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";

export interface Ids {
  /** A UUIDv7 in its text form, 36 characters. */
  next(): string;
}

const hex = Array.from({ length: 65_536 }, (_, n) => n.toString(16).padStart(4, "0"));

export function uuidv7Ids(clock: Clock, random: Random): Ids {
  let lastMs = 0;
  let counter = 0;
  return {
    next() {
      const nowMs = Math.floor(clock.wallMs()); // a virtual clock may stand between two milliseconds
      if (nowMs > lastMs) {
        lastMs = nowMs;
        counter = random.uint32() & 0x3ff_ffff; // 26 random bits start the 42-bit counter of this millisecond
      } else counter++;
      return formatUuidv7(lastMs, counter, random.uint32());
    },
  };
}

/** The id number `counter` of millisecond `ms`; `tail` fills the last 32 bits. */
export function formatUuidv7(ms: number, counter: number, tail: number): string {
  const high = Math.floor(ms / 65_536);
  const a = (counter / 0x4000_0000) & 0xfff; // 12 bits: rand_a
  const b = (counter / 0x1_0000) & 0x3fff; // 14 bits behind the variant
  const c = counter & 0xffff;
  return `${hex[(high >>> 16) & 0xffff]}${hex[high & 0xffff]}-${hex[ms % 65_536]}-${hex[0x7000 | a]}-${hex[0x8000 | b]}-${hex[c]}${hex[(tail >>> 16) & 0xffff]}${hex[tail & 0xffff]}`;
}

/** When a UUIDv7 was minted, by the clock of whoever minted it; `undefined` for any other text. */
export function mintedAtMs(id: string): number | undefined {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id) ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : undefined;
}

/**
 * A UUIDv7 of millisecond `ms` that follows from `name` alone: the same name, the same id. Its 74 bits of chance are the start
 * of the name's SHA-256, so that names made independently do not meet.
 */
export function uuidv7Named(ms: number, name: string): string {
  const digest = hash("sha256", name, "hex");
  const high = Math.floor(ms / 65_536);
  const variant = hex[0x8000 | (Number.parseInt(digest.slice(3, 7), 16) & 0x3fff)] as string;
  return `${hex[(high >>> 16) & 0xffff]}${hex[high & 0xffff]}-${hex[ms % 65_536]}-7${digest.slice(0, 3)}-${variant}-${digest.slice(7, 19)}`;
}

/** How many ids a series has. */
export const seriesLength = 4_096;

/**
 * Ids of millisecond `ms` that follow from `name` and a number from 0 to 4,095, rising with it, for one hash together: the number
 * takes the 12 bits behind the version (RFC 9562, 6.2, method 1), the other 62 bits of chance are the name's.
 */
export function uuidv7Series(ms: number, name: string): (at: number) => string {
  const first = uuidv7Named(ms, name);
  const before = first.slice(0, 15);
  const after = first.slice(18);
  return (at) => `${before}${(hex[at] as string).slice(1)}${after}`;
}
