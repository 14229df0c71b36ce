/**
 * A request's JSON, read with care: never more bytes than the limit, strict content type, and none of the texts on which two readers
 * would disagree (duplicate members, RFC 7493) or that reach for a prototype.
 */
import { Fault } from "../kernel/index.ts";
import type { ArrivedRequest } from "./routes.ts";

const depthMax = 64;

/** The text of a body, at most `maxBytes` of UTF-8. What is longer is not buffered. */
export async function readText(request: ArrivedRequest, maxBytes: number): Promise<string> {
  const declared = request.headers.get("content-length");
  try {
    if (declared !== null) {
      if (!/^\d{1,15}$/.test(declared)) throw malformed("content-length must be a number of bytes");
      if (Number(declared) > maxBytes) throw tooLarge(maxBytes, `${declared} bytes`);
      // Behind a socket the declared length is what arrives; elsewhere it is checked below.
      const text = await request.text();
      if (text.length > maxBytes || (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes)) throw tooLarge(maxBytes, "more");
      return text;
    }
    return request.body === null ? "" : await readStream(request.body, maxBytes);
  } catch (cause) {
    if (Fault.is(cause)) throw cause;
    throw Fault.create("request.malformed", "the body ended before it was complete", "Send the whole body.", { cause });
  }
}

async function readStream(body: ReadableStream<Uint8Array>, maxBytes: number): Promise<string> {
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(chunks, sizeBytes).toString("utf8");
    sizeBytes += value.byteLength;
    if (sizeBytes > maxBytes) {
      void reader.cancel().catch(() => undefined);
      throw tooLarge(maxBytes, "more");
    }
    chunks.push(value);
  }
}

const jsonType = /^application\/(?:[\w!#$&^.+-]+\+)?json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?$/i;

export function assertJsonType(contentType: string | null): void {
  if (contentType === "application/json" || (contentType !== null && jsonType.test(contentType))) return;
  throw Fault.create(
    "request.unsupported-media-type",
    `the body must be application/json in UTF-8, got ${contentType === null ? "no content-type" : JSON.stringify(contentType.slice(0, 100))}`,
    "Set the header content-type: application/json.",
    { details: { headers: { accept: "application/json" } } },
  );
}

export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw Fault.create("request.malformed-json", `the body is not JSON: ${(cause as Error).message.slice(0, 200)}`, "Send valid JSON.", { cause });
  }
  if (typeof value !== "object" || value === null) return value;
  const members = countMembers(value, 0);
  if (members !== countColons(text))
    throw Fault.create("request.duplicate-member", `an object in the body has a member twice${nameTwice(text)}`, "Send each member once.");
  return value;
}

/** Members of all objects in it; refuses names that reach for a prototype, and depth beyond the limit. */
function countMembers(value: object, depth: number): number {
  if (depth === depthMax) throw Fault.create("request.unsafe-json", `the body is nested deeper than ${depthMax} levels`, "Send flatter JSON.");
  let members = 0;
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) {
      const item: unknown = value[at];
      if (typeof item === "object" && item !== null) members += countMembers(item, depth + 1);
    }
    return members;
  }
  for (const name of Object.keys(value)) {
    members += 1;
    const member = (value as Record<string, unknown>)[name];
    if (name === "__proto__" || (name === "constructor" && typeof member === "object" && member !== null && Object.hasOwn(member, "prototype"))) {
      throw Fault.create("request.unsafe-json", `the body has a member named ${JSON.stringify(name)}, which reaches for a prototype`, "Leave it out.");
    }
    if (typeof member === "object" && member !== null) members += countMembers(member, depth + 1);
  }
  return members;
}

/** Colons outside of strings: one per member that the text has, so more than the value has means that a name came twice. */
function countColons(text: string): number {
  let colons = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x3a) colons += 1;
    else if (code === 0x22) {
      for (let inside = text.charCodeAt(++at); inside !== 0x22; inside = text.charCodeAt(++at)) if (inside === 0x5c) at += 1; // what a backslash quotes
    }
  }
  return colons;
}

/** The closing quote of the string that opens at `at`; the text is known to be JSON. */
function endOfString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); ; end = text.indexOf('"', end + 1)) {
    let back = end - 1;
    while (text.charCodeAt(back) === 0x5c) back -= 1;
    if ((end - back) % 2 === 1) return end; // an even number of backslashes before it
  }
}

/** For the message only: the first name that an object has twice. */
function nameTwice(text: string): string {
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push(undefined);
    else if (character === "}" || character === "]") open.pop();
    else if (character === '"') {
      const end = endOfString(text, at);
      const names = open.at(-1);
      if (names && /^\s*:/.test(text.slice(end + 1, end + 1_000))) {
        const name = JSON.parse(text.slice(at, end + 1)) as string;
        if (names.has(name)) return `: ${JSON.stringify(name)}`;
        names.add(name);
      }
      at = end;
    }
  }
  return "";
}

function tooLarge(maxBytes: number, seen: string): Fault {
  return Fault.create("request.body-too-large", `the body may have at most ${maxBytes} bytes, got ${seen}`, "Send less, or in several requests.");
}

function malformed(rule: string): Fault {
  return Fault.create("request.malformed", rule, "Send a well-formed request.");
}

/** Query parameters: a text each, a list where a name came more than once. */
export function parseQuery(url: string): Record<string, string | string[]> {
  const start = url.indexOf("?");
  const query: Record<string, string | string[]> = {};
  if (start < 0) return query;
  const hash = url.indexOf("#", start);
  for (const [name, value] of new URLSearchParams(hash < 0 ? url.slice(start + 1) : url.slice(start + 1, hash))) {
    if (name === "__proto__") throw Fault.create("request.query-invalid", 'the query has a parameter named "__proto__"', "Leave it out.");
    const known = Object.hasOwn(query, name) ? query[name] : undefined;
    if (known === undefined) query[name] = value;
    else if (Array.isArray(known)) known.push(value);
    else query[name] = [known, value];
  }
  return query;
}
