/** Requests over sockets: plain ones go to their routes as they lie in Node's hands, others as web Requests, and nobody can tell which. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { z } from "zod";
import { app, get, post, service, start } from "../index.ts";

const left = Promise.withResolvers<unknown>();
const entered = Promise.withResolvers<void>();
const desk = service(
  "desk",
  {},
  {
    upload: post("/upload", {}, async ({ raw }) => ({
      text: await raw.text(),
      note: raw.headers.get("x-note"),
      url: new URL(raw.url).pathname,
      method: raw.method,
    })),
    echo: post("/echo", { body: z.object({ n: z.number() }) }, ({ body, raw }) => ({ n: body.n, used: raw.bodyUsed, note: raw.headers.get("X-Note") })),
    hello: get("/hello", { query: z.object({ name: z.string() }) }, ({ query }) => ({ hello: query.name })),
    page: get("/page", {}, () => new Response("a page", { headers: { "content-type": "text/plain", "x-own": "1" } })),
    wait: get("/wait", {}, (_request, _uses, { signal }) => {
      entered.resolve();
      return new Promise<never>((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          left.resolve(signal.reason);
          reject(signal.reason as Error);
        });
      });
    }),
  },
);
const node = await start(app("desk", [desk]), { store: "memory:", port: 0, host: "127.0.0.1", log: () => undefined });
const { hostname, port } = new URL(node.url);
test.after(() => node.stop());

/** What comes back for these bytes, until there are as many answers as requests. */
function raw(bytes: string, answers = 1): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let received = "";
    socket.on("data", (chunk: Buffer) => {
      received += String(chunk);
      if ((received.match(/HTTP\/1\.1 [2-5]/g)?.length ?? 0) >= answers && /\r\n\r\n[^]*[}e]\r?\n?/.test(received.slice(received.lastIndexOf("HTTP/1.1"))))
        socket.end();
    });
    socket.on("close", () => resolve(received));
    socket.on("error", reject);
    socket.write(bytes);
  });
}
const chunked = (text: string) => new ReadableStream({ start: (to) => (to.enqueue(new TextEncoder().encode(text)), to.close()) });

test("a handler reads a body that no schema describes from the request itself, whole or in chunks", async () => {
  const ask = (body: string | ReadableStream) =>
    fetch(`${node.url}/upload`, { method: "POST", headers: { "x-note": "a" }, body, ...(typeof body === "string" ? {} : { duplex: "half" }) } as RequestInit);
  const expected = { text: "héllo", note: "a", url: "/upload", method: "POST" };

  assert.deepEqual(await (await ask("héllo")).json(), expected);
  assert.deepEqual(await (await ask(chunked("héllo"))).json(), expected);
});

test("a body that a schema has read is marked as read, whole or in chunks, with or without a byte order mark", async () => {
  const ask = (body: string | ReadableStream) =>
    fetch(`${node.url}/echo`, {
      method: "POST",
      headers: { "x-note": "b", "content-type": "application/json" },
      body,
      ...(typeof body === "string" ? {} : { duplex: "half" }),
    } as RequestInit);

  assert.deepEqual(await (await ask('{"n":1}')).json(), { n: 1, used: true, note: "b" });
  assert.deepEqual(await (await ask('\ufeff{"n":2}')).json(), { n: 2, used: true, note: "b" });
  assert.equal((await ask(chunked('{"n":1}'))).status, 200);
});

test("a target that URL parsing changes, and an upper-case host, find the same route", async () => {
  const ask = (target: string, host: string) => raw(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);

  for (const [target, host] of [
    ["/hello?name=ada", "desk.test"],
    ["/x/../hello?name=ada", "desk.test"],
    ["/hello?name=ada", "DESK.test"],
  ] as const)
    assert.match(await ask(target, host), /^HTTP\/1\.1 200[^]*\{"hello":"ada"\}/, `${target} of ${host}`);
  assert.match(await ask("/hello?name=ada", "desk test"), /^HTTP\/1\.1 400/);
});

test("a Response of the handler's own passes through, and HEAD has its headers without its body", async () => {
  const got = await fetch(`${node.url}/page`);
  const head = await fetch(`${node.url}/page`, { method: "HEAD" });

  assert.deepEqual([await got.text(), got.headers.get("x-own")], ["a page", "1"]);
  assert.deepEqual([await head.text(), head.headers.get("x-own"), head.status], ["", "1", 200]);
});

test("a connection goes on after an answer that did not read the body", async () => {
  const body = "x".repeat(50_000);
  const first = `POST /nowhere HTTP/1.1\r\nHost: desk.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const second = "GET /hello?name=eve HTTP/1.1\r\nHost: desk.test\r\nConnection: close\r\n\r\n";

  const received = await raw(first + second, 2);

  assert.match(received, /^HTTP\/1\.1 404[^]*HTTP\/1\.1 200[^]*\{"hello":"eve"\}/);
});

test("a client that goes before it was answered ends the handler through its signal", async () => {
  const going = new AbortController();
  const asked = fetch(`${node.url}/wait`, { signal: going.signal }).catch((error: unknown) => error);
  await entered.promise;
  going.abort();

  assert.equal(((await left.promise) as Error).name, "AbortError");
  assert.equal(((await asked) as Error).name, "AbortError");
});
