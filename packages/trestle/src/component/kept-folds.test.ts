import assert from "node:assert/strict";
import { test } from "node:test";
import { KeptFolds } from "./kept-folds.ts";

const fold = (version: number) => ({ version, state: `v${version}` });

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
