/**
 * The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header) and what is kept under it.
 *
 * A key belongs to one operation, tenant and caller: nobody can read another's answer by guessing a key. The draft asks for a quoted
 * string; the same text without quotes, as most clients send it, is the same key.
 */
import { hash } from "node:crypto";
import type { Principal } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { storeKey, type StoreKey } from "../store/index.ts";
import type { StoredAnswer } from "./reply-wire.ts";

const keyCharactersMax = 255;
const quotedPlainly = /^"[\x20\x21\x23-\x5b\x5d-\x7e]+"$/;
const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"$/;
const bare = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/; // visible ASCII without " , ; \

/** The key that a header carries. Faults: `idempotency.key-missing`, `idempotency.key-malformed`. */
export function parseIdempotencyKey(header: string | null, operation: string): string {
  if (header === null)
    throw Fault.create(
      "idempotency.key-missing",
      `${operation} needs the header Idempotency-Key`,
      "Make a new random key (a UUID) for each thing you want done, and send the same one when you ask again.",
    );
  if (header.length <= keyCharactersMax + 2) {
    if (bare.test(header)) {
      if (header.length <= keyCharactersMax) return header;
    } else {
      const text = quotedPlainly.test(header) ? header.slice(1, -1) : quoted.exec(header)?.[1]?.replaceAll(/\\(["\\])/g, "$1");
      if (text !== undefined && text.length <= keyCharactersMax) return text;
    }
  }
  throw Fault.create(
    "idempotency.key-malformed",
    `Idempotency-Key must be one text of 1 to ${keyCharactersMax} visible ASCII characters, as it is or in double quotes; got ${JSON.stringify(header.slice(0, 40))}${header.length > 40 ? `… (${header.length} characters)` : ""}`,
    "Send a UUID.",
  );
}

/** Whose key it is. `component:` is a caller inside the app. */
export function scopeOf(principal: Principal | undefined): string {
  return principal === undefined ? "anonymous" : `${principal.kind}:${principal.id}`;
}

/** Where the answer lies: `~request/<tenant>/<service.operation>/<scope>/<key>`. Long parts are hashed: a store's key has its end. */
export function tokenKeyOf(operation: string, tenant: string | undefined, scope: string, key: string): StoreKey {
  return storeKey("~request", tenant, `${operation}/${within(encodeURIComponent(scope), 80)}/${within(key, 120)}`);
}

function within(text: string, charactersMax: number): string {
  return text.length <= charactersMax ? text : `sha256:${hash("sha256", text, "base64url")}`;
}

/** What was asked, so that a key cannot be used for something else: SHA-256 over operation, URL and body, as they came. */
export function fingerprintOf(method: string, target: string, body: string): string {
  return hash("sha256", `${method} ${target}\n${body}`, "base64url");
}

// ---- the token --------------------------------------------------------------------------------------------------------

/**
 * `running`: a recovery point has been passed, so the request will be finished whatever dies. Until `untilMs` (wall time) somebody is at
 * it; after that whoever asks, or the completion job, goes on under the same invocation id, which is the job's id as well.
 */
export type Token =
  | { readonly kind: "running"; readonly fingerprint: string; readonly invocation: string; readonly untilMs: number }
  | { readonly kind: "done"; readonly fingerprint: string; readonly answer: StoredAnswer };

/** A line of JSON, then the body as it is. */
export function encodeToken(token: Token): Uint8Array {
  if (token.kind === "running") return Buffer.from(`${JSON.stringify({ f: token.fingerprint, i: token.invocation, u: token.untilMs })}\n`);
  const { status, headers, body, refused } = token.answer;
  const line = `${JSON.stringify({ f: token.fingerprint, s: status, h: headers, ...(refused ? { r: 1 } : {}), ...(body === undefined ? { e: 1 } : {}) })}\n`;
  if (body === undefined) return Buffer.from(line);
  return typeof body === "string" ? Buffer.from(line + body) : Buffer.concat([Buffer.from(line), body]);
}

export function decodeToken(bytes: Uint8Array): Token {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = buffer.indexOf(10);
  const line = JSON.parse(buffer.toString("utf8", 0, end)) as {
    readonly f: string;
    readonly i?: string;
    readonly u?: number;
    readonly s?: number;
    readonly h?: Record<string, string>;
    readonly r?: 1;
    readonly e?: 1;
  };
  if (line.s === undefined) return { kind: "running", fingerprint: line.f, invocation: line.i ?? "", untilMs: line.u ?? 0 };
  return {
    kind: "done",
    fingerprint: line.f,
    answer: { status: line.s, headers: line.h ?? {}, body: line.e ? undefined : new Uint8Array(buffer.subarray(end + 1)), refused: line.r === 1 },
  };
}
