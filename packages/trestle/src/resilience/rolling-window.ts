/** Counts of the latest calls, for a breaker: of a stretch of time, or of so many calls. Adding takes constant time, and memory does not grow. */

export interface Window {
  readonly calls: number;
  readonly failures: number;
  readonly slow: number;
  add(atMs: number, failed: boolean, slow: boolean): void;
  clear(): void;
}

/** The last `windowMs`, in ten buckets: between 90 % and 100 % of it. What comes with an earlier time than the newest bucket counts there. */
export function timeWindow(windowMs: number): Window {
  const buckets = 10;
  const bucketMs = windowMs / buckets;
  const counts = { calls: new Float64Array(buckets), failures: new Float64Array(buckets), slow: new Float64Array(buckets) };
  let newest = -1;
  let [calls, failures, slow] = [0, 0, 0];
  const drop = (slot: number) => {
    calls -= counts.calls[slot] as number;
    failures -= counts.failures[slot] as number;
    slow -= counts.slow[slot] as number;
    counts.calls[slot] = counts.failures[slot] = counts.slow[slot] = 0;
  };
  return {
    get calls() {
      return calls;
    },
    get failures() {
      return failures;
    },
    get slow() {
      return slow;
    },
    add(atMs, failed, tookLong) {
      const bucket = Math.floor(atMs / bucketMs);
      if (bucket > newest) {
        for (let passed = Math.max(newest + 1, bucket - buckets + 1); passed <= bucket; passed++) drop(passed % buckets);
        newest = bucket;
      }
      const slot = newest % buckets;
      counts.calls[slot] = (counts.calls[slot] as number) + 1;
      calls++;
      if (failed) {
        counts.failures[slot] = (counts.failures[slot] as number) + 1;
        failures++;
      }
      if (tookLong) {
        counts.slow[slot] = (counts.slow[slot] as number) + 1;
        slow++;
      }
    },
    clear() {
      for (let slot = 0; slot < buckets; slot++) drop(slot);
    },
  };
}

/** The last `size` calls. */
export function callWindow(size: number): Window {
  const outcomes = new Uint8Array(size); // 1: failed, 2: slow
  let next = 0;
  let [calls, failures, slow] = [0, 0, 0];
  return {
    get calls() {
      return calls;
    },
    get failures() {
      return failures;
    },
    get slow() {
      return slow;
    },
    add(_atMs, failed, tookLong) {
      if (calls === size) {
        const gone = outcomes[next] as number;
        failures -= gone & 1;
        slow -= gone >> 1;
      } else calls++;
      outcomes[next] = (failed ? 1 : 0) | (tookLong ? 2 : 0);
      if (failed) failures++;
      if (tookLong) slow++;
      next = next + 1 === size ? 0 : next + 1;
    },
    clear() {
      [next, calls, failures, slow] = [0, 0, 0, 0];
    },
  };
}
