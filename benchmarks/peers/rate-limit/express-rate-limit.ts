/** express-rate-limit: its MemoryStore, without the middleware around it. */
import { MemoryStore } from "express-rate-limit";
import type { Variant } from "../../harness/benchmark.ts";
import { keysOf, measure } from "./keys.ts";

const variant: Variant = ({ load, seconds }) => {
  const keys = keysOf(load);
  const store = new MemoryStore();
  store.init({ windowMs: 3_600_000 } as Parameters<MemoryStore["init"]>[0]);
  const asks = async (from: number, calls: number): Promise<void> => {
    for (let nth = from; nth < from + calls; nth++) await store.increment(keys.at(nth));
  };
  return measure(keys, seconds, asks, (key) => store.increment(key));
};
export default variant;
