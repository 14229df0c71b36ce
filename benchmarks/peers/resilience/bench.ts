/**
 * What it costs to have a deadline, retries, a breaker and a bulkhead around a call that succeeds: `npm run bench -- resilience`. One call after the other, of
 * a function that is async and answers at once, so that nothing else is measured.
 *
 *   bare, bare-context   the function awaited, outside of any context and within one
 *   entered-context      the function awaited in a context of its own, as a frame that carries deadlines would run it: what `trestle-context` has to do too, since its deadline is nearer
 *   clock                bare, and one look at the clock: what a time limit needs at least, and takes 20 to 90 ns by machine
 *   floor                written by hand for this call alone: one look at the clock, one promise that somebody else could settle, one counter. Who answers in time though the function does not
 *                        listen cannot do with less; nothing is done for limit, retry, breaker or bulkhead
 *   trestle, -context    `pipeline(deadline, retry with a budget, breaker, bulkhead)`, whose caller is answered in time whether or not the function listens
 *   trestle-once         the same without the retry, as what is beside it has none
 *   cockatiel            `wrap(retry, circuitBreaker, bulkhead, timeout)`, aggressive time-out, which is what ours does; -cooperative: its default
 *   opossum              `fire()` with a time-out (a timer and a promise for each call, as its default of 10 s has) and a capacity; it has no retry
 *   *-fails              one call of 100 fails, after 20,000 that succeeded within the window: what failures cost, of which most is making the error, which is the function's own. Nothing is retried
 */
import { runBenchmark, type VariantSpec } from "../../harness/benchmark.ts";

const variant = (name: string, loads: readonly number[] = [1]): VariantSpec => ({
  name,
  module: new URL("./call.ts", import.meta.url),
  loads,
  env: { CASE: name },
});

await runBenchmark({
  subject: "resilience",
  loads: [1],
  seconds: 3,
  variants: [
    "bare",
    "bare-context",
    "entered-context",
    "clock",
    "floor",
    "trestle",
    "trestle-once",
    "trestle-context",
    "cockatiel",
    "cockatiel-cooperative",
    "opossum",
    "trestle-fails",
    "opossum-fails",
  ].map((name) => variant(name)),
  ratios: [
    { over: "trestle", under: "cockatiel", load: 1, atLeast: 10 },
    { over: "trestle", under: "cockatiel-cooperative", load: 1, atLeast: 10 },
    { over: "trestle", under: "opossum", load: 1 },
    { over: "trestle-once", under: "opossum", load: 1 },
    { over: "floor", under: "opossum", load: 1 },
    { over: "trestle", under: "floor", load: 1 },
    { over: "trestle-fails", under: "trestle-once", load: 1 },
    { over: "opossum-fails", under: "opossum", load: 1 },
  ],
  differences: [
    { over: "trestle", under: "bare", load: 1, atMostNs: 200 },
    { over: "floor", under: "bare", load: 1 },
    { over: "trestle", under: "floor", load: 1 },
    { over: "trestle-context", under: "bare-context", load: 1, atMostNs: 500 },
    { over: "trestle-context", under: "entered-context", load: 1 },
  ],
});
