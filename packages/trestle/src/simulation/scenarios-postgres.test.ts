import { test } from "node:test";
import { simulate } from "./index.ts";
import { scenarioFiles, scenariosOf } from "./testing/scenarios.ts";

for (const file of scenarioFiles)
  for (const [scenario, { app, scenario: options }] of await scenariosOf(file))
    test(`${scenario}: what is promised holds on a store like PostgreSQL too, whatever fails over, ends in a deadlock or is not hinted at`, () =>
      simulate(app, { ...options, store: "postgres", seeds: 3 }));
