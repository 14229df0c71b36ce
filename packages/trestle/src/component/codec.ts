/**
 * The one codec seam between components and engines: engines see bytes. JSON it is; a value that JSON would silently change
 * (Date, Map, undefined in an array, NaN, a lone class instance) is a fault at the door that names its path.
 */
import { Fault } from "../kernel/index.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** `what` is named in the fault: `message of queue "mail"`. */
export function encode(value: unknown, what: string): Uint8Array {
  assertJson(value, what, "");
  return encoder.encode(JSON.stringify(value));
}

export function decode(bytes: Uint8Array): unknown {
  return JSON.parse(decoder.decode(bytes));
}

function assertJson(value: unknown, what: string, path: string): void {
  if (value === null) return;
  switch (typeof value) {
    case "string":
    case "boolean":
      return;
    case "number":
      if (Number.isFinite(value)) return;
      break;
    case "object": {
      if (Array.isArray(value)) {
        for (let i = 0; i < value.length; i++) assertJson(value[i], what, `${path}[${i}]`);
        return;
      }
      const prototype = Object.getPrototypeOf(value) as unknown;
      if (prototype !== Object.prototype && prototype !== null) break;
      for (const key in value) {
        const member = (value as Record<string, unknown>)[key];
        if (member !== undefined) assertJson(member, what, path === "" ? key : `${path}.${key}`);
      }
      return;
    }
  }
  const seen = typeof value === "object" ? (value.constructor?.name ?? "an object") : typeof value === "number" ? String(value) : typeof value;
  throw Fault.create("payload.not-json", `${what} cannot be stored: ${path === "" ? "the value" : path} is ${seen}, which JSON would change or drop`, "Store plain JSON; let the schema turn texts into dates and the like when they are read.");
}
