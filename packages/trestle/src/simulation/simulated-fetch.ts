/**
 * `fetch` as a host of the world has it: a call over the simulated network. What a broken connection throws looks as undici's errors do, since that is
 * what code outside of a simulation is told.
 */
import type { BrokenCall, Network } from "./network.ts";
import type { Host, Life } from "./world.ts";

/** Who answers a URL. */
export interface Destination {
  readonly host: Host;
  answer(life: Life, request: Request): Promise<Response>;
}

export interface FetchOptions {
  readonly network: Network;
  /** `undefined`: nobody has this name. */
  readonly find: (url: URL) => Destination | undefined;
}

interface Answered {
  readonly status: number;
  readonly headers: readonly [string, string][];
  readonly body: ArrayBuffer | AnswerStream | undefined;
}
interface AnswerStream {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly from: Life;
}

const withoutBody = new Set([101, 103, 204, 205, 304]);

export function simulatedFetch(life: Life, { network, find }: FetchOptions): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const url = new URL(request.url);
    const to = find(url);
    if (!to) throw failed("ENOTFOUND", `getaddrinfo ENOTFOUND ${url.hostname}`);
    const body = request.method === "GET" || request.method === "HEAD" ? undefined : await request.arrayBuffer();
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    let answered: Answered;
    try {
      answered = await network.call(
        life,
        to.host,
        {
          label: `${request.method} ${url.pathname}`,
          // A proxy or a client may send again what may be repeated.
          mayComeTwice: body === undefined || request.headers.has("idempotency-key"),
          signal: signal ?? undefined,
        },
        async (there, closed) => {
          const arrived = new Request(request.url, { method: request.method, headers: request.headers, signal: closed, ...(body && { body }) });
          const response = await to.answer(there, arrived);
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
    const read = given && "reader" in given ? streamOf(given, life, to.host, network, signal ?? undefined) : given;
    return new Response(withoutBody.has(status) ? null : (read ?? null), { status, headers: headers as [string, string][] });
  };
}

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
