/**
 * The load, in a process of its own: `client.ts <url>`. Its parent sends the rate; 0 asks as fast as 64 connections are answered, and is how the capacity is
 * found. At a rate it is an open loop: an answer's time counts from when it should have been asked for. Every `tell` is answered with what was seen since the last one.
 */
import { randomUUID } from "node:crypto";
import { Agent, request } from "node:http";
import { percentiles } from "../harness/callers.ts";
import { cartsShare, ordersShare } from "./mix.ts";

const url = new URL(process.argv[2] as string);
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
let times: number[] = [];
let failed = 0;
let perSec = 0;
let asked = 0;
let sinceMs = performance.now();
let fromMs = sinceMs;
let inFlight = 0;
const inFlightMax = 20_000;

function ask(dueMs: number): void {
  const chance = Math.random();
  const [method, path, body] =
    chance < ordersShare
      ? ["POST", "/orders", JSON.stringify({ customer: "Ada", items: [{ sku: "TEA-001", quantity: 1 }] })]
      : chance < ordersShare + cartsShare
        ? ["POST", `/carts/${randomUUID()}`, JSON.stringify({ text: "x".repeat(150) })]
        : (["GET", "/orders", undefined] as const);
  inFlight++;
  const one = request({
    agent,
    host: url.hostname,
    port: url.port,
    method,
    path,
    headers:
      body === undefined ? {} : { "content-type": "application/json", "idempotency-key": `"${randomUUID()}"`, "content-length": Buffer.byteLength(body) },
  });
  const done = (ok: boolean) => {
    inFlight--;
    if (ok) times.push(performance.now() - dueMs);
    else failed++;
    if (perSec === 0) ask(performance.now());
  };
  one.on("response", (response) => {
    response.resume();
    response.on("end", () => done((response.statusCode ?? 500) < 300));
  });
  one.on("error", () => done(false));
  one.end(body);
}

setInterval(() => {
  if (perSec === 0) return;
  while (performance.now() >= fromMs + (asked * 1_000) / perSec && inFlight < inFlightMax) ask(fromMs + (asked++ * 1_000) / perSec);
}, 2);

process.on("message", (message: { readonly rate?: number; readonly tell?: boolean }) => {
  if (message.rate !== undefined) {
    const before = perSec;
    perSec = message.rate;
    [asked, fromMs] = [0, performance.now()];
    if (perSec === 0 && (before !== 0 || inFlight === 0)) for (let at = 0; at < 64; at++) ask(performance.now());
    return;
  }
  const nowMs = performance.now();
  process.send?.({ perSec: times.length / ((nowMs - sinceMs) / 1_000), failed, inFlight, ...percentiles(times) });
  times = [];
  failed = 0;
  sinceMs = nowMs;
});
process.on("disconnect", () => process.exit(0));
