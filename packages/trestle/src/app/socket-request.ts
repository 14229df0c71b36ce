/**
 * A request as it lies in Node's hands, in the shape of as much of a web Request as a route looks at. A whole one, with its headers, stream and
 * signal, is made when a handler asks for it. Only of plain requests, whose URL a web Request would take as it stands: `isPlain`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import type { ArrivedRequest } from "../service/index.ts";

const plainMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]);
// Lower-case hosts and targets without anything that URL parsing would change; a dot segment is one that it would resolve.
const plainHost = /^[a-z0-9._-]+(?::(?:[1-5]\d{3,4}|[6-9]\d{3}))?$/;
const plainTarget = /^\/[!$&-;=?-[\]_a-z~]*$/;
const dotSegment = /\/\.\.?(?:[/?]|$)/;

export function isPlain({ method, url, headers }: IncomingMessage): boolean {
  return (
    plainMethods.has(method as string) &&
    headers.host !== undefined &&
    plainHost.test(headers.host) &&
    plainTarget.test(url as string) &&
    !dotSegment.test(url as string) &&
    headers["transfer-encoding"] === undefined
  );
}

export class SocketRequest implements ArrivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
  readonly #incoming: IncomingMessage;
  readonly #outgoing: ServerResponse;
  #controller: AbortController | undefined;
  #text: Promise<string> | undefined;
  #request: Request | undefined;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.method = incoming.method as string;
    this.url = `http://${incoming.headers.host as string}${incoming.url as string}`;
    this.headers = new SocketHeaders(incoming);
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  /** Chunked bodies are not plain, so without a length there is none. */
  get body(): null {
    return null;
  }

  /** Aborts when the client has gone before it was answered. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      const controller = (this.#controller = new AbortController());
      this.#outgoing.once("close", () => {
        if (!this.#outgoing.writableFinished) controller.abort(new DOMException("the client has gone", "AbortError"));
      });
    }
    return this.#controller.signal;
  }

  text(): Promise<string> {
    return (this.#text ??= textOf(this.#incoming));
  }

  asRequest(): Request {
    if (this.#request) return this.#request;
    const headers = new Headers();
    const { rawHeaders } = this.#incoming;
    for (let at = 0; at < rawHeaders.length; at += 2) headers.append(rawHeaders[at] as string, rawHeaders[at + 1] as string);
    const bodied = this.method !== "GET" && this.method !== "HEAD";
    const body = !bodied ? null : this.#text ? "" : (Readable.toWeb(this.#incoming) as ReadableStream<Uint8Array<ArrayBuffer>>);
    const request = new Request(this.url, { method: this.method, headers, body, signal: this.signal, duplex: "half" });
    if (this.#text && bodied) void request.text(); // its body has been read
    return (this.#request = request);
  }
}

class SocketHeaders {
  readonly #incoming: IncomingMessage;

  constructor(incoming: IncomingMessage) {
    this.#incoming = incoming;
  }

  get(name: string): string | null {
    const { headers } = this.#incoming;
    const lowerCased = name.toLowerCase();
    const value = Object.hasOwn(headers, lowerCased) ? headers[lowerCased] : undefined;
    return value === undefined ? null : typeof value === "string" ? value : value.join(", ");
  }
}

/** Rejects when the client has gone before the body was complete. */
function textOf(incoming: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    let first: Buffer | undefined;
    let more: Buffer[] | undefined;
    incoming.on("data", (chunk: Buffer) => {
      if (first === undefined) first = chunk;
      else (more ??= [first]).push(chunk);
    });
    // A byte order mark is no part of the text, as in a web Request.
    incoming.on("end", () => resolve(withoutMark(more ? Buffer.concat(more).toString("utf8") : first === undefined ? "" : first.toString("utf8"))));
    incoming.on("error", reject);
    // Every request closes; an error for each of them, with its stack, would be 7 µs of it (--cpu-prof of `npm run bench -- http`).
    incoming.on("close", () => incoming.readableEnded || reject(new Error("the client has gone")));
  });
}

const withoutMark = (text: string): string => (text.charCodeAt(0) === 0xfe_ff ? text.slice(1) : text);
