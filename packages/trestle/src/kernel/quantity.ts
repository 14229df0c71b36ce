/**
 * Quantities carry their unit where a person reads them: `"30s"`, `"50/s"`, `"10MB"`. They are turned into numbers once, at
 * the edge, by the functions below; each names the option, the rule and the value it saw.
 */
import { Fault } from "./fault.ts";

/** A bare number is milliseconds. */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;
export type Rate = `${number}/${"s" | "m" | "h" | "d"}`;
export type Bytes = number | `${number}${"B" | "kB" | "MB" | "GB"}`;
/** Wall time, milliseconds since 1970, for people and storage. Durations are measured by the runtime, never by subtraction. */
export type Instant = number;
export type Percent = `${number}%`;
/** Five fields: `"0 3 * * *"`. */
export type Cron = `${string} ${string} ${string} ${string} ${string}`;

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const unitBytes = { B: 1, kB: 1_000, MB: 1_000_000, GB: 1_000_000_000 } as const;

/** The value as a person would write it; never throws, at most 100 characters. */
function seen(value: unknown): string {
  let text: string | undefined;
  try {
    text = typeof value === "string" || typeof value === "object" ? JSON.stringify(value) : String(value);
  } catch {
    // cyclic, or a toJSON that throws
  }
  text ??= Object.prototype.toString.call(value);
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}

/** Milliseconds of a duration. `option` is the name a person would look for: `retry.upTo`. */
export function durationMs(duration: Duration, option: string): number {
  const match = typeof duration === "string" && /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(duration);
  const ms = match ? Number(match[1]) * unitMs[match[2] as keyof typeof unitMs] : duration;
  if (typeof ms === "number" && ms >= 0 && ms < Infinity) return ms;
  throw Fault.create(
    "quantity.not-a-duration",
    `${option} must be milliseconds (a number, 0 or more) or a text such as "30s" (ms, s, m, h, d), got ${seen(duration)}`,
    "Write it with its unit.",
  );
}

/** As `durationMs`, of what has to take some time. */
export function positiveMs(duration: Duration, option: string): number {
  const ms = durationMs(duration, option);
  if (ms > 0) return ms;
  throw Fault.create("option.out-of-range", `${option} must be above 0, got ${seen(duration)}`, `Set ${option} within the range.`);
}

/** Events per second of a rate. */
export function ratePerSecond(rate: Rate, option: string): number {
  const match = typeof rate === "string" ? /^(\d+(?:\.\d+)?)\/(s|m|h|d)$/.exec(rate) : null;
  const perSecond = match ? (Number(match[1]) * 1_000) / unitMs[match[2] as keyof typeof unitMs] : 0;
  if (perSecond > 0 && perSecond < Infinity) return perSecond;
  throw Fault.create("quantity.not-a-rate", `${option} must be a rate above 0 such as "50/s" (s, m, h, d), got ${seen(rate)}`, "Write it with its unit.");
}

export function sizeBytes(size: Bytes, option: string): number {
  if (typeof size === "number") {
    if (Number.isInteger(size) && size >= 0) return size;
  } else if (typeof size === "string") {
    const match = /^(\d+(?:\.\d+)?)(B|kB|MB|GB)$/.exec(size);
    const bytes = match ? Math.floor(Number(match[1]) * unitBytes[match[2] as keyof typeof unitBytes]) : Infinity;
    if (bytes <= Number.MAX_SAFE_INTEGER) return bytes;
  }
  throw Fault.create(
    "quantity.not-a-size",
    `${option} must be bytes (an integer, 0 or more) or a text such as "5MB" (B, kB, MB, GB), got ${seen(size)}`,
    "Write it with its unit.",
  );
}

/** A share of a percentage such as `"20%"`: 0 to 1. */
export function shareOf(percent: Percent, option: string): number {
  const match = typeof percent === "string" ? /^(\d+(?:\.\d+)?)%$/.exec(percent) : null;
  if (match && Number(match[1]) <= 100) return Number(match[1]) / 100;
  throw Fault.create("quantity.not-a-percentage", `${option} must be a percentage from "0%" to "100%", got ${seen(percent)}`, "Write it with its sign.");
}

/** A number option within a range, both ends included. */
export function numberWithin(value: number, option: string, range: { readonly least: number; readonly most: number }): number {
  if (typeof value === "number" && value >= range.least && value <= range.most) return value;
  throw Fault.create(
    "option.out-of-range",
    `${option} must be a number from ${range.least} to ${range.most}, got ${seen(value)}`,
    `Set ${option} within the range.`,
  );
}

/** An integer option within a range, both ends included. */
export function integerWithin(value: number, option: string, range: { readonly least: number; readonly most: number }): number {
  if (Number.isInteger(value) && value >= range.least && value <= range.most) return value;
  throw Fault.create(
    "option.out-of-range",
    `${option} must be an integer from ${range.least} to ${range.most}, got ${seen(value)}`,
    `Set ${option} within the range.`,
  );
}

/** One of a few words. */
export function oneOf<const T>(value: T, option: string, words: readonly T[]): T {
  if (words.includes(value)) return value;
  throw Fault.create("option.out-of-range", `${option} must be ${words.map(seen).join(" or ")}, got ${seen(value)}`, `Set ${option} to one of them.`);
}
