/** rate-limiter-flexible: RateLimiterMemory, one timer and one object for a key. */
import { RateLimiterMemory } from "rate-limiter-flexible";
import type { Variant } from "../../harness/benchmark.ts";
import { keysOf, measure } from "./keys.ts";

const variant: Variant = ({ load, seconds }) => {
  const keys = keysOf(load);
  const limiter = new RateLimiterMemory({ points: 1e9, duration: 3_600 });
  const asks = async (from: number, calls: number): Promise<void> => {
    for (let nth = from; nth < from + calls; nth++) await limiter.consume(keys.at(nth));
  };
  return measure(keys, seconds, asks, (key) => limiter.consume(key));
};
export default variant;
