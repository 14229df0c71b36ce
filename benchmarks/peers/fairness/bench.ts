/**
 * Waiting for a place: `npm run bench -- fairness-peers`. Two questions.
 *
 * *What a neighbour costs* (`neighbour.ts`). 32 places; a call takes 5 to 15 ms, so they take 3,200 calls a second. A quiet tenant makes 50 calls a second, open loop; its neighbour
 * 100 times as many, which is more than there are places for. What is shown is the quiet tenant's, alone and beside it: calls a second that were answered, and how long they took, or have
 * waited so far when the measurement ends. At most 5,000 wait where that can be said.
 *
 * In discrete events (resilience/overload.test.ts) the quiet tenant waits for the next of 32 places that comes free, 0.3 ms, and its p99 is 1.04 times that alone. Here places come free once in a
 * millisecond, all together, because that is how Node's timers end the calls, and are taken in that instant: who comes after it waits for the next, 1.1 ms at p50; that and the processor that both tenants and the places share are
 * what stands between 1.04 and what is measured.
 *
 *   fair          `bulkhead({ running, waiting, order: "fair" })`, by tenant
 *   fifo          the same in the order in which they come: what everybody else does
 *   p-limit       has no bound: its line grows as long as the neighbour asks for more than there is
 *   cockatiel     `bulkhead(32, 5_000)`
 *
 * *What waiting costs* (`waiters.ts`). One place, a call that answers at once, and so many callers that ask again as soon as they were answered: 1, 10,000 and 1,000,000 wait. Calls a second.
 * At a million p-limit does not come to an end within 40 s, cockatiel shifts an array and Bottleneck takes milliseconds for a call: they are left out there.
 */
import { runBenchmark, type VariantSpec } from "../../harness/benchmark.ts";

const waiter = (name: string, loads: readonly number[]): VariantSpec => ({
  name,
  module: new URL("./waiters.ts", import.meta.url),
  loads,
  env: { CASE: name },
});
const neighbour = (name: string): readonly VariantSpec[] =>
  [`${name}-alone`, `${name}-beside`].map((variant) => ({
    name: variant,
    module: new URL("./neighbour.ts", import.meta.url),
    loads: [50],
    env: { CASE: name, NEIGHBOUR: variant.endsWith("-beside") ? "100" : "0" },
  }));

await runBenchmark({
  subject: "fairness-peers",
  loads: [50],
  seconds: 8, // 400 calls of the quiet one: its p99 is the fourth from the end
  variants: [
    ...["fair", "fifo", "p-limit", "cockatiel"].flatMap(neighbour),
    waiter("waits-fifo", [1, 10_000, 1_000_000]),
    waiter("waits-fair", [1, 10_000, 1_000_000]),
    waiter("waits-deadline", [1, 10_000, 1_000_000]),
    waiter("waits-p-limit", [1, 10_000]),
    waiter("waits-cockatiel", [1, 10_000]),
    waiter("waits-bottleneck", [1, 10_000]),
  ],
  ratios: [
    { over: "fair-beside", under: "fair-alone", load: 50, of: "p99Ms", atMost: 1.2 },
    ...["fifo", "p-limit", "cockatiel"].map((name) => ({ over: `${name}-beside`, under: `${name}-alone`, load: 50, of: "p99Ms" as const })),
    ...[1, 10_000].flatMap((load) => ["waits-p-limit", "waits-cockatiel", "waits-bottleneck"].map((under) => ({ over: "waits-fifo", under, load }))),
  ],
});
