import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "trestle/simulation";
import { oneAfterTheOther, withOverlap } from "./outbox.simulation.ts";

test("ticks that overlap send a mail twice, and the simulation says with which faults", async () => {
  await assert.rejects(simulate(withOverlap), /a mail is sent once/);
});

test("ticks that wait for each other send it once, whatever fails", async () => {
  await simulate(oneAfterTheOther);
});
