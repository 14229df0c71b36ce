/** The reaction to a standing line, beside CoDel's own, with callers who do not slow down. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../kernel/index.ts";
import { WaitingLine } from "./index.ts";

const [targetMs, intervalMs] = [5, 100];
/** Each millisecond one is served, and so many come. */
function waits(perMs: number, forMs: number, served: (nowMs: number) => number | undefined, come: (nowMs: number) => void): number[] {
  const waited: number[] = [];
  let coming = 0;
  for (let nowMs = 0; nowMs < forMs; nowMs++) {
    for (coming += perMs; coming >= 1; coming--) come(nowMs);
    const sinceMs = served(nowMs);
    if (sinceMs !== undefined) waited.push(nowMs - sinceMs);
  }
  return waited;
}

/** RFC 8289, 5: one goes, the next one `interval / sqrt(count)` later, while the head has waited for longer than the target. */
function codel(perMs: number, forMs: number): number[] {
  const line: number[] = [];
  let head = 0;
  let aboveSinceMs = -1;
  let dropAtMs = Infinity;
  let count = 0;
  const served = (nowMs: number): number | undefined => {
    for (;;) {
      const sinceMs = line[head++];
      if (sinceMs === undefined || nowMs - sinceMs < targetMs) {
        aboveSinceMs = -1;
        dropAtMs = Infinity;
        return sinceMs;
      }
      if (aboveSinceMs < 0) aboveSinceMs = nowMs;
      if (dropAtMs === Infinity && nowMs - aboveSinceMs >= intervalMs) [count, dropAtMs] = [1, nowMs + intervalMs];
      else if (nowMs >= dropAtMs) dropAtMs += intervalMs / Math.sqrt(++count);
      else return sinceMs;
    }
  };
  return waits(perMs, forMs, served, (nowMs) => line.push(nowMs));
}

function ours(perMs: number, forMs: number): number[] {
  const line = new WaitingLine({ order: "fifo", random: seededRandom("standing"), codel: { targetMs, intervalMs } });
  line.most = line.from = 1_000_000;
  const come = (nowMs: number): void =>
    void line.push({ key: "", priority: "normal", untilMs: Infinity, cost: 1, place: undefined, declined: () => undefined }, nowMs);
  return waits(perMs, forMs, (nowMs) => line.take(nowMs)?.sinceMs, come);
}

/** When nobody was served any more who had waited for more than twice the target. */
const calmAfterMs = (waited: readonly number[]): number => waited.findLastIndex((ms) => ms > 2 * targetMs) + 1;

test("a line with r too many a millisecond is short one interval after it began to stand; by CoDel's square root it takes at least 2 r interval^2", () => {
  const intervals = (waited: readonly number[]) => calmAfterMs(waited) / intervalMs;
  for (const excess of [0.1, 0.3, 1]) {
    const here = intervals(ours(1 + excess, 60_000));
    assert.ok(here <= 2, `${excess} too many a millisecond: ${here} intervals`);
    // After n have gone the next one goes interval / sqrt(n) later: sqrt(n) / interval a millisecond, which is t / (2 interval^2) after t. What has come until then has to go as well.
    const there = intervals(codel(1 + excess, 60_000));
    assert.ok(there >= 2 * excess * intervalMs, `${excess} too many a millisecond: CoDel takes ${there} intervals`);
  }
  const longestMs = Math.max(...codel(2, 60_000));
  assert.ok(longestMs > 4_000, `at twice the capacity somebody waits ${longestMs} ms`);
});
