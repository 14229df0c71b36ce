/** What a hostile or broken client sends over a real socket: each gets a clear answer, and nothing committed is lost. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { connect } from "node:net";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { records } from "../records/index.ts";
import { created, get, post, service } from "./index.ts";

const notes = records("notes", { key: z.string(), value: z.object({ text: z.string() }) });
const desk = service(
  "desk",
  { uses: { notes } },
  {
    write: post("/notes", { body: z.object({ text: z.string() }), idempotent: true }, ({ body }, { notes }, { newId }) => {
      const id = newId();
      notes.put(id, body);
      return created({ id });
    }),
    count: get("/notes", {}, async (_request, { notes }) => ({ count: (await notes.list({ limit: 1_000 })).items.length })),
  },
);
const running = (): Promise<Node> => start(app("test", [desk]), { store: "memory:", log: () => undefined, host: "127.0.0.1", port: 0 });

/** Writes to a socket as it is told and collects what comes back until the other side closes, or `forMs` are over. */
function raw(node: Node, write: (send: (text: string | Buffer) => void, done: () => void) => void, forMs = 3_000): Promise<string> {
  const { hostname, port } = new URL(node.url);
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(Number(port), hostname);
    const end = () => (clearTimeout(timer), socket.destroy(), resolve(text));
    const timer = setTimeout(end, forMs);
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.on("error", () => undefined); // a reset is an answer, too: what came before it counts
    socket.on("close", end);
    socket.on("connect", () => write((piece) => void (socket.writable && socket.write(piece)), end));
  });
}
const statusOf = (text: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
async function intact(node: Node, expected: number): Promise<void> {
  const response = await fetch(`${node.url}/notes`);
  assert.deepEqual(await response.json(), { count: expected }, "the node still answers, and nothing was written");
}

test("a flood of headers is a 431, many or long ones alike", async () => {
  await using node = await running();
  const long = await raw(node, (send) => send(`GET /notes HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(20_000)}\r\n\r\n`));
  assert.equal(statusOf(long), 431, long.slice(0, 200));
  const many = await raw(node, (send) =>
    send(`GET /notes HTTP/1.1\r\nhost: x\r\n${Array.from({ length: 2_000 }, (_, n) => `x-${n}: yyyyyyyyyy\r\n`).join("")}\r\n`),
  );
  assert.equal(statusOf(many), 431);
  for (const text of [long, many]) assert.match(text, /application\/problem\+json[^]*"code":"request.headers-too-large"/);
  await intact(node, 0);
});

test("10 MB where 1 MB is allowed are a 413 without being read to the end, in one piece or in chunks", async () => {
  await using node = await running();
  const piece = Buffer.alloc(100_000, "x");
  let sent = 0;
  const declared = await raw(node, (send) => {
    send("POST /notes HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n");
    const timer = setInterval(() => ((sent += piece.length) < 10_000_000 ? send(piece) : clearInterval(timer)), 5);
    setTimeout(() => clearInterval(timer), 1_000);
  });
  assert.equal(statusOf(declared), 413, declared.slice(0, 300));
  assert.match(declared, /application\/problem\+json/);
  assert.match(declared, /request\.body-too-large/);
  const chunked = await raw(node, (send) => {
    send("POST /notes HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
    for (let n = 0; n < 20; n++) send(`${piece.length.toString(16)}\r\n${piece.toString()}\r\n`);
  });
  assert.equal(statusOf(chunked), 413, chunked.slice(0, 300));
  await intact(node, 0);
});

test("a body that ends before its length, and one that says two lengths, write nothing", async () => {
  await using node = await running();
  await raw(node, (send, done) => {
    send('POST /notes HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"text":');
    setTimeout(done, 200);
  });
  const two = await raw(node, (send) =>
    send(
      "POST /notes HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\ncontent-type: application/json\r\ncontent-length: 12\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
  );
  assert.equal(statusOf(two), 400);
  const nonsense = await raw(node, (send) => send("POST /notes HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"));
  assert.equal(statusOf(nonsense), 400);
  await intact(node, 0);
});

test("what is no HTTP is a 400, and a method nobody knows a 405 or 400", async () => {
  await using node = await running();
  const noHttp = await raw(node, (send) => send("hello\r\n\r\n"));
  assert.equal(statusOf(noHttp), 400);
  assert.match(noHttp, /"code":"request.malformed"/);
  assert.ok([400, 405].includes(statusOf(await raw(node, (send) => send("BREW /notes HTTP/1.1\r\nhost: x\r\n\r\n")))));
  const trace = await raw(node, (send) => send("TRACE /notes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
  assert.equal(statusOf(trace), 405, trace.slice(0, 200));
  assert.match(trace, /allow: GET, POST, HEAD/i);
  const noHost = await raw(node, (send) => send("GET /notes HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n"));
  assert.equal(statusOf(noHost), 400, noHost.slice(0, 300));
  await intact(node, 0);
});

test("a body that drips takes nobody else's place", async () => {
  await using node = await running();
  let answered = 0;
  const drip = raw(node, (send, done) => {
    send("POST /notes HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{");
    const timer = setInterval(() => send(" "), 100);
    setTimeout(() => (clearInterval(timer), done()), 1_500);
  });
  for (let n = 0; n < 20; n++) if ((await fetch(`${node.url}/notes`)).status === 200) answered += 1;
  assert.equal(answered, 20);
  assert.equal(statusOf(await drip), 0, "no answer to half a request");
  await intact(node, 0);
});

test("many connections that say nothing keep nobody waiting", async () => {
  await using node = await running();
  const silent = Array.from({ length: 200 }, () => raw(node, () => undefined, 1_500));
  const started = performance.now();
  assert.equal((await fetch(`${node.url}/notes`)).status, 200);
  assert.ok(performance.now() - started < 1_000);
  await Promise.all(silent);
});

test("a caller who goes away before the answer has placed its order all the same, once", async () => {
  await using node = await running();
  const body = '{"text":"x"}';
  const request = `POST /notes HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  await raw(node, (send, done) => {
    send(request);
    setTimeout(done, 100);
  });
  const again = await raw(node, (send) => send(request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")));
  assert.equal(statusOf(again), 201);
  assert.match(again, /idempotency-replayed: true/i);
  await intact(node, 1);
});

test("two requests in one packet are answered in order", async () => {
  await using node = await running();
  const text = await raw(node, (send) => send("GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\nGET /notes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
  assert.deepEqual(
    [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status),
    ["404", "200"],
  );
});
