/** Redis, NATS and Kafka as tests use them, spoken to in their own words over a socket: no client library stands between. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { Fault } from "trestle/kernel";
import type { Server } from "./server.ts";
import { kafka, missing, nats, redis } from "./servers.ts";

/** Says something on a connection of its own and resolves with the answer as soon as it matches; rejects after the bound. */
async function ask(server: Server, words: string | Buffer, expected: RegExp, withinMs = 5_000): Promise<string> {
  const socket = connect({ host: server.host, port: server.port });
  const bound = AbortSignal.timeout(withinMs);
  let answer = "";
  try {
    await once(socket, "connect", { signal: bound });
    socket.write(words);
    while (!expected.test(answer)) answer += ((await once(socket, "data", { signal: bound })) as [Buffer])[0].toString("latin1");
    return answer;
  } finally {
    socket.destroy();
  }
}

const ping = "PING\r\n";

test(
  "Redis keeps what it flushed over kill -9, stands still while paused, and is gone when closed",
  { skip: await missing("redis", { managed: true }) },
  async () => {
    const server = await redis({ appendfsync: "always" });
    await ask(server, "SET kept 1\r\n", /\+OK/);

    await server.kill();
    await server.start();
    const kept = await ask(server, "GET kept\r\n", /\$1\r\n1/);
    await server.pause();
    await assert.rejects(ask(server, ping, /PONG/, 150));
    await server.resume();
    await ask(server, ping, /PONG/);
    await server.stop();
    await server.start();
    await server.close();
    await server.close();

    assert.match(kept, /1/);
    assert.equal(server.state, "closed");
    await assert.rejects(ask(server, ping, /PONG/), /ECONNREFUSED/);
    await assert.rejects(server.start(), (error) => Fault.is(error, "testing.closed"));
  },
);

test("NATS keeps a stream over kill -9 and a restart", { skip: await missing("nats", { managed: true }) }, async () => {
  await using server = await nats();
  const hello = 'CONNECT {"verbose":false,"pedantic":false}\r\n';
  const request = (subject: string, body: string) => `${hello}SUB _INBOX.1 1\r\nPUB ${subject} _INBOX.1 ${body.length}\r\n${body}\r\n`;

  await ask(server, request("$JS.API.STREAM.CREATE.kept", '{"name":"kept","subjects":["kept.*"],"storage":"file"}'), /did_create":true/);
  await ask(server, request("kept.one", "hello"), /"seq":1/);
  await server.kill();
  await server.start();
  await server.restart();

  assert.match(await ask(server, request("$JS.API.STREAM.INFO.kept", ""), /"messages":\d+/), /"messages":1/);
});

test("Kafka answers in its own protocol, keeps its cluster over kill -9, and ends in order", { skip: await missing("kafka", { managed: true }) }, async () => {
  await using server = await kafka();
  // ApiVersions, version 0, correlation 7: a length, then key, version, correlation and an empty client id.
  const question = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0, 0]);

  const answer = Buffer.from(await ask(server, question, /^[^]{10,}/), "latin1");
  await server.kill();
  await server.start();
  await ask(server, question, /^[^]{10,}/);
  await server.stop();

  assert.deepEqual([...answer.subarray(4, 10)], [0, 0, 0, 7, 0, 0], "the same correlation, and no error");
  assert.equal(server.state, "stopped");
});
