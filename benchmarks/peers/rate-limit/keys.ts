/** The keys that all variants are asked about, in one order, and what a call takes. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Measured } from "../../harness/benchmark.ts";

export interface Keys {
  readonly all: readonly string[];
  /** The nth call's. */
  at(nth: number): string;
}

const callsInABlock = 4_096;
const warmUpMs = 3_000;

/** `user:` and eleven digits, each a text of its own as it would come out of a request; asked in a fixed order of chance, but two of them in turns. */
export function keysOf(count: number): Keys {
  const keys = Array.from({ length: count }, (_, nth) => Buffer.from(`user:${String((nth * 7_919) % 100_000_007).padStart(11, "0")}`).toString("latin1"));
  const order = new Uint32Array(1 << 20);
  let state = 1;
  for (let nth = 0; nth < order.length; nth++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    order[nth] = count === 2 ? nth & 1 : Math.floor((state / 2 ** 32) * count);
  }
  return { all: keys, at: count === 1 ? () => keys[0] as string : (nth) => keys[order[nth & (order.length - 1)] as number] as string };
}

/** The same keys in the same order, each made anew for every call, as out of a request: nothing of the engine's has its hash, or is it. */
export function freshKeysOf(count: number): Keys {
  const { all, at } = keysOf(count);
  const bytes = Buffer.from(all.join(""), "latin1");
  const each = bytes.length / count;
  const indices = new Map(all.map((key, nth) => [key, nth]));
  const order = Uint32Array.from({ length: 1 << 20 }, (_, nth) => each * (indices.get(at(nth)) as number));
  return { all, at: (nth) => bytes.latin1Slice(order[nth & (order.length - 1)] as number, (order[nth & (order.length - 1)] as number) + each) };
}

/** `asks` makes so many calls, from the nth on. First each key once, for what it takes in memory. */
export async function measure(keys: Keys, seconds: number, asks: (from: number, calls: number) => unknown, fill: (key: string) => unknown): Promise<Measured> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const held = (): number => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = held();
  for (const key of keys.all) await fill(key);
  const bytesEach = Math.max(0, held() - before) / keys.all.length;

  const blocks: number[] = [];
  let nth = 0;
  for (const untilMs = performance.now() + warmUpMs; performance.now() < untilMs; nth += callsInABlock) await asks(nth, callsInABlock);
  const startMs = performance.now();
  const untilMs = startMs + seconds * 1_000;
  let calls = 0;
  for (let nowMs = startMs; nowMs < untilMs;) {
    await asks(nth, callsInABlock);
    nth += callsInABlock;
    calls += callsInABlock;
    const endMs = performance.now();
    blocks.push((endMs - nowMs) / callsInABlock);
    nowMs = endMs;
  }
  const elapsedMs = performance.now() - startMs;
  blocks.sort((a, b) => a - b);
  const quantile = (q: number): number => blocks[Math.floor(q * (blocks.length - 1))] as number;
  return { opsPerSec: (calls / elapsedMs) * 1_000, p50Ms: quantile(0.5), p99Ms: quantile(0.99), bytesEach };
}
