/**
 * HTTP as a host of the world has it: a call over the simulated network, for its code's `fetch`, and for the typed clients of services, which need no Request
 * and no Response. What a broken connection throws looks as undici's errors do, since that is what code outside of a simulation is told.
 */
import type { ArrivedRequest, Peer } from "../service/index.ts";
import type { BrokenCall, Network } from "./network.ts";
import type { Host, Life } from "./world.ts";

/** Who answers a URL. */
export interface Destination {
  readonly host: Host;
  answer(life: Life, request: ArrivedRequest, peer: Peer): Promise<Response>;
}

export interface CarrierOptions {
  readonly network: Network;
  /** `undefined`: nobody has this name. */
  readonly find: (url: URL) => Destination | undefined;
}

/** What is on its way. The body of GET and HEAD is `undefined`. */
export interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers | Readonly<Record<string, string>>;
  header(name: string): string | null;
  readonly body: string | ArrayBuffer | undefined;
  readonly signal: AbortSignal | undefined;
}
export interface Answered {
  readonly status: number;
  /** By names in lower case, or in pairs. */
  readonly headers: Readonly<Record<string, string>> | readonly (readonly [string, string])[];
  readonly body: string | Uint8Array | ArrayBuffer | AnswerStream | undefined;
}
interface AnswerStream {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly from: Life;
}
/** One request and its answer, or what `fetch` would throw. */
export type Carrier = (asked: Asked) => Promise<Answered>;

/** In place of the Response that was not made, because its parts were at hand. */
const nothingMore = { body: null } as Response;

export function carrier(life: Life, { network, find }: CarrierOptions): Carrier {
  return async (asked) => {
    const { method, url, signal } = asked;
    const to = find(url);
    if (!to) throw failed("ENOTFOUND", `getaddrinfo ENOTFOUND ${url.hostname}`);
    // A proxy or a client may send again what may be repeated.
    const mayComeTwice = asked.body === undefined || asked.header("idempotency-key") !== null;
    try {
      return await network.call(life, to.host, { label: `${method} ${url.pathname}`, mayComeTwice, signal }, async (there, closed): Promise<Answered> => {
        let answer: Answered | undefined;
        const respond: Peer["respond"] = (status, headers, body) => {
          const known: Record<string, string> = {};
          for (const name in headers) known[name.toLowerCase()] = headers[name] as string;
          if (body !== undefined) known["content-length"] = String(Buffer.byteLength(body));
          answer = { status, headers: known, body: method === "HEAD" ? undefined : body };
          return nothingMore;
        };
        const response = await to.answer(there, new CarriedRequest(asked, closed), { respond });
        return answer ?? { status: response.status, headers: [...response.headers], body: await bodyOf(response, there) };
      });
    } catch (error) {
      const { how } = error as BrokenCall;
      if (how === "refused") throw failed("ECONNREFUSED", (error as Error).message, error);
      if (how === "lost") throw failed("ECONNRESET", (error as Error).message, error);
      throw error;
    }
  };
}

/** Gives the code of a host its way out. */
export function connect(life: Life, carry: Carrier, network: Network): void {
  life.fetch = async (input, init) => {
    const asked = isPlain(input, init) ? plainly(input, init) : await wholly(new Request(input, init));
    return responseOf(await carry(asked), { life, network, signal: asked.signal });
  };
  life.exchange = async ({ method, url, headers, body, signal }) => {
    const answered = await carry({
      method,
      url: new URL(url),
      headers,
      header: (name) => headers[name] ?? null,
      body: method === "GET" ? undefined : (body ?? "").toWellFormed(),
      signal,
    });
    const { status, headers: given } = answered;
    return { status, headers: isPairs(given) ? Object.fromEntries(given) : given, text: await answeredText(answered, { life, network, signal }) };
  };
}

// ---- what is asked ----------------------------------------------------------------------------------------------------

type Plain = RequestInit & { readonly method?: string; readonly body?: string };
const plainMethods: ReadonlySet<string | undefined> = new Set([undefined, "GET", "POST", "PUT", "PATCH", "DELETE"]);

