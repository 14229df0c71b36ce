/**
 * `closed-loop-client.ts <url> <connections> <seconds>`: that many connections, each asking `POST` again as soon as it was answered, with a new
 * Idempotency-Key and order each time. Sends what it measured to its parent; what comes before `warmUpMs` is not counted.
 *
 * It speaks HTTP over plain sockets: on a small machine a heavy client would be most of what is measured. Every answer must be a 2xx.
 */
import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import type { Measured } from "./benchmark.ts";
import { percentiles, warmUpMs } from "./callers.ts";

const [target, connections, seconds] = process.argv.slice(2) as [string, string, string];
const url = new URL(target);
const startMs = performance.now();
const fromMs = startMs + warmUpMs(Number(seconds));
const untilMs = fromMs + Number(seconds) * 1_000;
const times: number[] = [];

function request(): string {
  const body = JSON.stringify({
    customer: "Ada Lovelace",
    email: "ada@example.com",
    items: [
      { sku: "TEA-001", quantity: 2 },
      { sku: "CUP-002", quantity: 1 },
    ],
  });
  return `POST ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\nContent-Type: application/json\r\nIdempotency-Key: "${randomUUID()}"\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

function fail(reason: string): never {
  process.stderr.write(`closed-loop client: ${reason}\n`);
  process.exit(1);
}

/** One connection until the time is over. */
function caller(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(Number(url.port), url.hostname);
    let askedMs = 0;
    let received = "";
    const ask = () => {
      askedMs = performance.now();
      socket.write(request());
    };
    socket.setNoDelay(true);
    socket.setEncoding("latin1");
    socket.on("connect", ask);
    socket.on("error", (error) => fail(error.message));
    socket.on("close", () => performance.now() < untilMs && fail("the server closed a connection"));
    socket.on("data", (chunk: string) => {
      received += chunk;
      const head = received.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = /\r\ncontent-length: *(\d+)/i.exec(received.slice(0, head));
      const done = length ? received.length >= head + 4 + Number(length[1]) : received.endsWith("0\r\n\r\n");
      if (!done) return;
      if (received[9] !== "2") fail(received.slice(0, 2_000));
      const nowMs = performance.now();
      if (askedMs >= fromMs && nowMs <= untilMs) times.push(nowMs - askedMs);
      received = "";
      if (nowMs < untilMs) return ask();
      socket.destroy();
      resolve();
    });
  });
}

await Promise.all(Array.from({ length: Number(connections) }, caller));
process.send?.({ opsPerSec: times.length / Number(seconds), ...percentiles(times) } satisfies Measured, () => process.exit(0));
