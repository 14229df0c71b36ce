/** limiter: a TokenBucket for each key, in a Map, since it has no keys of its own. */
import { TokenBucket } from "limiter";
import type { Variant } from "../../harness/benchmark.ts";
import { keysOf, measure } from "./keys.ts";

const variant: Variant = ({ load, seconds }) => {
  const keys = keysOf(load);
  const buckets = new Map<string, TokenBucket>();
  const take = (key: string): boolean => {
    let bucket = buckets.get(key);
    if (!bucket) buckets.set(key, (bucket = new TokenBucket({ bucketSize: 1e9, tokensPerInterval: 1e6, interval: "second" })));
    return bucket.tryRemoveTokens(1);
  };
  let taken = 0;
  const asks = (from: number, calls: number): void => {
    for (let nth = from; nth < from + calls; nth++) if (take(keys.at(nth))) taken++;
  };
  return measure(keys, seconds, asks, take);
};
export default variant;
