// Runs alone: it bounds how long calls take that hang.
import { test } from "node:test";
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { Fault, withContext } from "../kernel/index.ts";
import { failureOf } from "../resilience/index.ts";
import { setting } from "../setting/index.ts";
import { external, mutation, query, type ExternalSpec } from "./index.ts";

type Answer = (request: IncomingMessage & { readonly text: string }, response: ServerResponse) => void;

/** A foreign system on loopback that answers as it is told, and remembers what it was asked. */
async function foreign(answer: Answer) {
  const asked: { readonly method: string; readonly path: string; readonly headers: IncomingMessage["headers"]; readonly body: string }[] = [];
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      asked.push({ method: request.method ?? "", path: request.url ?? "", headers: request.headers, body: text });
      answer(Object.assign(request, { text }), response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { asked, url, server, [Symbol.asyncDispose]: () => new Promise<void>((resolve) => (server.close(() => resolve()), server.closeAllConnections())) };
}

function declared(url: string, spec: ExternalSpec = {}) {
  return external(
    "far",
    { url, retry: false, breaker: false, timeout: "300ms", ...spec },
    {
      look: query({ input: z.object({ id: z.string() }), returns: z.unknown() }, ({ id }, wire) => wire.get(`/things/${id}`)),
      find: query({ input: z.object({ id: z.string() }), returns: z.unknown() }, ({ id }, wire) => wire.find(`/things/${id}`)),
      change: mutation({ input: z.object({ id: z.string() }), returns: z.unknown(), key: ({ id }) => id }, (input, wire) => wire.post("/things", input)),
      drop: mutation({ input: z.object({ id: z.string() }), returns: z.unknown() }, ({ id }, wire) => wire.del(`things/${id}`)),
    },
  );
}
async function opened(url: string, spec?: ExternalSpec) {
  const far = declared(url, spec);
  const node = await start(app("test", [far]), { store: "memory:", log: () => undefined });
  return { node, far: node.open(far) };
}
const json = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) =>
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));

test("[RES-02] a call carries its key, what is left of its time, and JSON both ways", async () => {
  await using there = await foreign((_request, response) => json(response, 201, { ref: 7 }));
  const { node, far } = await opened(`${there.url}/api/`);
  assert.deepEqual(await far.change({ id: "k1" }), { ref: 7 });
  await far.look({ id: "a" });
  await far.drop({ id: "b" });
  const [post, get, del] = there.asked;
  assert.deepEqual(
    [post?.method, post?.path, post?.body, post?.headers["content-type"], post?.headers["idempotency-key"]],
    ["POST", "/api/things", '{"id":"k1"}', "application/json", "k1"],
  );
  const left = Number(post?.headers["trestle-deadline-ms"]);
  assert.ok(left > 100 && left <= 300, `${left} ms`);
  assert.deepEqual([get?.method, get?.path, get?.headers["idempotency-key"]], ["GET", "/api/things/a", undefined]);
  assert.deepEqual([del?.method, del?.path], ["DELETE", "/api/things/b"]);
  await node.stop();
});

test("the other side is told that it is asked again from the second attempt on, and from the first where the caller says so", async () => {
  await using there = await foreign((_request, response) => json(response, there.asked.length % 2 === 1 ? 503 : 200, {}));
  const { node, far } = await opened(there.url, { retry: { attempts: 2 } });
  await withContext({ tenant: "t" }, () => far.look({ id: "a" })); // within some context, as every handler's calls are
  await withContext({ repeated: true }, () => far.change({ id: "b" })).catch((fault: unknown) => assert.ok(Fault.is(fault, "external.outcome-unknown")));
  assert.deepEqual(
    there.asked.map(({ method, headers }) => [method, headers["trestle-attempt"]]),
    [
      ["GET", undefined],
      ["GET", "2"],
      ["POST", "2"],
    ],
  );
  await node.stop();
});

test("[RES-01] each failure of the other side has its own name", async () => {
  const answers: Record<string, Answer> = {
    refuses: (_request, response) => json(response, 402, { error: "card declined" }),
    busy: (_request, response) => json(response, 429, {}, { "retry-after": "1" }),
    breaks: (_request, response) => json(response, 500, {}),
    cuts: (request) => request.socket.destroy(),
    hangs: () => undefined,
    trickles: (_request, response) => void response.writeHead(200, { "content-type": "application/json" }).write("{"),
    mumbles: (_request, response) => response.end("<html>"),
    redirects: (_request, response) => response.writeHead(302, { location: "/elsewhere" }).end(),
    empties: (_request, response) => response.writeHead(204).end(),
  };
  await using there = await foreign((request, response) =>
    (answers[request.text === "" ? ((request.url ?? "").split("/").at(-1) as string) : (JSON.parse(request.text) as { readonly id: string }).id] as Answer)(
      request,
      response,
    ),
  );
  const { node, far } = await opened(there.url);
  const named = async (call: Promise<unknown>) =>
    call.then(
      () => "ok",
      (fault: unknown) => (Fault.is(fault) ? fault.code : String(fault)),
    );
  const expected = {
    refuses: "external.refused",
    busy: "external.refused",
    breaks: "external.outcome-unknown",
    cuts: "external.outcome-unknown",
    hangs: "external.outcome-unknown",
    trickles: "external.outcome-unknown",
    mumbles: "external.answer-invalid",
    redirects: "external.refused",
    empties: "ok",
  };
  for (const [how, code] of Object.entries(expected)) assert.equal(await named(far.change({ id: how })), code, `change, ${how}`);
  for (const how of ["breaks", "cuts", "hangs"])
    assert.equal(await named(far.look({ id: how })), how === "hangs" ? "deadline.exceeded" : "external.unreachable", `look, ${how}`);
  await node.stop();
});

