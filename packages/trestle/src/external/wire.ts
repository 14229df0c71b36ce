/** How an operation talks: JSON over HTTP against the external's `url`. */
import { contextHeaders, Fault, type AmbientContext } from "../kernel/index.ts";
import { exchange, jsonOf } from "./transport.ts";

export interface Wire {
  /** Stable over retries and crashes. Sent as `Idempotency-Key` with everything but `get` and `find`. */
  readonly key: string;
  /** Aborts when the attempt's time is over. */
  readonly signal: AbortSignal;
  /** 1 for the first, also of a `lookup`; retries and tries of a `hedge` count on. From the second on, whoever has several to ask asks another one. */
  readonly attempt: number;
  /** JSON over HTTP against the external's `url`, with key, deadline and trace headers. Faults on anything but 2xx. */
  get(path: string): Promise<unknown>;
  /** As `get`; `undefined` when there is nothing there (404). */
  find(path: string): Promise<unknown>;
  post(path: string, body: unknown): Promise<unknown>;
  put(path: string, body: unknown): Promise<unknown>;
  del(path: string): Promise<unknown>;
}

export interface WireOptions {
  readonly who: string;
  /** Asked when it is needed: an external without a url may still talk by other means. */
  readonly url: () => string;
  /** A bearer token, where one is declared. */
  readonly auth?: () => string | undefined;
  readonly key: string;
  readonly signal: AbortSignal;
  readonly remainingMs: number;
  /** 1 for the first. */
  readonly attempt: number;
  /** The caller's, not the attempt's own: that says "repeated" from the first one on, and those that are asked would not retry what is asked of them for the first time. */
  readonly context: AmbientContext;
}

export function wire(options: WireOptions): Wire {
  const { who, url, auth, key, signal, remainingMs, attempt, context } = options;
  const ask = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const token = auth?.();
    const asked = {
      method,
      url: `${url().replace(/\/$/, "")}${path.startsWith("/") ? path : `/${path}`}`,
      signal,
      headers: {
        accept: "application/json",
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(method === "GET" ? {} : { "idempotency-key": key }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...contextHeaders(context, { remainingMs, attempt }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    return jsonOf(who, asked, await exchange(who, asked));
  };
  return {
    key,
    signal,
    attempt,
    get: (path) => ask("GET", path),
    async find(path) {
      try {
        return await ask("GET", path);
      } catch (fault) {
        if (Fault.is(fault, "external.refused") && fault.details["status"] === 404) return undefined;
        throw fault;
      }
    },
    post: (path, body) => ask("POST", path, body),
    put: (path, body) => ask("PUT", path, body),
    del: (path) => ask("DELETE", path),
  };
}
