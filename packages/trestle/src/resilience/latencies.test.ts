import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../kernel/index.ts";
import { Latencies } from "./latencies.ts";

const seed = process.env["SEED"] ?? "latencies";
const near = (seen: number | undefined, wanted: number, part: number) => Math.abs((seen as number) / wanted - 1) < part;

test("quantiles of durations are at most a bucket off, and what is old counts less", () => {
  const random = seededRandom(seed);
  const all = new Latencies();
  assert.equal(all.quantileMs(0.9), undefined);
  for (let n = 0; n < 20_000; n++) all.add(100 + 200 * random.next());
  for (const quantile of [0.1, 0.5, 0.9, 0.99])
    assert.ok(near(all.quantileMs(quantile), 100 + 200 * quantile, 0.05), `seed ${seed}: ${quantile} is ${all.quantileMs(quantile)}`);
  assert.equal(all.leastMs < 101, true);

  const late = new Latencies(1_000);
  for (let n = 0; n < 5_000; n++) late.add(n < 2_500 ? 10 : 1_000);
  assert.ok(near(late.quantileMs(0.5), 1_000, 0.05));
});

test("those that were cut off are neither left out nor taken for ended: the estimate is that of all, as far as anybody waited", () => {
  const random = seededRandom(seed);
  const [true_, estimated, leftOut] = [new Latencies(), new Latencies(), new Latencies()];
  for (let n = 0; n < 20_000; n++) {
    const [takesMs, waitsMs] = [120 + 240 * random.next(), 400 * random.next()];
    true_.add(takesMs);
    estimated.add(Math.min(takesMs, waitsMs), takesMs <= waitsMs);
    if (takesMs <= waitsMs) leftOut.add(takesMs);
  }
  const [all, some] = [true_.estimate(0.9), estimated.estimate(0.9)];
  assert.ok(all && some);
  assert.ok(
    near(some.quantileMs, all.quantileMs, 0.05) && Math.abs(some.logMean - all.logMean) < 0.03 && some.unended < 0.05,
    `seed ${seed}: ${JSON.stringify([all, some])}`,
  );
  assert.ok(near(Math.sqrt(some.logVariance), Math.sqrt(all.logVariance), 0.1));
  assert.ok((leftOut.quantileMs(0.5) as number) < 0.95 * (true_.quantileMs(0.5) as number), "the control leaves them out, and is too quick");

  const hung = new Latencies();
  for (let n = 0; n < 100; n++) hung.add(400, n >= 70);
  assert.ok(near(hung.estimate(0.9)?.unended, 0.7, 0.01) && near(hung.quantileMs(0.9), 400, 0.05));
  hung.clear();
  assert.equal(hung.estimate(0.5), undefined);
});

test("a quantile is the one by Kaplan and Meier's definition, whichever durations came first, also after they were cleared", () => {
  const random = seededRandom(seed);
  const latencies = new Latencies();
  for (let round = 0; round < 300; round++) {
    latencies.clear();
    const all = Array.from({ length: 1 + Math.floor(60 * random.next()) }, () => ({ ms: Math.exp(12 * (random.next() - 0.5)), ended: random.next() < 0.7 }));
    for (const { ms, ended } of all) latencies.add(ms, ended);
    const quantile = random.next();

    // Those of one bucket count together: the ended ones first.
    const bucketOf = (ms: number) => Math.ceil(Math.log2(ms * 1_024) * 16);
    const sorted = all.toSorted((a, b) => bucketOf(a.ms) - bucketOf(b.ms) || Number(b.ended) - Number(a.ended));
    let unended = 1;
    let wanted = sorted.at(-1)?.ms ?? 0;
    for (const [before, { ms, ended }] of sorted.entries()) {
      if (ended) unended *= 1 - 1 / (all.length - before);
      if (1 - unended < quantile - 1e-9) continue;
      wanted = ms;
      break;
    }
    assert.ok(near(latencies.quantileMs(quantile), wanted, 0.05), `seed ${seed}, round ${round}: ${latencies.quantileMs(quantile)}, not ${wanted}`);
  }
});
