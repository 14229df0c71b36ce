/** The two laws of sliding windows. */
import { slidingCounter, slidingLog } from "trestle/limits";
import type { Variant } from "../../harness/benchmark.ts";
import { keysOf, measure } from "./keys.ts";

const variant: Variant = ({ load, seconds }) => {
  const keys = keysOf(load);
  // A log of a thousand moments for each key, of which most calls are refused; a counter that admits all.
  const limit = process.env["LAW"] === "log" ? slidingLog({ limit: 10, window: "1s", keys: load }) : slidingCounter({ limit: 1e6, window: "1ms", keys: load });
  let waitMs = 0;
  const asks = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) waitMs += limit.take(keys.at(nth));
  };
  return measure(keys, seconds, asks, (key) => limit.take(key));
};
export default variant;
