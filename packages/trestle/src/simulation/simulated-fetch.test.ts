import assert from "node:assert/strict";
import { test } from "node:test";
import type { ArrivedRequest, Peer } from "../service/index.ts";
import { Network } from "./network.ts";
import { carrier, connect } from "./simulated-fetch.ts";
import { World, type Life } from "./world.ts";

type Answer = (request: ArrivedRequest, peer: Peer) => Promise<Response>;

/** What a client on one host is told by a server on another. */
async function asking<T>(ask: (fetch: typeof globalThis.fetch, life: Life) => Promise<T>, answer: Answer): Promise<T> {
  const world = new World({ seed: "fetch" });
  const network = new Network(world);
  const server = world.host("server");
  server.boot(() => undefined);
  let told: Promise<T> | undefined;
  let isTold = false;
  world.host("client").boot((life) => {
    const carry = carrier(life, {
      network,
      find: ({ hostname }) => (hostname === "server.app" ? { host: server, answer: (_life, ...asked) => answer(...asked) } : undefined),
    });
    connect(life, carry, network);
    told = ask(life.fetch, life).finally(() => (isTold = true));
    told.catch(() => undefined);
  });
  await world.run(() => isTold);
  if (!isTold) throw new Error("nothing is left that could happen, and the client was not told");
  return told as Promise<T>;
}

const seen = async (request: ArrivedRequest): Promise<string> => {
  const { method, url, headers } = request;
  return JSON.stringify({
    method,
    url,
    type: headers.get("content-type"),
    length: headers.get("Content-Length"),
    key: headers.get("idempotency-key"),
    text: await request.text(),
  });
};
const parts: Answer = async (request, peer) => (peer.respond as NonNullable<Peer["respond"]>)(201, { "x-a": "1" }, await seen(request));
const whole: Answer = async (request) => new Response(await seen(request), { status: 201, headers: { "x-a": "1" } });

for (const [how, answer] of Object.entries({ "in parts": parts, "as a Response": whole })) {
  test(`a request arrives as it was sent, by whatever form of fetch, and an answer ${how} comes back as it was given`, async () => {
    const url = "http://server.app/a%20b?c=d";
    const headers = { "Idempotency-Key": "k", "content-type": "application/json" };
    const sent = { method: "POST", url, type: "application/json", length: "9", key: "k", text: '{"a":"é"}'.normalize("NFC") };
    const forms: readonly ((fetch: typeof globalThis.fetch) => Promise<Response>)[] = [
      (fetch) => fetch(url, { method: "POST", headers, body: sent.text }),
      (fetch) => fetch(new Request(url, { method: "POST", headers, body: sent.text })),
      (fetch) => fetch(new URL(url), { method: "post", headers: new Headers(headers), body: Buffer.from(sent.text) }),
    ];

    for (const form of forms) {
      const answered = await asking(form, answer);
      assert.deepEqual(
        [answered.status, answered.headers.get("x-a"), await answered.json()],
        [201, "1", { ...sent, length: String(Buffer.byteLength(sent.text)) }],
      );
    }
  });
}

test("what a Request would make of a body or a URL is made of it here too", async () => {
  const ask = async (url: string, init?: RequestInit) =>
    (await (await asking((fetch) => fetch(url, init), parts)).json()) as { text: string; type: string; url: string };
  const mark = "\ufeff";

  const plain = await ask("http://SERVER.app/x/../y", { method: "PUT", body: `${mark}a\ud800` });
  const got = await ask("http://server.app#part");

  assert.deepEqual([plain.text, plain.type, plain.url], ["a\ufffd", "text/plain;charset=UTF-8", "http://server.app/y"]);
  assert.deepEqual([got.text, got.type], ["", null]);
  await assert.rejects(ask("http://server.app/", { method: "GET", body: "x" }), TypeError);
  await assert.rejects(ask("no url"), TypeError);
  await assert.rejects(ask("http://name:word@server.app/"), TypeError);
  await assert.rejects(ask("http://elsewhere.app/"), ({ cause }: { cause: { code: string } }) => cause.code === "ENOTFOUND");
});

test("HEAD has the length of an answer and nothing of it", async () => {
  const answered = await asking(
    (fetch) => fetch("http://server.app/", { method: "HEAD" }),
    (_request, peer) => Promise.resolve((peer.respond as NonNullable<Peer["respond"]>)(200, {}, "four")),
  );

  assert.deepEqual([answered.headers.get("content-length"), await answered.text()], ["4", ""]);
});

test("a handler that wants a whole Request has one, whose signal aborts when the caller goes away", async () => {
  const over = new AbortController();
  const heard = Promise.withResolvers<string>();
  const said = await asking(
    async (fetch) => {
      await assert.rejects(fetch("http://server.app/", { method: "POST", body: "x", signal: over.signal }), /gone/);
      return heard.promise;
    },
    async (arrived) => {
      const request = arrived.asRequest?.() as Request;
      request.signal.addEventListener("abort", () => void request.text().then(heard.resolve));
      over.abort(new Error("gone"));
      return new Promise<never>(() => undefined);
    },
  );

  assert.equal(said, "x");
});

test("a typed client is told what `fetch` is told, whatever form the answer has", async () => {
  const url = "http://server.app/";
  const answers: Readonly<Record<string, Answer>> = {
    parts,
    whole,
    bytes: (_request, { respond }) => Promise.resolve((respond as NonNullable<Peer["respond"]>)(200, { "Content-Type": "text/plain" }, Buffer.from("\ufeffé"))),
    lone: (_request, { respond }) => Promise.resolve((respond as NonNullable<Peer["respond"]>)(200, {}, "\ud800")),
    none: (_request, { respond }) => Promise.resolve((respond as NonNullable<Peer["respond"]>)(204, {}, undefined)),
    stream: () => Promise.resolve(new Response("data: 1\n\n", { headers: { "content-type": "text/event-stream" } })),
  };

  for (const [name, answer] of Object.entries(answers)) {
    const headers = { "idempotency-key": "k", "content-type": "application/json" };
    const byFetch = await asking(async (fetch) => {
      const answered = await fetch(url, { method: "POST", headers, body: "{}" });
      return { status: answered.status, headers: Object.fromEntries(answered.headers), text: await answered.text() };
    }, answer);
    const typed = await asking((_fetch, life) => life.exchange({ method: "POST", url, headers, body: "{}", signal: new AbortController().signal }), answer);
    assert.deepEqual(typed, byFetch, name);
  }
});

test("a stream whose server has started anew breaks for its reader, and nothing else does", async () => {
  const world = new World({ seed: "restarted" });
  const network = new Network(world);
  const server = world.host("server");
  server.boot(() => undefined);
  let told: unknown;
  world.host("client").boot((life) => {
    const carry = carrier(life, {
      network,
      find: () => ({
        host: server,
        answer: () =>
          Promise.resolve(
            new Response(new ReadableStream({ pull: (to) => to.enqueue(Buffer.from("data: 1\n\n")) }), { headers: { "content-type": "text/event-stream" } }),
          ),
      }),
    });
    connect(life, carry, network);
    void (async () => {
      const reader = ((await life.fetch("http://server.app/stream")).body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      server.crash();
      server.boot(() => undefined);
      for (;;) await reader.read();
    })().catch((error: unknown) => (told = error));
  });

  await world.run(() => told !== undefined);

  assert.match(String((told as Error).cause), /the stream's sender is gone|reset/);
});