/** A Request made of it would say nothing else. Making one, and its stream and signal, costs as much as all that a node does with a small one. */
function isPlain(input: Parameters<typeof fetch>[0], init: RequestInit | undefined): boolean {
  const { method, body } = init ?? {};
  const bodied = typeof body === "string" && method !== undefined && method !== "GET";
  return typeof input === "string" && !input.includes("@") && !input.includes("#") && plainMethods.has(method) && (bodied || body === undefined);
}
function plainly(url: Parameters<typeof fetch>[0], init: RequestInit | undefined): Asked {
  const { method = "GET", body, signal } = (init ?? {}) as Plain;
  const headers = new Headers(init?.headers);
  if (body !== undefined && !headers.has("content-type")) headers.set("content-type", "text/plain;charset=UTF-8");
  return { ...carried(method, url as string, headers, signal), body: method === "GET" ? undefined : (body ?? "").toWellFormed() };
}
async function wholly(request: Request): Promise<Asked> {
  const { method, url, headers, signal } = request;
  return { ...carried(method, url, headers, signal), body: method === "GET" || method === "HEAD" ? undefined : await request.arrayBuffer() };
}
const carried = (method: string, url: string, headers: Headers, signal: AbortSignal | null | undefined) => ({
  method,
  url: new URL(url),
  headers,
  header: (name: string) => headers.get(name),
  signal: signal ?? undefined,
});

/** As it arrives: a server has its length from the connection. */
class CarriedRequest implements ArrivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
  readonly #asked: Asked;
  readonly #closed: () => AbortSignal;

  constructor(asked: Asked, closed: () => AbortSignal) {
    this.method = asked.method;
    this.url = asked.url.href;
    const { body } = asked;
    const length = body === undefined ? null : String(typeof body === "string" ? Buffer.byteLength(body) : body.byteLength);
    this.headers = { get: (name) => (name.toLowerCase() === "content-length" ? length : asked.header(name)) };
    this.#asked = asked;
    this.#closed = closed;
  }

  /** It has a length where it has one, and is read by that. */
  get body(): null {
    return null;
  }
  /** Aborts when the caller has closed its end of the connection. */
  get signal(): AbortSignal {
    return this.#closed();
  }
  text(): Promise<string> {
    const { body } = this.#asked;
    return Promise.resolve(body === undefined ? "" : textOf(body));
  }
  asRequest(): Request {
    const { method, url, headers, body } = this.#asked;
    return new Request(url, { method, headers: headers as Record<string, string>, signal: this.signal, ...(body !== undefined && body !== "" && { body }) });
  }
}

/** A byte order mark is no part of the text, as in a web Request. */
function textOf(body: string | Uint8Array | ArrayBuffer): string {
  if (typeof body !== "string") return new TextDecoder().decode(body);
  return body.charCodeAt(0) === 0xfe_ff ? body.slice(1) : body;
}

// ---- what is answered -------------------------------------------------------------------------------------------------

const withoutBody = new Set([101, 103, 204, 205, 304]);

interface Reading {
  readonly life: Life;
  readonly network: Network;
  readonly signal: AbortSignal | undefined;
}

/** What `fetch` makes of it. */
function responseOf({ status, headers, body }: Answered, reading: Reading): Response {
  // Of a text without a type a Response would say that it is plain text; nobody has said so.
  const read = isStream(body) ? streamOf(body, reading) : typeof body === "string" && !("content-type" in headers) ? Buffer.from(body) : (body ?? null);
  return new Response(withoutBody.has(status) ? null : (read as string | null), { status, headers: headers as Record<string, string> });
}

/** Waits for the end of a stream, or throws where it breaks. */
export async function answeredText(answered: Answered, reading: Reading): Promise<string> {
  const { status, body } = answered;
  if (body === undefined || withoutBody.has(status)) return "";
  return isStream(body) ? responseOf(answered, reading).text() : textOf(typeof body === "string" ? body.toWellFormed() : body);
}

const isStream = (body: Answered["body"]): body is AnswerStream => typeof body === "object" && "reader" in body;
const isPairs = (headers: Answered["headers"]): headers is readonly (readonly [string, string])[] => Array.isArray(headers);

function failed(code: string, message: string, cause?: unknown): TypeError {
  return new TypeError("fetch failed", { cause: Object.assign(new Error(message, { cause }), { code }) });
}

async function bodyOf(response: Response, there: Life): Promise<Answered["body"]> {
  if (!response.body) return undefined;
  if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) return response.arrayBuffer();
  return { reader: response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>, from: there };
}

/** An endless answer: chunk after chunk is a message. It breaks when its sender's life ends, or a message is lost. */
function streamOf({ reader, from }: AnswerStream, { life, network, signal }: Reading): ReadableStream<Uint8Array> {
  const { host } = from;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await network.call(life, host, { label: "more of the stream", signal }, (there) => {
          // Rejected, not thrown: whoever serves is asked in an event of the world, which has nobody to catch it.
          return there === from ? reader.read() : Promise.reject(new Error("the stream's sender is gone"));
        });
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(failed("ECONNRESET", (error as Error).message, error));
      }
    },
    cancel: () => network.send(life.host, host, "stream closed", () => void reader.cancel().catch(() => undefined)),
  });
}
