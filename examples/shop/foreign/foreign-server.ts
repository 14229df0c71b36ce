/**
 * A system that is not ours: JSON over HTTP, a process of its own, instruments to watch it and to make it misbehave.
 *
 * Its doors (`routes` whose `misbehaves` is true) go through the stub; its instruments never do, so a test can always look:
 *   GET /_identity    who listens here, and where its data is
 *   GET|PUT /_stub    the misbehaviour in force; PUT replaces all of it
 *
 * Exit codes: 0 after SIGTERM or SIGINT, 3 when the port is taken or the data cannot be opened.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { misbehaviour, parseStub, wellBehaved, type Checked, type Stub } from "./misbehaviour.ts";

export interface ForeignRequest<S> {
  readonly params: readonly string[];
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
  readonly stub: Stub & Partial<S>;
}
export interface Answer {
  readonly status: number;
  readonly body: unknown;
}
export interface ForeignRoute<S> {
  readonly method: "GET" | "POST";
  /** Matched against the whole path; its groups become `params`. */
  readonly path: RegExp;
  readonly misbehaves: boolean;
  answer(request: ForeignRequest<S>): Answer | Promise<Answer>;
}
export interface ForeignSystem<S extends object> {
  readonly name: string;
  readonly dataFile: string;
  readonly stubOptions: { readonly [K in keyof S]: (value: unknown) => Checked<S[K]> };
  readonly routes: readonly ForeignRoute<S>[];
}
export interface RunningForeignSystem {
  readonly url: string;
  readonly server: Server;
  close(): Promise<void>;
}

const bodyBytesMax = 256 * 1024;

export async function serveForeignSystem<S extends object>(system: ForeignSystem<S>, port: number): Promise<RunningForeignSystem> {
  let behaviour = misbehaviour(wellBehaved as Stub & Partial<S>);

  const server = createServer({ keepAliveTimeout: 30_000, requestTimeout: 10_000 }, (request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (!response.headersSent) respond(response, problem(500, "internal", String(error)));
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://foreign");
    const route = routeOf(request.method ?? "GET", url.pathname);
    if (!("misbehaves" in route)) return respond(response, route);

    const body = request.method === "GET" ? { ok: true as const, value: undefined } : await readJson(request);
    if (!body.ok) return respond(response, problem(400, "unreadable-body", body.problem));

    const { stub } = behaviour;
    const fate = route.misbehaves ? behaviour.nextFate() : "answer";
    if (route.misbehaves && stub.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, stub.latencyMs));
    if (fate === "hang-before") return;
    if (fate === "fail-before") return respond(response, problem(500, "stubbed-failure", "the stub made this request fail"));

    const params = (route.path.exec(url.pathname) ?? []).slice(1).map(decodeURIComponent);
    const answered = await route.answer({ params, query: url.searchParams, headers: request.headers, body: body.value, stub });
    if (fate === "hang-after") return;
    respond(response, fate === "fail-after" ? problem(500, "stubbed-failure", "the stub made this request fail") : answered);
  }

  const instruments: readonly (ForeignRoute<S> | (Omit<ForeignRoute<S>, "method"> & { readonly method: "PUT" }))[] = [
    {
      method: "GET",
      path: /^\/_identity$/,
      misbehaves: false,
      answer: () => ({ status: 200, body: { system: system.name, data: system.dataFile, pid: process.pid } }),
    },
    { method: "GET", path: /^\/_stub$/, misbehaves: false, answer: () => ({ status: 200, body: behaviour.stub }) },
    {
      method: "PUT",
      path: /^\/_stub$/,
      misbehaves: false,
      answer: ({ body }) => {
        const parsed = parseStub(body, system.stubOptions);
        if (!parsed.ok) return problem(400, "bad-stub", parsed.problem);
        behaviour = misbehaviour(parsed.value);
        return { status: 200, body: behaviour.stub };
      },
    },
  ];
  const routes = [...system.routes, ...instruments];

  function routeOf(method: string, path: string): (typeof routes)[number] | Answer {
    const here = routes.filter((route) => route.path.test(path));
    const found = here.find((route) => route.method === method);
    if (found) return found;
    return here.length > 0
      ? problem(405, "wrong-method", `${path} takes ${here.map((route) => route.method).join(", ")}, not ${method}`)
      : problem(404, "no-such-path", `nothing is at ${path}`);
  }

  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, resolve));
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}`,
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
        setTimeout(() => server.closeAllConnections(), 500).unref();
      }),
  };
}

export function problem(status: number, code: string, detail: string): Answer {
  return { status, body: { type: `urn:problem:${code}`, title: code, status, detail } };
}

/** One page of a table that is only ever added to: `?cursor` is the number after which to go on, `?limit` 1 to 10,000. */
export function ledgerPage(
  query: URLSearchParams,
  read: (after: number, limit: number) => { readonly items: readonly { readonly seq: number }[]; readonly total: number },
): Answer {
  const after = Number(query.get("cursor") ?? 0);
  const limit = Number(query.get("limit") ?? 10_000);
  if (!Number.isSafeInteger(after) || after < 0) return problem(400, "bad-cursor", `cursor must be one that this ledger gave, not ${query.get("cursor")}`);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > 10_000)
    return problem(400, "bad-limit", `limit must be an integer from 1 to 10000, not ${query.get("limit")}`);
  const { items, total } = read(after, limit);
  const last = items.at(-1);
  return { status: 200, body: { items, total, ...(items.length === limit && last ? { next: String(last.seq) } : {}) } };
}

function respond(response: ServerResponse, { status, body }: Answer): void {
  const text = JSON.stringify(body);
  response
    .writeHead(status, { "content-type": status >= 400 ? "application/problem+json" : "application/json", "content-length": Buffer.byteLength(text) })
    .end(text);
}

async function readJson(request: IncomingMessage): Promise<Checked<unknown>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= bodyBytesMax) chunks.push(chunk); // what is too much is read and dropped, so that the answer arrives
  }
  if (size > bodyBytesMax) return { ok: false, problem: `the body may have ${bodyBytesMax} bytes, and had ${size}` };
  try {
    return { ok: true, value: JSON.parse(Buffer.concat(chunks).toString("utf8")) as unknown };
  } catch (error) {
    return { ok: false, problem: `the body is no JSON: ${String(error)}` };
  }
}
