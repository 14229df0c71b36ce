import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "./index.ts";
import { scenarioFiles, scenariosOf } from "./testing/scenarios.ts";

// Ten seeds each, so that a test run is short; `npm run hunt -- --clean --seeds 100000` is the long way.
const seeds = 10;

let scenarios = 0;
for (const file of scenarioFiles)
  for (const [scenario, { app, scenario: options }] of await scenariosOf(file)) {
    scenarios++;
    test(`${scenario}: what is promised holds whatever crashes, is cut off, lost, repeated or late`, () => simulate(app, { ...options, seeds }));
  }

test("every scenario of the folder was run", () => {
  assert.ok(scenarios >= 24 && scenarios >= scenarioFiles.length, `${scenarios} scenarios in ${scenarioFiles.length} files`);
});
