/**
 * `fetch` as a host of the world has it: a call over the simulated network. What a broken connection throws looks as undici's errors do, since that is
 * what code outside of a simulation is told.
 */
import type { ArrivedRequest, Peer } from "../service/index.ts";
import type { BrokenCall, Network } from "./network.ts";
import type { Host, Life } from "./world.ts";

/** Who answers a URL. */
export interface Destination {
  readonly host: Host;
  answer(life: Life, request: ArrivedRequest, peer: Peer): Promise<Response>;
}

export interface FetchOptions {
  readonly network: Network;
  /** `undefined`: nobody has this name. */
  readonly find: (url: URL) => Destination | undefined;
}

interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>> | readonly [string, string][];
  readonly body: string | Uint8Array | ArrayBuffer | AnswerStream | undefined;
}
interface AnswerStream {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly from: Life;
}

const withoutBody = new Set([101, 103, 204, 205, 304]);
/** In place of the Response that was not made, because its parts were at hand. */
const nothingMore = { body: null } as Response;

export function simulatedFetch(life: Life, { network, find }: FetchOptions): typeof fetch {
  return async (input, init) => {
    const asked = isPlain(input, init) ? plainly(input, init) : await wholly(new Request(input, init));
    const url = new URL(asked.url);
    const to = find(url);
    if (!to) throw failed("ENOTFOUND", `getaddrinfo ENOTFOUND ${url.hostname}`);
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    let answered: Answered;
    try {
      answered = await network.call(
        life,
        to.host,
        {
          label: `${asked.method} ${url.pathname}`,
          // A proxy or a client may send again what may be repeated.
          mayComeTwice: asked.body === undefined || asked.headers.has("idempotency-key"),
          signal: signal ?? undefined,
        },
        async (there, closed): Promise<Answered> => {
          let answer: Answered | undefined;
          const respond: Peer["respond"] = (status, headers, body) => {
            answer = { status, headers: body === undefined ? headers : { ...headers, "content-length": String(Buffer.byteLength(body)) }, body };
            return nothingMore;
          };
          const response = await to.answer(there, new CarriedRequest(asked, closed), { respond });
          if (answer) return asked.method === "HEAD" ? { ...answer, body: undefined } : answer;
          return { status: response.status, headers: [...response.headers], body: await bodyOf(response, there) };
        },
      );
    } catch (error) {
      const { how } = error as BrokenCall;
      if (how === "refused") throw failed("ECONNREFUSED", (error as Error).message, error);
      if (how === "lost") throw failed("ECONNRESET", (error as Error).message, error);
      throw error;
    }
    const { status, headers, body: given } = answered;
    const read = typeof given === "object" && "reader" in given ? streamOf(given, life, to.host, network, signal ?? undefined) : given;
    return new Response(withoutBody.has(status) ? null : ((read ?? null) as string | null), { status, headers: headers as Record<string, string> });
  };
}

// ---- what is asked ----------------------------------------------------------------------------------------------------

interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly body: string | ArrayBuffer | undefined;
}

type Plain = RequestInit & { readonly method?: string; readonly body?: string };
const plainMethods: ReadonlySet<string | undefined> = new Set([undefined, "GET", "POST", "PUT", "PATCH", "DELETE"]);

/** A Request made of it would say nothing else. Making one, and its stream and signal, costs as much as all that a node does with a small one. */
function isPlain(input: Parameters<typeof fetch>[0], init: RequestInit | undefined): boolean {
  const { method, body } = init ?? {};
  const bodied = typeof body === "string" && method !== undefined && method !== "GET";
  return typeof input === "string" && !input.includes("@") && !input.includes("#") && plainMethods.has(method) && (bodied || body === undefined);
}
function plainly(url: Parameters<typeof fetch>[0], init: RequestInit | undefined): Asked {
  const { method = "GET", headers, body } = (init ?? {}) as Plain;
  const carried: Asked = {
    method,
    url: new URL(url as string).href,
    headers: new Headers(headers),
    body: method === "GET" ? undefined : (body ?? "").toWellFormed(),
  };
  if (body !== undefined && !carried.headers.has("content-type")) carried.headers.set("content-type", "text/plain;charset=UTF-8");
  return carried;
}
async function wholly(request: Request): Promise<Asked> {
  const { method, url, headers } = request;
  return { method, url, headers, body: method === "GET" || method === "HEAD" ? undefined : await request.arrayBuffer() };
}

/** As it arrives: a server has its length from the connection. */
class CarriedRequest implements ArrivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
  readonly #asked: Asked;
  readonly #closed: () => AbortSignal;

  constructor(asked: Asked, closed: () => AbortSignal) {
    this.method = asked.method;
    this.url = asked.url;
    const { headers, body } = asked;
    const length = body === undefined ? null : String(typeof body === "string" ? Buffer.byteLength(body) : body.byteLength);
    this.headers = { get: (name) => (name.toLowerCase() === "content-length" ? length : headers.get(name)) };
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
    return Promise.resolve(textOf(this.#asked.body));
  }
  asRequest(): Request {
    const { method, url, headers, body } = this.#asked;
    return new Request(url, { method, headers, signal: this.signal, ...(body !== undefined && body !== "" && { body }) });
  }
}

/** A byte order mark is no part of the text, as in a web Request. */
function textOf(body: Asked["body"]): string {
  if (typeof body !== "string") return new TextDecoder().decode(body);
  return body.charCodeAt(0) === 0xfe_ff ? body.slice(1) : body;
}

// ---- what is answered -------------------------------------------------------------------------------------------------

function failed(code: string, message: string, cause?: unknown): TypeError {
  return new TypeError("fetch failed", { cause: Object.assign(new Error(message, { cause }), { code }) });
}

async function bodyOf(response: Response, there: Life): Promise<Answered["body"]> {
  if (!response.body) return undefined;
  if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) return response.arrayBuffer();
  return { reader: response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>, from: there };
}

/** An endless answer: chunk after chunk is a message. It breaks when its sender's life ends, or a message is lost. */
function streamOf({ reader, from }: AnswerStream, life: Life, host: Host, network: Network, signal: AbortSignal | undefined): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await network.call(life, host, { label: "more of the stream", signal }, (there) => {
          if (there !== from) throw new Error("the stream's sender is gone");
          return reader.read();
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
