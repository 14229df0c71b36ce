/** JSON over kept-alive connections, for whoever drives the shop from outside. Answers are values; only a broken connection throws. */
import { Agent, request } from "node:http";

export interface JsonAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: unknown;
}
export interface JsonClient {
  ask(
    method: "GET" | "POST" | "PUT",
    path: string,
    options?: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>>; readonly timeoutMs?: number },
  ): Promise<JsonAnswer>;
  /** The body of a 2xx; anything else throws with what was answered. */
  get<T>(path: string): Promise<T>;
  close(): void;
}

export function jsonClient(url: string, connections: number): JsonClient {
  const agent = new Agent({ keepAlive: true, maxSockets: connections, maxFreeSockets: connections });
  const { hostname, port } = new URL(url);

  const client: JsonClient = {
    ask: (method, path, { body, headers = {}, timeoutMs = 30_000 } = {}) =>
      new Promise((resolve, reject) => {
        const text = body === undefined ? undefined : JSON.stringify(body);
        const asked = request(
          {
            agent,
            hostname,
            port,
            method,
            path,
            timeout: timeoutMs,
            headers: { ...headers, ...(text === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }) },
          },
          (response) => {
            const chunks: Buffer[] = [];
            response.on("data", (chunk: Buffer) => chunks.push(chunk));
            response.once("error", reject);
            response.once("close", () => {
              if (!response.complete) reject(new Error("the connection closed in the middle of an answer"));
            });
            response.once("end", () =>
              resolve({ status: response.statusCode ?? 0, headers: response.headers, body: parsed(Buffer.concat(chunks).toString("utf8")) }),
            );
          },
        );
        asked.once("timeout", () => asked.destroy(new Error(`no answer in ${timeoutMs} ms`)));
        asked.once("error", (error: NodeJS.ErrnoException) =>
          reject(asked.reusedSocket && error.code === "ECONNRESET" ? Object.assign(error, { code: "ECONNRESET on a kept connection" }) : error),
        );
        asked.end(text);
      }),
    async get<T>(path: string) {
      const { status, body } = await client.ask("GET", path);
      if (status < 200 || status > 299) throw new Error(`GET ${url}${path} answered ${status}: ${JSON.stringify(body)}`);
      return body as T;
    },
    close: () => agent.destroy(),
  };
  return client;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
