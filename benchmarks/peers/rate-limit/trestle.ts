/** `rateLimit`, which reads its clock itself. Everything is admitted, as with the others. */
import { rateLimit } from "trestle/limits";
import type { Variant } from "../../harness/benchmark.ts";
import { keysOf, measure } from "./keys.ts";

const variant: Variant = ({ load, seconds }) => {
  const keys = keysOf(load);
  const limit = rateLimit({ rate: "1000000/s", burst: 1e9, keys: 1_000_000 });
  let waitMs = 0;
  const asks = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) waitMs += limit.take(keys.at(nth));
  };
  return measure(keys, seconds, asks, (key) => limit.take(key, 1e8)).finally(() => {
    if (waitMs > 0) throw new Error(`refused: ${waitMs} ms`);
  });
};
export default variant;
