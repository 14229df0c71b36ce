/**
 * How long nobody can commit when the writer of a shared file ends, in order or by a kill (FINDINGS F18).
 *
 * Runs alone: it bounds the time to the next commit.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep, systemClock, systemRandom } from "../kernel/index.ts";
import { checkLedger, eventually, withFleet, withStore, type Fleet } from "./testing/fleet.ts";
import { readNote } from "./writer-note.ts";

const pause = (ms: number) => sleep(systemClock, ms);

test("an orderly exit of the writer hands over in less than 100 ms, and nothing is lost or doubled", () =>
  withFleet(4, async (fleet) => {
    const tookMs: number[] = [];
    for (let round = 0; round < 5; round++) {
      const leaving = fleet.writer();
      const others = fleet.others();
      await Promise.all(others.map((member) => member.ask({ do: "load", callers: 4, prefix: `${round}-${member.pid}` })));
      await pause(100);
      const closed = leaving.ask({ do: "close" });
      tookMs.push(await untilNextCommit(fleet));
      await closed;
      leaving.child.disconnect();
      await leaving.gone;
      await Promise.all(others.map((member) => member.ask({ do: "quiet" })));
      await fleet.start();
    }
    await withStore(fleet, (store) => checkLedger(store, fleet.told));
    assert.deepEqual([...new Set(fleet.told.values())], ["applied"]);
    tookMs.sort((a, b) => a - b);
    process.stderr.write(`orderly hand-over: median ${tookMs[2]?.toFixed(0)} ms, worst ${tookMs[4]?.toFixed(0)} ms to the next commit\n`);
    assert.ok((tookMs[2] as number) < 100, `the median was ${tookMs[2]} ms`);
  }));

/** From now to the first commit that was answered and began after the writer had changed. */
async function untilNextCommit(fleet: Fleet): Promise<number> {
  const startedAt = performance.now();
  const term = readNote(fleet.path)?.term;
  await eventually("a new writer", () => (readNote(fleet.path)?.term ?? 0) > (term ?? 0), 10_000);
  await new Promise<void>((resolve) => fleet.onTold((_, answer) => answer === "applied" && resolve()));
  return performance.now() - startedAt;
}

test("kill -9 of the writer 20 times under load of 4 processes: nothing is lost or doubled, callers see outcomes, the next commit comes within a second", () =>
  withFleet(4, async (fleet) => {
    const tookMs: number[] = [];
    for (const member of fleet.members) await member.ask({ do: "load", callers: 4, prefix: `0-${member.pid}` });
    for (let round = 1; round <= 20; round++) {
      await pause(30 + 100 * systemRandom.next());
      const victim = fleet.writer();
      victim.signal("SIGKILL");
      tookMs.push(await untilNextCommit(fleet));
      await victim.gone;
      const fresh = await fleet.start();
      await fresh.ask({ do: "load", callers: 4, prefix: `${round}-${fresh.pid}` });
    }
    await Promise.all(fleet.members.map((member) => member.ask({ do: "quiet" })));
    const counts = await withStore(fleet, (store) => checkLedger(store, fleet.told));
    tookMs.sort((a, b) => a - b);
    process.stderr.write(
      `20 writers killed: ${counts.applied} commits applied, 0 lost, 0 doubled; next commit after ${tookMs[10]?.toFixed(0)} ms (median), ${tookMs[19]?.toFixed(0)} ms (worst)\n`,
    );
    assert.deepEqual([...new Set(fleet.told.values())], ["applied"], "no caller heard of it");
    assert.ok((tookMs[19] as number) < 1_000, `the worst was ${tookMs[19]} ms`);
  }));
