/** Starts a server many times, one after the other, and times each from the start of its process to its first answer. */
import { spawn } from "node:child_process";
import { get } from "node:http";
import { join } from "node:path";
import type { Measured } from "../harness/benchmark.ts";
import { percentiles } from "../harness/callers.ts";

const starts = 12;

/** `file` says its URL on stdout when it listens, and is told where its store is. */
export async function measureStarts(file: string, scratch: string): Promise<Measured> {
  const times: number[] = [];
  // The first two make the store and fill the compile cache: what is measured is every later start.
  for (let start = -2; start < starts; start++) {
    const tookMs = await once(file, scratch);
    if (start >= 0) times.push(tookMs);
  }
  const { p50Ms, p99Ms } = percentiles(times);
  return { opsPerSec: 1_000 / p50Ms, p50Ms, p99Ms };
}

async function once(file: string, scratch: string): Promise<number> {
  const fromMs = performance.now();
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", file, join(scratch, "store.db")], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_COMPILE_CACHE: join(scratch, "compile-cache") },
  });
  try {
    const url = await new Promise<string>((resolve, reject) => {
      child.stdout.setEncoding("utf8").once("data", (text: string) => resolve(text.trim()));
      child.once("exit", (code) => reject(new Error(`${file} ended with ${code} before it listened`)));
    });
    await new Promise<void>((resolve, reject) => {
      get(`${url}/hello/world`, { agent: false }, (response) => {
        response.resume();
        response.on("end", () => (response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`))));
      }).on("error", reject);
    });
    return performance.now() - fromMs;
  } finally {
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await gone;
  }
}
