import "reflect-metadata";
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { serve } from "@hono/node-server";
import { All, Controller, Req, Res, type ArgumentsHost } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { currentContext, Fault, remainingMs, sleep, systemClock, type AmbientContext } from "../kernel/index.ts";
import { rateLimit } from "../limits/index.ts";
import { bulkhead, pipeline, timeout } from "../resilience/index.ts";
import { expressEdge, expressProblems, fastifyEdge, honoEdge, nestEdge, problemOf, type EdgeLimit } from "./index.ts";

/** What stands behind every edge: a handler that may take long, and says what it knows of its context. */
interface Behind {
  readonly seen: AmbientContext[];
  readonly left: number[];
  /** Handlers that wait. */
  readonly held: (() => void)[];
  work(path: string, body: string): Promise<string>;
}

function behind(): Behind {
  const seen: AmbientContext[] = [];
  const left: number[] = [];
  const held: (() => void)[] = [];
  return {
    seen,
    left,
    held,
    async work(path, body) {
      await sleep(systemClock, 1);
      const context = currentContext();
      seen.push(context);
      left.push(remainingMs(systemClock, context));
      if (path === "/hold") await new Promise<void>((resolve) => held.push(resolve));
      if (path === "/slow") await pipeline(timeout(20))(() => new Promise(() => undefined));
      return `${path} ${body}`;
    },
  };
}

interface Edges {
  readonly places: ReturnType<typeof bulkhead>;
  readonly limits: readonly EdgeLimit<object>[];
}
type Opens = (t: TestContext, behind: Behind, edges: Edges) => Promise<string>;

const shared = ({ places, limits }: Edges) => ({ deadline: "30s", guard: places, limits, callers: "foreign" }) as const;
const bodyOf = (body: unknown) =>
  body === undefined || body === null || (typeof body === "object" && Object.keys(body).length === 0) ? "" : JSON.stringify(body);

async function listening(t: TestContext, server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const frameworks: Readonly<Record<string, Opens>> = {
  Express: (t, { work }, edges) => {
    const app = express();
    app.use(expressEdge<express.Request>({ ...shared(edges), tenant: (asked) => asked.get("x-tenant") }));
    app.use(express.json());
    app.all("/{*path}", async (asked, answer) => void answer.send(await work(asked.path, bodyOf(asked.body))));
    app.use(expressProblems());
    return listening(t, createServer(app));
  },
  Fastify: async (t, { work }, edges) => {
    const app = fastify({ forceCloseConnections: true });
    await app.register(fastifyEdge({ ...shared(edges), tenant: ({ raw }) => raw.headers["x-tenant"] as string | undefined }));
    app.setErrorHandler((error, _, reply) => {
      const problem = problemOf(error);
      return problem ? reply.code(problem.status).headers(problem.headers).send(problem.body) : reply.send(error);
    });
    app.all("/*", (asked) => work(asked.url, bodyOf(asked.body)));
    t.after(() => app.close());
    return app.listen({ port: 0, host: "127.0.0.1" });
  },
  Hono: async (t, { work }, edges) => {
    const app = new Hono();
    app.use(honoEdge({ ...shared(edges), tenant: (c) => c.req.raw.headers.get("x-tenant") ?? undefined }));
    app.all("/*", async (c) => c.text(await work(c.req.path, c.req.method === "POST" ? bodyOf(await c.req.json()) : "")));
    app.onError((error) => {
      const problem = problemOf(error);
      return problem ? new Response(problem.body, problem) : new Response("", { status: 500 });
    });
    const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server;
    if (!server.listening) await once(server, "listening");
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },
  Nest: async (t, { work }, edges) => {
    // What the decorators come to: type stripping has none.
    class Everything {
      async handle(asked: express.Request, answer: express.Response): Promise<void> {
        answer.send(await work(asked.path, bodyOf(asked.body)));
      }
    }
    const of = [Everything.prototype, "handle"] as const;
    Controller()(Everything);
    All("{*path}")(...of, Object.getOwnPropertyDescriptor(...of) as PropertyDescriptor);
    Req()(...of, 0);
    Res()(...of, 1);
    const root = {
      module: class Root {},
      controllers: [Everything],
      imports: [nestEdge<express.Request>({ ...shared(edges), tenant: (asked) => asked.get("x-tenant"), policies: { payments: pipeline(timeout("1s")) } })],
    };
    const app = await NestFactory.create(root, { logger: false, forceCloseConnections: true });
    app.useGlobalFilters({
      catch(error: unknown, host: ArgumentsHost) {
        const problem = problemOf(error);
        const answer = host.switchToHttp().getResponse<express.Response>();
        if (problem) answer.status(problem.status).set(problem.headers).send(problem.body);
        else answer.status(500).end();
      },
    });
    await app.listen(0, "127.0.0.1");
    t.after(() => app.close());
    assert.equal(await app.get<ReturnType<typeof pipeline>>("payments")(() => 1), 1, "policies can be injected");
    return (await app.getUrl()).replace("[::1]", "127.0.0.1");
  },
};

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await sleep(systemClock, 10);
  assert.ok(holds(), what);
}

