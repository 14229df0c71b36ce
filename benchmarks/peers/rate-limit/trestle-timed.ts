/** `rateLimit` with the time passed in, as by a server that reads the clock once for a request. */
import { rateLimit } from "trestle/limits";
import type { Variant } from "../../harness/benchmark.ts";
import { freshKeysOf, keysOf, measure } from "./keys.ts";

const variant: Variant = ({ load, seconds }) => {
  const keys = process.env["KEYS"] === "fresh" ? freshKeysOf(load) : keysOf(load);
  const limit = rateLimit({ rate: "1000000/s", burst: 1e9, keys: 1_000_000 });
  let nowMs = performance.now();
  let waitMs = 0;
  const asks = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) {
      nowMs += 0.000_1;
      waitMs += limit.take(keys.at(nth), 1, nowMs);
    }
  };
  return measure(keys, seconds, asks, (key) => limit.take(key, 1e8)).finally(() => {
    if (waitMs > 0) throw new Error(`refused: ${waitMs} ms`);
  });
};
export default variant;
