/**
 * One HTTP exchange with a foreign system, and what its failure says: whether the other side can have acted on it.
 * - never sent (no name, no connection, nothing that `fetch` would send): `external.unreachable`.
 * - sent, no answer (reset, cut off, time over), or 5xx: `external.outcome-unknown`.
 * - an answer of 3xx or 4xx: `external.refused`, with `details.status`; 408, 425 and 429 may be tried again.
 */
import type { Exchange, Exchanged } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";

const answerBytesMax = 10_000_000;
const neverSent = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_NODATA",
  "EAI_NONAME",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
  "ERR_INVALID_URL",
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "CERT_HAS_EXPIRED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
]);

/** Answers whatever status came. `who` is named in faults; `carry` is what stands in for `fetch`. */
export async function exchange(who: string, asked: Exchange, carry?: (asked: Exchange) => Promise<Exchanged>): Promise<Exchanged> {
  try {
    if (!carry) return await byFetch(who, asked);
    const answered = await carry(asked);
    if (answered.text.length * 3 > answerBytesMax && Buffer.byteLength(answered.text) > answerBytesMax) throw tooLong(who);
    return answered;
  } catch (cause) {
    if (Fault.is(cause)) throw cause;
    throw failure(who, asked, cause);
  }
}

async function byFetch(who: string, asked: Exchange): Promise<Exchanged> {
  const { method, url, headers, body, signal } = asked;
  const response = await fetch(url, { method, headers, signal, redirect: "manual", ...(body === undefined ? {} : { body }) }).catch((cause: unknown) => {
    throw isRefusedByFetch(asked, cause) ? unreachable(who, asked, cause) : cause;
  });
  return { status: response.status, headers: Object.fromEntries(response.headers), text: await textOf(who, response) };
}

async function textOf(who: string, response: Response): Promise<string> {
  if (!response.body) return "";
  // As long as it says, unless it is packed: the connection sees to that. Reading it chunk by chunk takes twice as long.
  const { headers } = response;
  const declared = headers.get("content-length");
  if (declared !== null && Number(declared) <= answerBytesMax && !headers.has("content-encoding")) return response.text();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > answerBytesMax) throw tooLong(who);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes).toString("utf8");
}

function tooLong(who: string): Fault {
  return Fault.create("external.answer-invalid", `${who} answered more than ${answerBytesMax} bytes`, "Ask for less at a time.");
}

/** It has no codes for what it does not send: a URL, method or header that no request has, a port that is for something else (Fetch Standard, "port blocking"). */
function isRefusedByFetch({ method, url, headers }: Exchange, thrown: unknown): boolean {
  try {
    void new Request(url, { method, headers });
  } catch {
    return true;
  }
  return thrown instanceof TypeError && thrown.cause instanceof Error && thrown.cause.message === "bad port";
}

function failure(who: string, asked: Exchange, cause: unknown): Fault {
  const codes = codesOf(cause);
  if (codes.length > 0 && codes.every((code) => neverSent.has(code))) return unreachable(who, asked, cause);
  return Fault.create(
    "external.outcome-unknown",
    `${who} did not answer: ${asked.method} ${asked.url} (${whyOf(cause)}); it may have acted on it`,
    "Ask it what became of the call before doing anything else, or call again with the same key.",
    { cause },
  );
}

function unreachable(who: string, { method, url }: Exchange, cause: unknown): Fault {
  return Fault.create("external.unreachable", `${who} cannot be reached: ${method} ${url} (${whyOf(cause)})`, "Check that it runs and that its url is right.", {
    cause,
  });
}

function whyOf(cause: unknown): string {
  return codesOf(cause)[0] ?? (cause instanceof Error ? (cause.cause instanceof Error ? cause.cause : cause).message : String(cause));
}

/** The system's own words, through `cause` and what a connection tried at several addresses collects. */
function codesOf(error: unknown): string[] {
  if (typeof error !== "object" || error === null) return [];
  const { code, cause, errors } = error as { readonly code?: unknown; readonly cause?: unknown; readonly errors?: unknown };
  if (Array.isArray(errors) && errors.length > 0) return errors.flatMap(codesOf);
  if (typeof code === "string") return [code];
  return codesOf(cause);
}

/** The JSON of a 2xx; `undefined` for an empty one. Anything else is a fault. */
export function jsonOf(who: string, asked: Pick<Exchange, "method" | "url">, { status, headers, text }: Exchanged): unknown {
  const what = `${asked.method} ${asked.url}`;
  if (status >= 500)
    throw Fault.create(
      "external.outcome-unknown",
      `${who} answered ${status} to ${what}; it may have acted on it`,
      "Ask it what became of the call before doing anything else, or call again with the same key.",
      { details: { status, ...retryAfter(headers) } },
    );
  if (status < 200 || status >= 300) {
    throw Fault.create(
      "external.refused",
      `${who} answered ${status} to ${what}: ${text.slice(0, 200)}`,
      "Correct what was sent, or handle this answer in the call itself.",
      { details: { status, body: text.slice(0, 2_000), ...retryAfter(headers) } },
    );
  }
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw Fault.create(
      "external.answer-invalid",
      `${who} answered ${what} with something that is no JSON: ${text.slice(0, 100)}`,
      "Check the url, and what is really behind it.",
      { cause },
    );
  }
}

function retryAfter(headers: Exchanged["headers"]): { readonly retryAfterMs?: number } {
  const seconds = headers["retry-after"];
  return seconds !== undefined && /^\d{1,6}$/.test(seconds) ? { retryAfterMs: Number(seconds) * 1_000 } : {};
}
