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

// One entry a byte: a table of all 16-bit words writes an id no faster (0.36 us both) and takes 5 ms of a start, 12 in the writer thread.
const hex = /* @__PURE__ */ Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const hexOf16 = (word: number): string => `${hex[word >>> 8]}${hex[word & 0xff]}`;

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
  return `${hexOf16((high >>> 16) & 0xffff)}${hexOf16(high & 0xffff)}-${hexOf16(ms % 65_536)}-${hexOf16(0x7000 | a)}-${hexOf16(0x8000 | b)}-${hexOf16(c)}${hexOf16((tail >>> 16) & 0xffff)}${hexOf16(tail & 0xffff)}`;
}

const digits = /* @__PURE__ */ Int8Array.from({ length: 128 }, (_, code) => "0123456789abcdef".indexOf(String.fromCharCode(code)));

/**
 * When a UUIDv7 was minted, by the clock of whoever minted it; `undefined` for any other text. Digit by digit, because every commit asks it of
 * several ids: half of what a regular expression and parsing took.
 */
export function mintedAtMs(id: string): number | undefined {
  if (id.length !== 36) return undefined;
  let ms = 0;
  for (let at = 0; at < 36; at++) {
    const code = id.charCodeAt(at);
    if (at === 8 || at === 13 || at === 18 || at === 23) {
      if (code !== 45) return undefined;
      continue;
    }
    const value = code < 128 ? (digits[code] as number) : -1;
    if (value < 0 || (at === 14 && value !== 7) || (at === 19 && (value & 0b1100) !== 0b1000)) return undefined; // version 7, variant 10
    if (at < 13) ms = ms * 16 + value;
  }
  return ms;
}

/**
 * A UUIDv7 of millisecond `ms` that follows from `name` alone: the same name, the same id. Its 74 bits of chance are the start
 * of the name's SHA-256, so that names made independently do not meet.
 */
export function uuidv7Named(ms: number, name: string): string {
  const digest = hash("sha256", name, "hex");
  const high = Math.floor(ms / 65_536);
  const variant = hexOf16(0x8000 | (Number.parseInt(digest.slice(3, 7), 16) & 0x3fff));
  return `${hexOf16((high >>> 16) & 0xffff)}${hexOf16(high & 0xffff)}-${hexOf16(ms % 65_536)}-7${digest.slice(0, 3)}-${variant}-${digest.slice(7, 19)}`;
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
  return (at) => `${before}${hexOf16(at).slice(1)}${after}`;
}

/** A UUIDv4 (RFC 9562) from 16 bytes of chance. */
export function formatUuidv4(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < 16; at++) {
    const byte = bytes[at] as number;
    text +=
      (at === 4 || at === 6 || at === 8 || at === 10 ? "-" : "") + (hex[at === 6 ? (byte & 0x0f) | 0x40 : at === 8 ? (byte & 0x3f) | 0x80 : byte] as string);
  }
  return text;
}
