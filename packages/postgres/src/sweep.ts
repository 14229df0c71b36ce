/** Sweeps what time has made superfluous: expired and removed records, tokens, commit ids and the old end of the feed. See sql/sweep.sql. */
import type { Clock, Random } from "trestle/kernel";
import { commitIdRetentionMs } from "trestle/store";
import { periodic, type Periodic } from "./periodic.ts";
import type { Pool } from "./sessions.ts";

export interface SweepOptions {
  readonly schema: string;
  readonly side: Pool;
  readonly clock: Clock;
  readonly random: Random;
  readonly nowMs: () => number | null;
}

const stepRows = 500;
const stepsMax = 20;
const everyMs = { idle: 5_000, busyElsewhere: 30_000 } as const;
/** Rows that were late for their time's walk are found by the next one from the start. */
const fromStartEveryMs = 3_600_000;

export interface Sweep extends Pick<Periodic, "stop"> {
  /** One round; answers how many rows went. For tests. */
  round(): Promise<number>;
}

export function openSweep({ schema, side, clock, random, nowMs }: SweepOptions): Sweep {
  let from = 0;
  let fromStart = clock.monotonicMs();
  const text = `select * from "${schema}".sweep_v1($1, $2, $3, $3, $3, $4)`;

  async function sweep(): Promise<{ readonly swept: number; readonly busy: boolean }> {
    if (clock.monotonicMs() - fromStart > fromStartEveryMs) {
      from = 0;
      fromStart = clock.monotonicMs();
    }
    let swept = 0;
    for (let step = 0; step < stepsMax; step++) {
      const [row] = await side.query<{ busy: boolean; more: boolean; swept: number; upto: string }>({
        name: "sweep",
        text,
        values: [nowMs(), commitIdRetentionMs, from, stepRows],
      });
      if (!row || row.busy) return { swept, busy: true };
      swept += row.swept;
      if (row.more) continue;
      from = Number(row.upto);
      break;
    }
    return { swept, busy: false };
  }

  const running = periodic({
    clock,
    random,
    firstMs: everyMs.idle,
    round: async () => ((await sweep()).busy ? everyMs.busyElsewhere : everyMs.idle),
  });
  return { stop: () => running.stop(), round: async () => (await sweep()).swept };
}
