/**
 * Histories for the checkers of `trestle/simulation`, of any size, made by objects that keep their promises: the worst case for a checker that looks for a violation, because
 * there is none. What is measured is the check alone, in a process that does nothing else; the first is cold, as in a test that makes one.
 */
import { seededRandom } from "../../packages/trestle/src/kernel/index.ts";
import type { Checked, MicroOperation, Operation, RegisterCall, Transaction } from "../../packages/trestle/src/simulation/checkers/index.ts";
import type { Measured } from "../harness/benchmark.ts";

/** Half reads, three tenths writes of one of five values, two tenths compare-and-set, so that no value tells whose it is. */
export function registerHistory({
  operations,
  keys,
  callers,
}: {
  readonly operations: number;
  readonly keys: number;
  readonly callers: number;
}): Operation<RegisterCall, unknown>[] {
  const random = seededRandom("register history");
  const below = (most: number) => random.uint32() % most;
  const free = new Float64Array(callers);
  const points: number[] = [];
  const history = Array.from({ length: operations }, (_, i): Operation<RegisterCall, unknown> => {
    const process = i % callers;
    const invokedAt = (free[process] as number) + random.next() * 5;
    points.push(invokedAt + random.next() * 10);
    const returnedAt = (points[i] as number) + random.next() * 10;
    free[process] = returnedAt;
    const kind = below(10);
    const call: RegisterCall = kind < 5 ? { kind: "read" } : kind < 8 ? { kind: "write", value: below(5) } : { kind: "cas", from: below(5), to: below(5) };
    return { process, key: below(keys), call, invokedAt, outcome: "ok", returnedAt };
  });
  const values = new Map<unknown, unknown>();
  for (const place of [...history.keys()].sort((a, b) => (points[a] as number) - (points[b] as number))) {
    const operation = history[place] as Operation<RegisterCall, unknown>;
    const { call, key } = operation;
    const value = values.get(key) ?? null;
    if (call.kind === "write") values.set(key, call.value);
    if (call.kind === "cas" && value === call.from) values.set(key, call.to);
    if (call.kind !== "write") history[place] = { ...operation, result: call.kind === "read" ? value : value === call.from };
  }
  return history;
}

/** One to four appends and reads each, on ten lists at a time; a list that has 64 values makes way for a new one, as Elle's generator does. */
export function listAppendHistory({ transactions, callers }: { readonly transactions: number; readonly callers: number }): Transaction[] {
  const random = seededRandom("list-append history");
  const below = (most: number) => random.uint32() % most;
  const lists = new Map<number, number[]>(Array.from({ length: 10 }, (_, key) => [key, []]));
  const active = [...lists.keys()];
  let value = 0;
  return Array.from({ length: transactions }, (_, i): Transaction => {
    const call: MicroOperation[] = [];
    const result: (number[] | null)[] = [];
    for (let micros = 1 + below(4); micros > 0; micros--) {
      const at = below(active.length);
      const key = active[at] as number;
      const list = lists.get(key) as number[];
      if (below(2) === 0) {
        call.push({ kind: "read", key });
        result.push(list.slice());
        continue;
      }
      call.push({ kind: "append", key, value: ++value });
      result.push(null);
      if (list.push(value) < 64) continue;
      lists.delete(key);
      active[at] = key + 10;
      lists.set(key + 10, []);
    }
    // Each takes effect at moment i, and overlaps with those of the other callers.
    return { process: i % callers, call, invokedAt: i - random.next() * (callers / 2), outcome: "ok", returnedAt: i + random.next() * (callers / 2), result };
  });
}

/** Checks again and again for `seconds`, at least three times. `p50Ms` and `p99Ms` are of one check; `p99Ms` is nearly always the first, cold one. Throws unless each is `ok`. */
export function measureCheck(operations: number, seconds: number, check: () => Checked): Measured {
  const times: number[] = [];
  const untilMs = performance.now() + seconds * 1_000;
  while (times.length < 3 || performance.now() < untilMs) {
    const startMs = performance.now();
    const { verdict, problems } = check();
    times.push(performance.now() - startMs);
    if (verdict !== "ok") throw new Error(`a history that keeps its promises was judged ${verdict}: ${problems[0]?.text}`);
  }
  const sorted = times.toSorted((a, b) => a - b);
  const p50Ms = sorted[sorted.length >> 1] as number;
  return { opsPerSec: operations / (p50Ms / 1_000), p50Ms, p99Ms: sorted.at(-1) as number };
}

/** Throws when the process held more than `maxMb` at any time. */
export function heldAtMost(maxMb: number): void {
  const heldMb = Math.round(process.resourceUsage().maxRSS / 1_024);
  process.stderr.write(`held at most ${heldMb} MB\n`);
  if (heldMb > maxMb) throw new Error(`the process held ${heldMb} MB, more than ${maxMb}`);
}
