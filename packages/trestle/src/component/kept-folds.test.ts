import assert from "node:assert/strict";
import { test } from "node:test";
import { KeptFolds } from "./kept-folds.ts";

const fold = (version: number) => ({ version, state: `v${version}` });

test("folds that are used stay; of those that are not, at most so many are kept", () => {
  const folds = new KeptFolds(100);
  folds.keep("hot", fold(1), true);

  for (let n = 0; n < 1_000; n++) {
    folds.keep(`cold${n}`, fold(1), true);
    assert.equal(folds.get("hot")?.version, 1);
    assert.ok(folds.size <= 100, `${folds.size} folds`);
  }

  assert.equal(folds.get("cold0"), undefined);
  assert.equal(folds.get("cold999")?.version, 1);
  assert.ok(Array.from({ length: 50 }, (_, n) => folds.get(`cold${999 - n}`)).every(Boolean), "half of them at the least");
});

test("an older fold does not take the place of a newer one, and only a tail is taken for the last state", () => {
  const folds = new KeptFolds(10);
  folds.keep("s", fold(3), false);
  folds.keep("s", fold(2), true);

  assert.deepEqual([folds.get("s"), folds.tail("s")], [fold(3), undefined]);
  folds.keep("s", fold(3), true);
  assert.deepEqual(folds.tail("s"), fold(3), "now it is known to be the last one");
  folds.keep("s", fold(4), false);
  assert.deepEqual([folds.get("s"), folds.tail("s")], [fold(4), undefined]);
  folds.forget("s");
  assert.equal(folds.get("s"), undefined);
});
