import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, systemClock, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import type { Claims, QueuePolicy } from "../store/index.ts";
import { openForWriting } from "./connection.ts";
import { openLane, type Lane } from "./lane.ts";

const clock = virtualClock();
const ids = uuidv7Ids(clock, seededRandom("turns"));
const payload = new Uint8Array(200);

function laneWith(backlog: number): Lane {
  const lane = openLane({ open: () => openForWriting(":memory:", "full") });
  for (let sent = 0; sent < backlog; sent += 1_000) {
    const writes = Array.from(
      { length: 1_000 },
      () => ({ kind: "enqueue", job: { id: ids.next(), queue: "q", payload, priority: 1, group: "busy" } }) as const,
    );
    lane.apply([{ kind: "commit", commit: { id: ids.next(), expects: [], writes } }], clock.wallMs());
  }
  return lane;
}

/** The best of many, so that a busy machine does not count: a claim of one job, and its end. */
function claimMsBest(lane: Lane, policy: QueuePolicy | undefined): number {
  let best = Infinity;
  for (let i = 0; i < 60; i++) {
    const beganAt = systemClock.monotonicMs();
    const [claims] = lane.apply(
      [{ kind: "claim", request: { holder: "h", leaseMs: 1_000, queues: [{ queue: "q", limit: 1, ...(policy && { policy }) }] } }],
      clock.wallMs(),
    ).results as [Claims];
    best = Math.min(best, systemClock.monotonicMs() - beganAt);
    const [job] = claims.jobs;
    assert.ok(job);
    const end = { kind: "finish", job: job.id, fence: job.fence, end: { kind: "done" } } as const;
    lane.apply([{ kind: "commit", commit: { id: ids.next(), expects: [], writes: [end] } }], clock.wallMs());
  }
  return best;
}

test("a claim costs by what it takes: a hundred times the backlog of one tenant makes it no slower, in turns and under limits", () => {
  const policies = [undefined, { concurrency: 50 }, { perGroup: { concurrency: 50, rate: { everyMs: 0.001, slackMs: 1_000 } }, weights: { busy: 3 } }];
  const [small, large] = [laneWith(1_000), laneWith(100_000)];
  for (const policy of policies) {
    const [few, many] = [claimMsBest(small, policy), claimMsBest(large, policy)];
    assert.ok(many < 4 * few + 0.05, `${JSON.stringify(policy) ?? "no policy"}: ${few.toFixed(3)} ms with 1,000 waiting, ${many.toFixed(3)} ms with 100,000`);
  }
  // And whoever comes now is served in the next turn.
  const mine = ids.next();
  large.apply(
    [
      {
        kind: "commit",
        commit: { id: ids.next(), expects: [], writes: [{ kind: "enqueue", job: { id: mine, queue: "q", payload, priority: 2, group: "quiet" } }] },
      },
    ],
    clock.wallMs(),
  );
  const [claims] = large.apply([{ kind: "claim", request: { holder: "h", leaseMs: 1_000, queues: [{ queue: "q", limit: 2 }] } }], clock.wallMs()).results as [
    Claims,
  ];
  assert.ok(claims.jobs.some(({ id }) => id === mine));
  for (const lane of [small, large]) lane.close();
});
