/** Every subscriber sees every event once, in order (FINDINGS F1, F7): see `testing/never-skips.ts`, where the full size is a command. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { missing } from "@trestle/testing";
import { attack } from "./testing/never-skips.ts";

const skip = await missing("postgres", { managed: true });
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
/** A flush follows its batch at once: so that a kill finds what is visible and not durable. */
const flushMs = 60;
const replay = `SEED=${seed} npm test -- never-skips`;

test(
  `[F1] [F7] 16 writers in 4 processes, refusals, open foreign transactions, kill -9 of PostgreSQL: every subscriber sees every event once, in order (seed ${seed})`,
  { skip },
  async (t) => {
    const report = await attack({ seed, flushMs });

    t.diagnostic(`${JSON.stringify({ ...report, violations: report.violations.length })}; ${replay}`);
    assert.deepEqual(report.violations.slice(0, 10), [], replay);
    assert.ok(report.events >= 3_000 && report.refused > 100 && report.pauses >= 6 && report.kills === 2, replay);
  },
);

test(`negative control: with positions drawn from a sequence the same subscribers miss events (seed ${seed})`, { skip }, async (t) => {
  const report = await attack({ seed, way: "sequence", kills: 0, events: 2_000, calmMs: 0 });

  t.diagnostic(report.violations.slice(0, 3).join("; "));
  assert.ok(report.violations.length > 0, `nothing was found wrong, so the attack is blind: ${replay}`);
});

test(`negative control: subscribers that are not capped at what is durable see what a crash takes back (seed ${seed})`, { skip }, async (t) => {
  const report = await attack({ seed, way: "uncapped", kills: 4, flushMs });

  t.diagnostic(report.violations.slice(0, 3).join("; "));
  assert.ok(report.violations.length > 0, `nothing was found wrong, so the attack is blind: ${replay}`);
});
