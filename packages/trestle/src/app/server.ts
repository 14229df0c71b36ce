/**
 * The socket in front of a node's `fetch`. Everything a client may send has an end: headers 16 kB and 10 s, a whole request
 * 60 s. Draining: no new connections, every answer says `Connection: close`, what is in flight is finished. A connection that is
 * idle at that moment is left open until nothing has come for `quietMs`: its client may just have sent a request, and to close it
 * then would fail that request.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { Server as NetServer } from "node:net";
import type { Duplex } from "node:stream";
import { Fault, sleep, type Clock } from "../kernel/index.ts";
import type { ArrivedRequest } from "../service/index.ts";
import { problem } from "./problem.ts";
import { isPlain, SocketRequest } from "./socket-request.ts";

export interface HttpServer {
  readonly url: string;
  drain(clock: Clock): void;
  /** What was in flight has been answered, or the time is over. */
  settled(withinMs: number, clock: Clock): Promise<void>;
  close(): Promise<void>;
}

export interface Peer {
  readonly address: string | undefined;
  /** Answers at once with what is at hand whole, without the way through a Response and its stream (8 % of a small request). */
  readonly respond?: (status: number, headers: Readonly<Record<string, string>>, body: string | Uint8Array | undefined) => Response;
}

// What Node calls fetch takes 25 ms to load: until a Request or a Response is asked for by name, this file and what it serves do without. An import of
// node:http would load it, because its exports name WebSocket; the listener that makes Requests does, so it comes with the first who needs one.
const { createServer } = process.getBuiltinModule("node:http");
const withRequests = async () => (await import("@hono/node-server")).getRequestListener;

const maxHeaderBytes = 16_384;
const quietMs = 250;
const lookEveryMs = 5;
const acceptTurnsMax = 1_000;
/** The listener leaves the answer alone when this is thrown: it has been given. */
const alreadySent = Symbol("already sent");
/** In place of the Response that was not made. */
const nothingMore = { body: null } as Response;

