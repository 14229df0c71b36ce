/** `open-loop-client.ts <url> <per second> <seconds>`: asks at a steady rate whether or not it was answered; sends what it measured to its parent. */
import { Agent, get } from "node:http";
import type { Measured } from "./benchmark.ts";
import { percentiles, warmUpMs } from "./callers.ts";

const [url, rate, seconds] = process.argv.slice(2) as [string, string, string];
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const everyMs = 1_000 / Number(rate);
const total = Math.round(Number(rate) * Number(seconds));
const warmUp = Math.round((Number(rate) * warmUpMs(Number(seconds))) / 1_000);
const times: number[] = [];
let asked = 0;
let answered = 0;
const startMs = performance.now();

function ask(dueMs: number, counted: boolean): void {
  get(url, { agent }, (response) => {
    response.resume();
    response.on("end", () => {
      answered++;
      if (counted) times.push(performance.now() - dueMs);
      if (answered === total + warmUp) finish();
    });
  }).on("error", (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
}

function finish(): void {
  agent.destroy();
  process.send?.({ opsPerSec: times.length / Number(seconds), ...percentiles(times) } satisfies Measured, () => process.exit(0));
}

const timer = setInterval(() => {
  while (asked < total + warmUp && performance.now() >= startMs + asked * everyMs) {
    ask(startMs + asked * everyMs, asked >= warmUp);
    asked++;
  }
  if (asked === total + warmUp) clearInterval(timer);
}, 1);
