import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { isSimulation, simulate } from "./index.ts";

// Ten seeds each, so that a test run is short; `npm run hunt -- --clean --seeds 100000` is the long way.
const seeds = 10;

const files = readdirSync(new URL("./testing/", import.meta.url)).filter((name) => name.endsWith(".simulation.ts"));
let scenarios = 0;
for (const name of files.map((file) => file.replace(/\.ts$/, ""))) {
  const exported = Object.entries((await import(`./testing/${name}.ts`)) as Readonly<Record<string, unknown>>);
  for (const [scenario, simulation] of exported) {
    if (!isSimulation(simulation)) continue;
    scenarios++;
    test(`${scenario}: what is promised holds whatever crashes, is cut off, lost, repeated or late`, () =>
      simulate(simulation.app, { ...simulation.scenario, seeds }));
    test(`${scenario}: what is promised holds on a store like PostgreSQL too, whatever fails over, ends in a deadlock or is not hinted at`, () =>
      simulate(simulation.app, { ...simulation.scenario, store: "postgres", seeds: 3 }));
  }
}

test("every scenario of the folder was run", () => {
  assert.ok(scenarios >= 24 && scenarios >= files.length, `${scenarios} scenarios in ${files.length} files`);
});