/** A request of which no Request could be made: its URL or its host make none. */
function unreadable(thrown: unknown): Response {
  return problem(400, "request.malformed", "Bad Request", `the request cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
}

export async function listen(
  fetch: (request: ArrivedRequest, peer: Peer) => Promise<Response>,
  options: { readonly port: number; readonly host: string },
): Promise<HttpServer> {
  let draining = false;
  let inFlight = 0;
  let connections = 0;
  let accepted = 0;
  let closing: Promise<void> | undefined;
  let requests = 0;
  const listenWithRequests = async () =>
    (await withRequests())(
      async (request, env) => {
        const { incoming, outgoing } = env as {
          readonly incoming: { readonly socket: { readonly remoteAddress?: string } };
          readonly outgoing: ServerResponse;
        };
        let sent = false;
        const response = await fetch(request, {
          address: incoming.socket.remoteAddress,
          respond(status, headers, body) {
            outgoing.writeHead(status, body === undefined ? headers : { ...headers, "content-length": Buffer.byteLength(body) });
            outgoing.end(body);
            sent = true;
            return nothingMore;
          },
        });
        if (sent) throw alreadySent;
        return response;
      },
      { overrideGlobalObjects: false, errorHandler: (thrown) => (thrown === alreadySent ? undefined : unreadable(thrown)) },
    );
  let listener: ReturnType<typeof listenWithRequests> | undefined;
  const answerAny = async (incoming: IncomingMessage, outgoing: ServerResponse) => void (await (listener ??= listenWithRequests()))(incoming, outgoing);
  /** A plain request goes to its route as it lies here: what it would be made of otherwise costs more than finding the route and reading the body. */
  async function answerPlainly(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    let response: Response;
    try {
      response = await fetch(new SocketRequest(incoming, outgoing), {
        address: incoming.socket.remoteAddress,
        respond(status, headers, body) {
          outgoing.writeHead(status, body === undefined ? headers : { ...headers, "content-length": Buffer.byteLength(body) });
          outgoing.end(body);
          return nothingMore;
        },
      });
    } catch (thrown) {
      response = unreadable(thrown);
    }
    if (response !== nothingMore) await (await withRequests())(() => response, { overrideGlobalObjects: false })(incoming, outgoing);
  }
  const server = createServer(
    { maxHeaderSize: maxHeaderBytes, headersTimeout: 10_000, requestTimeout: 60_000, keepAliveTimeout: 30_000, connectionsCheckingInterval: 1_000 },
    (request, response) => {
      if (draining) response.setHeader("connection", "close");
      inFlight += 1;
      requests += 1;
      response.once("close", () => (inFlight -= 1));
      void (isPlain(request) ? answerPlainly(request, response) : answerAny(request, response));
    },
  );
  server.maxHeadersCount = 100;
  server.on("connection", (socket) => {
    connections += 1;
    accepted += 1;
    socket.once("close", () => (connections -= 1));
  });
  server.on("clientError", answerUnparsed);
  await bind(server, options);
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host === "0.0.0.0" ? "localhost" : options.host;
  return {
    url: `http://${host}:${port}`,
    drain(clock) {
      // A turn of the loop accepts one connection: those that wait, with a request sent perhaps, would be reset by closing. For the
      // same reason nobody is told to connect anew before. And not by the HTTP server's own close, which ends idle connections at once.
      closing ??= new Promise((resolve) => {
        const closeOnceAccepted = (before: number, turn: number) =>
          clock.soon(() => {
            if (accepted !== before && turn < acceptTurnsMax) return closeOnceAccepted(accepted, turn + 1);
            NetServer.prototype.close.call(server);
            draining = true;
            resolve();
          });
        closeOnceAccepted(-1, 0);
      });
    },
    async settled(withinMs, clock) {
      await closing;
      const endMs = clock.monotonicMs() + withinMs;
      let seen = requests;
      let quietSinceMs = clock.monotonicMs();
      while (connections > 0 && clock.monotonicMs() < endMs) {
        if (inFlight > 0 || requests !== seen) [seen, quietSinceMs] = [requests, clock.monotonicMs()];
        else if (clock.monotonicMs() - quietSinceMs >= quietMs) return;
        await sleep(clock, lookEveryMs);
      }
    },
    close: () =>
      new Promise((resolve) => {
        draining = true;
        server.close(() => resolve());
        server.closeIdleConnections();
        server.closeAllConnections();
      }),
  };
}

/** What the parser gave up on: there is no request yet, so the answer is written by hand. */
function answerUnparsed(error: NodeJS.ErrnoException, socket: Duplex): void {
  const { _httpMessage: answering } = socket as { readonly _httpMessage?: { readonly _headerSent: boolean } | null };
  if (error.code === "ECONNRESET" || !socket.writable || answering?._headerSent) return void socket.destroy();
  const [status, title, code, detail] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ([
          431,
          "Request Header Fields Too Large",
          "request.headers-too-large",
          `the headers of a request may have at most ${maxHeaderBytes} bytes together`,
        ] as const)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ([408, "Request Timeout", "request.too-slow", "the request was not complete in time"] as const)
        : ([400, "Bad Request", "request.malformed", `what came is no HTTP: ${error.message}`] as const);
  const body = JSON.stringify({ type: "about:blank", title, status, detail, code });
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function bind(server: Server, { port, host }: { readonly port: number; readonly host: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "EADDRINUSE")
        reject(
          Fault.create(
            "http.port-in-use",
            `port ${port} on ${host} is in use by another program`,
            "Choose another port with PORT or the `port` option, or stop the other program.",
            { cause, details: { port, host } },
          ),
        );
      else if (cause.code === "EACCES")
        reject(Fault.create("http.port-not-allowed", `port ${port} on ${host} may not be opened by this user`, "Choose a port above 1023.", { cause }));
      else reject(Fault.create("http.cannot-listen", `cannot listen on ${host}:${port}: ${cause.message}`, "Check `host` and `port`.", { cause }));
    });
    server.listen(port, host, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}
