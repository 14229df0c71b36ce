import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom } from "../kernel/index.ts";
import { beforeEpoch } from "./before-epoch.ts";
import type { CommitPosition } from "./store.ts";

/** A feed as an engine has it: some numbers are no commit's, and the oldest are not kept. */
function feedOf(commits: readonly CommitPosition[], trimmed = 0) {
  let looks = 0;
  const feed = (after: CommitPosition, limit: number): Promise<readonly CommitPosition[]> => {
    looks++;
    if (after.n > 0 && after.n < trimmed)
      return Promise.reject(Fault.create("log.trimmed", "it is not kept", "Go on from the head.", { details: { kept: trimmed + 1 } }));
    return Promise.resolve(commits.filter(({ n }) => n > Math.max(after.n, trimmed)).slice(0, limit));
  };
  return { feed, looks: () => looks };
}

test("what follows the beginning of an epoch is all of that epoch, and nothing of it comes before, whatever is missing or not kept", async () => {
  const random = seededRandom("before an epoch");
  for (let round = 0; round < 300; round++) {
    const commits: CommitPosition[] = [];
    let epoch = 1;
    for (let n = 1; n <= 60; n++) {
      if (random.next() < 0.05) epoch++;
      if (random.next() < 0.7) commits.push({ epoch, n });
    }
    const trimmed = random.next() < 0.5 ? Math.floor(random.next() * 30) : 0;
    const kept = commits.filter(({ n }) => n > trimmed);
    const { feed, looks } = feedOf(commits, trimmed);

    const found = await beforeEpoch(feed, { epoch, n: 60 });

    const told = kept.filter(({ n }) => n > found.n);
    assert.deepEqual(
      told,
      kept.filter((one) => one.epoch === epoch),
      `round ${round}`,
    );
    assert.ok(looks() <= 7);
  }
});
