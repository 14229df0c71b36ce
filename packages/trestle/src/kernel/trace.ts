/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` and `tracestate` read and written. A `traceparent` that
 * is not valid is as good as none: the trace starts anew here, and the `tracestate` beside it is dropped.
 */
import type { Random } from "./random.ts";

export interface TraceContext {
  /** 32 lower-case hexadecimal digits, not all zero. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits, not all zero. */
  readonly spanId: string;
  /** The caller records this trace. */
  readonly sampled: boolean;
}

const shape = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const zeroTraceId = "00000000000000000000000000000000";
const zeroSpanId = "0000000000000000";

/** `undefined` for anything not valid. Of a later version than 00, the four fields that 00 knows are read. */
export function parseTraceparent(text: string | undefined): TraceContext | undefined {
  if (text === undefined || text.length > 512) return undefined;
  const match = shape.exec(text);
  if (!match) return undefined;
  const [, version, traceId, spanId, flags, rest] = match as unknown as [string, string, string, string, string, string | undefined];
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined;
  if (traceId === zeroTraceId || spanId === zeroSpanId) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/** Version 00; of the flags only `sampled` is passed on, as the standard asks. */
export function formatTraceparent(trace: TraceContext): string {
  return `00-${trace.traceId}-${trace.spanId}-${trace.sampled ? "01" : "00"}`;
}

/** A new trace. */
export function newTrace(random: Random, sampled = true): TraceContext {
  return { traceId: hexId(random, 4), spanId: hexId(random, 2), sampled };
}

/** A new span within the trace of `parent`. */
export function childTrace(parent: TraceContext, random: Random): TraceContext {
  return { traceId: parent.traceId, spanId: hexId(random, 2), sampled: parent.sampled };
}

function hexId(random: Random, words: number): string {
  let text = "";
  for (let word = 0; word < words; word++) text += random.uint32().toString(16).padStart(8, "0");
  return /[^0]/.test(text) ? text : hexId(random, words);
}

export type Tracestate = readonly (readonly [key: string, value: string])[];

const entryShape =
  /^([a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])$/;

/** At most 32 entries, each key once. `undefined` when any of it is not valid: then all of it is dropped. */
export function parseTracestate(text: string | undefined): Tracestate | undefined {
  if (text === undefined || text.length > 32_768) return undefined;
  const entries: [string, string][] = [];
  const keys = new Set<string>();
  for (const part of text.split(",")) {
    const trimmed = part.replace(/^[ \t]+|[ \t]+$/g, "");
    if (trimmed === "") continue;
    const match = entryShape.exec(trimmed);
    if (!match || keys.has(match[1] as string) || keys.size === 32) return undefined;
    keys.add(match[1] as string);
    entries.push([match[1] as string, match[2] as string]);
  }
  return entries.length === 0 ? undefined : entries;
}

/** At most 512 characters: entries over 128 characters go first, then those at the end (the oldest), as the standard advises. */
export function formatTracestate(state: Tracestate): string {
  let entries = state.map(([key, value]) => `${key}=${value}`);
  const fits = () => entries.join(",").length <= 512;
  if (!fits()) entries = entries.filter((entry) => entry.length <= 128);
  while (!fits()) entries.pop();
  return entries.join(",");
}

/** What came in with a message, made safe to pass on. `undefined`: start a trace here. */
export function incomingTrace(
  traceparent: string | undefined,
  tracestate: string | undefined,
): { readonly trace: TraceContext; readonly traceparent: string; readonly tracestate: string | undefined } | undefined {
  const trace = parseTraceparent(traceparent);
  if (!trace) return undefined;
  const state = parseTracestate(tracestate);
  return { trace, traceparent: formatTraceparent(trace), tracestate: state && formatTracestate(state) };
}
