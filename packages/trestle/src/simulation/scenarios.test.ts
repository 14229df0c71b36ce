import { test } from "node:test";
import { simulate, type Simulation } from "./index.ts";
import { movingMoney } from "./testing/bank.simulation.ts";
import { fillingSilos } from "./testing/events.simulation.ts";
import { chargingOnce } from "./testing/outside.simulation.ts";
import { tickingOnce } from "./testing/ticks.simulation.ts";
import { payingOnce } from "./testing/till.simulation.ts";
import { workingInOrder } from "./testing/work.simulation.ts";

// Ten seeds each, so that a test run is short; `npm run hunt -- --clean --seeds 100000` is the long way.
const scenarios: Readonly<Record<string, Simulation>> = {
  "money over several records": movingMoney,
  "events, rows and reactions": fillingSilos,
  "calls to the outside": chargingOnce,
  "a schedule": tickingOnce,
  "idempotent routes": payingOnce,
  "jobs with keys": workingInOrder,
};

for (const [name, { app, scenario }] of Object.entries(scenarios))
  test(`what is promised of ${name} holds whatever crashes, is cut off, lost, repeated or late`, async () => {
    await simulate(app, { ...scenario, seeds: 10 });
  });
