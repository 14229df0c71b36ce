/**
 * The one codec seam between components and engines: engines see bytes, and everything durable passes here. The first byte says what
 * follows. JSON begins as JSON does (never below 0x20); 0x01 is deflated JSON; the others below 0x20 are kept for what is to come
 * (encryption per subject), and reading one that this release does not know is a fault. So old and new bytes lie side by side.
 *
 * A value that JSON would silently change
 * (Date, Map, undefined in an array, NaN, a lone class instance) is a fault at the door that names its path. Two changes are let
 * pass, because they change no meaning: a member that is undefined is left out, and -0 is 0.
 */
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { Fault, sizeBytes, type Bytes } from "../kernel/index.ts";
import { limits } from "../store/index.ts";

/** Objects within objects: beyond it a value is a circle, or meant to exhaust the stack of whoever reads it. */
const depthMax = 500;

const deflatedJson = 0x01;
const compressBytesDefault = 1_024;

/** `what` is named in the fault: `message of queue "mail"`. `above`: longer than so many bytes it is compressed, where that makes it shorter. */
export function encode(value: unknown, what: string, above?: number): Uint8Array {
  return compressed(bytesOf(encodeText(value, what)), above);
}

export function compressed(json: Uint8Array, above: number | undefined): Uint8Array {
  if (above === undefined || json.byteLength <= above) return json;
  const deflated = deflateRawSync(json);
  if (deflated.byteLength + 1 >= json.byteLength) return json;
  const marked = Buffer.allocUnsafe(deflated.byteLength + 1);
  marked[0] = deflatedJson;
  marked.set(deflated, 1);
  return marked;
}

/** `true`, or from how many bytes on: `"4KB"`. */
export type Compress = boolean | Bytes;

/** What `encode` takes. `of` names the component in the fault. */
export function compressAbove(compress: Compress | undefined, of: string): number | undefined {
  if (compress === undefined || compress === false) return undefined;
  return compress === true ? compressBytesDefault : sizeBytes(compress, `${of}: compress`);
}

/** The JSON of the value, for texts that it is a part of. */
export function encodeText(value: unknown, what: string): string {
  // Values are JSON nearly always, so where one is not is only looked for when one is not.
  if (!isJson(value, 0)) assertJson(value, what, "", 0);
  return JSON.stringify(value);
}

/** UTF-8, in a piece of Node's pool: an ArrayBuffer for each small text costs more than its encoding. */
export function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, "utf8");
}

export function decode(bytes: Uint8Array): unknown {
  const first = bytes[0] ?? 0x20;
  const json = first >= 0x20 ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) : expanded(bytes, first);
  return JSON.parse(json.toString("utf8"));
}

function expanded(bytes: Uint8Array, format: number): Buffer {
  // What was let in was bounded before it was compressed; a little that expands to gigabytes is nobody's honest payload.
  if (format === deflatedJson) return inflateRawSync(bytes.subarray(1), { maxOutputLength: limits.commitBytesMax * 16 });
  throw Fault.create(
    "payload.unknown-format",
    `stored bytes begin with 0x${format.toString(16).padStart(2, "0")}, a format that this release does not know`,
    "Read them with the release that wrote them, or a later one.",
    { details: { format } },
  );
}

function isJson(value: unknown, depth: number): boolean {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return true;
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object" || depth > depthMax) return false;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isJson(value[i], depth + 1)) return false;
    return true;
  }
  const prototype = Object.getPrototypeOf(value) as unknown;
  if (prototype !== Object.prototype && prototype !== null) return false;
  for (const key in value) {
    const member = (value as Record<string, unknown>)[key];
    if (member !== undefined && !isJson(member, depth + 1)) return false;
  }
  return true;
}

function assertJson(value: unknown, what: string, path: string, depth: number): void {
  if (value === null) return;
  switch (typeof value) {
    case "string":
    case "boolean":
      return;
    case "number":
      if (Number.isFinite(value)) return;
      break;
    case "object": {
      if (depth > depthMax)
        throw Fault.create(
          "payload.not-json",
          `${what} cannot be stored: ${path.slice(0, 60)}… is nested deeper than ${depthMax}, or contains itself`,
          "Store flat data, and references instead of what they refer to.",
        );
      if (Array.isArray(value)) {
        for (let i = 0; i < value.length; i++) assertJson(value[i], what, `${path}[${i}]`, depth + 1);
        return;
      }
      const prototype = Object.getPrototypeOf(value) as unknown;
      if (prototype !== Object.prototype && prototype !== null) break;
      for (const key in value) {
        const member = (value as Record<string, unknown>)[key];
        if (member !== undefined) assertJson(member, what, path === "" ? key : `${path}.${key}`, depth + 1);
      }
      return;
    }
  }
  const seen = typeof value === "object" ? (value.constructor?.name ?? "an object") : typeof value === "number" ? String(value) : typeof value;
  throw Fault.create(
    "payload.not-json",
    `${what} cannot be stored: ${path === "" ? "the value" : path} is ${seen}, which JSON would change or drop`,
    "Store plain JSON; let the schema turn texts into dates and the like when they are read.",
  );
}