for (const [name, opens] of Object.entries(frameworks)) {
  const setUp = async (t: TestContext, limits: readonly EdgeLimit<object>[] = [], waiting = 0) => {
    const rear = behind();
    const places = bulkhead({ running: 1, waiting });
    return { ...rear, places, url: await opens(t, rear, { places, limits }) };
  };

  test(`${name}: what the caller said is the context of the handler, also behind a parsed body`, async (t) => {
    const { url, seen, left } = await setUp(t);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const headers = {
      "content-type": "application/json",
      "trestle-deadline-ms": "5000",
      "trestle-priority": "low",
      "trestle-correlation-id": "c-1",
      "trestle-attempt": "2",
      "x-tenant": "ada",
      traceparent,
    };
    const answer = await fetch(`${url}/a`, { method: "POST", headers, body: '{"n":1}' });
    assert.equal(await answer.text(), '/a {"n":1}');
    await (await fetch(`${url}/b`, { headers: { "trestle-priority": "high" } })).text();

    const facts = seen.map(({ tenant, priority, correlation, repeated, traceparent: trace }) => ({
      tenant,
      priority,
      correlation,
      repeated,
      trace: trace?.slice(3, 35),
    }));
    assert.deepEqual(facts[0], { tenant: "ada", priority: "low", correlation: "c-1", repeated: true, trace: traceparent.slice(3, 35) });
    assert.equal(facts[1]?.priority, "normal", "nobody makes himself urgent");
    assert.match(facts[1]?.correlation ?? "", /^[\da-f-]{36}$/);
    assert.ok((left[0] as number) > 0 && (left[0] as number) <= 5_000, `${left[0]} ms are left of the caller's`);
    assert.ok((left[1] as number) > 5_000 && (left[1] as number) <= 30_000, `${left[1]} ms are left of the default`);
  });

  test(`${name}: what there is no place for is declined with a problem and when to come back, until an answer has gone out`, async (t) => {
    const { url, places, held } = await setUp(t);
    const first = fetch(`${url}/hold`);
    await until("the first is held", () => held.length === 1);
    const declined = await fetch(`${url}/a`);
    assert.equal(declined.status, 503);
    assert.match(declined.headers.get("content-type") ?? "", /^application\/problem\+json/);
    assert.match(declined.headers.get("retry-after") ?? "", /^[1-9]\d*$/);
    assert.equal(((await declined.json()) as { code: string }).code, "bulkhead.full");

    held[0]?.();
    assert.equal(await (await first).text(), "/hold ");
    await until("the place is free", () => places.inFlight === 0);
    assert.equal((await fetch(`${url}/a`)).status, 200);
  });

  test(`${name}: who waits for a place has no more time than its deadline, and one that leaves gives its place back`, async (t) => {
    const { url, places, held, seen } = await setUp(t, [], 10);
    const leaves = new AbortController();
    const first = fetch(`${url}/hold`, { signal: leaves.signal }).catch((thrown: unknown) => thrown);
    await until("the first is held", () => held.length === 1);
    const late = await fetch(`${url}/a`, { headers: { "trestle-deadline-ms": "50" } });
    assert.deepEqual([late.status, ((await late.json()) as { code: string }).code], [504, "deadline.exceeded"]);

    const signal = seen[0]?.signal as AbortSignal;
    assert.ok(!signal.aborted);
    leaves.abort();
    await first;
    await until("its handler hears of it", () => signal.aborted);
    await until("its place is free", () => places.inFlight === 0);
  });

  test(`${name}: limits tell what is left, decline with 429, and get back what the bulkhead did not let in`, async (t) => {
    const limit = rateLimit({ rate: "2/h", burst: 2 });
    const everyone = rateLimit({ rate: "100/h", burst: 100 });
    const { url, held, places } = await setUp(t, [
      { name: "everyone", limit: everyone, key: () => "" },
      { name: "tenant", limit, key: (_, { tenant }) => tenant ?? "" },
    ]);
    const headers = { "x-tenant": "ada" };
    const first = fetch(`${url}/hold`, { headers });
    await until("the first is held", () => held.length === 1);
    assert.equal((await fetch(`${url}/a`, { headers })).status, 503);
    assert.equal(limit.look("ada").left, 1, "what was declined has taken nothing");
    held[0]?.();
    const told = await first;
    assert.equal(told.headers.get("ratelimit-policy"), '"everyone";q=100;w=3600;qu="requests", "tenant";q=2;w=3600;qu="requests"');
    assert.match(told.headers.get("ratelimit") ?? "", /^"everyone";r=99;t=\d+, "tenant";r=1;t=1800$/);
    await told.text();
    await until("the place is free", () => places.inFlight === 0);
    assert.equal((await fetch(`${url}/a`, { headers })).status, 200);
    await until("the place is free again", () => places.inFlight === 0);

    const over = await fetch(`${url}/a`, { headers });
    assert.equal(over.status, 429);
    assert.match(over.headers.get("ratelimit") ?? "", /"tenant";r=0/);
    assert.ok(Number(over.headers.get("retry-after")) > 1_700);
    assert.equal(((await over.json()) as { code: string }).code, "request.limit-exceeded");
    assert.equal(everyone.look("").left, 98, "one that refuses takes nothing from the others");
  });

  test(`${name}: a policy's fault in a handler is answered as what it means`, async (t) => {
    const { url } = await setUp(t);
    const slow = await fetch(`${url}/slow`);
    assert.deepEqual([slow.status, ((await slow.json()) as { code: string }).code], [504, "deadline.exceeded"]);
  });
}

test("an edge refuses a limit whose name cannot stand in a header", () => {
  const limit = rateLimit({ rate: "1/s" });
  assert.throws(
    () => expressEdge({ limits: [{ name: 'a"b', limit, key: () => "" }] }),
    (thrown: unknown) => Fault.is(thrown, "adapters.bad-limit-name") && thrown.message.includes('a\\"b'),
  );
});

test("a middleware whose tenant function throws hands that to the framework", async (t) => {
  const app = express();
  const broken = new Error("no tenant");
  app.use(
    expressEdge({
      tenant: () => {
        throw broken;
      },
    }),
  );
  const seen: unknown[] = [];
  app.use((error: unknown, _: express.Request, answer: express.Response, _next: express.NextFunction) => {
    seen.push(error);
    answer.status(500).end();
  });
  const url = await listening(t, createServer(app));
  const status = await new Promise((resolve, reject) =>
    request(url, (answer) => resolve(answer.resume().statusCode))
      .on("error", reject)
      .end(),
  );
  assert.deepEqual([status, seen], [500, [broken]]);
});
