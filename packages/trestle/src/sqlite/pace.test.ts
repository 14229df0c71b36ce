import assert from "node:assert/strict";
import { test } from "node:test";
import { followersLeast, followersMost, Pace } from "./pace.ts";

/** Batches of 40 operations that take 0.05 ms each, and a flush. */
function after(pace: Pace, batches: number, flushMs: number): number {
  for (let n = 0; n < batches; n++) pace.learn({ tookMs: 40 * 0.05 + flushMs, flushMs }, 40);
  return pace.followersMin;
}

test("a batch follows another when it holds as many operations as are applied in the time of a flush", () => {
  assert.equal(after(new Pace(), 100, 0.2), followersLeast, "a quick disk");
  assert.equal(after(new Pace(), 100, 2), 40);
  assert.equal(after(new Pace(), 100, 100), followersMost, "a disk as slow as this keeps nobody waiting for more than that");
});

test("one slow flush changes little; a disk that stays slow is believed, and one that is quick again at once", () => {
  const pace = new Pace();
  after(pace, 100, 0.2);

  assert.equal(after(pace, 1, 5), followersLeast);
  assert.ok(after(pace, 200, 5) > 80);
  assert.ok(after(pace, 1, 0.2) < 40);
});
