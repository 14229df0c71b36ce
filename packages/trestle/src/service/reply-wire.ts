/** An answer on its way out: as a Response, as what is stored under an idempotency key, and as what a caller in this process gets. */
import type { Refused } from "../component/index.ts";
import { isProblem, problemOfRefusal, problemType, refusalOfProblem, type Problem } from "./problem.ts";
import type { Answered } from "./operation.ts";

export const jsonType = "application/json";

/** What is kept and repeated byte for byte. */
export interface StoredAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** `undefined`: no body. */
  readonly body: Uint8Array | string | undefined;
  readonly refused: boolean;
}

export function wireOf(answered: Exclude<Answered, { readonly kind: "response" }>): StoredAnswer {
  if (answered.kind === "refused")
    return {
      status: answered.status,
      headers: { "content-type": problemType },
      body: JSON.stringify(problemOfRefusal(answered.refusal, answered.status)),
      refused: true,
    };
  const { status, headers, text } = answered;
  return {
    status,
    headers: text === undefined ? (headers ?? {}) : headers ? { "content-type": jsonType, ...lowerCased(headers) } : jsonHeaders,
    body: text,
    refused: false,
  };
}
const jsonHeaders = { "content-type": jsonType };

export type Respond = (status: number, headers: Readonly<Record<string, string>>, body: string | Uint8Array | undefined) => Response;

export function responseOf(stored: StoredAnswer, more?: Readonly<Record<string, string>>, respond: Respond = asResponse): Response {
  return respond(stored.status, more ? { ...stored.headers, ...more } : stored.headers, stored.body);
}

const asResponse: Respond = (status, headers, body) => new Response((body ?? null) as string | Uint8Array<ArrayBuffer> | null, { status, headers });

/** `{ ok, status, body }` or the refusal, as callers of a typed client see it. */
export function callAnswerOf(stored: StoredAnswer): { readonly ok: true; readonly status: number; readonly body: unknown } | Refused | Response {
  const contentType = stored.headers["content-type"];
  const text = typeof stored.body === "string" ? stored.body : stored.body === undefined ? undefined : Buffer.from(stored.body).toString("utf8");
  if (stored.refused) {
    const problem = JSON.parse(text ?? "null") as Problem;
    if (isProblem(problem)) return refusalOfProblem(problem);
  }
  if (contentType !== undefined && contentType !== jsonType) return responseOf(stored);
  return { ok: true, status: stored.status, body: text === undefined ? undefined : JSON.parse(text) };
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
