import assert from "node:assert/strict";
import { test } from "node:test";
import { virtualClock } from "../kernel/index.ts";
import { beating, watch } from "./heartbeat.ts";

/** A holder that beats once, and what is asked of its store. `keep` answers how often it was asked, when `answers` says so. */
function watched(answers: () => Promise<void> = () => Promise.resolve()) {
  const clock = virtualClock();
  let kept = 0;
  const released: number[] = [];
  const heartbeat = beating("holder", { leaseMs: 300, blockedMsMax: 1_200 }, clock, (options) =>
    watch<number>(options, {
      clock,
      keep: async () => {
        const made = ++kept;
        await answers();
        return made;
      },
      release: async (_, madeUpTo) => void released.push(madeUpTo),
    }),
  );
  return { clock, heartbeat, released, kept: () => kept };
}

test("a holder that is silent beyond its bound is taken back once, up to what there was just before", async () => {
  const { clock, heartbeat, released, kept } = watched();

  await clock.advance(1_200);
  assert.deepEqual(released, []);
  await clock.advance(100);
  const before = kept();
  await clock.advance(2_000);
  heartbeat.stop();

  assert.deepEqual([released, kept()], [[before], before]);
});

test("what a holder claims after it beats again is not taken back, however late that would have reached the store", async () => {
  let slow = false;
  const late = Promise.withResolvers<void>();
  const { clock, heartbeat, released } = watched(() => (slow ? late.promise : Promise.resolve()));
  await clock.advance(1_200);
  slow = true;
  await clock.advance(1_000);

  heartbeat.beat();
  late.resolve();
  slow = false;
  await clock.advance(1_000);
  assert.deepEqual(released, [], "it beat before the answer");

  await clock.advance(1_000);
  heartbeat.stop();
  assert.equal(released.length, 1, "and is silent again");
});
