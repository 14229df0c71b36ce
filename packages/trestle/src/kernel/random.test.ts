import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, systemRandom } from "./index.ts";

test("the same seed gives the same numbers, another seed others", () => {
  const draw = (seed: string | number) => {
    const random = seededRandom(seed);
    return Array.from({ length: 20 }, () => random.uint32());
  };
  assert.deepEqual(draw("a"), draw("a"));
  assert.deepEqual(draw(7), draw("7"));
  assert.notDeepEqual(draw("a"), draw("b"));
});

for (const [name, random] of [
  ["seeded", seededRandom(1)],
  ["system", systemRandom],
] as const) {
  test(`the ${name} source is even over its whole range`, () => {
    const bins = new Array<number>(16).fill(0);
    const draws = 160_000;
    for (let i = 0; i < draws; i++) {
      const value = random.next();
      assert.ok(value >= 0 && value < 1);
      bins[Math.floor(value * 16)] = (bins[Math.floor(value * 16)] as number) + 1;
    }
    // Six standard deviations of a binomial with p = 1/16: a fair source fails one run in some hundred million.
    const slack = 6 * Math.sqrt(draws * (1 / 16) * (15 / 16));
    for (const count of bins) assert.ok(Math.abs(count - draws / 16) < slack, `bins ${bins.join(" ")}`);
    const word = random.uint32();
    assert.ok(Number.isInteger(word) && word >= 0 && word <= 0xffff_ffff);
  });
}