test("[RES-01] what was never sent is unreachable, and nothing unknown", async () => {
  const there = await foreign(() => undefined);
  await there[Symbol.asyncDispose]();
  const { node, far } = await opened(there.url);
  for (const call of [far.change, far.look]) await assert.rejects(call({ id: "a" }), (fault) => Fault.is(fault, "external.unreachable"));
  await node.stop();
  const nowhere = await opened("http://no-such-host.invalid");
  await assert.rejects(nowhere.far.change({ id: "a" }), (fault) => Fault.is(fault, "external.unreachable") || Fault.is(fault, "external.outcome-unknown"));
  await nowhere.node.stop();
  // What fetch refuses by itself has no code.
  for (const url of ["http://localhost:9", "http://user:word@localhost"]) {
    const refused = await opened(url);
    for (const call of [refused.far.change, refused.far.look])
      await assert.rejects(call({ id: "a" }), (fault) => Fault.is(fault, "external.unreachable") && failureOf(fault).kind === "crash", url);
    await refused.node.stop();
  }
});

test("[RES-04] attempts of one call carry one key, and wait as long as they are asked to", async () => {
  let times = 0;
  await using there = await foreign((_request, response) => {
    times += 1;
    if (times < 3) json(response, 503, {});
    else json(response, 200, { at: times });
  });
  const { node, far } = await opened(there.url, { retry: { attempts: 3, budget: "100%" } });
  assert.deepEqual(await far.change({ id: "k" }), { at: 3 });
  assert.deepEqual(new Set(there.asked.map(({ headers }) => headers["idempotency-key"])), new Set(["k"]));
  await node.stop();
});

test("nothing there is `undefined` for find, and a refusal for get", async () => {
  await using there = await foreign((_request, response) => json(response, 404, {}));
  const { node, far } = await opened(there.url);
  assert.equal(await far.find({ id: "a" }), undefined);
  await assert.rejects(far.look({ id: "a" }), (fault) => Fault.is(fault, "external.refused") && fault.details["status"] === 404);
  await node.stop();
});

test("[RES-02] whoever hangs is let go: no socket is left open", async () => {
  await using there = await foreign(() => undefined);
  const { node, far } = await opened(there.url);
  const started = performance.now();
  await Promise.all(Array.from({ length: 10 }, (_, n) => far.change({ id: String(n) }).catch(() => undefined)));
  assert.ok(performance.now() - started < 1_000);
  // The other side keeps its half of a connection whose caller has gone: only our halves must be closed.
  const ours = async () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length - (await connections(there.server));
  for (let looks = 0; looks < 40 && (await ours()) > 0; looks++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(await ours(), 0);
  await node.stop();
});

test("the url may be a setting, and a bad one names itself", async () => {
  await using there = await foreign((_request, response) => json(response, 200, { ok: true }));
  const far = external(
    "far",
    { url: setting("FAR_URL_OF_THIS_TEST", { default: "nonsense" }), retry: false },
    { look: query({ input: z.object({}), returns: z.unknown() }, (_input, wire) => wire.get("/")) },
  );
  const good = await start(app("test", [far]), { store: "memory:", log: () => undefined, settings: { FAR_URL_OF_THIS_TEST: there.url } });
  assert.deepEqual(await good.open(far).look({}), { ok: true });
  await good.stop();
  const bad = await start(app("test", [far]), { store: "memory:", log: () => undefined });
  await assert.rejects(bad.open(far).look({}), (fault) => Fault.is(fault, "external.bad-url") && fault.message.includes("FAR_URL_OF_THIS_TEST"));
  await bad.stop();
});

function connections(server: Server): Promise<number> {
  return new Promise((resolve, reject) => server.getConnections((error, count) => (error ? reject(error) : resolve(count))));
}

test("an answer without end is not read to it, whether it says its length, is packed, or comes in pieces", async () => {
  const long = Buffer.alloc(10_000_001, "1");
  const packed = gzipSync(long);
  const answers: Readonly<Record<string, Answer>> = {
    says: (_request, response) => response.writeHead(200, { "content-length": long.length }).end(long),
    packs: (_request, response) => response.writeHead(200, { "content-encoding": "gzip", "content-length": packed.length }).end(packed),
    pieces: (_request, response) => response.writeHead(200).end(long),
    fits: (_request, response) => response.writeHead(200, { "content-encoding": "gzip", "content-length": gzipSync('"ok"').length }).end(gzipSync('"ok"')),
  };
  await using there = await foreign((request, response) => (answers[(request.url ?? "").split("/").at(-1) as string] as Answer)(request, response));
  const { node, far } = await opened(there.url, { timeout: "20s" });

  for (const id of ["says", "packs", "pieces"]) await assert.rejects(far.look({ id }), (fault) => Fault.is(fault, "external.answer-invalid"), id);
  assert.equal(await far.look({ id: "fits" }), "ok");
  await node.stop();
});
