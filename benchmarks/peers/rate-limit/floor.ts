/** The floors: `Map.get` on the same keys, the reading of every character of them (`FLOOR=read`), which whoever has a hash of his own needs, and the reading of the clock (`FLOOR=clock`). */
import type { Variant } from "../../harness/benchmark.ts";
import { freshKeysOf, keysOf, measure } from "./keys.ts";

let sum = 0;

const variant: Variant = ({ load, seconds }) => {
  const { FLOOR, KEYS } = process.env;
  const keys = KEYS === "fresh" ? freshKeysOf(load) : keysOf(load);
  const map = new Map<string, number>();
  const gets = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) sum += map.get(keys.at(nth)) as number;
  };
  const characters = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) {
      const key = keys.at(nth);
      for (let at = 0; at < key.length; at++) sum += key.charCodeAt(at);
    }
  };
  const reads = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) sum += performance.now();
  };
  return measure(keys, seconds, FLOOR === "clock" ? reads : FLOOR === "read" ? characters : gets, (key) => map.set(key, 1)).finally(() => {
    if (!(sum > 0)) throw new Error("nothing was read");
  });
};
export default variant;
