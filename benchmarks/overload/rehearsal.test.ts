/**
 * The live run of `npm run bench -- overload`, in virtual time and with several seeds. `SEEDS=100` takes more of them, `SEED=…` only that one; `WINDOWS=1` shows what the limit saw and did.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { rehearse, type Rehearsed } from "./rehearsal.ts";
import { troubles, type Trouble } from "./trouble.ts";

const { SEED, SEEDS = "4", WINDOWS } = process.env;
const seeds = SEED ? [SEED] : Array.from({ length: Number(SEEDS) }, (_, at) => `rehearsal-${at + 1}`);

const average = (runs: readonly Rehearsed[], of: (run: Rehearsed) => number): number => runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
const rehearsed = async (trouble: Trouble, limit: string): Promise<readonly Rehearsed[]> => {
  const runs: Rehearsed[] = [];
  for (const seed of seeds)
    runs.push(
      await rehearse(trouble, limit, seed, (window, atMs) => {
        if (WINDOWS) process.stderr.write(`${trouble} ${seed} ${Math.round(atMs)} ${JSON.stringify(window)}\n`);
      }),
    );
  return runs;
};

/** Of the critical calls, on average over the seeds, while it lasts and after its first second. In a brown-out what had begun is slow too: 12 places serve nine of ten, 8 all of them and a fifth less in all. */
const critical: Readonly<Record<Trouble, readonly [number, number]>> = {
  rush: [0.98, 0.99],
  "brown-out": [0.7, 0.85],
  slow: [0.99, 0.99],
  hang: [0, 0],
  stall: [0.98, 0.98],
};

for (const trouble of troubles)
  test(`[RES-11] rehearsed, ${trouble}: an adaptive limit serves at least 95 % of what the best fixed one does`, async (context) => {
    const adaptive = await rehearsed(trouble, "adaptive");
    const fixed = await Promise.all(
      ["8", "12", "16", "24", "32", "48"].map(async (limit) => ({ limit, served: average(await rehearsed(trouble, limit), ({ served }) => served) })),
    );
    const best = fixed.reduce((a, b) => (b.served > a.served ? b : a));
    const goodput = average(adaptive, ({ served }) => served) / best.served;
    const [all, later] = [average(adaptive, (run) => run.critical), average(adaptive, (run) => run.criticalLater)];
    const seen = `${goodput.toFixed(3)} of ${best.limit} places; critical calls ${all.toFixed(3)}, after the first second ${later.toFixed(3)}; seeds ${seeds.join(", ")}`;
    context.diagnostic(seen);
    assert.ok(goodput >= 0.95, seen);
    assert.ok(all >= critical[trouble][0] && later >= critical[trouble][1], seen);
  });
