/** The floors: `Map.get` on the same keys, and the reading of the clock (`FLOOR=clock`). */
import type { Variant } from "../../harness/benchmark.ts";
import { keysOf, measure } from "./keys.ts";

let sum = 0;

const variant: Variant = ({ load, seconds }) => {
  const keys = keysOf(load);
  const map = new Map<string, number>();
  const gets = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) sum += map.get(keys.at(nth)) as number;
  };
  const reads = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) sum += performance.now();
  };
  return measure(keys, seconds, process.env["FLOOR"] === "clock" ? reads : gets, (key) => map.set(key, 1)).finally(() => {
    if (!(sum > 0)) throw new Error("nothing was read");
  });
};
export default variant;
