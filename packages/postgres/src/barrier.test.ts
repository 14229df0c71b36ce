/** Who waits for which flush (FINDINGS F1). What a real server makes of it is in durable.live.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { flushBarrier, type Life } from "./barrier.ts";

const lives = ["first", "second"] as const;
const sight = (n: number, life: Life = lives[0], epoch = 1) => ({ epoch, n, life });

/** A barrier whose own flushes are ended by hand, and one of somebody else's that is under way. */
function begun() {
  const own: PromiseWithResolvers<Life>[] = [];
  const barrier = flushBarrier(() => {
    const flush = Promise.withResolvers<Life>();
    own.push(flush);
    return flush.promise;
  });
  const others = Promise.withResolvers<Life>();
  return { barrier, own, others };
}
const told = async (promise: Promise<void>): Promise<"durable" | "lost" | "waits"> => {
  let state: "durable" | "lost" | "waits" = "waits";
  promise.then(
    () => (state = "durable"),
    () => (state = "lost"),
  );
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  return state;
};

test("[F1] who saw no more than a flush under way covers waits with it, and starts none of his own", async () => {
  const { barrier, own, others } = begun();
  const outcome = barrier.follow(sight(7), others.promise);

  const reads = [barrier.pass(sight(7)), barrier.pass(sight(6))];
  const before = await Promise.all(reads.map(told));
  others.resolve(lives[0]);

  assert.deepEqual(before, ["waits", "waits"]);
  assert.deepEqual(await Promise.all([outcome, ...reads, barrier.pass(sight(7))].map(told)), ["durable", "durable", "durable", "durable"]);
  assert.equal(own.length, 0);
});

test("[F1] who saw more, in another life or another epoch, is not covered by it", async () => {
  const { barrier, own, others } = begun();
  void barrier.follow(sight(7), others.promise);

  const reads = [barrier.pass(sight(8)), barrier.pass(sight(7, lives[1])), barrier.pass(sight(1, lives[0], 2)), barrier.pass(sight(7, null))];
  others.resolve(lives[0]);
  const covered = await Promise.all(reads.slice(0, 3).map(told));
  own[0]?.resolve(lives[0]);

  assert.deepEqual(covered, ["waits", "waits", "waits"]);
  assert.equal(own.length, 1, "one flush for the first of them, the next carries the others");
});

test("[F1] when the flush that covers him fails, or ends in another life, a reader is as safe as without it: his own decides", async () => {
  for (const end of ["fails", "another life"] as const) {
    const { barrier, own, others } = begun();
    const outcome = barrier.follow(sight(7), others.promise);
    const read = barrier.pass(sight(7));

    if (end === "fails") others.reject(new Error("the connection was lost"));
    else others.resolve(lives[1]);
    const before = [await told(outcome), await told(read)];
    own[0]?.resolve(end === "fails" ? lives[0] : lives[1]);

    assert.deepEqual(before, ["lost", "waits"]);
    assert.equal(await told(read), end === "fails" ? "durable" : "lost");
    assert.equal(await told(barrier.pass(sight(7))), end === "fails" ? "durable" : "waits");
  }
});
